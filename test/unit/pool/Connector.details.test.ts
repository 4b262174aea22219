/**
 * How a pool connects, fails to, and gives up, to the attempt and the millisecond: each was once a mutant that nobody
 * noticed.
 *
 * The clock does not begin at nought here, so that an instant is not mistaken for an age.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { closings, type FakePool, failure, fixedChance, hold, request, start, timed, told } from "./fixture.ts"
import type { AcquireError } from "../../../packages/sdk/src/pool/SessionPool.ts"
import { FakeServer, lost } from "./FakeSession.ts"

const begin = TestClock.adjust("1000 seconds")
const wrongPassword = lost("password authentication failed", "28P01")

type Options = Parameters<typeof told>[1]

/** Every pause is half a second, exactly. */
const steady = (server: FakeServer, options: Options) =>
  Effect.provideService(
    told(server, { connectBackoff: Schedule.spaced("1 second"), ...options }),
    Random.Random,
    fixedChance(0.5)
  )

describe("a connect that fails", () => {
  it.effect("by interrupting itself is a failed connect like any other, not a loop without a pause", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      let attempts = 0
      // Bounded, for without a pause this test would never end.
      const connect = Effect.suspend(() => (++attempts < 1_000 ? Effect.interrupt : server.connect))
      const { events, pool } = yield* told(server, { max: 1, connect })
      yield* start(Effect.exit(hold(pool, 0)))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(attempts > 1 && attempts < 60, `${attempts} attempts`)
      assert.isTrue(events.some(({ _tag }) => _tag === "Down"))
    })
  )

  it.effect("by dying says so, and the pool goes on", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      let attempts = 0
      const connect = Effect.suspend(() => (++attempts === 1 ? Effect.die(new Error("bug")) : server.connect))
      const { events, pool } = yield* steady(server, { max: 1, connect })
      const caller = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* Fiber.join(caller)).millis, 500)
      const failed = events.find((event) => event._tag === "ConnectFailed")
      assert.deepStrictEqual(failed?.error, { tag: "UnknownError", message: "connect died" })
    })
  )

  it.effect("because the session is dead before anybody had it waits for the next attempt as well", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const connect = Effect.tap(server.connect, (session) =>
        Effect.sync(() => {
          if (server.connectAttempts < 100) session.die(lost("closed during startup"))
        })
      )
      const { events, tags } = yield* steady(server, { min: 1, max: 1, connect })
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(server.connectAttempts, 5)
      assert.notInclude(tags(), "SessionOpened")
      assert.lengthOf(
        events.filter(({ _tag }) => _tag === "ConnectFailed"),
        5
      )
    })
  )

  it.effect("for a while is told once, and the first that succeeds ends it at once", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = lost("refused")
      const { events, pool } = yield* steady(server, { min: 1, max: 1 })
      yield* TestClock.adjust(1_400)
      server.down = undefined
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(
        events.filter(({ _tag }) => _tag !== "ConnectFailed" && _tag !== "SessionOpened"),
        [
          { _tag: "Down", error: { tag: "ConnectionError", message: "refused" } },
          { _tag: "Up", downMillis: 1_500 }
        ] as typeof events
      )
      assert.strictEqual((yield* pool.stats).connectFailures, 0)
    })
  )

  it.effect("for good is tried again after a second, then two, then four; anything else between begins that anew", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = wrongPassword
      const { events } = yield* steady(server, { min: 1, max: 1, permanentPause: "5 seconds" })
      yield* TestClock.adjust("20 seconds")
      server.down = lost("refused")
      yield* TestClock.adjust("5 seconds")
      server.down = wrongPassword
      yield* TestClock.adjust("2 seconds")
      const pauses = events.flatMap((event) => (event._tag === "ConnectFailed" ? [event.retryInMillis] : []))
      assert.deepStrictEqual(pauses.slice(0, 6), [1_000, 2_000, 4_000, 5_000, 5_000, 5_000])
      const after = pauses.slice(pauses.lastIndexOf(500) + 1)
      assert.strictEqual(after[0], 1_000)
    })
  )

  it.effect("is not beaten by a resume or an eviction: both try again at once", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = wrongPassword
      const { pool } = yield* steady(server, { min: 1, max: 1, permanentPause: "1 hour" })
      yield* TestClock.adjust(100)
      assert.strictEqual(server.connectAttempts, 1)
      yield* pool.suspend
      yield* pool.resume
      assert.strictEqual(server.connectAttempts, 2)
      server.down = undefined
      yield* pool.evictAll
      assert.strictEqual((yield* pool.stats).idle, 1)
    })
  )
})

