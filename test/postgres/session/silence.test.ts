/** A server that is slow, a process that was busy, and a server that is really silent: only the last one is told as silence. */
import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { factsOf } from "@sluice/sdk/pool/Session"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { connect } from "./support.ts"

const primary = Effect.map(PgCluster.PgCluster, (cluster) => cluster.primary)

const beBusy = (millis: number) =>
  Effect.sync(() => {
    const end = performance.now() + millis
    while (performance.now() < end);
  })

/** Lets what was begun reach the server. */
const aMoment = Effect.sleep("30 millis")

postgres(ownCluster())("a server's silence", (it) => {
  it.effect("a COMMIT may take as long as its deferred triggers, whatever limit the last statement had", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server, { statementTimeout: "60 seconds" })
      yield* session.query("create table slow (id int)")
      yield* session.query(
        "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(6); return null; end $$"
      )
      yield* session.query(
        "create constraint trigger slow after insert on slow initially deferred for each row execute function slow()"
      )
      yield* session.begin()
      yield* session.query("insert into slow values (1)", [], { timeout: 1000 })
      yield* session.commit
      assert.deepStrictEqual((yield* session.query("select count(*)::int as n from slow")).rows, [{ n: 1 }])
    })
  )

  it.effect(
    "time in which the process was busy is not the server's: validation, control, drain, connect, shared sessions",
    () =>
      Effect.gen(function* () {
        const server = yield* primary
        const config = {
          validationTimeout: "200 millis",
          commitTimeout: "300 millis",
          drainTimeout: "300 millis"
        } as const
        const session = yield* connect(server, config)
        const validated = yield* Effect.forkChild(session.validate, { startImmediately: true })
        yield* beBusy(900)
        yield* Fiber.join(validated)

        yield* session.query("create temp table kept (id int)")
        yield* session.begin()
        yield* session.query("insert into kept values (1)")
        const committed = yield* Effect.forkChild(session.commit, { startImmediately: true })
        yield* beBusy(900)
        yield* Fiber.join(committed)

        const left = yield* Effect.forkChild(session.query("select pg_sleep(20)"), { startImmediately: true })
        yield* aMoment
        yield* Fiber.interrupt(left)
        const drained = yield* Effect.forkChild(session.drain, { startImmediately: true })
        yield* beBusy(900)
        assert.isTrue(yield* Fiber.join(drained))

        const connecting = yield* Effect.forkChild(connect(server, { connectTimeout: "300 millis" }), {
          startImmediately: true
        })
        yield* beBusy(900)
        yield* Fiber.join(connecting)

        session.share(true, 200)
        const asked = yield* Effect.forkChild(session.query("select 1 as one"), { startImmediately: true })
        yield* beBusy(900)
        assert.deepStrictEqual((yield* Fiber.join(asked)).rows, [{ one: 1 }])
        session.share(false)
        assert.isUndefined(session.dead)
      })
  )

  it.effect("a server that is frozen is found out all the same", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const validating = yield* connect(server, { validationTimeout: "200 millis" })
      const committing = yield* connect(server, { commitTimeout: "300 millis" })
      const watched = yield* connect(server)
      watched.share(true, 200)
      yield* committing.begin()
      yield* committing.query("select 1")
      yield* server.freeze
      const silent = yield* Effect.all(
        [Effect.flip(validating.validate), Effect.flip(committing.commit), Effect.flip(watched.query("select 1"))],
        { concurrency: "unbounded" }
      ).pipe(Effect.ensuring(server.thaw))
      assert.deepStrictEqual(
        silent.map((error) => factsOf(error)?.bound),
        ["validate", "control", "silence"]
      )
    })
  )
})
