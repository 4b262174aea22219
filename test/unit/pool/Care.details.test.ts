/** What becomes of sessions that nobody holds, and what is told of it: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { FakeServer, type FakeSession, lost } from "./FakeSession.ts"
import { closings, hold, request, start, told } from "./fixture.ts"

const begin = TestClock.adjust("1000 seconds")
const terminated = lost("terminating connection", "57P01")

/** Holds the only session, and leaves it in the middle of a statement after so long. */
const abandon = (pool: Effect.Success<ReturnType<typeof told>>["pool"], millis = 0) =>
  Effect.gen(function* () {
    const caller = yield* start(hold(pool, 60_000))
    if (millis > 0) yield* TestClock.adjust(millis)
    yield* Fiber.interrupt(caller)
  })

describe("a session that died", () => {
  it.effect("while it was idle is closed with the server's words, and the others are asked after that", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const { events, pool } = yield* told(server, { min: 2, max: 2 })
      yield* TestClock.adjust("2 seconds")
      events.length = 0
      server.sessions[0]!.die(terminated)
      assert.deepStrictEqual(events.slice(0, 2), [
        {
          _tag: "SessionClosed",
          session: 1,
          reason: "died",
          ageMillis: 2_000,
          error: { tag: "ConnectionError", message: "terminating connection", sqlState: "57P01" }
        },
        { _tag: "GenerationMoved", generation: 1, reason: "corpse" }
      ] as typeof events)
      assert.deepInclude((yield* pool.stats).counters, { validations: 1 })
    })
  )

  it.effect("in its caller's hands is closed when it comes back, and not asked whether it lives", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), { max: 1 })
      yield* pool.use(request, (session) => Effect.sync(() => session.die(terminated)))
      assert.deepStrictEqual(closings(events), [["died", 0]])
      assert.deepInclude((yield* pool.stats).counters, { validations: 0 })
    })
  )

  it.effect("makes those prove themselves that come back later", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.validateMillis = 50
      const { pool } = yield* told(server, { max: 2 })
      const holders = yield* Effect.forEach([100, 200], (millis) => start(hold(pool, millis)))
      yield* TestClock.adjust(100)
      server.sessions[0]!.die(terminated)
      yield* TestClock.adjust(100)
      assert.deepInclude(yield* pool.stats, { preparing: 1, idle: 0 })
      yield* TestClock.adjust(50)
      yield* Effect.forEach(holders, Fiber.join)
      assert.deepInclude(yield* pool.stats, { preparing: 0, idle: 1 })
    })
  )

  it.effect("because the pool closed it says nothing about the others", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), { min: 1, max: 1, maxLifetime: "5 seconds" })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(
        events.filter(({ _tag }) => _tag === "SessionClosed"),
        [{ _tag: "SessionClosed", session: 1, reason: "lifetime", ageMillis: 5_000 }]
      )
      assert.strictEqual((yield* pool.stats).generation, 0)
    })
  )

  it.effect("a second after its start, and never used, is no failed connect", () =>
    Effect.gen(function* () {
      yield* begin
      const failures = (age: number) =>
        Effect.gen(function* () {
          const server = new FakeServer()
          const { pool } = yield* told(server, { min: 1, max: 1 })
          yield* TestClock.adjust(age)
          server.sessions[0]!.die(terminated)
          return (yield* pool.stats).counters.connectFailures
        })
      assert.strictEqual(yield* failures(999), 1)
      assert.strictEqual(yield* failures(1_000), 0)
    })
  )
})

describe("a session that has reached the end of its life", () => {
  const old = { max: 1, maxLifetime: "5 seconds", validateAfterIdle: "1 hour", housekeepingInterval: "1 hour" } as const

  it.effect("is closed when it comes back", () =>
    Effect.gen(function* () {
      yield* begin
      const ages = (millis: number) =>
        Effect.gen(function* () {
          const { events, pool } = yield* told(new FakeServer(), old)
          const holder = yield* start(hold(pool, millis))
          yield* TestClock.adjust(millis)
          yield* Fiber.join(holder)
          return closings(events)
        })
      assert.deepStrictEqual(yield* ages(4_999), [])
      assert.deepStrictEqual(yield* ages(5_000), [["lifetime", 5_000]])
      assert.deepStrictEqual(yield* ages(6_000), [["lifetime", 6_000]])
    })
  )

  it.effect("is not handed out any more, nor asked whether it lives", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), old)
      yield* hold(pool, 0)
      yield* TestClock.adjust(4_999)
      assert.strictEqual(yield* hold(pool, 0), 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* hold(pool, 0), 2)
      assert.deepStrictEqual(closings(events), [["lifetime", 5_000]])
      assert.deepInclude((yield* pool.stats).counters, { validations: 0 })
    })
  )

  it.effect("is closed when it was reset or validated, if it was reached meanwhile", () =>
    Effect.gen(function* () {
      yield* begin
      const server = Object.assign(new FakeServer(), { resetMillis: 1_000 })
      const { events, pool } = yield* told(server, old)
      yield* pool.use(request, (session) =>
        Effect.andThen(
          Effect.sync(() => (session.clean = false)),
          TestClock.adjust(4_000)
        )
      )
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(closings(events), [["lifetime", 5_000]])
    })
  )
})

