/** Work behind callers who have left: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import { recorder } from "./support.ts"

const supervised = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(self, Background.CurrentSupervisor, Background.makeSupervisor()))

/** Begins the work and leaves it. */
const leave = (work: Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkDetach(work, { startImmediately: true })
    yield* Effect.withFiber((caller) => Effect.sync(() => Background.abandon(caller, fiber)))
    return fiber
  })

/** What cannot be interrupted takes that long to end. */
const ending = (millis: number, end: Effect.Effect<unknown, unknown> = Effect.void) =>
  Effect.uninterruptible(Effect.andThen(Effect.sleep(millis), end))

describe("work that was left behind", () => {
  it.effect("is told of when it breaks, at once or later, and not when it ends in any other way", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const breaks = Effect.die(new Error("broken"))
      const defects = (work: Effect.Effect<unknown, unknown>) =>
        Effect.gen(function* () {
          const before = events.length
          const fiber = yield* leave(work).pipe(listen)
          yield* TestClock.adjust("1 second")
          yield* Fiber.await(fiber)
          return events.slice(before).map(({ event, key, policy }) => [policy, key, event])
        })
      const told = [["background", "abandoned", "defect"]]
      assert.deepStrictEqual(yield* defects(ending(10, breaks)), told)
      assert.deepStrictEqual(yield* defects(Effect.onInterrupt(Effect.never, () => breaks)), told)
      for (const work of [ending(10), ending(10, Effect.fail("declared")), Effect.never]) {
        assert.deepStrictEqual(yield* defects(work), [])
      }
    }).pipe(supervised)
  )

  it.effect("is waited for until all of it has ended, and not at all where there is none", () =>
    Effect.gen(function* () {
      const idle = Effect.andThen(Background.idle("1 hour"), Clock.currentTimeMillis)
      assert.strictEqual(yield* idle, 0)
      for (const millis of [100, 300, 200]) yield* leave(ending(millis))
      const waiting = yield* Effect.forkChild(idle, { startImmediately: true })
      yield* TestClock.adjust("2 hours")
      assert.strictEqual(yield* Fiber.join(waiting), 300)
    }).pipe(supervised)
  )

  it.effect("holds up the end of its layer by five seconds at the most, unless declared", () =>
    Effect.gen(function* () {
      const closes = (layer: Layer.Layer<never>) =>
        Effect.gen(function* () {
          const from = yield* Clock.currentTimeMillis
          const closing = yield* Effect.forkChild(
            Effect.andThen(Effect.provide(leave(ending(60_000)), layer), Clock.currentTimeMillis),
            { startImmediately: true }
          )
          yield* TestClock.adjust("1 minute")
          return (yield* Fiber.join(closing)) - from
        })
      assert.strictEqual(yield* closes(Background.layer()), 5_000)
      assert.strictEqual(yield* closes(Background.layer({ grace: "2 seconds" })), 2_000)
    })
  )
})