describe("while a node fails", () => {
  it.effect("one attempt at a time is made", () =>
    Effect.gen(function* () {
      yield* begin
      const server = Object.assign(new FakeServer(), { connectMillis: 100, down: lost("refused") })
      const { pool } = yield* steady(server, { min: 3, max: 3, connectConcurrency: 3 })
      assert.strictEqual(server.connecting, 3)
      yield* TestClock.adjust(650)
      assert.deepStrictEqual([server.connectAttempts, server.connecting], [4, 1])
      assert.strictEqual((yield* pool.stats).connecting, 1)
    })
  )

  it.effect("attempts that were given up do not make the pause longer", () =>
    Effect.gen(function* () {
      yield* begin
      const server = Object.assign(new FakeServer(), { connectMillis: 100, down: lost("refused") })
      const { events, pool } = yield* steady(server, {
        min: 1,
        max: 1,
        connectBackoff: Schedule.exponential("100 millis")
      })
      for (let times = 0; times < 3; times++) {
        yield* TestClock.adjust(50)
        yield* pool.evictAll
      }
      yield* TestClock.adjust(100)
      const pauses = events.flatMap((event) => (event._tag === "ConnectFailed" ? [event.retryInMillis] : []))
      assert.deepStrictEqual(pauses, [50])
    })
  )
})

describe("callers of a node that fails", () => {
  it.effect("are told why and when it is tried again, and the first one then is let in to cause it", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = wrongPassword
      const { pool } = yield* steady(server, { max: 1 })
      const first = yield* failure(hold(pool, 0))
      assert.deepInclude(first, {
        _tag: "DatabaseUnavailable",
        reason: "authentication",
        retryAfterMillis: 1_000,
        lastError: { tag: "ConnectionError", message: "password authentication failed", sqlState: "28P01" }
      })
      yield* TestClock.adjust(999)
      assert.deepInclude(yield* failure(hold(pool, 0)), { _tag: "DatabaseUnavailable", retryAfterMillis: 1 })
      assert.strictEqual(server.connectAttempts, 1)
      server.down = undefined
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* hold(pool, 0), 1)
      assert.deepInclude((yield* pool.stats).counters, { unavailable: 2 })
    })
  )

  it.effect("are all told once failFastAfter is over, where the node has never answered", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = lost("refused")
      const { pool } = yield* steady(server, { min: 1, max: 1, failFastAfter: "3 seconds" })
      const first = yield* start(failure(hold(pool, 0)))
      yield* TestClock.adjust(2_999)
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust(501)
      assert.deepInclude(yield* Fiber.join(first), { _tag: "DatabaseUnavailable", reason: "unreachable" })
    })
  )

  it.effect("wait on while the server says that it is starting", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = lost("the database system is starting up", "57P03")
      const { pool } = yield* steady(server, { min: 1, max: 1, failFastAfter: "3 seconds" })
      const first = yield* start(hold(pool, 0))
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(first.pollUnsafe())
      server.down = undefined
      yield* TestClock.adjust(500)
      assert.strictEqual(yield* Fiber.join(first), 1)
    })
  )

  it.effect("wait for failFastAfter, and from then on are refused", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = lost("the database system is starting up", "57P03")
      const { pool } = yield* steady(server, { min: 1, max: 1, failFastAfter: "3 seconds" })
      yield* TestClock.adjust(2_999)
      const early = yield* start(hold(pool, 0))
      assert.isUndefined(early.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepInclude(yield* failure(hold(pool, 0)), { _tag: "DatabaseUnavailable", reason: "refused" })
      server.down = undefined
      yield* TestClock.adjust(500)
      assert.strictEqual(yield* Fiber.join(early), 1)
    })
  )

  it.effect("are refused at once if the next attempt comes no earlier than their deadline", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.down = lost("refused")
      const { pool } = yield* steady(server, { min: 1, max: 1, failFastAfter: "1 hour" })
      const now = yield* Clock.currentTimeMillis
      assert.strictEqual((yield* failure(hold(pool, 0, { deadline: now + 500 })))._tag, "DatabaseUnavailable")
      server.down = undefined
      const caller = yield* start(hold(pool, 0, { deadline: now + 501 }))
      yield* TestClock.adjust(500)
      assert.strictEqual(yield* Fiber.join(caller), 1)
    })
  )

  it.effect("wait while sessions are left, whatever is wrong with new ones", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const { pool } = yield* steady(server, { max: 2 })
      const holder = yield* start(hold(pool, 5_000))
      server.down = wrongPassword
      const waiter = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(holder)
      assert.strictEqual((yield* Fiber.join(waiter)).result._tag, "Success")
    })
  )

  it.effect("are no callers of a node that has not failed yet, even where failing is to be told at once", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.connectMillis = 100
      const { pool } = yield* told(server, { max: 2, failFastAfter: 0 })
      const callers = yield* Effect.forEach([1, 2], () => start(hold(pool, 0)))
      yield* TestClock.adjust(100)
      yield* Effect.forEach(callers, Fiber.join)
    })
  )

  it.effect("turned away from one that never failed are told of no error", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { max: 1 })
      yield* start(hold(pool, 1_000))
      const waiter = yield* start(failure(hold(pool, 0)))
      yield* pool.turnAway
      const error = yield* Fiber.join(waiter)
      assert.strictEqual(error._tag, "DatabaseUnavailable")
      assert.notProperty(error, "lastError")
      assert.deepInclude((yield* pool.stats).counters, { unavailable: 1 })
    })
  )
})

