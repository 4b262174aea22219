import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as Latency from "../../../packages/sdk/src/policy/Latency.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import { random, recorder, seeds } from "./support.ts"

const took = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(
      Effect.gen(function* () {
        const begin = yield* Clock.currentTimeMillis
        const exit = yield* Effect.exit(self)
        return { exit, millis: (yield* Clock.currentTimeMillis) - begin }
      })
    )
    yield* TestClock.adjust(100_000)
    return yield* Fiber.join(fiber)
  })

/** Candidate `n` answers its number after `millis[n]`; a negative time fails after that time. */
const candidates = (...millis: ReadonlyArray<number>) => {
  const started: Array<number> = []
  return {
    started,
    attempt: (candidate: number): Effect.Effect<number, string> => {
      started.push(candidate)
      const after = millis[candidate]!
      if (after === 0) return Effect.succeed(candidate)
      const end = after < 0 ? Effect.fail(`no ${candidate}`) : Effect.succeed(candidate)
      return Effect.andThen(Effect.sleep(Math.abs(after)), end)
    }
  }
}

const supervised = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(self, Background.CurrentSupervisor, Background.makeSupervisor()))

describe("Hedge", () => {
  it.effect("a quick answer is asked for once", () =>
    Effect.gen(function* () {
      const { attempt, started } = candidates(10, 10)
      assert.deepStrictEqual(yield* took(Hedge.make({ key: "h", after: 50 }).run(attempt, 2)), {
        exit: Exit.succeed(0),
        millis: 10
      })
      assert.deepStrictEqual(started, [0])
    })
  )

  it.effect("a slow one is asked elsewhere, the first answer wins, the loser is released behind the caller", () =>
    Effect.gen(function* () {
      const { listen, named } = recorder()
      let released = 0
      const attempt = (candidate: number) =>
        candidate === 0
          ? Effect.onInterrupt(Effect.never, () =>
              Effect.andThen(
                Effect.sleep(5000),
                Effect.sync(() => released++)
              )
            )
          : Effect.as(Effect.sleep(20), candidate)
      const result = yield* took(listen(Hedge.make({ key: "h", after: 50 }).run(attempt, 2)))
      assert.deepStrictEqual(result, { exit: Exit.succeed(1), millis: 70 })
      assert.strictEqual(released, 1)
      assert.strictEqual(named("started").length, 1)
      assert.strictEqual(named("won").length, 1)
    }).pipe(supervised)
  )

  it.effect("with one candidate there is no hedge: never twice on the same node", () =>
    Effect.gen(function* () {
      const { attempt, started } = candidates(1000)
      assert.deepStrictEqual(yield* took(Hedge.make({ key: "h", after: 50, max: 5 }).run(attempt, 1)), {
        exit: Exit.succeed(0),
        millis: 1000
      })
      assert.deepStrictEqual(started, [0])
    })
  )

  it.effect("an empty budget leaves the attempt that is under way alone (failsafe-go#141)", () =>
    Effect.gen(function* () {
      const budget = RetryBudget.make({ key: "b", ratio: 0, minimum: 0 })
      const { listen, named } = recorder()
      const { attempt, started } = candidates(200, 1)
      const result = yield* took(listen(Hedge.make({ key: "h", after: 50, budget }).run(attempt, 2)))
      assert.deepStrictEqual(result, { exit: Exit.succeed(0), millis: 200 })
      assert.deepStrictEqual(started, [0])
      assert.strictEqual(named("budget").length, 1)
    })
  )

  it.effect("an error that another node might not give starts the next at once; a fatal one ends the call", () =>
    Effect.gen(function* () {
      const options = { key: "h", after: 50 } as const
      for (const first of [-10, -1]) {
        const lenient = candidates(first, 30)
        const result = yield* took(Hedge.make({ ...options, fatal: () => false }).run(lenient.attempt, 2))
        assert.deepStrictEqual(result, { exit: Exit.succeed(1), millis: -first + 30 })
      }
      const strict = candidates(-10, 30)
      const result = yield* took(Hedge.make({ ...options, fatal: () => true }).run(strict.attempt, 2))
      assert.deepStrictEqual(result, { exit: Exit.fail("no 0"), millis: 10 })
    })
  )

  it.effect("a first attempt that fails without suspending is hedged too", () =>
    Effect.gen(function* () {
      const attempt = (candidate: number) => (candidate === 0 ? Effect.fail("no 0") : Effect.succeed(candidate))
      const hedge = Hedge.make({ key: "h", after: 50, fatal: () => false })
      assert.deepStrictEqual(yield* took(hedge.run(attempt, 2)), { exit: Exit.succeed(1), millis: 0 })
    })
  )

  it.effect("if all fail, the first attempt's error is told", () =>
    Effect.gen(function* () {
      for (const [times, millis] of [
        [[-100, -10], 100],
        [[-10, -100], 110]
      ] as const) {
        const { attempt } = candidates(...times)
        const result = yield* took(Hedge.make({ key: "h", after: 50, fatal: () => false }).run(attempt, 2))
        assert.deepStrictEqual(result, { exit: Exit.fail("no 0"), millis })
      }
    })
  )

  it.effect("a caller that leaves leaves no attempt behind", () =>
    Effect.gen(function* () {
      const { attempt } = candidates(10_000, 10_000)
      const hedged = Hedge.make({ key: "h", after: 50 }).run(attempt, 2)
      const fiber = yield* Effect.forkChild(Effect.exit(Deadline.within(hedged, { key: "d", duration: 100 })))
      yield* TestClock.adjust(100)
      yield* Fiber.join(fiber)
      assert.strictEqual((yield* Background.CurrentSupervisor).running.size, 0)
    }).pipe(supervised)
  )

  it.effect("learns from calls when to hedge, and does not before it knows enough", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make({ key: "h", after: { percentile: 0.9 } })
      const early = candidates(1000, 1)
      assert.deepInclude(yield* took(hedge.run(early.attempt, 2)), { millis: 1000 })
      for (let round = 0; round < 200; round++) yield* took(hedge.run(candidates(20, 20).attempt, 2))
      const late = candidates(1000, 5)
      assert.deepStrictEqual(yield* took(hedge.run(late.attempt, 2)), { exit: Exit.succeed(1), millis: 25 })
    })
  )

  it.effect("a loser says nothing to its breaker, and keeps its permit until it has ended", () =>
    Effect.gen(function* () {
      const breaker = Breaker.make({ name: "b", consecutiveFailures: 1 })
      const bulkhead = Bulkhead.make({ key: "k", permits: 2 })
      const slow = Deadline.attempt(
        Effect.onInterrupt(Effect.never, () => Effect.sleep(1000)),
        { key: "a", duration: 10_000 }
      )
      const attempt = (candidate: number) =>
        breaker.protect(bulkhead.withPermit(candidate === 0 ? slow : Effect.succeed(candidate)), `node ${candidate}`)
      const fiber = yield* Effect.forkChild(Hedge.make({ key: "h", after: 50 }).run(attempt, 2))
      yield* TestClock.adjust(50)
      assert.strictEqual(yield* Fiber.join(fiber), 1)
      assert.deepInclude(bulkhead.stats(), { inUse: 1, draining: 1 })
      yield* TestClock.adjust(1000)
      assert.deepInclude(bulkhead.stats(), { inUse: 0, draining: 0 })
      assert.strictEqual((yield* breaker.status("node 0")).state, "closed")
    }).pipe(supervised)
  )

  it.effect("property: never more attempts than candidates, declaration and budget; nothing is left running", () =>
    Effect.gen(function* () {
      for (const seed of seeds(80)) {
        const { int, next, pick } = random(seed)
        const max = int(4)
        const count = 1 + int(4)
        const tokens = int(4)
        const budget = RetryBudget.make({ key: "b", ratio: 0, minimum: tokens })
        const times = Array.from({ length: count }, () => pick([-1, 1]) * (1 + int(100)))
        const { attempt, started } = candidates(...times)
        const hedge = Hedge.make({ key: "h", after: 1 + int(30), max, budget, fatal: () => next() < 0.2 })
        const { exit } = yield* took(hedge.run(attempt, count))
        assert.isAtMost(started.length, 1 + Math.min(max, count - 1, tokens), `seed ${seed}`)
        assert.deepStrictEqual(started, [...started.keys()], `seed ${seed}: each candidate once, in order`)
        if (times.every((time) => time > 0)) assert.isTrue(Exit.isSuccess(exit), `seed ${seed}`)
        assert.strictEqual((yield* Background.CurrentSupervisor).running.size, 0, `seed ${seed}`)
      }
    }).pipe(supervised)
  )
})

describe("Latency", () => {
  it("gives percentiles of the last samples, and none while it knows too few", () => {
    const latency = Latency.make({ samples: 100, minimum: 10 })
    for (let index = 1; index < 10; index++) latency.record(index)
    assert.isUndefined(latency.percentile(0.5))
    for (let index = 10; index <= 300; index++) latency.record(index)
    assert.strictEqual(latency.count(), 100)
    assert.closeTo(latency.percentile(0.5)!, 250, 26)
    assert.closeTo(latency.percentile(1)!, 300, 26)
    assert.closeTo(latency.percentile(0)!, 201, 26)
  })
})
