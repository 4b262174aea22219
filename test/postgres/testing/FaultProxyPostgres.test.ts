import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert } from "@effect/vitest"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { expectEventually } from "../../support/expectEventually.ts"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"

const through = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const proxy = yield* FaultProxy.make({ target: { host: new URL(url).hostname, port: Number(new URL(url).port) } })
  const connection = yield* PgConnection.make({ url: Redacted.make(proxy.url(url)) })
  yield* proxy.resetCounters
  return { proxy, connection }
})

postgres(layerDatabase)("a session through a FaultProxy", (it) => {
  it.effect("a warm statement costs one round trip, and latency makes it that much longer", () =>
    Effect.gen(function* () {
      const { proxy, connection } = yield* through
      yield* connection.query("select $1::int as n", [1])
      yield* proxy.resetCounters
      yield* proxy.latency({ millis: 40 })
      const started = performance.now()
      yield* connection.query("select $1::int as n", [2])
      assert.isAtLeast(performance.now() - started, 79)
      assert.strictEqual((yield* proxy.counters).roundTrips, 1)
    })
  )

  it.effect("a COMMIT whose answer is lost was applied all the same", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      yield* database.script(["create table lost (id int)"])
      const { proxy, connection } = yield* through
      const session = yield* connection.pin
      yield* session.query("begin")
      yield* session.query("insert into lost values (1)")
      yield* proxy.stall({ direction: "server->client" })
      const commit = yield* Effect.forkChild(Effect.exit(session.query("commit")), { startImmediately: true })
      yield* expectEventually(database.query("select id from lost"), (rows) => rows.length === 1)
      assert.isUndefined(commit.pollUnsafe())
      yield* proxy.reset
      const exit = yield* expectEventually(
        Effect.sync(() => commit.pollUnsafe()),
        (exit) => exit !== undefined
      )
      assert.strictEqual(exit?._tag === "Success" ? exit.value._tag : undefined, "Failure")
    })
  )
})
