import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role, timed } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)
const one = { maxConnections: 1 }

postgres(ownCluster())("nothing of one borrower reaches the next", (it) => {
  for (const [name, leave, ask, clean] of [
    [
      "a temporary table made from a query",
      "create temp table left_1 as select 1 as a",
      "select to_regclass('pg_temp.left_1')::text as v",
      null
    ],
    [
      "a temporary table, spelled otherwise",
      "create /* temp */ local temporary table left_2 as select 1 as a",
      "select to_regclass('left_2')::text as v",
      null
    ],
    [
      "a temporary table by its schema",
      "create table pg_temp.left_3 as select 1 as a",
      "select to_regclass('pg_temp.left_3')::text as v",
      null
    ],
    ["a temporary view", "create temp view left_4 as select 1 as a", "select to_regclass('left_4')::text as v", null],
    ["a setting", "set work_mem = '7MB'", "select current_setting('work_mem') as v", "4MB"],
    [
      "a setting by function",
      "select set_config('work_mem', '7MB', false)",
      "select current_setting('work_mem') as v",
      "4MB"
    ],
    ["a setting by a procedure", "call leaves_setting()", "select current_setting('work_mem') as v", "4MB"],
    ["a setting by DO", "do $$ begin set work_mem = '7MB'; end $$", "select current_setting('work_mem') as v", "4MB"],
    ["a role", "set role pg_monitor", "select current_user::text as v", "postgres"],
    ["a session authorization", "set session authorization other", "select session_user::text as v", "postgres"],
    ["a search path", "set search_path = pg_catalog", "select current_setting('search_path') as v", '"$user", public'],
    [
      "read only",
      "set default_transaction_read_only = on",
      "select current_setting('transaction_read_only') as v",
      "off"
    ],
    [
      "read only for the session",
      "set session characteristics as transaction read only",
      "select current_setting('transaction_read_only') as v",
      "off"
    ],
    ["a statement timeout", "set statement_timeout = 77", "select current_setting('statement_timeout') as v", "1min"],
    ["a raw BEGIN READ ONLY", "begin read only", "select current_setting('transaction_read_only') as v", "off"],
    [
      "an advisory lock",
      "select pg_advisory_lock(77)",
      "select count(*)::text as v from pg_locks where locktype = 'advisory'",
      "0"
    ],
    [
      "a prepared statement",
      "prepare left_5 as select 1",
      "select count(*)::text as v from pg_prepared_statements where name = 'left_5'",
      "0"
    ],
    [
      "a cursor",
      "declare left_6 cursor with hold for select 1",
      "select count(*)::text as v from pg_cursors where name = 'left_6'",
      "0"
    ],
    ["a LISTEN", "listen left_7", "select count(*)::text as v from pg_listening_channels()", "0"],
    [
      "a replication role",
      "set session_replication_role = replica",
      "select current_setting('session_replication_role') as v",
      "origin"
    ]
  ] as const) {
    it.effect(`${name}`, () =>
      Effect.gen(function* () {
        const postgres = yield* server
        yield* postgres.query(
          "create or replace procedure leaves_setting() language plpgsql as $$ begin perform set_config('work_mem', '7MB', false); end $$"
        )
        yield* Effect.ignore(postgres.query("create role other superuser"))
        const { sql } = yield* role(postgres, one)
        for (let round = 0; round < 2; round++) {
          yield* sql.unsafe(leave)
          assert.deepStrictEqual(yield* sql.unsafe(ask), [{ v: clean }])
        }
        yield* Effect.scoped(Effect.flatMap(sql.reserve, (own) => own.execute(leave, [], undefined)))
        assert.deepStrictEqual(yield* sql.unsafe(ask), [{ v: clean }])
        yield* sql.withTransaction(sql.unsafe(leave)).pipe(Effect.ignore)
        assert.deepStrictEqual(yield* sql.unsafe(ask), [{ v: clean }])
      })
    )
  }

  it.effect("neither a report's timeout nor its guard against writes", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const { context, sql } = yield* role(postgres, one)
      yield* sql`create table if not exists guarded (id int)`
      const brief = Report.make("brief", {
        database: main,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n`,
        deadline: "5 seconds",
        attemptTimeout: "300 millis"
      })
      const slow = Report.make("slow", {
        database: main,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n, pg_sleep(30)::text`,
        deadline: "5 seconds",
        attemptTimeout: "300 millis"
      })
      const run = Effect.provide(brief.run({}), context)
      const write = Report.make("write", {
        database: main,
        params: {},
        row: { id: Schema.Int },
        query: (sql) => sql`insert into guarded values (1) returning id`,
        deadline: "5 seconds",
        writes: "once"
      })
      for (let round = 0; round < 3; round++) {
        yield* run
        yield* sql`select pg_sleep(0.6)`
        yield* Effect.ignore(Effect.provide(slow.run({}), context))
        yield* sql`insert into guarded values (1)`
        yield* run
        yield* Effect.provide(write.run({}), context)
        yield* run
        yield* sql.withTransaction(Effect.andThen(sql`insert into guarded values (1)`, sql`select pg_sleep(0.5)`))
        yield* run
        yield* sql.withTransaction(sql.withTransaction(sql`insert into guarded values (1)`))
        yield* run
        yield* Effect.scoped(
          Effect.flatMap(sql.reserve, (own) => own.execute("insert into guarded values (1)", [], undefined))
        )
        yield* run
        assert.lengthOf([...(yield* Stream.runCollect(sql`insert into guarded values (1) returning id`.stream))], 1)
        const cut = yield* Effect.exit(Effect.provide(slow.run({}), context).pipe(Effect.timeout("20 millis")))
        assert.strictEqual(cut._tag, "Failure")
        yield* sql`insert into guarded values (1)`
      }
      assert.deepStrictEqual(yield* sql`select count(*)::int as n from guarded`, [{ n: 21 }])
    })
  )
})