describe("a password", () => {
  it.effect("that is wrong is told as it is where nobody can refresh it", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = wrongPassword
      const { pool } = yield* told(server, { max: 1 })
      const error = yield* failure(hold(pool, 0))
      assert.isTrue(error._tag === "DatabaseUnavailable" && error.lastError?.sqlState === "28P01")
    })
  )

  it.effect("is refreshed once by all attempts that failed with it, and not because of other errors", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 10
      server.down = wrongPassword
      let refreshed = 0
      const refreshPassword = Effect.andThen(
        Effect.sleep(50),
        Effect.sync(() => {
          refreshed++
          server.down = undefined
        })
      )
      const { pool, tags } = yield* told(server, { min: 2, max: 2, refreshPassword })
      yield* TestClock.adjust(200)
      assert.deepStrictEqual([refreshed, (yield* pool.stats).idle], [1, 2])
      assert.notInclude(tags(), "ConnectFailed")
      server.down = lost("refused")
      server.restart()
      yield* TestClock.adjust("5 seconds")
      assert.include(tags(), "ConnectFailed")
      assert.strictEqual(refreshed, 1)
    })
  )

  it.effect("is refreshed again when it is rotated again", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      let refreshed = 0
      const refreshPassword = Effect.sync(() => {
        refreshed++
        server.down = undefined
      })
      const { pool } = yield* told(server, { max: 1, refreshPassword })
      for (const times of [1, 2, 3]) {
        server.down = wrongPassword
        yield* pool.evictAll
        yield* hold(pool, 0)
        assert.strictEqual(refreshed, times)
      }
    })
  )
})

