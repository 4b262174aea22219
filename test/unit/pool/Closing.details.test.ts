/** The end of a pool, step by step: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { SqlError } from "effect/sql/SqlError"
import * as TestClock from "effect/testing/TestClock"
import { type FakePool, failure, hold, request, start, timed, told } from "./fixture.ts"
import type { AcquireError } from "../../../packages/sdk/src/pool/SessionPool.ts"
import { FakeServer, type FakeSession } from "./FakeSession.ts"

/** The milliseconds that closing took; it has to have ended by now. */
const ended = (closing: Fiber.Fiber<{ readonly millis: number }>) =>
  Effect.gen(function* () {
    yield* TestClock.adjust(0)
    assert.isDefined(closing.pollUnsafe(), "the pool is still closing")
    return (yield* Fiber.join(closing)).millis
  })

const patient = { graceful: "10 seconds", hard: "1 second" } as const

describe("closing", () => {
  it.effect("is told once, and its end too, however often it is asked for", () =>
    Effect.gen(function* () {
      const { pool, tags } = yield* told(new FakeServer(), { max: 1 })
      const holder = yield* start(hold(pool, 3_000))
      const first = yield* start(timed(pool.close(patient)))
      yield* TestClock.adjust("1 second")
      const second = yield* start(timed(pool.close({ graceful: 0, hard: 0 })))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(holder)
      assert.strictEqual(yield* ended(first), 3_000)
      assert.strictEqual(yield* ended(second), 2_000)
      assert.strictEqual((yield* timed(pool.close(patient))).millis, 0)
      assert.deepStrictEqual(
        tags().filter((tag) => tag.startsWith("Clos")),
        ["Closing", "Closed"]
      )
    })
  )

  it.effect("waits for no connect that nobody waits for", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 5_000
      const { pool } = yield* told(server, { min: 2, max: 2 })
      assert.strictEqual((yield* timed(pool.close(patient))).millis, 0)
      assert.strictEqual(server.sockets, 0)
    })
  )

  it.effect("ends when the last who waits for a connect has left, or was told that it is too late", () =>
    Effect.gen(function* () {
      const ends = (leave: (waiter: Fiber.Fiber<unknown, unknown>) => Effect.Effect<unknown>) =>
        Effect.gen(function* () {
          const server = new FakeServer()
          server.connectMillis = 8_000
          const { pool } = yield* told(server, { max: 1, acquireTimeout: "2 seconds", housekeepingInterval: "1 hour" })
          const waiter = yield* start(Effect.exit(hold(pool, 0)))
          const closing = yield* start(timed(pool.close(patient)))
          yield* TestClock.adjust("1 second")
          assert.isUndefined(closing.pollUnsafe())
          yield* leave(waiter)
          return yield* ended(closing)
        })
      assert.strictEqual(yield* ends(Fiber.interrupt), 1_000)
      assert.strictEqual(yield* ends(() => TestClock.adjust("1 second")), 2_000)
    })
  )

  it.effect("lets those finish who wait for a connect, users and control lane alike", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 500
      const { pool } = yield* told(server, { max: 1 })
      const user = yield* start(hold(pool, 0))
      const control = yield* start(hold(pool, 0, { lane: "control" }))
      const closing = yield* start(timed(pool.close(patient)))
      yield* TestClock.adjust(500)
      yield* Effect.all([Fiber.join(user), Fiber.join(control)])
      assert.strictEqual(yield* ended(closing), 500)
    })
  )

  it.effect("serves those who waited while the pool was suspended, at once", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { min: 1, max: 1, housekeepingInterval: "1 hour" })
      yield* pool.suspend
      const waiter = yield* start(hold(pool, 100))
      const closing = yield* start(timed(pool.close(patient)))
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* ended(closing), 100)
      assert.strictEqual(yield* Fiber.join(waiter), 1)
    })
  )

  it.effect("keeps idle sessions as long as somebody waits who may need one", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const { pool } = yield* told(server, { min: 2, max: 2, lanes: { batch: { cap: 1 } } })
      const holders = yield* Effect.forEach([1, 2], () => start(hold(pool, 1_000, { lane: "batch" })))
      const closing = yield* start(timed(pool.close(patient)))
      assert.lengthOf(server.open, 2)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* ended(closing), 2_000)
      yield* Effect.forEach(holders, Fiber.join)
    })
  )

  it.effect("counts those who were refused, before and after", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { max: 1 })
      yield* start(hold(pool, 1_000))
      const closing = yield* start(pool.close(patient))
      assert.deepInclude(yield* failure(hold(pool, 0)), { _tag: "DatabaseUnavailable", reason: "closed" })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepInclude(yield* failure(hold(pool, 0)), { _tag: "DatabaseUnavailable", reason: "closed" })
      assert.deepInclude((yield* pool.stats).counters, { unavailable: 2 })
    })
  )
})

