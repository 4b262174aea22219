/**
 * The housekeeper's rounds, to the millisecond: each was once a mutant that nobody noticed.
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
import { FakeServer, lost } from "./FakeSession.ts"
import { closings, fixedChance, hold, makePool, request, start, told } from "./fixture.ts"

const begin = TestClock.adjust("1000 seconds")

describe("lifetimes", () => {
  it.effect("end one a round, so that not all are missing together; but none lives beyond maxLifetime", () =>
    Effect.gen(function* () {
      yield* begin
      const { events } = yield* Effect.provideService(
        told(new FakeServer(), { min: 6, max: 6, maxLifetime: "10 seconds", lifetimeJitter: 0.5 }),
        Random.Random,
        fixedChance(0.8)
      )
      yield* TestClock.adjust("11 seconds")
      assert.deepStrictEqual(
        closings(events),
        [6_000, 7_000, 8_000, 9_000, 10_000, 10_000].map((age) => ["lifetime", age] as const)
      )
    })
  )
})

describe("idle sessions", () => {
  it.effect("are closed when they have been idle for idleTimeout since their last use, but not below min", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), { min: 1, max: 3, idleTimeout: "5 seconds" })
      const holders = yield* Effect.forEach([2_000, 2_000, 3_000], (millis) => start(hold(pool, millis)))
      yield* TestClock.adjust("6999 millis")
      assert.deepStrictEqual(closings(events), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(closings(events), [
        ["idle", 7_000],
        ["idle", 7_000]
      ])
      yield* TestClock.adjust("1 minute")
      yield* Effect.forEach(holders, Fiber.join)
      assert.lengthOf(closings(events), 2)
    })
  )
})

describe("a connect on its way", () => {
  it.effect("is no session yet: the one that works is not closed because of it", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const { events, pool } = yield* told(server, { min: 1, max: 2, idleTimeout: "2 seconds" })
      const holder = yield* start(hold(pool, 100))
      server.blackHole = true
      const waiter = yield* start(hold(pool, 0))
      yield* TestClock.adjust("4 seconds")
      yield* Effect.all([Fiber.join(holder), Fiber.join(waiter)])
      assert.strictEqual((yield* pool.stats).connecting, 1)
      assert.deepStrictEqual(closings(events), [])
      server.blackHole = false
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* pool.stats).idle, 1)
    })
  )
})

describe("a process that stood still", () => {
  /** A pool whose wall clock can leap ahead of the monotonic one, as on a machine that was paused. */
  const paused = (options: Parameters<typeof told>[1]) =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const clock = yield* Clock.Clock
      let skew = 0
      const leaping = { ...clock, currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + skew }
      const { events, pool } = yield* Effect.provideService(told(server, options), Clock.Clock, leaping)
      const stalls = () => events.filter(({ _tag }) => _tag === "Stalled")
      return { leap: (millis: number) => void (skew += millis), pool, server, stalls }
    })

  it.effect("is told from one that was half a round late, with how long it took", () =>
    Effect.gen(function* () {
      const { leap, pool, stalls } = yield* paused({ min: 1, max: 1 })
      leap(500)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(stalls(), [])
      leap(501)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(stalls(), [{ _tag: "Stalled", lateMillis: 501 }])
      assert.strictEqual((yield* pool.stats).counters.stalls, 1)
    })
  )

  it.effect("asks its idle sessions when they are wanted, not all at once", () =>
    Effect.gen(function* () {
      const { leap, pool, server } = yield* paused({ min: 2, max: 2, validateAfterIdle: "1 hour" })
      leap(60_000)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(
        server.sessions.map(({ validations }) => validations),
        [0, 0]
      )
      yield* hold(pool, 0)
      assert.deepStrictEqual(server.sessions.map(({ validations }) => validations).sort(), [0, 1])
    })
  )

  it.effect("does not ask what was in its caller's hands: it has shown that it lives", () =>
    Effect.gen(function* () {
      const { leap, pool, server } = yield* paused({ max: 1, validateAfterIdle: "1 hour" })
      const holder = yield* start(hold(pool, 3_000))
      leap(60_000)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(holder)
      yield* hold(pool, 0)
      assert.strictEqual(server.sessions[0]!.validations, 0)
    })
  )
})

