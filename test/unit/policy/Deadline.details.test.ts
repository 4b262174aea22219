/** Who keeps a deadline, and what it costs: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { errorOf, recorder, through } from "./support.ts"

const within = (duration: number) => Deadline.within({ key: "k", duration })
const carried = (duration: number) => Deadline.make({ key: "k", duration }).carried
const ownFiber = Effect.withFiber((fiber) => Effect.succeed(fiber.id))

/** The deadline of a call that has ended, in one way or another. */
const endedCall = (work: Effect.Effect<unknown, unknown>, leaveAfter?: number) =>
  Effect.gen(function* () {
    let deadline: Deadline.Deadline | undefined
    const noted = Effect.withFiber((fiber) => {
      deadline = fiber.getRef(Deadline.Current)
      return work
    })
    const call = yield* Effect.forkChild(Effect.exit(within(1_000)(noted)), { startImmediately: true })
    if (leaveAfter === undefined) yield* TestClock.adjust(1_000)
    else {
      yield* TestClock.adjust(leaveAfter)
      yield* Fiber.interrupt(call)
    }
    yield* Fiber.await(call)
    return deadline
  })

describe("work that was detached from a call that has ended", () => {
  /** When work that begins now, with a longer time of its own, ends. */
  const endOf = (deadline: Deadline.Deadline | undefined) =>
    Effect.gen(function* () {
      const work = yield* Effect.forkChild(
        Effect.andThen(
          Effect.exit(within(3_600_000)(Effect.never)).pipe(Effect.provideService(Deadline.Current, deadline)),
          Clock.currentTimeMillis
        ),
        { startImmediately: true }
      )
      yield* TestClock.adjust("2 hours")
      return yield* Fiber.join(work)
    })

  it.effect("leaves at the call's deadline, though the call was left before", () =>
    Effect.gen(function* () {
      const from = yield* Clock.currentTimeMillis
      assert.strictEqual(yield* endOf(yield* endedCall(Effect.never, 100)), from + 1_000)
    })
  )

  it.effect("or had its answer at once, or a little later", () =>
    Effect.gen(function* () {
      for (const work of [Effect.void, Effect.sleep(100)]) {
        const from = yield* Clock.currentTimeMillis
        let deadline: Deadline.Deadline | undefined
        const call = yield* Effect.forkChild(
          within(1_000)(
            Effect.withFiber((fiber) => {
              deadline = fiber.getRef(Deadline.Current)
              return work
            })
          ),
          { startImmediately: true }
        )
        yield* TestClock.adjust(100)
        yield* Fiber.join(call)
        assert.strictEqual(yield* endOf(deadline), from + 1_000)
      }
    })
  )

  it.effect("does not begin when the deadline has passed", () =>
    Effect.gen(function* () {
      const deadline = yield* endedCall(Effect.never)
      const now = yield* Clock.currentTimeMillis
      assert.strictEqual(yield* endOf(deadline), now)
    })
  )
})

describe("a deadline that another one keeps", () => {
  /** The fiber of the work, and that of work inside of it whose own time is longer. */
  const both = Effect.all([ownFiber, within(7_200_000)(ownFiber)])

  it.effect("costs no fiber: in a call, an attempt, a wait, or behind a call", () =>
    Effect.gen(function* () {
      const deadline = yield* endedCall(Effect.never, 100)
      for (const [where, work] of [
        ["in a call", within(1_000)(both)],
        ["in an attempt", Deadline.attempt(both, { key: "k", duration: 1_000 })],
        ["in a wait of a carried deadline", carried(1_000)(Deadline.guard(both))],
        ["in a call inside of a carried deadline", carried(1_000)(within(2_000)(both))],
        ["behind a call", within(3_600_000)(both).pipe(Effect.provideService(Deadline.Current, deadline))]
      ] as const) {
        const [outer, inner] = yield* work
        assert.strictEqual(inner, outer, where)
      }
    })
  )

  it.effect("is one that comes at the same time, too", () =>
    Effect.gen(function* () {
      const [outer, inner] = yield* within(1_000)(Effect.all([ownFiber, within(1_000)(ownFiber)]))
      assert.strictEqual(inner, outer)
    })
  )
})

describe("the time of an attempt that leaves by itself", () => {
  it.effect("is told, in the event and in the error", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const wait = Effect.withFiber((fiber) =>
        Effect.callback<never, unknown>((resume) => {
          Deadline.leave(fiber, (error) => resume(Effect.fail(error)), { key: "a", millis: 100 })
        })
      )
      const error = errorOf(yield* through(wait.pipe(listen)))
      assert.deepInclude(error as object, { _tag: "AttemptTimeout", key: "a", timeoutMillis: 100 })
      assert.deepStrictEqual(
        events.map(({ attributes, event, key, policy }) => [policy, key, event, attributes]),
        [["attempt", "a", "timeout", { timeoutMillis: 100 }]]
      )
    })
  )
})

describe("whoever is about to begin something", () => {
  const entering = (after: number) =>
    Effect.andThen(
      TestClock.adjust(after),
      Effect.withFiber((fiber) => Effect.succeed(Deadline.enterInTimeOf(fiber, "queue")))
    )

  it.effect("is held up by a carried deadline that has come, from that very moment", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* carried(1_000)(entering(999)))
      assert.strictEqual((yield* carried(1_000)(entering(1_000)))?._tag, "DeadlineExceeded")
      assert.isUndefined(yield* entering(1_000), "without a deadline")
    })
  )

  it.effect("is what the call is said to have waited for", () =>
    Effect.gen(function* () {
      const error = errorOf(yield* through(carried(1_000)(Effect.andThen(entering(0), Deadline.guard(Effect.never)))))
      assert.deepInclude(error as object, { _tag: "DeadlineExceeded", phase: "queue" })
    })
  )

  it.effect("finds a carried deadline not expired before it has come", () =>
    Effect.gen(function* () {
      const expired = Effect.withFiber((fiber) => Effect.succeed(Deadline.expiredOf(fiber)))
      assert.isFalse(yield* carried(1_000)(expired))
    })
  )
})