describe("sessions that are too many after a resize", () => {
  it.effect("are closed, and no more than those", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), { min: 4, max: 4 })
      yield* pool.resize({ min: 0, max: 3 })
      assert.deepStrictEqual(closings(events), [["surplus", 0]])
      assert.deepInclude(yield* pool.stats, { idle: 3 })
    })
  )
})

describe("a session that is put right", () => {
  it.effect("counts as reset if it was, not because a hook looked at it", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { max: 1, hooks: { afterRelease: () => Effect.void } })
      yield* hold(pool, 0)
      assert.deepInclude((yield* pool.stats).counters, { resets: 0 })
      yield* pool.use(request, (session) => Effect.sync(() => (session.clean = false)))
      yield* TestClock.adjust(1)
      assert.deepInclude((yield* pool.stats).counters, { resets: 1 })
      assert.strictEqual((yield* pool.stats).idle, 1)
    })
  )

  it.effect("is closed if the hook fails, with its words", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), {
        max: 1,
        hooks: { afterRelease: () => Effect.fail(lost("no")) }
      })
      yield* hold(pool, 0)
      assert.deepStrictEqual(events.at(-1), {
        _tag: "SessionClosed",
        session: 1,
        reason: "reset-failed",
        ageMillis: 0,
        error: { tag: "ConnectionError", message: "no" }
      })
    })
  )

  it.effect("is closed if it is not clean after all", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), { max: 1 })
      yield* pool.use(request, (session) =>
        Effect.sync(() => Object.assign(session, { clean: false, reset: Effect.void }))
      )
      assert.deepStrictEqual(events.at(-1), {
        _tag: "SessionClosed",
        session: 1,
        reason: "reset-failed",
        ageMillis: 0
      })
    })
  )
})

describe("a session that is drained", () => {
  it.effect("is told, and closed if the server does not confirm, even if it looks at rest", () =>
    Effect.gen(function* () {
      const { events, pool, tags } = yield* told(new FakeServer(), { max: 1 })
      const unconfirmed = (session: FakeSession) =>
        Effect.sync(() => {
          session.busy = false
          return false
        })
      const caller = yield* start(
        pool.use(request, (session) => {
          Object.assign(session, { drain: unconfirmed(session) })
          return session.query(60_000)
        })
      )
      yield* Fiber.interrupt(caller)
      assert.deepStrictEqual(tags(), ["SessionOpened", "DrainStarted", "SessionClosed"])
      assert.deepStrictEqual(events[1], { _tag: "DrainStarted", session: 1 })
      assert.deepStrictEqual(closings(events), [["drain-failed", 0]])
    })
  )

  it.effect("is closed if its place was taken meanwhile", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), { max: 1 })
      yield* abandon(pool)
      const next = yield* start(hold(pool, 60_000))
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(closings(events), [["surplus", 5]])
      assert.deepInclude(yield* pool.stats, { leased: 1, idle: 0, draining: 0 })
      yield* Fiber.interrupt(next)
    })
  )

  it.effect("beyond the budget is destroyed, where that is wanted, and nothing else is done to it", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { pool, tags } = yield* told(server, { max: 3, drainBudget: 1, drainOverflow: "destroy" })
      const holders = yield* Effect.forEach([1, 2, 3], () => start(hold(pool, 60_000)))
      yield* Fiber.interruptAll(holders)
      yield* TestClock.adjust(100)
      const { closed, drained } = (yield* pool.stats).counters
      assert.deepInclude(closed, { "drain-overflow": 2, "drain-failed": 0 })
      assert.strictEqual(drained, 1)
      assert.lengthOf(
        tags().filter((tag) => tag === "DrainStarted"),
        1
      )
      assert.deepStrictEqual(
        server.sessions.map(({ drainCalls }) => drainCalls),
        [1, 0, 0]
      )
    })
  )

  it.effect("and so are those beyond the budget that are closed", () =>
    Effect.gen(function* () {
      const server = Object.assign(new FakeServer(), { closeMillis: 100 })
      const { events, pool } = yield* told(server, { min: 3, max: 3, drainBudget: 1, drainOverflow: "destroy" })
      yield* pool.resize({ min: 0 })
      yield* pool.evictAll
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(closings(events), [
        ["evicted", 0],
        ["drain-overflow", 0],
        ["drain-overflow", 0]
      ])
    })
  )
})
