/** Hedges, in the cases that are rare: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import { through } from "./support.ts"

const times = (count: number, self: Effect.Effect<unknown, unknown>) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.exit(self), { discard: true })

describe("a hedge", () => {
  it.effect("an answer that is there at once counts as one that took no time; a failure does not count", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const hedge = Hedge.make({ key: "h", after: "1 second" })
      yield* times(
        5,
        hedge.run(() => Effect.fail("no"), 2)
      )
      assert.strictEqual(hedge.latency.count(), 0)
      yield* times(
        20,
        hedge.run(() => Effect.succeed("yes"), 2)
      )
      assert.strictEqual(hedge.latency.count(), 20)
      assert.strictEqual(hedge.latency.percentile(1), 0)
    })
  )

  it.effect("whoever loses took at least as long as it was waited for", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const hedge = Hedge.make({ key: "h", after: "1 second" })
      const call = hedge.run((candidate) => (candidate === 0 ? Effect.never : Effect.void), 2)
      yield* through(times(10, call))
      assert.strictEqual(hedge.latency.count(), 20)
      assert.strictEqual(hedge.latency.percentile(1), 1_000)
    })
  )

  it.effect("a defect ends the call, whatever errors another node may cure", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make({ key: "h", after: "1 second", fatal: () => false })
      for (const sleep of [0, 100]) {
        const started: Array<number> = []
        const exit = yield* through(
          hedge.run((candidate) => {
            started.push(candidate)
            return Effect.andThen(Effect.sleep(sleep), Effect.die("defect"))
          }, 2)
        )
        assert.deepStrictEqual([exit, started], [Exit.die("defect"), [0]])
      }
    })
  )

  it.effect("the next attempt begins at each interval, also after one that failed", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make({ key: "h", after: "1 second", max: 3, fatal: () => false })
      const begins = (first: Effect.Effect<never, string>) =>
        Effect.gen(function* () {
          const from = yield* Clock.currentTimeMillis
          const started: Array<number> = []
          const run = hedge.run(
            (candidate) =>
              Effect.flatMap(Clock.currentTimeMillis, (now) => {
                started.push(now - from)
                return candidate === 0 ? first : Effect.never
              }),
            4
          )
          const call = yield* Effect.forkChild(run, { startImmediately: true })
          yield* TestClock.adjust("10 seconds")
          yield* Fiber.interrupt(call)
          return started
        })
      assert.deepStrictEqual(yield* begins(Effect.never), [0, 1_000, 2_000, 3_000])
      const failing = Effect.andThen(Effect.sleep(500), Effect.fail("no"))
      assert.deepStrictEqual(yield* begins(failing), [0, 500, 1_500, 2_500])
    })
  )

  it.effect("an attempt whose first step makes the caller leave is left as well", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make({ key: "h", after: "1 second" })
      let left = false
      const call: Fiber.Fiber<unknown> = yield* Effect.forkChild(
        hedge.run(
          (candidate) =>
            candidate === 0
              ? Effect.never
              : Effect.sync(() => call.interruptUnsafe()).pipe(
                  Effect.andThen(Effect.never),
                  Effect.onInterrupt(() => Effect.sync(() => (left = true)))
                ),
          2
        ),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.await(call)
      assert.isTrue(left)
    })
  )
})
