import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { FakeServer, lost } from "./FakeSession.ts"
import { collect, failure, hold, makePool, request, start, timed } from "./fixture.ts"

describe("lanes", () => {
  it.effect("a reserved share is there however many of another lane wait", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 4, lanes: { interactive: { reserved: 1 }, batch: {} } })
      const batch = yield* Effect.forEach([1, 2, 3, 4, 5], () => start(hold(pool, 1_000, { lane: "batch" })))
      const { millis } = yield* timed(hold(pool, 0, { lane: "interactive" }))
      assert.strictEqual(millis, 0)
      assert.strictEqual((yield* pool.stats).lanes.batch!.leased, 3)
      yield* TestClock.adjust(3_000)
      yield* Effect.forEach(batch, Fiber.join)
    })
  )

  it.effect("a cap holds while sessions are idle, and says lane-full", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { min: 3, max: 3, lanes: { batch: { cap: 1 } } })
      yield* start(hold(pool, 1_000, { lane: "batch" }))
      const second = yield* start(failure(hold(pool, 1, { lane: "batch", deadline: 100 })))
      // Others are not held up by a lane that is full.
      assert.strictEqual((yield* timed(hold(pool, 0))).millis, 0)
      yield* TestClock.adjust(100)
      const error = yield* Fiber.join(second)
      assert.isTrue(error._tag === "AcquireTimeout" && error.reason === "lane-full" && error.counts.idle === 2)
    })
  )

  it.effect("the control lane has a session of its own beyond max, and never waits behind users", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 2 })
      yield* Effect.forEach([1, 2, 3], () => start(hold(pool, 10_000)))
      const { millis, result } = yield* timed(hold(pool, 0, { lane: "control" }))
      assert.deepStrictEqual([millis, result._tag], [0, "Success"])
      const stats = yield* pool.stats
      assert.deepStrictEqual([stats.leased, stats.control.idle, server.open.length], [2, 1, 3])
      assert.isAtMost(server.sockets, stats.limit)
    })
  )

  it.effect("with control: 0 it is first in line within max", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1, control: 0 })
      yield* start(hold(pool, 100))
      const user = yield* start(timed(hold(pool, 100)))
      const control = yield* start(timed(hold(pool, 0, { lane: "control" })))
      yield* TestClock.adjust(300)
      assert.strictEqual((yield* Fiber.join(control)).millis, 100)
      assert.strictEqual((yield* Fiber.join(user)).millis, 200)
    })
  )
})

describe("operating a living pool", () => {
  it.effect("resize grows at once for those who wait", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      yield* start(hold(pool, 10_000))
      const waiter = yield* start(timed(hold(pool, 1)))
      yield* TestClock.adjust(100)
      yield* pool.resize({ max: 2 })
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 101)
    })
  )

  it.effect("resize shrinks idle sessions now and leased ones when they come back", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 4, max: 4 })
      const holders = yield* Effect.forEach([1, 2], () => start(hold(pool, 100)))
      yield* pool.resize({ max: 1 })
      assert.strictEqual(server.open.length, 2)
      yield* TestClock.adjust(100)
      yield* Effect.forEach(holders, Fiber.join)
      assert.strictEqual(server.open.length, 1)
      assert.strictEqual((yield* failure(pool.resize({ min: 3, max: 2 })))._tag, "InvalidPoolOptions")
    })
  )

  it.effect("while suspended callers wait in their order, up to their deadlines; health goes on", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { min: 1, max: 1 })
      yield* pool.suspend
      const short = yield* start(failure(hold(pool, 1, { deadline: 50 })))
      const long = yield* start(timed(hold(pool, 1)))
      assert.strictEqual((yield* timed(hold(pool, 0, { lane: "control" }))).result._tag, "Success")
      yield* TestClock.adjust(50)
      const error = yield* Fiber.join(short)
      assert.isTrue(error._tag === "AcquireTimeout" && error.reason === "suspended")
      yield* pool.resume
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(long)).millis, 51)
    })
  )

  it.effect("evictAll replaces idle sessions now and leased ones when they come back", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 2, max: 2 })
      const holder = yield* start(hold(pool, 100))
      yield* pool.evictAll
      assert.deepStrictEqual(
        server.open.map((session) => session.id),
        [2, 3].filter((id) => !server.sessions[id - 1]!.closed)
      )
      yield* TestClock.adjust(100)
      yield* Fiber.join(holder)
      assert.isTrue(server.sessions[0]!.closed && server.sessions[1]!.closed)
      assert.strictEqual((yield* pool.stats).idle, 2)
    })
  )
})