describe("attempts", () => {
  it.effect("begin together, as many as there may be", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 100
      const { pool } = yield* told(server, { min: 4, max: 4, connectConcurrency: 3 })
      assert.strictEqual((yield* pool.stats).connecting, 3)
      assert.strictEqual(server.connectAttempts, 3)
    })
  )

  it.effect("given up before they began are not begun", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { pool } = yield* told(server, { max: 2 })
      yield* hold(pool, 0)
      yield* TestClock.adjust("2 seconds")
      // Asked for a sign of life, it is found dead in the same breath in which a second session is to be opened.
      Object.assign(server.sessions[0]!, { validate: Effect.fail(lost("no sign of life")) })
      yield* pool.suspend
      const callers = yield* Effect.forEach([1, 2], () => start(hold(pool, 10)))
      yield* pool.resume
      yield* TestClock.adjust(10)
      yield* Effect.forEach(callers, Fiber.join)
      assert.strictEqual(server.connectAttempts, 3)
      assert.deepInclude(yield* pool.stats, { connecting: 0, draining: 0, idle: 2 })
    })
  )

  it.effect("begun before an eviction open no session after it, also where a hook cannot be interrupted", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      let slow = true
      const afterConnect = () => (slow ? Effect.uninterruptible(Effect.sleep(5_000)) : Effect.void)
      const { events, pool, tags } = yield* told(server, {
        max: 1,
        drainBudget: 0,
        housekeepingInterval: "1 hour",
        hooks: { afterConnect }
      })
      const waiter = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust(100)
      yield* pool.evictAll
      yield* pool.evictAll
      slow = false
      yield* TestClock.adjust(4_899)
      // It holds its place, for no more than max may be open.
      assert.deepInclude(yield* pool.stats, { connecting: 0, draining: 1 })
      assert.strictEqual(server.connectAttempts, 1)
      yield* TestClock.adjust(1)
      // Its place is free at once.
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 5_000)
      assert.deepInclude(yield* pool.stats, { connecting: 0, draining: 0, idle: 1 })
      assert.isTrue(server.sessions[0]!.closed)
      assert.deepStrictEqual(closings(events), [])
      assert.notInclude(tags(), "ConnectFailed")
    })
  )

  it.effect("given up and not ended yet are not late ones", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const afterConnect = () => Effect.uninterruptible(Effect.sleep(60_000))
      const { pool } = yield* told(server, { max: 1, connectConcurrency: 1, drainBudget: 9, hooks: { afterConnect } })
      yield* start(Effect.exit(hold(pool, 0)))
      yield* pool.evictAll
      yield* pool.evictAll
      yield* TestClock.adjust("10 seconds")
      // Two given up, one that is late, one that runs.
      assert.strictEqual(server.connectAttempts, 4)
      assert.deepInclude(yield* pool.stats, { connecting: 1, draining: 3 })
    })
  )

  it.effect("that are too many after a resize are given up, the newest first, and of users only", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 500
      const { pool } = yield* told(server, { min: 3, max: 3, connectConcurrency: 5 })
      yield* start(hold(pool, 0, { lane: "control" }))
      yield* pool.resize({ min: 2, max: 2 })
      const stats = yield* pool.stats
      assert.deepInclude(stats, { connecting: 2 })
      assert.strictEqual(stats.control.connecting, 1)
      assert.strictEqual(server.connectAttempts, 4)
      yield* TestClock.adjust(500)
      assert.deepInclude(yield* pool.stats, { idle: 2, connecting: 0, draining: 0 })
      assert.lengthOf(server.sessions, 3)
    })
  )
})

