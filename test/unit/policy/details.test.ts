/** Edges, events and descriptions of the policies that their larger tests pass by: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FairQueue from "../../../packages/sdk/src/policy/FairQueue.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import { recorder } from "./support.ts"

const errorOf = <E>(exit: Exit.Exit<unknown, E>): E | undefined => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" ? error.value : undefined
}
const chance = (value: number) =>
  Effect.provideService(Random.Random, { nextDoubleUnsafe: () => value, nextIntUnsafe: () => 0 })
/** Runs to the end, letting so many seconds pass. */
const through = <A, E, R>(self: Effect.Effect<A, E, R>, seconds = 60) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.exit(self), { startImmediately: true })
    yield* TestClock.adjust(`${seconds} seconds`)
    return yield* Fiber.join(fiber)
  })
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

describe("rate limits in detail", () => {
  it.effect("say when to come back, rounded up, and tell it", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const limit = RateLimit.make({ key: "r", limit: 3, window: 1000, burst: 1 })
      yield* limit.run(Effect.void).pipe(listen)
      const error = errorOf(yield* Effect.exit(limit.run(Effect.void)).pipe(listen))
      assert.deepInclude(error, { retryAfterMillis: 334, limit: 3 })
      assert.deepStrictEqual(events[0]?.attributes, { retryAfterMillis: 334 })
    })
  )

  it.effect("one bucket for all unless declared, and of tenants that are full again none is kept", () =>
    Effect.gen(function* () {
      const as = (tenant: string) => Effect.provideService(Caller.Current, { tenant })
      const one = RateLimit.make({ key: "r", limit: 1, window: 1000 })
      yield* one.run(Effect.void).pipe(as("a"))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(one.run(Effect.void).pipe(as("b")))))
      assert.strictEqual(one.tenants(), 1)
      assert.isFalse(one.describe.perTenant)
      const each = RateLimit.make({ key: "r", limit: 1, window: 1000, perTenant: true })
      for (let n = 0; n < 1023; n++) yield* each.run(Effect.void).pipe(as(`t${n}`))
      yield* TestClock.adjust(500)
      yield* each.run(Effect.void).pipe(as("young"))
      yield* TestClock.adjust(500)
      assert.strictEqual(each.tenants(), 1024)
      yield* each.run(Effect.void).pipe(as("young2"))
      assert.strictEqual(each.tenants(), 2, "all but those whose bucket is not full")
      yield* each.run(Effect.void).pipe(as("t1"))
      assert.strictEqual(each.tenants(), 3)
    })
  )

  it.effect("who leaves gives back one token, and not those of who came after", () =>
    Effect.gen(function* () {
      const limit = RateLimit.make({ key: "r", limit: 1, window: 1000, maxWait: 10_000 })
      yield* limit.run(Effect.void)
      const first = yield* Effect.forkChild(limit.run(Effect.void), { startImmediately: true })
      yield* Effect.forkChild(limit.run(Effect.void), { startImmediately: true })
      yield* Fiber.interrupt(first)
      let served = false
      yield* Effect.forkChild(limit.run(Effect.sync(() => (served = true))), { startImmediately: true })
      yield* TestClock.adjust(1999)
      assert.isFalse(served)
      yield* TestClock.adjust(1)
      assert.isTrue(served)
    })
  )

  it.effect("waits exactly as long as it may, and not until exactly the deadline", () =>
    Effect.gen(function* () {
      const limit = () => RateLimit.make({ key: "r", limit: 1, window: 1000, maxWait: 1000 })
      const patient = limit()
      yield* patient.run(Effect.void)
      assert.isTrue(Exit.isSuccess(yield* through(patient.run(Effect.void))))
      const hurried = limit()
      yield* hurried.run(Effect.void)
      const call = Deadline.within(hurried.run(Effect.void), { key: "d", duration: 1000 })
      assert.strictEqual((errorOf(yield* through(call)) as { readonly _tag: string })._tag, "Overloaded")
    })
  )
})

