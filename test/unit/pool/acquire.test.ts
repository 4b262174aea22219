import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { FakeServer, lost } from "./FakeSession.ts"
import { failure, hold, makePool, request, start, timed } from "./fixture.ts"

describe("acquire", () => {
  it.effect("the session used last is used next", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 3, max: 3 })
      const ids = yield* Effect.forEach([1, 2, 3], () => hold(pool, 0))
      assert.strictEqual(new Set(ids).size, 1)
    })
  )

  it.effect("waiters are served in their order, by the session that comes back", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      const order: Array<number> = []
      const fibers = yield* Effect.forEach([1, 2, 3, 4], (n) =>
        start(
          pool.use(request, (session) => {
            order.push(n)
            return session.query(10)
          })
        )
      )
      yield* TestClock.adjust(100)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, [1, 2, 3, 4])
      assert.strictEqual(server.connectAttempts, 1)
    })
  )

  it.effect("a higher priority goes first, and within it the order holds", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      const order: Array<string> = []
      const ask = (name: string, priority: number) =>
        start(
          pool.use({ ...request, name, priority }, (session) => {
            order.push(name)
            return session.query(1)
          })
        )
      const fibers = [
        yield* ask("first", 0),
        yield* ask("a", 0),
        yield* ask("b", 5),
        yield* ask("c", 5),
        yield* ask("d", 0)
      ]
      yield* TestClock.adjust(100)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, ["first", "b", "c", "a", "d"])
    })
  )

  it.effect("AcquireTimeout after 30 seconds names the longest holders (HikariCP#1111: pool exhausted, by whom?)", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 2 })
      yield* start(hold(pool, 60_000, { name: "old report" }))
      yield* TestClock.adjust(1_000)
      yield* start(hold(pool, 60_000, { name: "young report", lane: "batch" }))
      const waiter = yield* start(timed(failure(hold(pool, 1))))
      yield* TestClock.adjust(29_999)
      assert.isUndefined(waiter.pollUnsafe())
      yield* TestClock.adjust(1)
      const { millis, result } = yield* Fiber.join(waiter)
      assert.strictEqual(millis, 30_000)
      assert.isTrue(result._tag === "Success" && result.success._tag === "AcquireTimeout")
      if (result._tag !== "Success" || result.success._tag !== "AcquireTimeout") return
      const error = result.success
      assert.strictEqual(error.reason, "all-leased")
      assert.deepStrictEqual(error.holders, [
        { name: "old report", lane: "report", heldMillis: 31_000 },
        { name: "young report", lane: "batch", heldMillis: 30_000 }
      ])
      assert.include(error.message, "longest held by old report for 31.0 s")
    })
  )

  it.effect("one deadline covers validation, connect and wait (node-mysql2#4498: a fresh timeout for each retry)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* hold(pool, 0)
      yield* TestClock.adjust(5_000)
      server.blackHole = true
      server.validateTimeoutMillis = 400
      const deadline = (yield* Clock.currentTimeMillis) + 600
      const waiter = yield* start(timed(failure(hold(pool, 1, { deadline }))))
      yield* TestClock.adjust(600)
      const { millis, result } = yield* Fiber.join(waiter)
      assert.strictEqual(millis, 600)
      assert.isTrue(result._tag === "Success" && result.success._tag === "AcquireTimeout")
    })
  )

  it.effect("a deadline that has passed is told at once", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* TestClock.adjust(10)
      const error = yield* failure(hold(pool, 1, { deadline: 5 }))
      assert.strictEqual(error._tag, "AcquireTimeout")
    })
  )

  it.effect("beyond maxWaiting callers are refused at once (asyncpg: unbounded acquire, a six-hour outage)", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1, maxWaiting: 2, lanes: { batch: { maxWaiting: 1 } } })
      yield* start(hold(pool, 1_000))
      yield* start(hold(pool, 1, { lane: "batch" }))
      const lane = yield* failure(hold(pool, 1, { lane: "batch" }))
      assert.isTrue(lane._tag === "Overloaded" && lane.limit === 1 && lane.key.endsWith("lane batch"))
      yield* start(hold(pool, 1))
      const whole = yield* failure(hold(pool, 1))
      assert.isTrue(whole._tag === "Overloaded" && whole.limit === 2 && whole.waiting === 2)
    })
  )

  it.effect("a cancelled waiter gives back what it was just handed (psycopg: cancelled_waiter_assigned_conn)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 0, max: 2 })
      const gate = yield* Deferred.make<void>()
      let second: Fiber.Fiber<unknown, unknown> | undefined
      // On resume two waiters are handed a session in one transition; the first cancels the second before it knows.
      yield* hold(pool, 0)
      const warm = yield* Scope.make()
      yield* Effect.provideService(pool.acquire(request), Scope.Scope, warm)
      yield* hold(pool, 0)
      yield* Scope.close(warm, Exit.void)
      assert.strictEqual((yield* pool.stats).idle, 2)
      yield* pool.suspend
      yield* start(
        pool.use(request, () => {
          second?.interruptUnsafe()
          return Deferred.await(gate)
        })
      )
      let served = false
      second = yield* start(
        pool.use(request, () => {
          served = true
          return Effect.void
        })
      )
      yield* pool.resume
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(second)))
      assert.isFalse(served)
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.idle, stats.leased, stats.waiting], [1, 1, 0])
      yield* Deferred.succeed(gate, undefined)
    })
  )

  it.effect("a waiter that times out does not disturb those behind it (pg-pool: further pending checkouts)", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* start(hold(pool, 500))
      const impatient = yield* start(failure(hold(pool, 1, { deadline: 100 })))
      const patient = yield* start(hold(pool, 1))
      yield* TestClock.adjust(600)
      assert.strictEqual((yield* Fiber.join(impatient))._tag, "AcquireTimeout")
      assert.strictEqual(yield* Fiber.join(patient), 1)
    })
  )

  it.effect("a connect outlives the waiter that caused it (pg-pool#3543: late connects leaked their slot)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 200
      const pool = yield* makePool(server, { max: 1 })
      const error = yield* start(failure(hold(pool, 1, { deadline: 100 })))
      yield* TestClock.adjust(100)
      const timeout = yield* Fiber.join(error)
      assert.isTrue(timeout._tag === "AcquireTimeout" && timeout.reason === "connecting")
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* pool.stats).idle, 1)
      assert.strictEqual(yield* hold(pool, 0), 1)
      assert.strictEqual(server.connectAttempts, 1)
    })
  )

  it.effect("callers wait on the pool, never on a connect: a session that comes back serves them first", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 2 })
      const holder = yield* start(hold(pool, 20))
      assert.strictEqual((yield* pool.stats).leased, 1)
      server.connectMillis = 3_000
      const waiter = yield* start(timed(hold(pool, 1)))
      yield* TestClock.adjust(21)
      yield* Fiber.join(holder)
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 21)
    })
  )

  it.effect("the session comes back however the caller ends: failure, defect, throw, interrupt", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* Effect.exit(pool.use(request, () => Effect.fail("no")))
      yield* Effect.exit(pool.use(request, () => Effect.die("bug")))
      yield* Effect.exit(
        pool.use(request, (): Effect.Effect<void> => {
          throw new Error("bug")
        })
      )
      const fiber = yield* start(pool.use(request, () => Effect.never))
      yield* Fiber.interrupt(fiber)
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.idle, stats.leased], [1, 0])
      assert.strictEqual(stats.counters.acquired, 4)
    })
  )

  it.effect("acquire holds the session until the scope ends", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* pool.acquire(request)
          assert.strictEqual((yield* pool.stats).leased, 1)
          const error = yield* start(failure(Effect.scoped(pool.acquire({ ...request, deadline: 10 }))))
          yield* TestClock.adjust(10)
          assert.strictEqual((yield* Fiber.join(error))._tag, "AcquireTimeout")
        })
      )
      assert.strictEqual((yield* pool.stats).idle, 1)
    })
  )

  it.effect("a dead session is never handed out, and the caller gets a fresh one", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* hold(pool, 0)
      server.sessions[0]!.die(lost("terminated", "57P01"))
      assert.strictEqual(yield* hold(pool, 0), 2)
    })
  )
})

describe("a session that was silent", () => {
  it.effect("is used as it is within a second, and asked first after it", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* hold(pool, 0)
      yield* TestClock.adjust(1_000)
      yield* hold(pool, 0)
      assert.strictEqual(server.sessions[0]!.validations, 0)
      yield* TestClock.adjust(1_001)
      yield* hold(pool, 0)
      assert.strictEqual(server.sessions[0]!.validations, 1)
      assert.strictEqual(server.connectAttempts, 1)
    })
  )

  it.effect("ten of them, dead without a word, cost one validation timeout, not ten (52 s on the bare driver)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 10, max: 10 })
      yield* pool.awaitReady("1 second")
      yield* TestClock.adjust(5_000)
      for (const session of server.sessions) session.silent = true
      const caller = yield* start(timed(Effect.forEach(Array.from({ length: 20 }), () => hold(pool, 1))))
      yield* TestClock.adjust(60_000)
      const { millis, result } = yield* Fiber.join(caller)
      assert.strictEqual(result._tag, "Success")
      assert.strictEqual(millis, server.validateTimeoutMillis + 20)
    })
  )
})