describe("an attempt that takes long", () => {
  /** One caller waits for ten seconds on a server that never answers. */
  const silence = (options: Options, before?: (pool: FakePool) => Effect.Effect<unknown, AcquireError>) =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.blackHole = true
      server.connectTimeoutMillis = 60_000
      const { pool } = yield* told(server, { max: 1, ...options })
      if (before !== undefined) yield* before(pool)
      const attempts = server.connectAttempts
      yield* start(Effect.exit(hold(pool, 0)))
      yield* TestClock.adjust("10 seconds")
      const { connecting, draining } = yield* pool.stats
      return { begun: server.connectAttempts - attempts, connecting, draining }
    })

  it.effect("makes room for a fresh one, as many times as there may be connects", () =>
    Effect.gen(function* () {
      const seen = (connectConcurrency: number) => silence({ connectConcurrency, drainBudget: 9 })
      assert.deepStrictEqual(yield* seen(1), { begun: 2, connecting: 1, draining: 1 })
      assert.deepStrictEqual(yield* seen(2), { begun: 3, connecting: 1, draining: 2 })
    })
  )

  it.effect("keeps its place where as many are draining as may", () =>
    Effect.gen(function* () {
      const seen = (drainBudget: number) => silence({ connectConcurrency: 9, drainBudget })
      assert.deepStrictEqual(yield* seen(0), { begun: 1, connecting: 1, draining: 0 })
      assert.deepStrictEqual(yield* seen(1), { begun: 2, connecting: 1, draining: 1 })
    })
  )

  it.effect("makes room just the same after some were given up", () =>
    Effect.gen(function* () {
      const afterwards = yield* silence({ connectConcurrency: 1, drainBudget: 9 }, (pool) =>
        Effect.gen(function* () {
          const first = yield* start(hold(pool, 0))
          yield* pool.evictAll
          yield* TestClock.adjust("1500 millis")
          assert.deepInclude(yield* pool.stats, { connecting: 1, draining: 1 })
          // One that is late and one that runs.
          yield* pool.evictAll
          yield* Fiber.interrupt(first)
          yield* pool.evictAll
          yield* TestClock.adjust(1)
          assert.deepInclude(yield* pool.stats, { connecting: 0, draining: 0 })
        })
      )
      assert.deepStrictEqual(afterwards, { begun: 2, connecting: 1, draining: 1 })
    })
  )

  it.effect("may be followed by another when it has ended", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.blackHole = true
      const { pool } = yield* steady(server, { max: 1, connectConcurrency: 1, drainBudget: 9, failFastAfter: "1 hour" })
      yield* start(Effect.exit(hold(pool, 0)))
      // The first fails after five seconds, the second takes long by then.
      yield* TestClock.adjust(5_500)
      assert.strictEqual(server.connectAttempts, 3)
      assert.deepInclude(yield* pool.stats, { connecting: 1, draining: 1 })
    })
  )

  it.effect("that succeeds after all is closed if its place was taken", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.connectMillis = 5_000
      const { events, pool } = yield* told(server, { max: 1 })
      const caller = yield* start(hold(pool, 60_000))
      yield* TestClock.adjust(500)
      server.connectMillis = 10
      yield* TestClock.adjust(4_500)
      assert.deepStrictEqual(closings(events), [["surplus", 0]])
      assert.deepInclude(yield* pool.stats, { leased: 1, idle: 0 })
      yield* Fiber.interrupt(caller)
    })
  )

  it.effect("is none of the others' business: a user who waits does not displace the control lane's", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.blackHole = true
      const { pool } = yield* told(server, { max: 1, connectConcurrency: 3 })
      const now = yield* Clock.currentTimeMillis
      yield* start(Effect.exit(hold(pool, 0, { lane: "control", deadline: now + 100 })))
      yield* start(Effect.exit(pool.use(request, () => Effect.void)))
      yield* TestClock.adjust("2500 millis")
      const { control, draining } = yield* pool.stats
      assert.isAtLeast(draining, 1)
      assert.deepInclude(control, { connecting: 1, draining: 0 })
    })
  )

  it.effect("keeps its place while a session that is being put right will serve those who wait", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      server.resetMillis = 3_000
      const connect = Effect.suspend(() =>
        server.connectAttempts === 0 ? server.connect : Effect.andThen(Effect.sleep(10_000), server.connect)
      )
      const { pool } = yield* told(server, { min: 2, max: 3, connect })
      yield* pool.use(request, (session) => Effect.sync(() => (session.clean = false)))
      yield* TestClock.adjust("1500 millis")
      const waiter = yield* start(timed(hold(pool, 0)))
      assert.deepInclude(yield* pool.stats, { preparing: 1, connecting: 1, draining: 0, waiting: 1 })
      yield* TestClock.adjust("1500 millis")
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 1_500)
      // No connect was begun for whom the session served.
      assert.deepInclude(yield* pool.stats, { connecting: 1, draining: 0 })
    })
  )
})