describe("shedding in detail", () => {
  const options = { key: "s", window: 10_000, minimumCalls: 4 }
  const overloaded = Effect.fail({ _tag: "Overloaded" })

  it("describes itself, with its defaults", () => {
    const all = {
      policy: "shed",
      key: "s",
      k: 2,
      windowMillis: 120_000,
      minimumCalls: 20,
      maxShare: 0.9,
      deadlines: 0.2,
      dark: false
    }
    assert.deepStrictEqual(Shed.make({ key: "s" }).describe, all as Shed.Description)
    const own = Shed.make({ ...options, deadlines: false, dark: true }).describe
    assert.deepInclude(own, { minimumCalls: 4, deadlines: undefined, dark: true, windowMillis: 10_000 })
  })

  it.effect("begins with the declared number of calls, and counts what was not accepted: by tag, or as told", () =>
    Effect.gen(function* () {
      const share = (work: Effect.Effect<unknown, unknown>, calls: number, more?: Partial<Shed.Options<any>>) =>
        Effect.gen(function* () {
          const shed = Shed.make<any>({ ...options, ...more })
          for (let call = 0; call < calls; call++) yield* Effect.exit(shed.run(work).pipe(chance(0.999)))
          return shed.share(0)
        })
      assert.strictEqual(yield* share(overloaded, 3), 0)
      assert.strictEqual(yield* share(overloaded, 4), 4 / 5)
      for (const error of ["Overloaded", null, undefined, 7, { _tag: "QueryFailed" }]) {
        assert.strictEqual(yield* share(Effect.fail(error), 4), 0, String(error))
      }
      assert.strictEqual(yield* share(Effect.die("bug"), 4), 0)
      assert.strictEqual(yield* share(Effect.fail("mine"), 4, { overload: (error) => error === "mine" }), 4 / 5)
      assert.strictEqual(yield* share(overloaded, 4, { overload: () => false }), 0)
    })
  )

  it.effect("forgets piece by piece, from its first moment on", () =>
    Effect.gen(function* () {
      const shed = Shed.make<any>(options)
      for (let second = 0; second < 36; second++) {
        yield* Effect.exit(shed.run(overloaded).pipe(chance(0.999)))
        // Ten pieces of a second.
        const calls = Math.min(10, second + 1)
        assert.strictEqual(shed.share(second * 1000), calls < 4 ? 0 : calls / (calls + 1), `${second}`)
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(shed.share(36_500), 9 / 10)
      assert.strictEqual(shed.share(80_000), 0)
      assert.strictEqual(shed.share(0), 0, "time does not run backwards")
    })
  )

  it.effect("refuses below the chance, and says with what reason, priority and chance", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const shed = Shed.make<any>(options)
      const call = (random: number) => Effect.exit(shed.run(overloaded).pipe(chance(random), listen))
      for (let n = 0; n < 4; n++) yield* call(0)
      const expected = Math.min(0.9, 4 / 5)
      yield* call(0.999)
      assert.deepInclude(errorOf(yield* call(0)), { policy: "shed", key: "s", limit: 2, waiting: 0 })
      assert.lengthOf(events, 1)
      // Nobody of this priority has asked before: nothing is known of it.
      const first = shed
        .run(Effect.succeed("served"))
        .pipe(chance(0), Effect.provideService(Caller.Current, { priority: 7 }))
      assert.strictEqual(yield* first, "served")
      assert.strictEqual(events[0]?.attributes["reason"], "throttled")
      assert.isAtLeast(events[0]?.attributes["chance"] as number, expected)
    })
  )

  it.effect("a call that its deadline cut was not accepted; one that its caller left was", () =>
    Effect.gen(function* () {
      const cut = Shed.make<any>(options)
      for (let n = 0; n < 4; n++) {
        yield* through(Deadline.within(cut.run(Effect.never).pipe(chance(0.999)), { key: "d", duration: 10 }), 0.01)
      }
      assert.strictEqual(cut.share(50), 4 / 5)
      const left = Shed.make<any>(options)
      for (let n = 0; n < 4; n++) {
        const fiber = yield* Effect.forkChild(left.run(Effect.never).pipe(chance(0.999)), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
      }
      assert.strictEqual(left.share(50), 0)
    })
  )
})