postgres(ownCluster())("statements over a changing schema", (it) => {
  it.effect("a column is added: sessions that prepared the statement, and sessions that did not, go on", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const { pool, sql } = yield* role(postgres, one)
      yield* sql`create type mood as enum ('good', 'bad')`
      yield* sql`create table shape (id int, mood mood)`
      yield* sql`insert into shape values (1, 'good')`
      const ask = sql`select * from shape`
      yield* ask
      assert.deepStrictEqual(yield* ask, [{ id: 1, mood: "good" }])
      yield* sql`alter table shape add column extra int default 7`
      yield* pool.evictAll
      assert.deepStrictEqual(yield* ask, [{ id: 1, mood: "good", extra: 7 }])
      assert.deepStrictEqual(yield* ask, [{ id: 1, mood: "good", extra: 7 }])
      yield* sql`alter table shape drop column mood`
      assert.deepStrictEqual(yield* ask, [{ id: 1, extra: 7 }])
      yield* sql`alter table shape add column mood mood default 'bad'`
      yield* pool.evictAll
      // As many columns, of other types: it has run when that is seen, so it is not run again behind the caller's back.
      const told = yield* Effect.flip(ask)
      assert.include(told.message, "another type than when the statement was described")
      assert.deepStrictEqual(yield* ask, [{ id: 1, extra: 7, mood: "bad" }])
      yield* sql`alter table shape alter column id type text`
      assert.deepStrictEqual(yield* ask, [{ id: "1", extra: 7, mood: "bad" }])
    })
  )

  it.effect("the same text with parameters of other types", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, one)
      for (let round = 0; round < 3; round++) {
        for (const [value, type] of [
          [1, "integer"],
          [2 ** 40, "bigint"],
          [1.5, "double precision"],
          [true, "boolean"],
          [new Date(0), "timestamp with time zone"],
          [10n ** 30n, "numeric"],
          [[1], "integer[]"],
          [[1.5], "double precision[]"],
          [["a"], "text[]"]
        ] as const) {
          assert.deepStrictEqual(yield* sql`select pg_typeof(${value}) ::text as t`, [{ t: type }])
        }
      }
    })
  )

  it.effect("an unreadable row of a write says that the write was done", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, one)
      yield* sql`create table odd (id int, at timestamp)`
      const error = yield* Effect.flip(sql`insert into odd values (1, '290000-01-01') returning at`)
      assert.deepStrictEqual(yield* sql`select count(*)::int as n from odd`, [{ n: 1 }])
      const failure = PgFailure.fromSqlError(error as never)
      assert.strictEqual(failure.outcome, "applied")
    })
  )

  it.effect("a COMMIT behind a comment is a COMMIT: its lost answer is in doubt", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const proxy = yield* FaultProxy.make({ target: postgres })
      const { sql } = yield* role(proxy, one)
      yield* sql`create table doubt (id int)`
      for (const commit of [
        "commit",
        "/* done */ commit",
        "-- done\ncommit",
        ";commit",
        "END",
        "/* a /* b */ c */end"
      ]) {
        const error = yield* Effect.flip(
          Effect.scoped(
            Effect.gen(function* () {
              const own = yield* sql.reserve
              // Warm: the first time only asks for the columns, and a lost answer to that is no doubt.
              yield* own.execute("begin", [], undefined)
              yield* own.execute(commit, [], undefined)
              yield* own.execute("begin", [], undefined)
              yield* own.execute("insert into doubt values (1)", [], undefined)
              yield* proxy.stall({ direction: "server->client" })
              yield* Effect.forkChild(Effect.andThen(Effect.sleep("200 millis"), proxy.reset))
              return yield* own.execute(commit, [], undefined)
            })
          )
        )
        yield* proxy.heal
        const failure = PgFailure.fromSqlError(error as never)
        assert.strictEqual(failure.outcome, "unknown", commit)
        assert.isFalse(error.isRetryable, commit)
      }
    })
  )

  it.effect("a statement that was left inside a transaction or a reservation does not hold up the next", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, one)
      const [, millis] = yield* timed(
        Effect.scoped(
          Effect.gen(function* () {
            const own = yield* sql.reserve
            yield* Effect.timeoutOption(own.execute("select pg_sleep(8)", [], undefined), "100 millis")
            return yield* own.execute("select 1", [], undefined)
          })
        )
      )
      assert.isBelow(millis, 3000)
      const [, inside] = yield* timed(
        sql
          .withTransaction(
            Effect.andThen(Effect.timeoutOption(sql`select pg_sleep(8)`, "100 millis"), Effect.exit(sql`select 1`))
          )
          .pipe(Effect.exit)
      )
      assert.isBelow(inside, 3000)
    })
  )
})