describe("the second deadline", () => {
  it.effect("cancels what callers run, and nothing that nobody waits for", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.drainMillis = 5_000
      const { pool } = yield* told(server, { max: 2 })
      yield* start(hold(pool, 60_000))
      const left = yield* start(hold(pool, 60_000))
      yield* Fiber.interrupt(left)
      const closing = yield* start(pool.close({ graceful: 1_000, hard: 1_000 }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        server.sessions.map(({ cancelCalls }) => cancelCalls),
        [1, 0]
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
    })
  )
})

describe("after the end", () => {
  it.effect("no fiber of the pool is left, whatever it waits for", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const never = Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      const { pool } = yield* told(new FakeServer(), { max: 2, hooks: { afterRelease: () => never } })
      yield* hold(pool, 0)
      const closing = yield* start(pool.close({ graceful: 100, hard: 100 }))
      yield* TestClock.adjust(200)
      assert.isDefined(closing.pollUnsafe())
      assert.strictEqual(interrupted, 1)
    })
  )

  it.effect("what comes back or ends late is counted once, and nobody is told of it", () =>
    Effect.gen(function* () {
      const late = Effect.uninterruptible(Effect.sleep("1 minute"))
      /** A pool whose one session is in the middle of this when the pool is destroyed, and comes out of it later. */
      const seen = (begin: (pool: FakePool, session: FakeSession) => Effect.Effect<unknown, AcquireError>) =>
        Effect.gen(function* () {
          const server = new FakeServer()
          const { leases, pool, tags } = yield* told(server, { max: 1 })
          yield* hold(pool, 0)
          yield* TestClock.adjust("2 seconds")
          yield* start(Effect.exit(begin(pool, server.sessions[0]!)))
          const leased = leases.filter(([what]) => what === "release").length
          const closing = yield* start(timed(pool.close({ graceful: 0, hard: 0 })))
          yield* TestClock.adjust(1)
          assert.strictEqual(yield* ended(closing), 0)
          yield* TestClock.adjust("2 minutes")
          const stats = yield* pool.stats
          assert.deepInclude(stats, { idle: 0, leased: 0, preparing: 0, draining: 0, waiting: 0, state: "closed" })
          return {
            closed: Object.values(stats.counters.closed).reduce((sum, one) => sum + one, 0),
            told: tags().filter((tag) => tag === "SessionClosed").length,
            last: tags().at(-1),
            released: leases.filter(([what]) => what === "release").length - leased
          }
        })
      const once = { closed: 1, told: 1, last: "Closed", released: 0 } as const
      const leave = (session: FakeSession, change: Partial<FakeSession>) =>
        Effect.sync(() => void Object.assign(session, change))
      // The lease ends with the session, and not again when its holder comes back.
      const leased = { ...once, released: 1 }
      assert.deepStrictEqual(yield* seen((pool) => pool.use(request, () => late)), leased, "leased")
      const validating = yield* seen((pool, session) => {
        Object.assign(session, { validate: late })
        return hold(pool, 0)
      })
      assert.deepStrictEqual(validating, once, "validating")
      const resetting = yield* seen((pool) =>
        pool.use(request, (session) => leave(session, { clean: false, reset: late }))
      )
      assert.deepStrictEqual(resetting, once, "resetting")
      const draining = yield* seen((pool) =>
        pool.use(request, (session) => leave(session, { busy: true, drain: Effect.as(late, true) }))
      )
      assert.deepStrictEqual(draining, once, "draining")
      // As a real session does, these end with their socket, in the middle of the pool's own end.
      const untilDeath = (session: FakeSession) =>
        Effect.callback<never, SqlError>((resume) => session.onDeath((cause) => resume(Effect.fail(cause))))
      const cutOff = [
        yield* seen((pool, session) => {
          Object.assign(session, { validate: untilDeath(session) })
          return hold(pool, 0)
        }),
        yield* seen((pool) =>
          pool.use(request, (session) => leave(session, { clean: false, reset: untilDeath(session) }))
        ),
        yield* seen((pool) =>
          pool.use(request, (session) =>
            leave(session, {
              busy: true,
              drain: Effect.match(untilDeath(session), { onFailure: () => false, onSuccess: () => true })
            })
          )
        )
      ]
      assert.deepStrictEqual(cutOff, [once, once, once])
    })
  )

  it.effect("nothing can be evicted", () =>
    Effect.gen(function* () {
      const { pool, tags } = yield* told(new FakeServer(), { min: 1, max: 1 })
      yield* pool.close({ graceful: 0, hard: 0 })
      yield* pool.evictAll
      assert.strictEqual((yield* pool.stats).generation, 0)
      assert.strictEqual(tags().at(-1), "Closed")
    })
  )
})
