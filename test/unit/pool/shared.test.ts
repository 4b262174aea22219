/** A lane whose sessions are shared, where there is no session to share. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { monotonicMillis } from "../../../packages/sdk/src/internal/Monotonic.ts"
import { DatabaseUnavailable } from "../../../packages/sdk/src/ReportError.ts"
import * as SharedLane from "../../../packages/sdk/src/pool/SharedLane.ts"
import { makePool, start } from "./fixture.ts"
import { FakeServer } from "./FakeSession.ts"

const options = { lane: "short", sessions: 1, statements: 4, silence: 100, slow: 20, hold: 1_000, maxWaiting: 2 }

const within = (clock: Clock.Clock, millis: number) => ({
  lane: "short",
  name: "r",
  deadline: monotonicMillis(clock) + millis
})

describe("a shared lane", () => {
  it.effect("leaves no timer behind when a caller is told at once", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let asleep = 0
      const counting: Clock.Clock = {
        ...clock,
        sleep: (duration) =>
          Effect.suspend(() => {
            asleep++
            return Effect.ensuring(
              clock.sleep(duration),
              Effect.sync(() => asleep--)
            )
          })
      }
      const pool = yield* makePool(new FakeServer(), { min: 0, max: 1 })
      yield* pool.close()
      const use = yield* SharedLane.make(pool as any, options).pipe(Effect.provideService(Clock.Clock, counting))
      const error = yield* Effect.flip(use(within(clock, 30_000), () => Effect.void))
      assert.instanceOf(error, DatabaseUnavailable)
      assert.strictEqual(asleep, 0)
    })
  )

  it.effect("a caller who has left takes no place in the queue", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const server = new FakeServer()
      server.connectMillis = 60_000
      const pool = yield* makePool(server, { min: 0, max: 1 })
      const use = yield* SharedLane.make(pool as any, options)
      const call = (millis: number) => start(Effect.exit(use(within(clock, millis), () => Effect.void)))
      const patient = yield* call(20_000)
      const hasty = yield* call(1_000)
      yield* TestClock.adjust(1_000)
      const told = yield* Effect.flip(Effect.flatten(Fiber.join(hasty)))
      assert.deepInclude(told, { _tag: "AcquireTimeout", reason: "connecting", waitedMillis: 1_000 })
      const next = yield* call(1_000)
      assert.isUndefined(next.pollUnsafe())
      yield* Fiber.interruptAll([patient, next])
    })
  )
})