describe("leaks", () => {
  it.effect(
    "a holder beyond the threshold is reported with its span and stack, and so is the return of one thought lost",
    () =>
      Effect.gen(function* () {
        const pool = yield* makePool(new FakeServer(), {
          max: 1,
          leakDetection: { threshold: "10 seconds", stackEvery: 1 }
        })
        const log = yield* collect(pool)
        const holder = yield* start(Effect.withSpan(hold(pool, 60_000), "monthly"))
        const starved = yield* start(failure(hold(pool, 1)))
        yield* TestClock.adjust("30 seconds")
        const error = yield* Fiber.join(starved)
        assert.isTrue(error._tag === "AcquireTimeout" && error.reason === "leaked")
        yield* TestClock.adjust("30 seconds")
        yield* Fiber.join(holder)
        const suspected = log.events.filter((event) => event._tag === "LeakSuspected")
        assert.strictEqual(suspected.length, 1)
        assert.strictEqual(suspected[0]!.holder.span?.name, "monthly")
        assert.include(suspected[0]!.holder.stack, "lease")
        const returned = log.events.find((event) => event._tag === "LeakReturned")
        assert.isTrue(returned?._tag === "LeakReturned" && returned.holder.heldMillis === 60_000)
        yield* log.stop
      })
  )

  it.effect("a listener or a hook that throws does not disturb the pool", () =>
    Effect.gen(function* () {
      const acquired: Array<string> = []
      const pool = yield* makePool(new FakeServer(), {
        min: 1,
        listener: {
          onEvent: () => {
            throw new Error("listener")
          },
          onAcquire: (lane) => {
            acquired.push(lane)
            throw new Error("listener")
          },
          onRelease: () => {
            throw new Error("listener")
          }
        },
        hooks: {
          beforeReuse: () => {
            if (acquired.length === 1) throw new Error("hook")
            return true
          }
        }
      })
      assert.strictEqual(yield* hold(pool, 0), 1)
      assert.strictEqual(yield* hold(pool, 0), 2)
      assert.deepStrictEqual(acquired, ["report", "report"])
    })
  )
})

describe("close", () => {
  it.effect("refuses new callers, lets holders and waiters finish, then returns", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      const holder = yield* start(hold(pool, 300))
      const waiter = yield* start(hold(pool, 300))
      const closing = yield* start(timed(pool.close({ graceful: "5 seconds", hard: "1 second" })))
      const error = yield* failure(hold(pool, 1))
      assert.isTrue(error._tag === "DatabaseUnavailable" && error.reason === "closed")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(closing)).millis, 600)
      assert.deepStrictEqual([yield* Fiber.join(holder), yield* Fiber.join(waiter)], [1, 1])
      assert.strictEqual(server.open.length, 0)
    })
  )

  it.effect("waits for nobody beyond its two deadlines (effect Pool: forever)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 1 })
      yield* start(pool.use(request, () => Effect.never))
      const waiter = yield* start(failure(hold(pool, 1)))
      const closing = yield* start(timed(pool.close({ graceful: 1_000, hard: 500 })))
      yield* TestClock.adjust(1_000)
      const told = yield* Fiber.join(waiter)
      assert.isTrue(told._tag === "DatabaseUnavailable" && told.reason === "closed")
      assert.strictEqual(server.sessions[0]!.cancelCalls, 1)
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* Fiber.join(closing)).millis, 1_500)
      assert.strictEqual(server.open.length, 0)
    })
  )

  it.effect("closing twice waits for the first, and the end of the scope closes", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const scope = yield* Scope.make()
      const pool = yield* Effect.provideService(makePool(server, { min: 2, closeGraceful: 100 }), Scope.Scope, scope)
      yield* TestClock.adjust(1)
      assert.strictEqual(server.open.length, 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(server.open.length, 0)
      yield* pool.close()
      assert.strictEqual((yield* pool.stats).state, "closed")
    })
  )

  it.effect("works while the server is down and while connects hang", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.blackHole = true
      const pool = yield* makePool(server, { min: 2, max: 2 })
      const waiter = yield* start(failure(hold(pool, 1)))
      const closing = yield* start(timed(pool.close({ graceful: 100, hard: 100 })))
      yield* TestClock.adjust(200)
      assert.isAtMost((yield* Fiber.join(closing)).millis, 200)
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "DatabaseUnavailable")
      assert.strictEqual(server.sockets, 0)
      server.restart()
      server.down = lost("gone")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(server.connecting, 0)
    })
  )

  it.effect("a pool that was closed does nothing any more", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 2, max: 2 })
      yield* pool.close()
      const attempts = server.connectAttempts
      yield* pool.resume
      yield* pool.evictAll
      yield* pool.resize({ max: 5, min: 5 })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(server.connectAttempts, attempts)
    })
  )
})
