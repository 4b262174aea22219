import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { FakeServer, lost } from "./FakeSession.ts"
import { collect, failure, hold, makePool, request, start, timed } from "./fixture.ts"

describe("connect", () => {
  it.effect("at most two at a time, however many ask (effect Pool: 50 callers, 50 attempts)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 150
      const pool = yield* makePool(server, { min: 5, max: 50 })
      yield* TestClock.adjust(1_000)
      // HikariCP's spike: 50 callers with work of 2 ms are served by few sessions, not by 50 connects.
      const callers = yield* Effect.forEach(Array.from({ length: 50 }), () => start(timed(hold(pool, 2))))
      yield* TestClock.adjust(10_000)
      const times = yield* Effect.forEach(callers, Fiber.join)
      assert.isAtMost(server.maxConnecting, 2)
      assert.isAtMost(Math.max(...times.map((time) => time.millis)), 20)
      assert.isAtMost(server.connectAttempts, 7)
    })
  )

  it.effect("min is filled in the background, and filled again after a loss (node-postgres#3009, sql-pg: never)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 4, max: 8 })
      yield* pool.awaitReady("1 second")
      assert.strictEqual(server.open.length, 4)
      server.down = lost("refused")
      server.restart()
      yield* TestClock.adjust(10_000)
      assert.strictEqual(server.open.length, 0)
      server.down = undefined
      yield* TestClock.adjust(751)
      assert.strictEqual((yield* pool.stats).idle, 4)
    })
  )

  it.effect("1,000 waiters on a server that is down for 10 s: a handful of connects a second, and all are served", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("the database system is starting up", "57P03")
      const pool = yield* makePool(server, { min: 2, max: 10 })
      const waiters = yield* Effect.forEach(Array.from({ length: 1_000 }), () => start(timed(hold(pool, 5))))
      yield* TestClock.adjust(10_000)
      // The first second has the short pauses.
      const bySecond = Array.from(
        { length: 10 },
        (_, second) => server.attemptTimes.filter((time) => Math.floor(time / 1_000) === second).length
      )
      assert.isAtMost(bySecond[0]!, 10)
      assert.isAtMost(Math.max(...bySecond.slice(1)), 9)
      assert.isAtMost(server.attemptTimes.length, 50)
      server.down = undefined
      yield* TestClock.adjust(3_000)
      const served = yield* Effect.forEach(waiters, Fiber.join)
      assert.isTrue(served.every(({ result }) => result._tag === "Success"))
    })
  )

  it.effect("while the node is down new callers are told at once, with the last real error (HikariCP#2254)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("the database system is starting up", "57P03")
      const pool = yield* makePool(server, { min: 1, max: 4 })
      // A short outage costs time, not an error.
      const early = yield* start(timed(hold(pool, 1)))
      yield* TestClock.adjust(3_000)
      const late = yield* start(timed(failure(hold(pool, 1))))
      const { millis, result } = yield* Fiber.join(late)
      assert.strictEqual(millis, 0)
      assert.isTrue(result._tag === "Success" && result.success._tag === "DatabaseUnavailable")
      if (result._tag === "Success" && result.success._tag === "DatabaseUnavailable") {
        assert.strictEqual(result.success.reason, "refused")
        assert.deepStrictEqual(result.success.lastError, {
          tag: "ConnectionError",
          message: "the database system is starting up",
          sqlState: "57P03"
        })
        assert.isAtMost(result.success.retryAfterMillis!, 750)
      }
      server.down = undefined
      yield* TestClock.adjust(1_000)
      assert.strictEqual((yield* Fiber.join(early)).result._tag, "Success")
      assert.strictEqual(yield* hold(pool, 0), 1)
    })
  )

  it.effect("a caller whose deadline lies before the next attempt is told at once", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("refused")
      const pool = yield* makePool(server, {
        min: 1,
        max: 1,
        connectBackoff: Schedule.spaced("1 hour"),
        failFastAfter: "1 hour"
      })
      const deadline = (yield* Clock.currentTimeMillis) + 5
      assert.strictEqual((yield* failure(hold(pool, 1, { deadline })))._tag, "DatabaseUnavailable")
    })
  )

  it.effect("as long as sessions are left, a node that refuses new ones is not down (53300)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { max: 2 })
      const holder = yield* start(hold(pool, 5_000))
      server.down = lost("too many clients", "53300")
      const waiter = yield* start(timed(hold(pool, 1)))
      yield* TestClock.adjust(4_000)
      const late = yield* start(hold(pool, 1))
      yield* TestClock.adjust(1_100)
      yield* Fiber.join(holder)
      assert.strictEqual((yield* Fiber.join(waiter)).result._tag, "Success")
      assert.strictEqual(yield* Fiber.join(late), 1)
    })
  )

  it.effect("a wrong password is refreshed once, then told to all who wait, and not hammered", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("password authentication failed", "28P01")
      let refreshed = 0
      const pool = yield* makePool(server, { max: 4, refreshPassword: Effect.sync(() => void refreshed++) })
      const told = yield* Effect.forEach([1, 2, 3], () => failure(hold(pool, 1)))
      assert.deepStrictEqual(
        told.map((error) => (error._tag === "DatabaseUnavailable" ? error.reason : error._tag)),
        ["authentication", "authentication", "authentication"]
      )
      assert.deepStrictEqual([refreshed, server.connectAttempts], [1, 2])
      yield* TestClock.adjust(900)
      assert.strictEqual((yield* failure(hold(pool, 1)))._tag, "DatabaseUnavailable")
      assert.strictEqual(server.connectAttempts, 2)
      // The pause doubles: half a minute sees a handful of attempts, however many callers come.
      for (let second = 0; second < 29; second++) {
        yield* TestClock.adjust(1_000)
        yield* Effect.forEach([1, 2, 3], () => Effect.exit(hold(pool, 0)))
      }
      assert.isAtMost(server.connectAttempts, 12)
      // It may have been put right since.
      server.down = undefined
      yield* TestClock.adjust(30_000)
      assert.strictEqual(yield* hold(pool, 0), 1)
    })
  )

  it.effect("a rotated password is picked up without an error to anybody (HikariCP: credential rotation)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("password authentication failed", "28P01")
      const pool = yield* makePool(server, { max: 4, refreshPassword: Effect.sync(() => (server.down = undefined)) })
      assert.strictEqual(yield* hold(pool, 0), 1)
    })
  )

  it.effect("a database that does not exist is told at once", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("database does not exist", "3D000")
      const pool = yield* makePool(server, { min: 2, max: 4 })
      const error = yield* failure(hold(pool, 1))
      assert.isTrue(error._tag === "DatabaseUnavailable" && error.reason === "configuration")
      yield* TestClock.adjust(20_000)
      assert.isAtMost(server.connectAttempts, 10)
    })
  )

  it.effect("a doomed connect is not inherited: a fresh one is tried beside it (max=1 waited 4.2 s)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.blackHole = true
      const pool = yield* makePool(server, { max: 1 })
      const first = yield* start(failure(hold(pool, 1, { deadline: 300 })))
      yield* TestClock.adjust(300)
      yield* Fiber.join(first)
      server.blackHole = false
      yield* TestClock.adjust(500)
      const second = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust(1_000)
      const { millis, result } = yield* Fiber.join(second)
      assert.strictEqual(result._tag, "Success")
      assert.isAtMost(millis, 200)
      assert.isAtMost(server.sockets, (yield* pool.stats).limit)
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual([server.open.length, server.connecting], [1, 0])
    })
  )

  it.effect("a connect that fails late does not undo what a fresher one has shown", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.blackHole = true
      const pool = yield* makePool(server, { max: 2 })
      const log = yield* collect(pool)
      const waiter = yield* start(hold(pool, 0))
      yield* TestClock.adjust(500)
      server.blackHole = false
      yield* TestClock.adjust(10_000)
      yield* Fiber.join(waiter)
      assert.notInclude(log.tags(), "Down")
      assert.strictEqual((yield* pool.stats).connectFailures, 0)
      yield* log.stop
    })
  )

  it.effect("a connect begun before a session was found dead is given up and begun again", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 1, max: 2 })
      yield* start(hold(pool, 60_000))
      server.connectMillis = 5_000
      const waiter = yield* start(timed(hold(pool, 0)))
      yield* TestClock.adjust(100)
      server.connectMillis = 10
      server.sessions[0]!.die(lost("terminated", "57P01"))
      yield* TestClock.adjust(20)
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 110)
    })
  )

  it.effect(
    "sessions that die before they served anybody are failed connects (postgres.js#1193: a loop without a pause)",
    () =>
      Effect.gen(function* () {
        const server = new FakeServer()
        const pool = yield* makePool(server, {
          min: 1,
          max: 1,
          connect: Effect.tap(server.connect, (session) =>
            Effect.forkDetach(
              Effect.andThen(
                Effect.sleep(1),
                Effect.sync(() => session.die(lost("closed during startup")))
              )
            )
          )
        })
        yield* TestClock.adjust(10_000)
        assert.isAtMost(server.connectAttempts, 60)
        assert.isAtLeast((yield* pool.stats).connectFailures, 1)
      })
  )

  it.effect("a connect that is interrupted with the pool leaves no socket behind", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 1_000
      const pool = yield* makePool(server, { min: 2, max: 2 })
      yield* TestClock.adjust(100)
      yield* pool.close({ graceful: 0, hard: 0 })
      assert.strictEqual(server.sockets, 0)
    })
  )

  it.effect("the hook after a connect runs before anybody gets the session, and its failure is a failed connect", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      let refuse = true
      const pool = yield* makePool(server, {
        max: 1,
        hooks: { afterConnect: () => Effect.suspend(() => (refuse ? Effect.fail(lost("no such role")) : Effect.void)) }
      })
      const waiter = yield* start(hold(pool, 0))
      yield* TestClock.adjust(200)
      assert.strictEqual(server.open.length, 0)
      refuse = false
      yield* TestClock.adjust(1_000)
      assert.isAtLeast(yield* Fiber.join(waiter), 2)
    })
  )

  it.effect("Down, ConnectFailed and Up tell the story of an outage", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const pool = yield* makePool(server, { min: 1, max: 1 })
      const log = yield* collect(pool)
      yield* TestClock.adjust(2_000)
      server.down = lost("refused")
      server.restart()
      yield* TestClock.adjust(5_000)
      server.down = undefined
      yield* TestClock.adjust(1_000)
      const tags = log.tags()
      assert.strictEqual(tags.filter((tag) => tag === "Down").length, 1)
      const up = log.events.find((event) => event._tag === "Up")
      assert.isTrue(up?._tag === "Up" && up.downMillis >= 4_000)
      yield* log.stop
    })
  )
})