describe("bulkheads in detail", () => {
  it.effect("say what they are, and why they refuse", () =>
    Effect.gen(function* () {
      const none = Bulkhead.make({ key: "b", permits: 1 })
      const some = Bulkhead.make({ key: "b", permits: 1, queue: 1, maxWait: "2 seconds" })
      const never = Bulkhead.make({ key: "b", permits: 1, queue: 1, maxWait: 0 })
      const plain = {
        policy: "bulkhead",
        key: "b",
        permits: 1,
        queue: 0,
        maxWaitMillis: undefined,
        adaptive: undefined
      }
      assert.deepStrictEqual(none.describe, plain as Bulkhead.Description)
      assert.deepInclude(some.describe, { queue: 1, maxWaitMillis: 2000 })
      for (const [bulkhead, inQueue, reason] of [
        [none, 0, "no permit"],
        [some, 1, "queue full"],
        [never, 0, "queue full"]
      ] as const) {
        const { events, listen } = recorder()
        const held = []
        for (let n = 0; n <= inQueue; n++) {
          held.push(yield* Effect.forkChild(bulkhead.withPermit(Effect.never), { startImmediately: true }))
        }
        const error = errorOf(yield* Effect.exit(bulkhead.withPermit(Effect.void)).pipe(listen))
        assert.deepInclude(error, { limit: 1, waiting: inQueue })
        assert.deepStrictEqual(events[0]?.attributes, { reason, permits: 1, waiting: inQueue })
        for (const fiber of held) yield* Fiber.interrupt(fiber)
        assert.deepInclude(bulkhead.stats(), { inUse: 0, waiting: 0 })
      }
    })
  )

  it.effect("the phase is that of the queue while it waits, and what it was afterwards", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "b", permits: 1, queue: 1 })
      const phase = Effect.withFiberSucceed((fiber) => fiber.getRef(Deadline.Current)?.progress.phase)
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.sleep("1 second")), { startImmediately: true })
      const waiting = Deadline.within(Effect.andThen(Deadline.enter("acquire"), bulkhead.withPermit(phase)), {
        key: "d",
        duration: "1 minute"
      })
      assert.deepStrictEqual(yield* through(waiting), Exit.succeed("acquire" as const))
      yield* Fiber.join(holder)
      const again = yield* Effect.forkChild(bulkhead.withPermit(Effect.never), { startImmediately: true })
      const cut = Deadline.within(Effect.andThen(Deadline.enter("acquire"), bulkhead.withPermit(phase)), {
        key: "d",
        duration: "1 second"
      })
      assert.deepInclude(errorOf(yield* through(cut)), { phase: "queue" })
      yield* Fiber.interrupt(again)
    })
  )

  it.effect("an adaptive limit hears how long each call took beside how many, and what became of it", () =>
    Effect.gen(function* () {
      const samples: Array<readonly [number, number, string]> = []
      const adaptive = {
        name: "aimd" as const,
        minimum: 1,
        maximum: 9,
        current: () => 3,
        sample: (millis: number, inUse: number, outcome: string) => void samples.push([millis, inUse, outcome])
      }
      const bulkhead = Bulkhead.make({ key: "b", permits: 1, adaptive })
      assert.deepStrictEqual(bulkhead.describe.adaptive, { name: "aimd", minimum: 1, maximum: 9 })
      assert.strictEqual(bulkhead.stats().permits, 3)
      yield* TestClock.adjust("5 seconds")
      for (const work of [
        Effect.sleep(20),
        Effect.fail({ _tag: "AttemptTimeout" }),
        Effect.fail({ _tag: "Other" }),
        Effect.fail(null),
        Effect.fail(7),
        Effect.die("bug")
      ]) {
        yield* through(bulkhead.withPermit(work as Effect.Effect<void, unknown>), 1)
      }
      const outcomes = ["ok", "overload", "dropped", "dropped", "dropped", "dropped"]
      assert.deepStrictEqual(
        samples,
        outcomes.map((outcome, index) => [index === 0 ? 20 : 0, 1, outcome] as const)
      )
    })
  )

  it("a fair queue gives its last place to the one of most waiters", () => {
    const queue = FairQueue.make<FairQueue.Entry & { readonly name: string }>()
    const entry = (tenant: string, name: string, priority = 0) => ({ tenant, name, priority })
    const all = [entry("a", "a1"), entry("b", "b1"), entry("b", "b2"), entry("c", "c1")]
    for (const one of all) queue.add(one)
    assert.strictEqual(queue.last()?.name, "b2")
    assert.isTrue(queue.remove(all[2]!))
    assert.strictEqual(queue.size(), 3)
    assert.isUndefined(FairQueue.make().last())
  })
})
