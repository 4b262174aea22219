/** Edges, events and descriptions of retries, deadlines and hedges: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import { chance, errorOf, recorder, through } from "./support.ts"

const failing = (error: unknown, times = Infinity) => {
  let left = times
  return Effect.suspend((): Effect.Effect<string, unknown> => (left-- > 0 ? Effect.fail(error) : Effect.succeed("ok")))
}
const always: Retry.Decision = { retry: true }
const spaced = { schedule: Schedule.spaced("1 second"), jitter: "none", cap: "10 seconds" } as const

describe("retries in detail", () => {
  it.effect("tells each retry and why it stopped, by the tag of the error", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const policy = Retry.make<unknown>({ key: "k", ...spaced, retries: 1, classify: () => always })
      for (const error of [{ _tag: "Down" }, "text", null]) yield* through(policy.run(failing(error)).pipe(listen))
      const told = (kind: string) => [
        { event: "retry", attributes: { kind, attempt: 2, delayMillis: 1000 } },
        { event: "stopped", attributes: { reason: "attempts", kind, attempts: 2 } }
      ]
      const seen = events.map(({ attributes, event }) => ({ event, attributes }))
      assert.deepStrictEqual(seen, [...told("Down"), ...told("error"), ...told("error")])
      assert.deepInclude(policy.describe, { policy: "retry", key: "k", retries: 1, capMillis: 10_000, jitter: "none" })
    })
  )

  it.effect("a kind of its own comes before the tag", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const policy = Retry.make<unknown>({
        key: "k",
        ...spaced,
        retries: 1,
        classify: () => ({ retry: true, kind: "own" })
      })
      yield* through(policy.run(failing({ _tag: "Down" })).pipe(listen))
      assert.deepStrictEqual(new Set(events.map(({ attributes }) => attributes["kind"])), new Set(["own"]))
    })
  )

  it.effect("does not sleep until exactly its deadline", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const policy = Retry.make<unknown>({ key: "k", ...spaced, classify: () => always })
      const call = Deadline.within(policy.run(failing("down")), { key: "k", duration: "1 second" })
      assert.strictEqual(errorOf(yield* through(call.pipe(listen))), "down")
      assert.strictEqual(events[0]?.attributes["reason"], "deadline")
    })
  )

  it.effect("counts its calls into the budget", () =>
    Effect.gen(function* () {
      const budget = RetryBudget.make({ key: "b", ratio: 1, minimum: 0 })
      const policy = Retry.make<unknown>({ key: "k", ...spaced, budget, classify: () => always })
      assert.deepStrictEqual(yield* through(policy.run(failing("down", 1))), Exit.succeed("ok"))
      assert.deepStrictEqual(policy.describe.budget, {
        policy: "retry-budget",
        key: "b",
        ratio: 1,
        minimum: 0,
        windowMillis: 10_000
      })
    })
  )

  it.effect("decorrelated: never below the first delay, and up to three times the last", () =>
    Effect.gen(function* () {
      const delays = (random: number) =>
        Effect.gen(function* () {
          const { events, listen } = recorder()
          const policy = Retry.make<unknown>({
            key: "k",
            ...spaced,
            jitter: "decorrelated",
            retries: 2,
            classify: () => always
          })
          yield* through(policy.run(failing("down")).pipe(listen, chance(random)))
          return events.filter(({ event }) => event === "retry").map(({ attributes }) => attributes["delayMillis"])
        })
      assert.deepStrictEqual(yield* delays(0), [1000, 1000])
      assert.deepStrictEqual(yield* delays(1), [3000, 9000])
    })
  )
})

describe("a budget in detail", () => {
  it("keeps deposits for nearly a window, and no longer", () => {
    const budget = RetryBudget.make({ key: "b", ratio: 1, minimum: 0, window: 1000 })
    budget.deposit(0)
    for (const at of [100, 300, 500, 700, 850]) assert.strictEqual(budget.available(at), 1, `${at}`)
    assert.strictEqual(budget.available(1100), 0)
    for (let at = 1100; at < 5000; at += 50) budget.available(at)
    for (let from = 5000; from < 15_000; from += 1300) {
      budget.deposit(from)
      for (let at = from; at < from + 1300; at += 50) {
        assert.strictEqual(
          budget.available(at),
          at < from + 900 ? 1 : at >= from + 1000 ? 0 : budget.available(at),
          `${at}`
        )
      }
    }
    for (let at = 15_000; at < 20_000; at += 50) budget.available(at)
    budget.deposit(20_000)
    assert.strictEqual(budget.available(20_000), 1)
    assert.isTrue(budget.withdraw(20_000))
    assert.isFalse(budget.withdraw(20_000))
  })

  it("forgets withdrawals after a window, however small the steps", () => {
    const budget = RetryBudget.make({ key: "b", ratio: 0, minimum: 2, window: 1000 })
    for (let from = 350; from < 10_000; from += 1200) {
      assert.isTrue(budget.withdraw(from) && budget.withdraw(from))
      for (let at = from; at <= from + 1000; at += 50) assert.strictEqual(budget.available(at), 0, `${at}`)
      for (let at = from + 1000; at < from + 1200; at += 50) budget.available(at)
      assert.strictEqual(budget.available(from + 1200), 2)
    }
  })
})

describe("deadlines in detail", () => {
  it.effect("tell the phase, the attempts and the limit", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const attempt = Deadline.attempt(Effect.never, { key: "a", duration: "1 second" })
      yield* through(
        Deadline.within(Effect.andThen(Effect.exit(attempt), Effect.never), { key: "d", duration: "3 seconds" }).pipe(
          listen
        )
      )
      assert.deepStrictEqual(
        events.map(({ attributes, event, key }) => ({ key, event, attributes })),
        [
          { key: "a", event: "timeout", attributes: { timeoutMillis: 1000 } },
          { key: "d", event: "exceeded", attributes: { phase: "attempt", attempts: 1, deadlineMillis: 3000 } }
        ]
      )
      const error = errorOf(yield* through(Deadline.attempt(Effect.never, { key: "a", duration: "1 second" })))
      assert.strictEqual((error as Error).message, "a: no answer within the attempt's 1000 ms")
    })
  )

  it.effect("nobody's deadline has come while there is time, and noting things without one is no mistake", () =>
    Effect.gen(function* () {
      const expired = Effect.withFiberSucceed(Deadline.expiredOf)
      const second = { key: "k", duration: "1 second" } as const
      const minute = { key: "k", duration: "1 minute" } as const
      assert.isFalse(yield* Deadline.within(Deadline.within(expired, minute), second))
      assert.isFalse(yield* Deadline.attempt(expired, second))
      assert.isFalse(yield* Deadline.within(Deadline.attempt(expired, second), minute))
      yield* Deadline.enter("backoff")
      yield* Effect.withFiberSucceed(Deadline.beginAttemptOf)
      assert.strictEqual(yield* Deadline.remaining, Infinity)
    })
  )

  it.effect("a defect is no last error", () =>
    Effect.gen(function* () {
      const noted = Effect.withFiberSucceed((fiber) => Deadline.noteOf(fiber, Cause.die("bug")))
      const exit = yield* through(Deadline.within(Effect.andThen(noted, Effect.never), { key: "k", duration: 1000 }))
      assert.isUndefined((errorOf(exit) as { readonly lastError?: unknown }).lastError)
    })
  )

  it.effect("an attempt without a deadline around it counts for itself", () =>
    Effect.gen(function* () {
      const inside = Effect.withFiberSucceed((fiber) => fiber.getRef(Deadline.Current)?.progress)
      const progress = yield* Deadline.attempt(inside, { key: "k", duration: 1000 })
      assert.deepStrictEqual(progress, { phase: "attempt", attempts: 1, lastError: undefined, inner: undefined })
    })
  )
})

describe("hedges in detail", () => {
  it.effect("tell when a second attempt begins and who won, and nothing of calls without one", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const hedge = Hedge.make({ key: "h", after: "100 millis" })
      const race = (first: number, second: number) =>
        through(hedge.run((candidate) => Effect.sleep(candidate === 0 ? first : second), 2).pipe(listen))
      yield* race(50, 50)
      assert.deepStrictEqual(events, [])
      yield* race(1000, 50)
      yield* race(200, 5000)
      yield* through(
        hedge.run((candidate) => Effect.andThen(Effect.sleep(150), Effect.fail(candidate)), 2).pipe(listen)
      )
      assert.deepStrictEqual(
        events.map(({ attributes, event }) => [event, attributes["candidate"]]),
        [
          ["started", 1],
          ["won", 1],
          ["started", 1],
          ["lost", 0],
          ["started", 1],
          ["lost", 0]
        ]
      )
    })
  )

  it.effect("count their calls into the budget, unless somebody around them does", () =>
    Effect.gen(function* () {
      const begun = (options: Partial<Hedge.Options>) =>
        Effect.gen(function* () {
          const { listen, named } = recorder()
          const budget = RetryBudget.make({ key: "b", ratio: 1, minimum: 0 })
          const hedge = Hedge.make({ key: "h", after: "100 millis", budget, ...options })
          yield* through(hedge.run(() => Effect.sleep("1 second"), 2).pipe(listen))
          return named("started").length
        })
      assert.strictEqual(yield* begun({}), 1)
      assert.strictEqual(yield* begun({ deposits: true }), 1)
      assert.strictEqual(yield* begun({ deposits: false }), 0)
    })
  )

  it("describe when they begin", () => {
    assert.deepStrictEqual(Hedge.make({ key: "h" }).describe, {
      policy: "hedge",
      key: "h",
      after: { percentile: 0.95 },
      max: 1
    })
    const fixed = Hedge.make({ key: "h", after: "2 seconds", max: 2 }).describe
    assert.deepStrictEqual(fixed, { policy: "hedge", key: "h", after: { millis: 2000 }, max: 2 })
    const share = Hedge.make({ key: "h", after: { percentile: 0.5 } }).describe
    assert.deepStrictEqual(share.after, { percentile: 0.5 })
  })

  it.effect("an error of the first attempt is told, not that of the second; one that is fatal ends the call", () =>
    Effect.gen(function* () {
      const hedge = Hedge.make<string>({ key: "h", after: "100 millis", fatal: (error) => error === "fatal" })
      const late = (first: number, second: number) =>
        hedge.run(
          (candidate) =>
            Effect.andThen(Effect.sleep(candidate === 0 ? first : second), Effect.fail(`error ${candidate}`)),
          2
        )
      assert.strictEqual(errorOf(yield* through(late(500, 200))), "error 0")
      assert.strictEqual(errorOf(yield* through(late(500, 600))), "error 0")
      let asked = 0
      const fatal = hedge.run(
        () =>
          Effect.andThen(
            Effect.sync(() => asked++),
            Effect.fail("fatal")
          ),
        2
      )
      assert.strictEqual(errorOf(yield* through(fatal)), "fatal")
      assert.strictEqual(asked, 1)
      // What fails at once is answered by the next candidate at once.
      const started = yield* Effect.exit(
        hedge.run((candidate) => (candidate === 0 ? Effect.fail("no") : Effect.succeed("yes")), 2)
      )
      assert.deepStrictEqual(started, Exit.succeed("yes"))
    })
  )
})