describe("a node whose sessions died right after their start", () => {
  it.effect("is up when one has lived for a second, and not before", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const { events, pool } = yield* Effect.provideService(
        told(server, { min: 1, max: 1, connectBackoff: Schedule.spaced("1 second") }),
        Random.Random,
        fixedChance(0.5)
      )
      const up = () => events.filter(({ _tag }) => _tag === "Up")
      yield* TestClock.adjust(500)
      server.sessions[0]!.die(lost("closed during startup"))
      yield* TestClock.adjust(499)
      assert.strictEqual(server.connectAttempts, 1)
      // The pause of half a second ends with the first round; the next session is opened in it.
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* pool.stats).idle, 1)
      assert.deepStrictEqual(up(), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(up(), [{ _tag: "Up", downMillis: 2_000 }])
      assert.strictEqual((yield* pool.stats).connectFailures, 0)
      yield* TestClock.adjust("10 seconds")
      assert.lengthOf(up(), 1)
    })
  )
})

describe("rounds", () => {
  it.effect("keep to their interval, whatever else wakes the pool", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), {
        max: 2,
        idleTimeout: "1500 millis",
        lanes: { batch: { cap: 1 } }
      })
      yield* start(hold(pool, 60_000, { lane: "batch" }))
      yield* hold(pool, 0)
      const now = yield* Clock.currentTimeMillis
      yield* start(Effect.exit(hold(pool, 0, { lane: "batch", deadline: now + 1_700 })))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(closings(events), [["idle", 2_000]])
    })
  )

  it.effect("take a session that was just opened for no proof that the node is up", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      const { tags } = yield* Effect.provideService(
        told(server, { min: 1, max: 1, connectBackoff: Schedule.spaced("1 second") }),
        Random.Random,
        fixedChance(0.5)
      )
      yield* TestClock.adjust(400)
      server.sessions[0]!.die(lost("closed during startup"))
      yield* TestClock.adjust("1500 millis")
      assert.strictEqual(server.connectAttempts, 2)
      assert.notInclude(tags(), "Up")
      yield* TestClock.adjust(100)
      assert.include(tags(), "Up")
    })
  )
})

describe("leaks", () => {
  it.effect("are suspected at the threshold, counted, and counted again when they come back", () =>
    Effect.gen(function* () {
      yield* begin
      const { events, pool } = yield* told(new FakeServer(), {
        max: 2,
        leakDetection: { threshold: "10 seconds" }
      })
      const leak = yield* start(pool.use(request, () => Effect.sleep("12 seconds")))
      const brief = yield* start(pool.use(request, () => Effect.sleep("9 seconds")))
      const suspected = () => events.filter(({ _tag }) => _tag === "LeakSuspected")
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(suspected(), [])
      yield* TestClock.adjust(1)
      assert.lengthOf(suspected(), 1)
      assert.deepInclude((yield* pool.stats).counters, { leaksSuspected: 1, leaksReturned: 0 })
      yield* TestClock.adjust("5 seconds")
      yield* Effect.all([Fiber.join(leak), Fiber.join(brief)])
      assert.deepInclude((yield* pool.stats).counters, { leaksSuspected: 1, leaksReturned: 1 })
      // Thought lost once, it is watched as before.
      yield* start(pool.use(request, () => Effect.sleep("1 minute")))
      yield* TestClock.adjust("11 seconds")
      assert.lengthOf(suspected(), 2)
    })
  )

  it.effect("are nobody's business unless asked for", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* start(pool.use(request, () => Effect.never))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* pool.stats).counters.leaksSuspected, 0)
    })
  )
})
