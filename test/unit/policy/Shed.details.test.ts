/** What is refused for want of time, and how often: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import { chance, errorOf, through } from "./support.ts"

const usual = 100
const down = Effect.fail({ _tag: "AttemptTimeout" as const })
const times = (count: number, self: Effect.Effect<unknown, unknown>) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.exit(self), { discard: true })

/** Has answered 20 calls, each in the usual time. */
const experienced = (options?: Partial<Shed.Options>) =>
  Effect.gen(function* () {
    const shed = Shed.make({ key: "s", ...options })
    yield* through(times(20, shed.run(Effect.sleep(usual))))
    return shed
  })

/** What a call that has so much time left is refused with. */
const refusal = (shed: Shed.Shed, millis: number, random = 0.999) =>
  Effect.gen(function* () {
    const call = Deadline.within(shed.run(Effect.void), { key: "k", duration: millis })
    return errorOf(yield* Effect.exit(call.pipe(chance(random))))
  })

describe("a call with less time left than calls usually take", () => {
  it.effect("is refused, and may come again at once; one with just enough is not", () =>
    Effect.gen(function* () {
      const shed = yield* experienced()
      assert.isUndefined(yield* refusal(shed, usual))
      assert.deepInclude(yield* refusal(shed, usual - 1), { policy: "shed", retryAfterMillis: 0 })
    })
  )

  it.effect("is not refused where that was declared", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* refusal(yield* experienced({ deadlines: false }), 1))
    })
  )

  it.effect("is refused for less than the declared share of all calls", () =>
    Effect.gen(function* () {
      const shed = yield* experienced({ deadlines: 0.25 })
      const refused: Array<boolean> = []
      for (let call = 0; call < 12; call++) refused.push((yield* refusal(shed, 1)) !== undefined)
      // Before the 28th call 7 were refused: a quarter.
      const expected = Array.from({ length: 12 }, () => true)
      let late = 0
      for (let call = 0; call < 12; call++) {
        expected[call] = late < 0.25 * (21 + call)
        if (expected[call]) late++
      }
      assert.isFalse(expected[7])
      assert.deepStrictEqual(refused, expected)
    })
  )

  it.effect("is refused though many were throttled: these had time enough", () =>
    Effect.gen(function* () {
      const shed = yield* experienced({ window: 1_005_005 })
      yield* times(100, shed.run(down).pipe(chance(0.999)))
      const throttled = yield* refusal(shed, 60_000, 0)
      assert.deepInclude(throttled, { policy: "shed", retryAfterMillis: Math.ceil(1_005_005 / 10) })
      for (let call = 0; call < 100; call++) yield* refusal(shed, 60_000, 0)
      assert.deepInclude(yield* refusal(shed, 1), { retryAfterMillis: 0 })
    })
  )
})
