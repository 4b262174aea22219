/** What the next borrower of a session finds: the option `reset`. */
import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import type { Database } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { optionsAt, role, Target } from "../attack/support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const functions = [
  "create role tenant",
  "create function become(name text) returns text language sql as $$ select set_config('app.tenant', name, false) $$",
  "create function switch() returns text language sql as $$ select set_config('role', 'tenant', false) $$",
  "create function claim() returns void language sql as $$ select pg_advisory_lock(7) $$",
  "create function stage() returns void language plpgsql as $$ begin create temp table staged as select 1; end $$",
  "create function lead() returns text language sql as $$ select set_config('search_path', 'pg_catalog', false) $$",
  "create function zone() returns text language sql as $$ select set_config('TimeZone', 'Asia/Tokyo', false) $$"
]

const calls = ["become('a')", "switch()", "claim()", "stage()", "lead()", "zone()"]

const state = `select
  coalesce(current_setting('app.tenant', true), '') as tenant, current_user::text as role, current_setting('search_path') as path,
  current_setting('TimeZone') as zone, (select count(*)::int from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks,
  (select count(*)::int from pg_class where relpersistence = 't') as temporary`

postgres(ownCluster())("a session between two borrowers", (it) => {
  it.effect("with reset: always, nothing that a function has set is handed on, and prepared statements go on", () =>
    Effect.gen(function* () {
      const primary = yield* server
      for (const sql of functions) yield* primary.query(sql)
      const { pool, sql } = yield* role(primary, { maxConnections: 1, reset: "always", statementTimeout: "7 seconds" })
      const [before] = yield* sql.unsafe(state)
      const [{ pid }] = (yield* sql`select pg_backend_pid() as pid`) as any
      for (const call of calls) {
        yield* sql.unsafe(`select public.${call}::text`)
        assert.deepStrictEqual((yield* sql.unsafe(state))[0], before, call)
        assert.deepStrictEqual(yield* sql`select current_setting('statement_timeout') as t`, [{ t: "7s" }])
      }
      for (const own of ["set role tenant", "set app.tenant = 'a'", "prepare p as select 1", "listen x"]) {
        yield* sql.unsafe(own)
        assert.deepStrictEqual((yield* sql.unsafe(state))[0], before, own)
      }
      assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, [{ pid }], "the session is the same")
      assert.isAbove((yield* pool.stats).counters.resets, calls.length)
    })
  )

  it.effect(
    "by default, what the server reports of a function's doing is undone, at no cost while nothing is reported",
    () =>
      Effect.gen(function* () {
        const { pool, sql } = yield* role(yield* server, { maxConnections: 1 })
        const [before] = yield* sql.unsafe(state)
        const resets = (yield* pool.stats).counters.resets
        yield* sql`select 1`
        yield* sql`select 1`
        assert.strictEqual((yield* pool.stats).counters.resets, resets)
        yield* sql`select public.zone()`
        assert.deepStrictEqual((yield* sql.unsafe(state))[0], before)
        // What nobody reports is handed on: the option says always for that.
        yield* sql`select public.become('a')`
        assert.strictEqual(((yield* sql.unsafe(state))[0] as any).tenant, "a")
      })
  )

  it.effect("with reset: never, settings stay, and an open transaction does not", () =>
    Effect.gen(function* () {
      const { pool, sql } = yield* role(yield* server, { maxConnections: 1, reset: "never" })
      yield* sql`set app.tenant = 'a'`
      assert.strictEqual(((yield* sql.unsafe(state))[0] as any).tenant, "a")
      yield* sql.unsafe("begin")
      yield* sql`select 1`
      assert.strictEqual((yield* pool.stats).counters.resets, 1)
    })
  )

  it.effect("another encoding is refused before text is damaged, and the pool goes on", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, { maxConnections: 1 })
      const exit = yield* Effect.exit(sql.unsafe("set client_encoding = 'LATIN1'"))
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "client_encoding was set to LATIN1; a session of Sluice reads and writes UTF8 only")
      assert.deepStrictEqual(yield* sql`select ${"ä€"}::text as v`, [{ v: "ä€" }])
    })
  )

  it.effect("always is refused where callers share a session at once", () =>
    Effect.gen(function* () {
      const options: Database.RoleOptions = optionsAt(yield* server, {
        reset: "always",
        lanes: { interactive: { shared: {} } }
      })
      const error = yield* Effect.flip(Layer.build(Target.layer({ main: options })))
      assert.match(error.message, /main.reset|reset/)
      assert.include(error.message, "no shared sessions in lane interactive")
    })
  )
})
