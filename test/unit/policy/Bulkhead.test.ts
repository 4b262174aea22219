import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as AdaptiveLimit from "../../../packages/sdk/src/policy/AdaptiveLimit.ts"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FairQueue from "../../../packages/sdk/src/policy/FairQueue.ts"
import { DeadlineExceeded, Overloaded } from "../../../packages/sdk/src/ReportError.ts"
import { random, recorder, seeds } from "./support.ts"

const errorOf = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert(Exit.isFailure(exit))
  const error = Cause.findErrorOption(exit.cause)
  assert(error._tag === "Some", Cause.pretty(exit.cause))
  return error.value
}

const as = (tenant: string, priority: number = Caller.priorities.report) =>
  Effect.provideService(Caller.Current, { tenant, priority })

describe("Bulkhead", () => {
  it.effect("lets as many work as it has permits, and refuses the next at once, saying who and why", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 2 })
      const { listen, named } = recorder()
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const error = errorOf(yield* Effect.exit(listen(bulkhead.withPermit(Effect.succeed(1)))))
      assert.instanceOf(error, Overloaded)
      assert.deepInclude(error, { policy: "bulkhead", key: "k", limit: 2, waiting: 0 })
      assert.deepInclude(named("refused")[0], { policy: "bulkhead", key: "k" })
    })
  )

  it.effect("the queue is bounded in length and in time", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1, maxWait: 100 })
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const waiting = yield* Effect.forkChild(Effect.exit(bulkhead.withPermit(Effect.void)))
      yield* TestClock.adjust(1)
      assert.deepInclude(errorOf(yield* Effect.exit(bulkhead.withPermit(Effect.void))), { waiting: 1 })
      yield* TestClock.adjust(98)
      assert.strictEqual(bulkhead.stats().waiting, 1)
      yield* TestClock.adjust(1)
      assert.instanceOf(errorOf(yield* Fiber.join(waiting)), Overloaded)
      assert.deepStrictEqual(bulkhead.stats(), { permits: 1, inUse: 1, draining: 0, waiting: 0 })
    })
  )

  it.effect("a deadline that comes before the longest wait ends the wait, in phase queue", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1, maxWait: 1000 })
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const call = bulkhead.withPermit(Effect.void).pipe(Deadline.within({ key: "d", duration: 50 }))
      const fiber = yield* Effect.forkChild(Effect.exit(call))
      yield* TestClock.adjust(50)
      const error = errorOf(yield* Fiber.join(fiber))
      assert.instanceOf(error, DeadlineExceeded)
      assert.strictEqual(error.phase, "queue")
      assert.strictEqual(bulkhead.stats().waiting, 0)
    })
  )

  it.effect("a caller that leaves the queue leaves no place behind (cockatiel#112)", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1 })
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const gone = yield* Effect.forkChild(bulkhead.withPermit(Effect.void))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(gone)
      const next = yield* Effect.forkChild(bulkhead.withPermit(Effect.succeed("served")))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(holder)
      assert.strictEqual(yield* Fiber.join(next), "served")
      assert.strictEqual(bulkhead.stats().inUse, 0)
    })
  )

  it.effect("the permit of abandoned work is given back when the work has ended, not when its caller left", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1 })
      const work = Effect.onInterrupt(Effect.never, () => Effect.sleep(1000))
      const call = bulkhead.withPermit(Deadline.attempt(work, { key: "a", duration: 100 }))
      const fiber = yield* Effect.forkChild(Effect.exit(call))
      yield* TestClock.adjust(100)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(bulkhead.stats(), { permits: 1, inUse: 1, draining: 1, waiting: 0 })
      yield* TestClock.adjust(999)
      assert.strictEqual(bulkhead.stats().inUse, 1)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(bulkhead.stats(), { permits: 1, inUse: 0, draining: 0, waiting: 0 })
    })
  )

  it.effect("nested bulkheads are both held, and a waiter is served when the drain ends", () =>
    Effect.gen(function* () {
      const outer = Bulkhead.make({ key: "outer", permits: 1, queue: 1 })
      const inner = Bulkhead.make({ key: "inner", permits: 1 })
      const work = Effect.onInterrupt(Effect.never, () => Effect.sleep(1000))
      const call = outer.withPermit(inner.withPermit(Deadline.within(work, { key: "a", duration: 100 })))
      yield* Effect.forkChild(Effect.exit(call))
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([outer.stats().draining, inner.stats().draining], [1, 1])
      const next = yield* Effect.forkChild(outer.withPermit(Clock.currentTimeMillis))
      yield* TestClock.adjust(5000)
      assert.strictEqual(yield* Fiber.join(next), 1100)
      assert.deepStrictEqual([outer.stats().inUse, inner.stats().inUse], [0, 0])
    })
  )

  it.effect("higher priorities first; within one, tenants take turns", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 100 })
      const served: Array<string> = []
      const call = (name: string, tenant: string, priority?: number) =>
        bulkhead
          .withPermit(
            Effect.andThen(
              Effect.sync(() => served.push(name)),
              Effect.sleep(1)
            )
          )
          .pipe(as(tenant, priority))
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      for (const name of ["a1", "a2", "a3", "a4"]) yield* Effect.forkChild(call(name, "a"))
      for (const name of ["b1", "b2"]) yield* Effect.forkChild(call(name, "b"))
      yield* Effect.forkChild(call("batch", "c", Caller.priorities.batch))
      yield* Effect.forkChild(call("interactive", "a", Caller.priorities.interactive))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(served, ["interactive", "a1", "b1", "a2", "b2", "a3", "a4", "batch"])
    })
  )

  it.effect("a full queue gives the place of the least important to somebody more important, and only then", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1 })
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const batch = yield* Effect.forkChild(
        Effect.exit(bulkhead.withPermit(Effect.void).pipe(as("t", Caller.priorities.batch)))
      )
      yield* TestClock.adjust(1)
      yield* Effect.forkChild(bulkhead.withPermit(Effect.void).pipe(as("t", Caller.priorities.interactive)))
      yield* TestClock.adjust(1)
      assert.instanceOf(errorOf(yield* Fiber.join(batch)), Overloaded)
      const equal = bulkhead.withPermit(Effect.void).pipe(as("t", Caller.priorities.interactive))
      assert.instanceOf(errorOf(yield* Effect.exit(equal)), Overloaded)
      assert.strictEqual(bulkhead.stats().waiting, 1)
    })
  )

  it.effect("resize: more permits help those who wait at once, fewer take effect as calls end", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 10 })
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(bulkhead.withPermit(Effect.never)))
      yield* TestClock.adjust(1)
      assert.deepInclude(bulkhead.stats(), { inUse: 1, waiting: 2 })
      yield* bulkhead.resize(3)
      assert.deepInclude(bulkhead.stats(), { inUse: 3, waiting: 0 })
      yield* bulkhead.resize(1)
      yield* Fiber.interrupt(fibers[0]!)
      yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      assert.deepInclude(bulkhead.stats(), { inUse: 2, waiting: 1 })
    })
  )

  it.effect("a queue of thousands whose work ends at once does not nest", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 20_000 })
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      let served = 0
      for (let index = 0; index < 20_000; index++) {
        yield* Effect.forkChild(bulkhead.withPermit(Effect.sync(() => served++)))
      }
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(1)
      assert.strictEqual(served, 20_000)
    })
  )

  it.effect("whoever comes back at once does not pass those who wait", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 10 })
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const served: Array<string> = []
      const call = (name: string) => bulkhead.withPermit(Effect.sync(() => served.push(name)))
      yield* Effect.forkChild(Effect.andThen(call("a"), Effect.andThen(call("a"), call("a"))))
      yield* Effect.forkChild(call("b"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(served, ["a", "b", "a", "a"])
    })
  )

  it.effect("property: permits are never leaked and never exceeded under random interrupts", () =>
    Effect.gen(function* () {
      for (const seed of seeds(40)) {
        const { int, next, pick } = random(seed)
        const permits = 1 + int(4)
        const bulkhead = Bulkhead.make({
          key: "k",
          permits,
          queue: int(10),
          ...(next() < 0.5 ? { maxWait: int(30) } : undefined)
        })
        let working = 0
        let most = 0
        const work = (millis: number, cleanup: number) =>
          Effect.acquireUseRelease(
            Effect.sync(() => (most = Math.max(most, ++working))),
            () => Effect.onInterrupt(Effect.sleep(millis), () => Effect.sleep(cleanup)),
            () => Effect.sync(() => working--)
          )
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let step = 0; step < 60; step++) {
          const plain = work(int(40), int(20))
          const call = pick<() => Effect.Effect<void, unknown>>([
            () => bulkhead.withPermit(plain),
            () => bulkhead.withPermit(Deadline.attempt(plain, { key: "a", duration: 1 + int(20) })),
            () => bulkhead.withPermit(plain).pipe(Deadline.within({ key: "d", duration: 1 + int(20) })),
            () => bulkhead.withPermit(Effect.andThen(Effect.yieldNow, Effect.fail("no")))
          ])().pipe(as(pick(["a", "b", "c"]), pick([0, 50, 100])))
          fibers.push(yield* Effect.forkChild(Effect.exit(call)))
          if (next() < 0.4) yield* TestClock.adjust(int(10))
          if (next() < 0.4) pick(fibers).interruptUnsafe()
          assert.isAtMost(bulkhead.stats().inUse, permits, `seed ${seed}`)
        }
        yield* TestClock.adjust(10_000)
        assert.isAtMost(most, permits, `seed ${seed}: more work than permits`)
        assert.deepStrictEqual(bulkhead.stats(), { permits, inUse: 0, draining: 0, waiting: 0 }, `seed ${seed}`)
        assert.strictEqual(working, 0, `seed ${seed}`)
      }
    }).pipe(Effect.provideService(Background.CurrentSupervisor, Background.makeSupervisor()))
  )

  it("property: the fair queue equals a list that is searched for the next", () => {
    for (const seed of seeds(100)) {
      const { int, next, pick } = random(seed)
      const queue = FairQueue.make<FairQueue.Entry & { readonly id: number }>()
      let model: Array<FairQueue.Entry & { readonly id: number }> = []
      /** The step at which a tenant was served last, or came to an empty place. */
      const turns = new Map<string, number>()
      for (let step = 1; step < 300; step++) {
        if (next() < 0.55) {
          const entry = { id: step, priority: int(3), tenant: pick(["a", "b", "c"]) }
          const turn = `${entry.priority}/${entry.tenant}`
          if (!model.some((one) => `${one.priority}/${one.tenant}` === turn)) turns.set(turn, step)
          queue.add(entry)
          model.push(entry)
        } else if (next() < 0.3 && model.length > 0) {
          const gone = pick(model)
          assert.isTrue(queue.remove(gone))
          assert.isFalse(queue.remove(gone))
          model = model.filter((one) => one !== gone)
        } else {
          const highest = Math.max(...model.map((one) => one.priority))
          const order = model
            .filter((one) => one.priority === highest)
            .sort((a, b) => turns.get(`${highest}/${a.tenant}`)! - turns.get(`${highest}/${b.tenant}`)! || a.id - b.id)
          const expected = order[0]
          assert.strictEqual(queue.next(), expected, `seed ${seed}, step ${step}`)
          if (expected !== undefined) turns.set(`${highest}/${expected.tenant}`, step)
          model = model.filter((one) => one !== expected)
        }
        assert.strictEqual(queue.size(), model.length)
      }
    }
  })

  it.effect("fairness: a tenant with one call is served after at most one call of each other tenant", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1000 })
      const holder = yield* Effect.forkChild(bulkhead.withPermit(Effect.never))
      yield* TestClock.adjust(1)
      const served: Array<string> = []
      const call = (tenant: string) =>
        bulkhead
          .withPermit(
            Effect.andThen(
              Effect.sync(() => served.push(tenant)),
              Effect.sleep(1)
            )
          )
          .pipe(as(tenant))
      for (let index = 0; index < 200; index++) yield* Effect.forkChild(call("greedy"))
      yield* Effect.forkChild(call("modest"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(holder)
      yield* TestClock.adjust(1000)
      assert.strictEqual(served.indexOf("modest"), 1)
      assert.strictEqual(served.length, 201)
    })
  )
})

