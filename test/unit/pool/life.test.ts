import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { FakeSession } from "./FakeSession.ts"
import { FakeServer, lost } from "./FakeSession.ts"
import { closings, collect, type FakePool, hold, makePool, request, start, timed, told } from "./fixture.ts"

/** Opens `count` sessions by holding them together. */
const warm = (pool: FakePool, count: number) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const acquire = Effect.provideService(pool.acquire(request), Scope.Scope, scope)
    for (let index = 0; index < count; index++) yield* acquire
    yield* Scope.close(scope, Exit.void)
  })

describe("lifetime", () => {
  it.effect("ends before maxLifetime, by a random part (pgx, slonik: jitter that exceeds the limit)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 10, max: 10, maxLifetime: "10 minutes" })
      yield* pool.awaitReady("1 second")
      const log = yield* collect(pool)
      yield* TestClock.adjust("10 minutes")
      const ages = log.events.flatMap((event) =>
        event._tag === "SessionClosed" && event.reason === "lifetime" ? [event.ageMillis] : []
      )
      assert.isAtLeast(ages.length, 10)
      assert.isTrue(ages.every((age) => age >= 540_000 && age <= 600_000))
      assert.isAtLeast(new Set(ages).size, 5)
      assert.strictEqual((yield* pool.stats).idle, 10)
      yield* log.stop
    })
  )

  it.effect("is enforced on a pool that never rests (pgx#2560), and never above max (sql-pg: max=1, two sockets)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1, maxLifetime: "2 seconds", housekeepingInterval: "1 hour" })
      let most = 0
      const busy = yield* start(
        Effect.forever(
          pool.use(request, (session) => {
            most = Math.max(most, server.open.length)
            return session.query(30)
          })
        )
      )
      yield* start(Effect.forever(hold(pool, 7)))
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.interrupt(busy)
      assert.isAtLeast(server.sessions.length, 10)
      assert.strictEqual(most, 1)
    })
  )

  it.effect("ends in the background while nobody asks, and min is there again", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      yield* makePool(server, { min: 1, max: 2, maxLifetime: "1 minute" })
      yield* TestClock.adjust("10 minutes")
      assert.isAtLeast(server.sessions.length, 10)
      assert.strictEqual(server.open.length, 1)
    })
  )
})

describe("idle", () => {
  it.effect("sessions above min are closed, and LIFO lets a trickle of work shrink the pool", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 2, max: 10, idleTimeout: "1 minute" })
      yield* warm(pool, 10)
      assert.strictEqual(server.open.length, 10)
      yield* start(Effect.forever(Effect.andThen(hold(pool, 1), Effect.sleep("10 seconds"))))
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual(server.open.length, 2)
    })
  )

  it.effect("one death makes all the others prove themselves, together and in the background", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 3, max: 4 })
      yield* warm(pool, 4)
      server.sessions[1]!.silent = true
      server.sessions[0]!.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(1_000)
      const stats = yield* pool.stats
      assert.strictEqual(stats.generation, 1)
      assert.strictEqual(stats.counters.validations, 3)
      assert.isTrue(server.sessions[1]!.closed)
      assert.strictEqual(stats.idle, 3)
    })
  )

  it.effect("after the process stood still every session is asked before it is used", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const clock = yield* Clock.Clock
      let skew = 0
      const leaping = { ...clock, currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + skew }
      const pool = yield* Effect.provideService(
        makePool(server, { min: 1, max: 1, validateAfterIdle: "1 hour" }),
        Clock.Clock,
        leaping
      )
      yield* TestClock.adjust(1_500)
      yield* hold(pool, 0)
      assert.strictEqual(server.sessions[0]!.validations, 0)
      skew = 600
      yield* TestClock.adjust(1_000)
      yield* hold(pool, 0)
      assert.strictEqual(server.sessions[0]!.validations, 1)
      assert.strictEqual((yield* pool.stats).counters.stalls, 1)
    })
  )

  it.effect("a wall clock that is moved ends neither lifetimes nor waits, and keeps nobody waiting", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const clock = yield* Clock.Clock
      let moved = 0
      const movable = { ...clock, currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + moved }
      const pool = yield* Effect.provideService(makePool(server, { min: 1, max: 1 }), Clock.Clock, movable)
      const hour = 3_600_000
      for (const by of [3 * hour, -6 * hour]) {
        const holder = yield* start(hold(pool, 2_000))
        const deadline = Number(clock.monotonicTimeNanosUnsafe()) / 1e6 + 1_500
        const waiter = yield* start(Effect.exit(hold(pool, 0, { deadline })))
        moved += by
        yield* TestClock.adjust(1_400)
        assert.isUndefined(waiter.pollUnsafe(), `moved by ${by}: told early`)
        yield* TestClock.adjust(200)
        assert.isDefined(waiter.pollUnsafe(), `moved by ${by}: not told`)
        yield* TestClock.adjust(5_000)
        yield* Fiber.join(holder)
        assert.lengthOf(server.sessions, 1, `moved by ${by}: the session was replaced`)
      }
    })
  )

  it.effect("keepalive asks idle sessions regularly, when it is wanted", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      yield* makePool(server, { min: 1, max: 1, keepalive: "30 seconds" })
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(server.sessions[0]!.validations, 10)
    })
  )
})

