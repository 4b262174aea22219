/**
 * Why the policies stand in the order they do: each test fails if the two that it names are swapped.
 *
 * fallback > deadline > rate limit > retry > hedge > breaker > bulkhead > attempt
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Fallback from "../../../packages/sdk/src/policy/Fallback.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"

type Wrap = <A>(work: Effect.Effect<A, unknown>) => Effect.Effect<A, unknown>

const down = Effect.fail({ _tag: "ServerDown" })
const tagOf = (error: unknown) => (error as { readonly _tag?: string })._tag
const retrying = (retries: number, spacing = 10): Wrap => {
  const policy = Retry.make<unknown>({
    key: "r",
    retries,
    jitter: "none",
    schedule: Schedule.spaced(spacing),
    classify: (error) => ({ retry: tagOf(error) !== "CircuitOpen" })
  })
  return (work) => policy.run(work)
}
const breaking = (consecutiveFailures = 3) =>
  Breaker.make<unknown>({
    name: "b",
    failureRate: false,
    consecutiveFailures,
    classify: (error) => (tagOf(error) === "Overloaded" ? "ignored" : "failure")
  })

const run = <A>(work: Effect.Effect<A, unknown>, millis = 100_000) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.exit(work))
    yield* TestClock.adjust(millis)
    return yield* Fiber.join(fiber)
  })

const counted = (work: Effect.Effect<never, unknown>) => {
  const counter = { calls: 0 }
  return {
    counter,
    work: Effect.andThen(
      Effect.sync(() => counter.calls++),
      work
    )
  }
}

describe("The order of the policies", () => {
  it.effect("fallback outside deadline: a late answer is replaced too", () =>
    Effect.gen(function* () {
      const within: Wrap = (work) => Deadline.within(work, { key: "d", duration: 50 })
      const orElse: Wrap = (work) =>
        Fallback.orElse(work as Effect.Effect<any, { readonly _tag: "DeadlineExceeded" }>, "f", {
          DeadlineExceeded: () => Effect.succeed("snapshot")
        })
      assert.deepStrictEqual(yield* run<unknown>(orElse(within(Effect.never))), Exit.succeed("snapshot"))
      assert.isTrue(Exit.isFailure(yield* run(within(orElse(Effect.never)))))
    })
  )

  it.effect("deadline outside retry: it bounds all attempts together", () =>
    Effect.gen(function* () {
      const within: Wrap = (work) => Deadline.within(work, { key: "d", duration: 100 })
      const slow = Effect.andThen(Effect.sleep(40), down)
      const took = (work: Effect.Effect<never, unknown>) =>
        Effect.gen(function* () {
          const begin = yield* Clock.currentTimeMillis
          const timed = Effect.andThen(Effect.ignore(work), Clock.currentTimeMillis)
          const exit = yield* run(timed)
          return Exit.isSuccess(exit) ? exit.value - begin : Infinity
        })
      assert.isAtMost(yield* took(within(retrying(5)(slow))), 100)
      assert.isAbove(yield* took(retrying(5)(within(slow))), 100)
    })
  )

  it.effect("rate limit outside retry: a retry is not a call", () =>
    Effect.gen(function* () {
      const limit = () => {
        const policy = RateLimit.make({ key: "l", limit: 1, window: "1 hour" })
        const wrap: Wrap = (work) => policy.run(work)
        return wrap
      }
      const one = counted(down)
      yield* run(limit()(retrying(2)(one.work)))
      assert.strictEqual(one.counter.calls, 3)
      const two = counted(down)
      yield* run(retrying(2)(limit()(two.work)))
      assert.strictEqual(two.counter.calls, 1)
    })
  )

  it.effect("retry outside hedge: a retry may be hedged again", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make<unknown>({ key: "h", after: 10, fatal: () => true })
      const calls: Array<number> = []
      const on = (candidate: number) =>
        Effect.andThen(
          Effect.sync(() => calls.push(candidate)),
          candidate === 0 ? Effect.andThen(Effect.sleep(20), down) : Effect.andThen(Effect.sleep(5), down)
        )
      yield* run(retrying(1)(hedge.run(on, 2)))
      assert.deepStrictEqual(calls, [0, 1, 0, 1])
    })
  )

  it.effect("retry outside breaker: every attempt is heard, and an open circuit ends the retries at once", () =>
    Effect.gen(function* () {
      const outside = breaking(2)
      const one = counted(down)
      yield* run(retrying(5)(outside.protect(one.work, "n")))
      assert.strictEqual(one.counter.calls, 2)
      const inside = breaking(2)
      const two = counted(down)
      yield* run(inside.protect(retrying(5)(two.work), "n"))
      assert.strictEqual(two.counter.calls, 6)
    })
  )

  it.effect(
    "hedge outside breaker: the second attempt is asked of another node's circuit, and the loser accuses nobody",
    () =>
      Effect.gen(function* () {
        const breaker = breaking(1)
        const hedge = Hedge.make<unknown>({ key: "h", after: 10 })
        const on = (candidate: number) =>
          breaker.protect(candidate === 0 ? Effect.never : Effect.succeed(candidate), `node ${candidate}`)
        assert.deepStrictEqual(yield* run(hedge.run(on, 2)), Exit.succeed(1))
        assert.deepStrictEqual(breaker.keys(), ["node 0", "node 1"])
        assert.strictEqual((yield* breaker.status("node 0")).state, "closed")
      })
  )

  it.effect("breaker outside bulkhead: an open circuit does not queue, and a full bulkhead accuses nobody", () =>
    Effect.gen(function* () {
      const breaker = breaking(1)
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 10 })
      yield* Effect.exit(breaker.protect(down, "n"))
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const right = yield* Effect.forkChild(Effect.exit(breaker.protect(bulkhead.withPermit(Effect.void), "n")))
      yield* TestClock.adjust(1)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(right)))
      assert.strictEqual(bulkhead.stats().waiting, 0)
      yield* Effect.forkChild(Effect.exit(bulkhead.withPermit(breaker.protect(Effect.void, "n"))))
      yield* TestClock.adjust(1)
      assert.strictEqual(bulkhead.stats().waiting, 1)
      const full = Bulkhead.make({ key: "k", permits: 1 })
      yield* Effect.exit(full.withPermit(breaker.protect(full.withPermit(Effect.void), "other")))
      assert.strictEqual((yield* breaker.status("other")).state, "closed")
    })
  )

  it.effect("bulkhead outside attempt: the time in the queue is not the attempt's, and accuses no node", () =>
    Effect.gen(function* () {
      const attempt: Wrap = (work) => Deadline.attempt(work, { key: "a", duration: 50 })
      const wait = (wrap: (bulkhead: Bulkhead.Bulkhead) => Effect.Effect<string, unknown>) =>
        Effect.gen(function* () {
          const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1 })
          yield* Effect.forkChild(bulkhead.withPermit(Effect.sleep(200)))
          yield* TestClock.adjust(1)
          return yield* run(wrap(bulkhead))
        })
      const quick = Effect.as(Effect.sleep(10), "rows")
      assert.deepStrictEqual(yield* wait((bulkhead) => bulkhead.withPermit(attempt(quick))), Exit.succeed("rows"))
      assert.isTrue(Exit.isFailure(yield* wait((bulkhead) => attempt(bulkhead.withPermit(quick)))))
    })
  )

  it.effect("attempt inside breaker: a hang opens the circuit, though the deadline would have cut it", () =>
    Effect.gen(function* () {
      const attempt: Wrap = (work) => Deadline.attempt(work, { key: "a", duration: 50 })
      const state = (wrap: (breaker: Breaker.Breaker<unknown>) => Effect.Effect<unknown, unknown>) =>
        Effect.gen(function* () {
          const breaker = breaking(1)
          yield* run(Deadline.within(wrap(breaker), { key: "d", duration: 100 }))
          return (yield* breaker.status("n")).state
        })
      assert.strictEqual(yield* state((breaker) => breaker.protect(attempt(Effect.never), "n")), "open")
      assert.strictEqual(yield* state((breaker) => attempt(breaker.protect(Effect.never, "n"))), "closed")
    })
  )
})
