/** Deadlines without a fiber of their own: whoever waits leaves by itself. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import { recorder } from "./support.ts"

/** A wait that leaves by itself, and counts how often it was told to. */
const waiting = (attempt?: Deadline.AttemptLimit) => {
  const seen = { left: 0, disarmed: 0 }
  const wait = Effect.withFiber((fiber) =>
    Effect.callback<never, Deadline.AttemptTimeout | Effect.Error<ReturnType<typeof Deadline.guard>>>((resume) => {
      const stay = Deadline.leave(
        fiber,
        (error) => {
          seen.left++
          resume(Effect.fail(error as never))
        },
        attempt
      )
      return Effect.sync(() => {
        seen.disarmed++
        stay()
      })
    })
  )
  return { seen, wait }
}

const carried = (millis: number) => Deadline.make({ key: "k", duration: millis, phase: "admission" }).carried

const begun = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.forkChild(
    Effect.gen(function* () {
      const from = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(self)
      return { exit, millis: (yield* Clock.currentTimeMillis) - from }
    }),
    { startImmediately: true }
  )

const detach = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.forkDetach(
    Effect.gen(function* () {
      const from = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(self)
      return { exit, millis: (yield* Clock.currentTimeMillis) - from }
    }),
    { startImmediately: true }
  )

const errorOf = <A, E>({ exit }: { readonly exit: Exit.Exit<A, E> }): any => {
  assert(Exit.isFailure(exit))
  const error = Cause.findErrorOption(exit.cause)
  assert(error._tag === "Some", Cause.pretty(exit.cause))
  return error.value
}