describe("return", () => {
  it.effect("a session that died in its holder's hands is replaced for those who wait", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      const holder = yield* start(hold(pool, 100))
      const waiter = yield* start(hold(pool, 1))
      yield* TestClock.adjust(50)
      server.sessions[0]!.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(60)
      yield* Fiber.join(holder)
      assert.strictEqual(yield* Fiber.join(waiter), 2)
    })
  )

  it.effect("one that dies while it is held gives up its place at once, and a waiter is admitted (sql-pg)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { leases, pool } = yield* told(server, {
        max: 2,
        lanes: { batch: { cap: 1 } },
        leakDetection: { threshold: "5 seconds" }
      })
      const latch = yield* Deferred.make<void>()
      const keep = (session: FakeSession) => Effect.as(Deferred.await(latch), session.id)
      const holder = yield* start(pool.use({ ...request, lane: "batch" }, keep))
      const other = yield* start(Effect.scoped(Effect.flatMap(pool.acquire(request), keep)))
      const waiters = [yield* start(hold(pool, 1, { lane: "batch" })), yield* start(hold(pool, 1))]
      yield* TestClock.adjust("10 seconds")
      for (const session of server.open) session.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(yield* Effect.forEach(waiters, Fiber.join), [3, 4])
      assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0, idle: 2, draining: 0 })
      const ends = () => leases.filter(([what]) => what === "release").length
      assert.strictEqual(ends(), 4)
      // Both holders still have theirs; their way back is not counted again.
      assert.isUndefined(holder.pollUnsafe())
      yield* Deferred.succeed(latch, undefined)
      assert.deepStrictEqual([yield* Fiber.join(holder), yield* Fiber.join(other)], [1, 2])
      assert.strictEqual(ends(), 4)
      const stats = yield* pool.stats
      assert.deepInclude(stats, { leased: 0, waiting: 0, idle: 2, draining: 0 })
      assert.deepInclude(stats.lanes["batch"], { leased: 0 })
      assert.deepInclude(stats.counters, { leaksSuspected: 2, leaksReturned: 2 })
      assert.strictEqual(stats.counters.closed.died, 2)
      // The lane may hold as many as before, no fewer and no more.
      yield* start(hold(pool, 10, { lane: "batch" }))
      const second = yield* start(hold(pool, 10, { lane: "batch" }))
      assert.deepInclude((yield* pool.stats).lanes["batch"], { leased: 1, waiting: 1 })
      yield* TestClock.adjust(100)
      yield* Fiber.join(second)
    })
  )

  it.effect("one that dies while it is put right gives up its place at once, however long that takes", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { events, pool } = yield* told(server, { max: 1, hooks: { afterRelease: () => Effect.sleep("1 hour") } })
      yield* hold(pool, 1).pipe(start)
      yield* TestClock.adjust(1)
      const waiter = yield* start(hold(pool, 0))
      yield* TestClock.adjust(100)
      assert.isUndefined(waiter.pollUnsafe())
      server.sessions[0]!.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(waiter), 2)
      assert.deepStrictEqual(closings(events), [["died", 101]])
    })
  )

  it.effect("one that dies while it is drained is not lent, whatever the drain says", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { events, pool } = yield* told(server, { max: 1 })
      yield* pool.use(request, (session) =>
        Effect.sync(() => {
          const drain = Effect.sync(() => {
            session.die(lost("terminated", "57P01"))
            session.busy = false
            return true
          })
          Object.assign(session, { busy: true, drain })
        })
      )
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* hold(pool, 0), 2)
      assert.deepStrictEqual(
        closings(events).map(([reason]) => reason),
        ["died"]
      )
    })
  )

  it.effect("a close does not wait for who holds a dead one", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { pool } = yield* told(server, { max: 1 })
      yield* start(pool.use(request, () => Effect.never))
      const closing = yield* start(timed(pool.close({ graceful: "5 seconds", hard: "2 seconds" })))
      yield* TestClock.adjust(100)
      assert.isUndefined(closing.pollUnsafe())
      server.sessions[0]!.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(1)
      assert.isAtMost((yield* Fiber.join(closing)).millis, 101)
    })
  )

  it.effect("a caller that leaves in mid-statement leaves at once; the session is drained and comes back", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1, drainBudget: 1 })
      const caller = yield* start(timed(Effect.timeoutOption(hold(pool, 60_000), 500)))
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* Fiber.join(caller)).millis, 500)
      assert.strictEqual((yield* pool.stats).draining, 1)
      yield* TestClock.adjust(10)
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.draining, stats.idle, stats.counters.drained], [0, 1, 1])
      assert.strictEqual(yield* hold(pool, 0), 1)
    })
  )

  it.effect("draining frees the place at once, within the budget (G7: the slot was blocked for 5 s)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1, drainBudget: 1 })
      const caller = yield* start(hold(pool, 60_000))
      server.sessions[0]!.silent = true
      yield* Fiber.interrupt(caller)
      assert.strictEqual(yield* hold(pool, 0), 2)
      yield* TestClock.adjust(2_000)
      assert.deepStrictEqual(
        server.open.map((session) => session.id),
        [2]
      )
    })
  )

  it.effect("beyond the budget draining sessions keep their places: no snowball of backends (pgx#2425)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 4, drainBudget: 1 })
      const callers = yield* Effect.forEach([1, 2, 3, 4], () => start(hold(pool, 60_000)))
      for (const session of server.open) session.silent = true
      yield* Fiber.interruptAll(callers)
      const waiters = yield* Effect.forEach([1, 2, 3, 4], () => start(hold(pool, 10)))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(server.sockets, 5)
      yield* TestClock.adjust(2_000)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.isAtMost(server.open.length, 4)
    })
  )

  it.effect("or are destroyed at once, where that is wanted", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 4, drainBudget: 1, drainOverflow: "destroy" })
      const callers = yield* Effect.forEach([1, 2, 3, 4], () => start(hold(pool, 60_000)))
      for (const session of server.open) session.silent = true
      yield* Fiber.interruptAll(callers)
      assert.strictEqual(server.open.length, 1)
      assert.strictEqual((yield* pool.stats).counters.closed["drain-overflow"], 3)
    })
  )

  it.effect("a session that cannot be drained is destroyed", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      const caller = yield* start(hold(pool, 60_000))
      server.sessions[0]!.drains = false
      yield* Fiber.interrupt(caller)
      yield* TestClock.adjust(10)
      assert.isTrue(server.sessions[0]!.closed)
      assert.strictEqual((yield* pool.stats).counters.closed["drain-failed"], 1)
    })
  )

  it.effect("a drained session is worth more than the connect that was to replace it", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1, drainBudget: 1 })
      const caller = yield* start(hold(pool, 60_000))
      server.connectMillis = 3_000
      yield* Fiber.interrupt(caller)
      const waiter = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust(10)
      assert.isAtMost((yield* Fiber.join(waiter)).millis, 10)
      assert.strictEqual(server.connecting, 0)
    })
  )

  it.effect("what was left unclean is reset before the next caller gets it (F: SET and raw BEGIN leaked)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      const leave = (session: FakeSession) => Effect.sync(() => (session.clean = false))
      yield* pool.use(request, leave)
      const next = yield* start(pool.use(request, (session) => Effect.succeed([session.id, session.clean] as const)))
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(yield* Fiber.join(next), [1, true])
      assert.strictEqual(server.sessions[0]!.resetCalls, 1)
    })
  )

  it.effect("what cannot be reset is closed", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* pool.use(request, (session) =>
        Effect.sync(() => {
          session.clean = false
          session.resets = false
        })
      )
      yield* TestClock.adjust(5)
      assert.strictEqual((yield* pool.stats).counters.closed["reset-failed"], 1)
      assert.strictEqual(yield* hold(pool, 0), 2)
    })
  )

  it.effect("a clean return costs no round trip", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* Effect.forEach(Array.from({ length: 100 }), () => hold(pool, 0))
      const session = server.sessions[0]!
      assert.deepStrictEqual([session.resetCalls, session.drainCalls, session.validations], [0, 0, 0])
    })
  )

  it.effect("the hooks before reuse and after release decide with the pool", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const refused = new Set<number>()
      let released = 0
      const pool = yield* makePool(server, {
        max: 1,
        hooks: {
          beforeReuse: (session) => !refused.has(session.id),
          afterRelease: () => Effect.sync(() => void released++)
        }
      })
      yield* hold(pool, 0)
      yield* hold(pool, 0)
      refused.add(1)
      assert.strictEqual(yield* hold(pool, 0), 2)
      assert.strictEqual(released, 3)
      assert.strictEqual((yield* pool.stats).counters.closed.refused, 1)
    })
  )
})