describe("AdaptiveLimit", () => {
  it("aimd falls by a tenth on overload, rises by one a round, and keeps its bounds", () => {
    const limit = AdaptiveLimit.aimd({ minimum: 2, maximum: 20 })
    assert.strictEqual(limit.current(), 20)
    limit.sample(10, 20, "overload")
    assert.strictEqual(limit.current(), 18)
    for (let index = 0; index < 200; index++) limit.sample(10, 20, "overload")
    assert.strictEqual(limit.current(), 2)
    for (let index = 0; index < 5; index++) limit.sample(10, 2, "ok")
    assert.isAbove(limit.current(), 2)
    for (let index = 0; index < 5000; index++) limit.sample(10, 20, "ok")
    assert.strictEqual(limit.current(), 20)
  })

  it("aimd takes a slow answer for overload, and nothing from callers who gave up", () => {
    const limit = AdaptiveLimit.aimd({ maximum: 10, slowMillis: 100 })
    limit.sample(1_000_000, 10, "dropped")
    assert.strictEqual(limit.current(), 10)
    limit.sample(101, 10, "ok")
    assert.strictEqual(limit.current(), 9)
  })

  it("no limit grows while it is not used", () => {
    for (const limit of [
      AdaptiveLimit.aimd({ maximum: 100, initial: 10 }),
      AdaptiveLimit.gradient({ maximum: 100, initial: 10 })
    ]) {
      for (let index = 0; index < 1000; index++) limit.sample(10, 2, "ok")
      assert.strictEqual(limit.current(), 10, limit.name)
      for (let index = 0; index < 1000; index++) limit.sample(10, limit.current(), "ok")
      assert.isAbove(limit.current(), 40, limit.name)
    }
  })

  it("gradient shrinks when answers get slower, and survives odd samples", () => {
    const limit = AdaptiveLimit.gradient({ maximum: 50 })
    for (let index = 0; index < 200; index++) limit.sample(10, limit.current(), "ok")
    const before = limit.current()
    for (let index = 0; index < 30; index++) limit.sample(200, limit.current(), "ok")
    assert.isBelow(limit.current(), before)
    for (const odd of [NaN, -1, Infinity, 0]) limit.sample(odd, 50, "ok")
    assert.isTrue(limit.current() >= 1 && limit.current() <= 50)
  })

  it.effect("a bulkhead follows it", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "k", permits: 10, adaptive: AdaptiveLimit.aimd({ maximum: 10 }) })
      const hang = Deadline.attempt(Effect.never, { key: "a", duration: 10 })
      for (let index = 0; index < 5; index++) {
        const fiber = yield* Effect.forkChild(Effect.exit(bulkhead.withPermit(hang)))
        yield* TestClock.adjust(10)
        yield* Fiber.join(fiber)
      }
      assert.isBelow(bulkhead.stats().permits, 7)
      const before = bulkhead.stats().permits
      yield* Effect.exit(bulkhead.withPermit(Effect.fail("the caller was wrong")))
      assert.strictEqual(bulkhead.stats().permits, before)
    })
  )
})