describe("boot", () => {
  it.effect("lazy: the pool is there while the server is not", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("refused")
      const pool = yield* makePool(server, { min: 2 })
      assert.strictEqual((yield* pool.stats).state, "open")
    })
  )

  it.effect("connect-one: fails with the true first error (sql-pg: make succeeds with the database down)", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("no route to host")
      const error = yield* failure(makePool(server, { boot: { mode: "connect-one" } }))
      assert.isTrue(error._tag === "DatabaseUnavailable" && error.lastError?.message === "no route to host")
    })
  )

  it.effect("fill: tries again as its schedule says, and returns with min sessions", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("refused")
      const making = yield* start(
        makePool(server, { min: 3, boot: { mode: "fill", schedule: Schedule.spaced("1 second") } })
      )
      yield* TestClock.adjust(5_000)
      assert.isUndefined(making.pollUnsafe())
      server.down = undefined
      yield* TestClock.adjust(2_000)
      const pool = yield* Fiber.join(making)
      assert.strictEqual((yield* pool.stats).idle, 3)
    })
  )

  it.effect("connect-one with min 0 keeps trying through the backoff, for its own sake", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("refused")
      const making = yield* start(makePool(server, { boot: { mode: "connect-one", schedule: Schedule.spaced(1) } }))
      yield* TestClock.adjust(5_000)
      assert.isAtLeast(server.connectAttempts, 10)
      assert.isAtMost(server.connectAttempts, 40)
      server.down = undefined
      yield* TestClock.adjust(1_000)
      yield* Fiber.join(making)
      assert.strictEqual(server.open.length, 1)
    })
  )

  it.effect("awaitReady gives up with the last real error", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.down = lost("refused")
      const pool = yield* makePool(server, { min: 2 })
      const waiting = yield* start(failure(pool.awaitReady("3 seconds")))
      yield* TestClock.adjust(3_000)
      assert.strictEqual((yield* Fiber.join(waiting)).lastError?.message, "refused")
    })
  )

  it.effect("options that cannot hold together are one error that names them all", () =>
    Effect.gen(function* () {
      const error = yield* failure(
        makePool(new FakeServer(), { min: 5, max: 2, acquireTimeout: 0, lanes: { batch: { reserved: 3 } } })
      )
      assert.strictEqual(error._tag, "InvalidPoolOptions")
      if (error._tag === "InvalidPoolOptions") assert.strictEqual(error.issues.length, 3)
    })
  )

  it.effect("a request in a lane that nobody declared is served", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer())
      assert.strictEqual(yield* hold(pool, 0, { ...request, lane: "unheard of" }), 1)
    })
  )
})