describe("Deadline.carried", () => {
  it.effect("a wait leaves at the deadline, once, with the deadline's error", () =>
    Effect.gen(function* () {
      const { seen, wait } = waiting()
      const events = recorder()
      const fiber = yield* begun(events.listen(carried(100)(wait)))
      yield* TestClock.adjust(99)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const ended = yield* Fiber.join(fiber)
      assert.strictEqual(ended.millis, 100)
      assert.deepInclude(errorOf(ended), {
        _tag: "DeadlineExceeded",
        key: "k",
        deadlineMillis: 100,
        phase: "admission"
      })
      yield* TestClock.adjust(1000)
      assert.strictEqual(seen.left, 1)
      assert.lengthOf(events.named("exceeded"), 1)
    })
  )

  it.effect("a caller that is interrupted takes its timer along", () =>
    Effect.gen(function* () {
      const { seen, wait } = waiting()
      const fiber = yield* begun(carried(100)(wait))
      yield* TestClock.adjust(50)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(seen, { left: 0, disarmed: 1 })
    })
  )

  it.effect("guard: what cannot leave by itself is left all the same, and cleans up behind the caller", () =>
    Effect.gen(function* () {
      let cleaned = false
      const stubborn = Effect.onInterrupt(Effect.never, () =>
        Effect.andThen(
          Effect.sleep(5000),
          Effect.sync(() => (cleaned = true))
        )
      )
      const fiber = yield* begun(carried(100)(Deadline.guard(stubborn)))
      yield* TestClock.adjust(100)
      const ended = yield* Fiber.join(fiber)
      assert.strictEqual(ended.millis, 100)
      assert.strictEqual(errorOf(ended)._tag, "DeadlineExceeded")
      assert.isFalse(cleaned)
      yield* TestClock.adjust(5000)
      assert.isTrue(cleaned)
    })
  )

  it.effect("guard is nothing without a carried deadline", () =>
    Effect.gen(function* () {
      const inside = yield* Effect.withFiber((fiber) =>
        Effect.map(Deadline.guard(Effect.withFiber((own) => Effect.succeed(own.id))), (id) => id === fiber.id)
      )
      assert.isTrue(inside)
    })
  )

  it.effect("of no time at all fails at once, and nothing is begun", () =>
    Effect.gen(function* () {
      let begun = false
      const exit = yield* Effect.exit(carried(0)(Effect.sync(() => (begun = true))))
      assert.isTrue(Exit.isFailure(exit))
      assert.isFalse(begun)
    })
  )

  it.effect("that comes before an outer one is the one that holds, and what it was doing is known outside", () =>
    Effect.gen(function* () {
      let outside: Deadline.Progress | undefined
      const work = Effect.withFiber((fiber) => {
        outside = fiber.getRef(Deadline.Current)!.outer!.progress
        return waiting().wait
      })
      const fiber = yield* begun(Deadline.within(carried(50)(work), { key: "outer", duration: 100 }))
      yield* TestClock.adjust(50)
      const ended = yield* Fiber.join(fiber)
      assert.strictEqual(ended.millis, 50)
      assert.deepInclude(errorOf(ended), { _tag: "DeadlineExceeded", key: "k", deadlineMillis: 50 })
      assert.strictEqual(outside?.inner?.phase, "admission")
    })
  )

  it.effect("an outer deadline that comes first holds, whoever carries it", () =>
    Effect.gen(function* () {
      for (const outer of [carried(50), Deadline.within({ key: "k", duration: 50 })]) {
        const { wait } = waiting()
        const inner = Deadline.make({ key: "inner", duration: 1000 })
        for (const within of [inner.carried, inner.within]) {
          const fiber = yield* begun(outer(within(wait) as Effect.Effect<never, never>))
          yield* TestClock.adjust(50)
          const ended = yield* Fiber.join(fiber)
          assert.strictEqual(ended.millis, 50)
          assert.deepInclude(errorOf(ended), { _tag: "DeadlineExceeded", key: "k", deadlineMillis: 50 })
        }
      }
    })
  )

  it.effect("an attempt's time that comes first is the attempt's; one that the deadline cuts is the deadline's", () =>
    Effect.gen(function* () {
      for (const [millis, tag] of [
        [40, "AttemptTimeout"],
        [100, "DeadlineExceeded"],
        [500, "DeadlineExceeded"]
      ] as const) {
        const { wait } = waiting({ key: "a", millis })
        const fiber = yield* begun(carried(100)(wait))
        yield* TestClock.adjust(1000)
        const ended = yield* Fiber.join(fiber)
        assert.strictEqual(errorOf(ended)._tag, tag)
        assert.strictEqual(ended.millis, Math.min(millis, 100))
      }
    })
  )

  it.effect("a bulkhead's queue is left on time, and gives its place back", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "b", permits: 1, queue: 10 })
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never), { startImmediately: true })
      const fiber = yield* begun(carried(100)(bulkhead.withPermit(Effect.void)))
      assert.strictEqual(bulkhead.stats().waiting, 1)
      yield* TestClock.adjust(100)
      const ended = yield* Fiber.join(fiber)
      assert.deepInclude(errorOf(ended), { _tag: "DeadlineExceeded", phase: "queue" })
      assert.deepInclude(bulkhead.stats(), { waiting: 0, inUse: 1 })
      yield* Fiber.interrupt(holder)
      assert.deepInclude(bulkhead.stats(), { waiting: 0, inUse: 0 })
    })
  )

  it.effect("a retry's schedule that never answers is left on time", () =>
    Effect.gen(function* () {
      const schedule = Schedule.tap(Schedule.spaced("1 millis"), () => Effect.never)
      const retry = Retry.make<string>({ key: "r", schedule: schedule as never, classify: () => ({ retry: true }) })
      const fiber = yield* begun(carried(100)(retry.run(Effect.fail("no"))))
      yield* TestClock.adjust(100)
      const ended = yield* Fiber.join(fiber)
      assert.strictEqual(ended.millis, 100)
      assert.strictEqual(errorOf(ended)._tag, "DeadlineExceeded")
    })
  )

  it.effect("a breaker counts a wait that its deadline cut as a hang only after its time, and else not at all", () =>
    Effect.gen(function* () {
      for (const [millis, opens] of [
        [100, true],
        [80, false]
      ] as const) {
        const breaker = Breaker.make<any>({ name: "b", consecutiveFailures: 1, hangAfter: 90 })
        const fiber = yield* begun(carried(millis)(breaker.protect(waiting().wait, "node")))
        yield* TestClock.adjust(100)
        yield* Fiber.join(fiber)
        assert.strictEqual((yield* breaker.status("node")).state, opens ? "open" : "closed")
      }
    })
  )

  it.effect("what begins in work that was detached from a call that has ended has its deadline all the same", () =>
    Effect.gen(function* () {
      const { wait } = waiting()
      for (const outer of [Deadline.within({ key: "outer", duration: 100 }), carried(100)]) {
        for (const [rest, millis] of [
          [60, 40],
          [200, 0]
        ] as const) {
          const deadline = Deadline.make({ key: "inner", duration: 1000 })
          for (const inner of [deadline.carried, deadline.within]) {
            const fiber = yield* outer(Deadline.guard(detach(Effect.andThen(Effect.sleep(rest), detach(inner(wait))))))
            yield* TestClock.adjust(rest)
            const { exit } = yield* Fiber.join(fiber)
            assert(Exit.isSuccess(exit))
            yield* TestClock.adjust(2_000)
            assert.isDefined(exit.value.pollUnsafe(), `begun ${rest} ms later`)
            const ended = yield* Fiber.join(exit.value)
            assert.strictEqual(ended.millis, millis)
            assert.strictEqual(errorOf(ended)._tag, "DeadlineExceeded")
          }
        }
      }
    })
  )
})
