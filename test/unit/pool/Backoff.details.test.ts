/** The pauses between connects, to the millisecond: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Backoff from "../../../packages/sdk/src/pool/Backoff.ts"
import { lost } from "./FakeSession.ts"
import { fixedChance } from "./fixture.ts"

const pauses = (backoff: Backoff.Backoff, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => backoff.next(0, lost("refused")))

/** What an effect writes to the log. */
const logged = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel }) => void lines.push(logLevel))
    const result = yield* Effect.provide(effect, Logger.layer([logger]))
    return { lines, result }
  })

describe("the pause after a failed connect", () => {
  it.effect("is a random part of the schedule's, and never nothing", () =>
    Effect.gen(function* () {
      const schedule = Schedule.exponential("100 millis")
      assert.deepStrictEqual(yield* pauses(Backoff.make(schedule, fixedChance(0.5)), 3), [50, 100, 200])
      assert.deepStrictEqual(yield* pauses(Backoff.make(schedule, fixedChance(0)), 3), [10, 10, 10])
    })
  )

  it.effect("begins anew after a success", () =>
    Effect.gen(function* () {
      const backoff = Backoff.make(Schedule.exponential("100 millis"), fixedChance(0.5))
      yield* pauses(backoff, 3)
      backoff.reset()
      assert.deepStrictEqual(yield* pauses(backoff, 2), [50, 100])
    })
  )

  it.effect("stays as it was when the schedule ends, for the pool never gives up, and nobody is warned", () =>
    Effect.gen(function* () {
      const schedule = Schedule.exponential("100 millis").pipe(Schedule.upTo({ times: 2 }))
      const { lines, result } = yield* logged(pauses(Backoff.make(schedule, fixedChance(0.5)), 4))
      assert.deepStrictEqual(result, [50, 100, 100, 100])
      assert.deepStrictEqual(lines, [])
    })
  )

  it.effect("is a second when the schedule dies, with a warning", () =>
    Effect.gen(function* () {
      const schedule = Schedule.fromStep(Effect.succeed(() => Effect.die("bug")))
      const { lines, result } = yield* logged(pauses(Backoff.make(schedule, fixedChance(0.5)), 1))
      assert.deepStrictEqual(result, [500])
      assert.deepStrictEqual(lines, ["Warn"])
    })
  )
})
