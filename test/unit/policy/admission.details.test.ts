/** Edges, events and descriptions of what may begin at all: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FairQueue from "../../../packages/sdk/src/policy/FairQueue.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import { chance, errorOf, recorder, through } from "./support.ts"

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
