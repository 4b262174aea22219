import { assert, layer } from "@effect/vitest"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { factsOf, Session } from "@sluice/sdk/pool/Session"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import { expectEventually } from "../../support/expectEventually.ts"
import { configFor, connect, driver, timed } from "./support.ts"

const primary = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

/** Starts an effect and gives it time to be on the wire. */
const started = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tap(Effect.forkChild(effect, { startImmediately: true }), () => Effect.sleep("50 millis"))

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("leaving a session", (it) => {
  it.effect("returns at once on a frozen network, where the driver takes five seconds", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const bare = yield* driver(proxy)
      const session = yield* connect(proxy, { drainTimeout: "300 millis" })
      yield* session.query("select 1")
      yield* bare.query("select 1")
      yield* proxy.stall({ connections: "all" })
      const slow = yield* started(bare.query("select 1"))
      const ours = yield* started(session.query("select 1"))
      const [, millis] = yield* timed(Fiber.interrupt(ours))
      assert.isBelow(millis, 250)
      assert.isTrue(session.busy)
      const [, driverMillis] = yield* timed(
        Effect.timeoutOption(Fiber.await(slow).pipe(Effect.andThen(Effect.void)), "1 second")
      )
      assert.isAbove(driverMillis, 900, "the driver's fiber is still there")
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(slow))
      const [drained, drainMillis] = yield* timed(session.drain)
      assert.isFalse(drained)
      assert.isBelow(drainMillis, 2000)
      assert.strictEqual(factsOf(session.dead)?.bound, "drain")
      assert.isUndefined(interrupting.pollUnsafe(), "the driver's interrupt waits for its own five seconds")
      yield* proxy.heal
    })
  )

  it.effect("cancels what was left, and the session serves the next caller", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      const sleeping = yield* started(session.query("select pg_sleep(30)"))
      yield* Fiber.interrupt(sleeping)
      const [ok, millis] = yield* timed(session.drain)
      assert.isTrue(ok)
      assert.isBelow(millis, 2000)
      assert.isTrue(session.clean)
      assert.deepStrictEqual((yield* session.query("select 1 as one")).rows, [{ one: 1 }])
      const left = yield* server.query(
        "select 1 from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()"
      )
      assert.deepStrictEqual(left, [])
    })
  )

  it.effect("drops a statement that was not written yet", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      yield* session.query("create temp table written (id int)")
      // With one on the wire, those of one tick share a write at its end.
      const ahead = Effect.runFork(session.query("select 1"))
      const fiber = Effect.runFork(session.query("insert into written values (1)"))
      fiber.interruptUnsafe()
      yield* Fiber.await(fiber)
      assert.isFalse(session.busy)
      yield* Fiber.join(ahead)
      assert.strictEqual((yield* session.query("select count(*)::int as n from written")).rows[0].n, 0)
    })
  )

  it.effect("throws away the answer of a statement that was left, and keeps its neighbours'", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      const fibers = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, n) => n),
        (n) =>
          Effect.forkChild(session.query("select $1::int4 as n, pg_sleep(0.005)::text", [n]), {
            startImmediately: true
          })
      )
      yield* Effect.sleep("10 millis")
      for (let n = 0; n < 20; n += 3) yield* Fiber.interrupt(fibers[n]!)
      for (let n = 0; n < 20; n++) {
        const exit = yield* Fiber.await(fibers[n]!)
        if (n % 3 !== 0) assert.strictEqual(Exit.isSuccess(exit) && exit.value.rows[0].n, n)
      }
      assert.isTrue(yield* session.drain)
      assert.isTrue(session.clean)
    })
  )

  it.effect("leaves a transaction to be reset after the drain", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      yield* session.begin()
      yield* session.query("select 1")
      yield* Fiber.interrupt(yield* started(session.query("select pg_sleep(30)")))
      assert.isTrue(yield* session.drain)
      assert.isFalse(session.clean)
      assert.strictEqual(session.status, "failed")
      yield* session.reset
      assert.isTrue(session.clean)
    })
  )

  it.effect(
    "never lets a late cancellation hit the next statement",
    () =>
      Effect.gen(function* () {
        // Statements end at about the time at which they are left and cancelled, so that the signal is often late. The
        // proxy's jitter moves the cancel connection against the session.
        const proxy = yield* FaultProxy.make({ target: yield* primary, seed: 7 })
        yield* proxy.latency({ millis: 0, jitterMillis: 3 })
        let hits = 0
        let drained = 0
        let lost = 0
        const hunter = Effect.gen(function* () {
          let session = yield* connect(proxy, { cancelGrace: "0 millis" })
          for (let round = 0; round < 60; round++) {
            const work = yield* Random.nextIntBetween(0, 12)
            const fiber = yield* Effect.forkChild(session.query(`select pg_sleep(${work / 1000})`), {
              startImmediately: true
            })
            yield* Effect.sleep(yield* Random.nextIntBetween(0, 12))
            yield* Fiber.interrupt(fiber)
            if (yield* session.drain) drained++
            else {
              lost++
              session = yield* connect(proxy, { cancelGrace: "0 millis" })
            }
            const next = yield* Effect.exit(session.query("select pg_sleep(0.003)::text as t, 1 as one"))
            if (Exit.isFailure(next)) hits++
          }
        })
        yield* Effect.all(
          Array.from({ length: 6 }, () => hunter),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(hits, 0)
        assert.isAbove(drained, 200, `${lost} sessions were given up`)
      }),
    60_000
  )

  it.effect("gives a session up when the cancel connection breaks after the request has left", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const proxy = yield* FaultProxy.make({ target: server })
      const session = yield* connect(proxy, { drainTimeout: "500 millis" })
      const fiber = yield* started(session.query("select pg_sleep(0.3)"))
      // The session's own answers still come; new connections are swallowed, so nobody confirms the cancel.
      yield* proxy.blackHole
      yield* Fiber.interrupt(fiber)
      const ok = yield* session.drain
      assert.isFalse(ok)
      assert.isDefined(session.dead)
    })
  )

  it.effect("ends a validation, a reset and a close that nobody answers within their bounds", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const config = {
        validationTimeout: "200 millis",
        controlTimeout: "300 millis",
        closeTimeout: "200 millis"
      } as const
      const validated = yield* connect(proxy, config)
      const reset = yield* connect(proxy, config)
      const closed = yield* connect(proxy, config)
      yield* validated.validate
      yield* reset.query("begin")
      yield* proxy.stall()
      const [error, millis] = yield* timed(Effect.flip(validated.validate))
      assert.strictEqual(factsOf(error)?.bound, "validate")
      assert.isBelow(millis, 1500)
      const [resetError, resetMillis] = yield* timed(Effect.flip(reset.reset))
      assert.strictEqual(factsOf(resetError)?.bound, "reset")
      assert.isBelow(resetMillis, 1500)
      const [, closeMillis] = yield* timed(closed.close)
      assert.isBelow(closeMillis, 1500)
      yield* proxy.heal
    })
  )

  it.effect("ends a login that nobody answers within its bound, and can leave it at once", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      yield* proxy.blackHole
      const [error, millis] = yield* timed(Effect.flip(connect(proxy, { connectTimeout: "300 millis" })))
      assert.strictEqual(PgFailure.fromSqlError(error).class, "Unreachable")
      assert.strictEqual(factsOf(error)?.bound, "connect")
      assert.isBelow(millis, 1500)
      const fiber = yield* started(Session.connect(configFor(proxy)))
      const [, leaving] = yield* timed(Fiber.interrupt(fiber))
      assert.isBelow(leaving, 200)
      yield* proxy.heal
      yield* expectEventually(proxy.counters, ({ open }) => open === 0)
    })
  )

  it.effect("destroys a silent session that has statements on the wire, and tells each caller what is known", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy, { silence: "300 millis" })
      yield* session.query("select $1::int4", [0])
      yield* Effect.sleep("500 millis")
      assert.isUndefined(session.dead, "an idle session may be silent")
      yield* proxy.stall()
      const fibers = yield* Effect.forEach([1, 2, 3], (n) =>
        Effect.forkChild(Effect.flip(session.query("select $1::int4", [n])), { startImmediately: true })
      )
      for (const fiber of fibers) {
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(factsOf(error)?.bound, "silence")
        assert.isTrue(factsOf(error)?.commit)
        assert.isFalse(error.isRetryable, "the outcome is unknown")
        assert.strictEqual(PgFailure.fromSqlError(error).outcome, "unknown")
      }
    })
  )

  it.effect("says of a read-only session's lost statement that it may be repeated", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy, { readOnly: true })
      const fiber = yield* started(Effect.flip(session.query("select pg_sleep(5)")))
      yield* proxy.reset
      const error = yield* Fiber.join(fiber)
      assert.isTrue(error.isRetryable)
      assert.isTrue(factsOf(error)?.sent)
    })
  )

  it.effect("cancels on request, and the caller hears that it was us", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      const fiber = yield* started(Effect.flip(session.query("select pg_sleep(30)")))
      yield* session.cancel
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(factsOf(error)?.cancelledBy, "us")
      assert.strictEqual(PgFailure.fromSqlError(error).class, "Cancelled")
      assert.isFalse(session.clean, "the signal could still be on its way to somebody else's statement")
      yield* session.reset
      assert.isTrue(session.clean)
    })
  )

  it.effect("cancels by itself what was left on a session that several share, before the next one's statement", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      session.share(true)
      const slow = yield* started(session.query("select pg_sleep(30)"))
      const quick = yield* started(session.query("select 1 as one"))
      yield* Fiber.interrupt(quick)
      assert.isUndefined(slow.pollUnsafe(), "somebody still waits for it")
      yield* Fiber.interrupt(slow)
      const [result, millis] = yield* timed(session.query("select 2 as two"))
      assert.deepStrictEqual(result.rows, [{ two: 2 }])
      assert.isBelow(millis, 2000)
      yield* expectEventually(
        Effect.sync(() => session.clean),
        (clean) => clean
      )
    })
  )
})
