import { assert } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgMigrator from "@effect/sql-pg/PgMigrator"
import { Database, Report } from "@sluice/sdk"
import { InvalidConfiguration } from "@sluice/sdk/ReportError"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { at, errorOf, failsWith, Fleet, keepsSecret, layerFleet, primary, replica, timed } from "./support.ts"

const numbers = Report.make("numbers", {
  database: replica,
  params: { upTo: Schema.Int },
  row: { n: Schema.Int },
  query: (sql, { upTo }) => sql`select n from generate_series(1, ${upTo}::int) as n`,
  deadline: "10 seconds",
  maxRows: 5
})

class Unit extends Context.Service<Unit, { readonly factor: number }>()("test/postgres/report/Unit") {}

postgres(layerFleet())("a report on a real PostgreSQL", (it) => {
  it.effect("run gives the rows, decoded", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* numbers.run({ upTo: 3 }), [{ n: 1 }, { n: 2 }, { n: 3 }])
      assert.deepStrictEqual(yield* numbers.run({ upTo: 0 }), [])
    })
  )

  it.effect("runWithInfo says which node answered, when, after how many attempts, and whether rows were cut", () =>
    Effect.gen(function* () {
      const { replicaUrl } = yield* TestDatabase
      const before = yield* DateTime.now
      const whole = yield* numbers.runWithInfo({ upTo: 5 })
      assert.deepInclude(whole, {
        source: "live",
        node: new URL(replicaUrl).host,
        attempts: 1,
        ageMillis: 0,
        truncated: false
      })
      assert.lengthOf(whole.rows, 5)
      assert.isAtLeast(DateTime.toEpochMillis(whole.asOf), DateTime.toEpochMillis(before))
      assert.isAtMost(DateTime.toEpochMillis(whole.asOf), DateTime.toEpochMillis(yield* DateTime.now))

      const cut = yield* numbers.runWithInfo({ upTo: 6 })
      assert.isTrue(cut.truncated)
      assert.deepStrictEqual(
        cut.rows.map(({ n }) => n),
        [1, 2, 3, 4, 5],
        "data only: nothing is put in the place of what was cut"
      )
    })
  )

  it.effect("a report that reads cannot write, not even on the primary", () =>
    Effect.gen(function* () {
      yield* (yield* TestDatabase).query("create table if not exists untouched (id int)")
      const sneaky = Report.make("sneaky", {
        database: primary,
        params: {},
        row: { id: Schema.Int },
        query: (sql) => sql`insert into untouched values (1) returning id`,
        deadline: "5 seconds"
      })
      const error = yield* failsWith(sneaky.run({}), "QueryFailed")
      assert.deepInclude(error, { sqlState: "25006", class: "ReadOnly" })
      assert.include(error, {
        problem: 'a report that does not declare writes may not change data (writes: "once" or "idempotent")'
      })
      assert.deepStrictEqual(yield* (yield* TestDatabase).query("select * from untouched"), [])
    })
  )

  it.effect("instants and durations are parameters and fields, exact to the microsecond's millisecond", () =>
    Effect.gen(function* () {
      const shifted = Report.make("shifted", {
        database: replica,
        params: { from: Schema.DateTimeUtc, by: Schema.Duration, note: Schema.NullOr(Schema.String) },
        row: { at: Schema.DateTimeUtcFromDate, seconds: Schema.Finite, note: Schema.NullOr(Schema.String) },
        query: (sql, { by, from, note }) => sql`select ${from}::timestamptz + ${by}::interval as at,
          extract(epoch from ${by}::interval)::float8 as seconds, ${note}::text as note`,
        deadline: "5 seconds"
      })
      const from = DateTime.makeUnsafe("2024-02-29T23:59:59.999Z")
      const [row] = yield* shifted.run({ from, by: Duration.millis(90_061_001), note: null })
      assert.strictEqual(DateTime.formatIso(row!.at), "2024-03-02T01:01:01.000Z")
      assert.strictEqual(row!.seconds, 90_061.001)
      assert.isNull(row!.note)
    })
  )

  it.effect("parameters that do not fit: every field at once, nothing is sent, no value is told", () =>
    Effect.gen(function* () {
      const strict = Report.make("strict", {
        database: replica,
        params: {
          vehicle: Schema.NonEmptyString,
          limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10 })),
          from: Schema.DateTimeUtc
        },
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n`,
        deadline: "5 seconds"
      })
      const { pool } = (yield* replica).nodes[0]!
      const leasesBefore = yield* pool.stats
      const wrong: any = { vehicle: "", limit: 4711, from: "hunter2" }
      const error = yield* failsWith(strict.run(wrong), "InvalidParameters")
      assert.strictEqual(error.report, "strict")
      assert.sameMembers(
        error.issues.map(({ field }) => field),
        ["vehicle", "limit", "from"]
      )
      keepsSecret(error, ["4711", "hunter2"])
      assert.deepStrictEqual(yield* pool.stats, leasesBefore)
      // The stream refuses in the same words, and before it asks for a session.
      const streamed = yield* failsWith(Stream.runCollect(strict.stream(wrong)), "InvalidParameters")
      assert.lengthOf(streamed.issues, 3)
      const none: any = undefined
      assert.strictEqual((yield* failsWith(strict.run(none), "InvalidParameters"))._tag, "InvalidParameters")
    })
  )

  it.effect("a row that does not fit is an error with its row and field, never a short result", () =>
    Effect.gen(function* () {
      const odd = Report.make("odd", {
        database: replica,
        params: {},
        row: { id: Schema.Int, speed: Schema.Finite.check(Schema.isLessThan(300)) },
        query: (sql) => sql`select id, case when id = 2 then 4711.5 else 50 end::float8 as speed
          from generate_series(0, 4) as id`,
        deadline: "5 seconds"
      })
      const error = yield* failsWith(odd.run({}), "RowDecodeError")
      assert.deepInclude(error, { report: "odd", row: 2, field: "speed" })
      keepsSecret(error, ["4711"])
    })
  )

  it.effect("a column that the row declares and the query does not give is an error, and so is a null", () =>
    Effect.gen(function* () {
      const missing = Report.make("missing", {
        database: replica,
        params: {},
        row: { plate: Schema.String },
        query: (sql) => sql`select 'M-XY 1' as license_plate`,
        deadline: "5 seconds"
      })
      assert.deepInclude(yield* failsWith(missing.run({}), "RowDecodeError"), { row: 0, field: "plate" })
      const empty = Report.make("empty", {
        database: replica,
        params: {},
        row: { plate: Schema.String },
        query: (sql) => sql`select null::text as plate`,
        deadline: "5 seconds"
      })
      assert.deepInclude(yield* failsWith(empty.run({}), "RowDecodeError"), { row: 0, field: "plate" })
    })
  )

  it.effect("the server's error keeps its SQLSTATE, and loses SQL text and values", () =>
    Effect.gen(function* () {
      const broken = Report.make("broken", {
        database: replica,
        params: { secret: Schema.String },
        row: { n: Schema.Int },
        query: (sql, { secret }) => sql`select no_such_column as n from generate_series(1, 2) where ${secret} = 'x'`,
        deadline: "5 seconds"
      })
      const error = yield* failsWith(broken.run({ secret: "hunter2" }), "QueryFailed")
      assert.deepInclude(error, { report: "broken", sqlState: "42703", class: "CallerError" })
      assert.strictEqual(error.problem, 'column "no_such_column" does not exist')
      keepsSecret(error, ["hunter2", "generate_series", "select"])

      // A message of the server that quotes the value.
      const cast = Report.make("cast", {
        database: replica,
        params: { secret: Schema.String },
        row: { n: Schema.Int },
        query: (sql, { secret }) => sql`select ${secret}::text::int as n`,
        deadline: "5 seconds"
      })
      const quoted = yield* failsWith(cast.run({ secret: "hunter2" }), "QueryFailed")
      assert.strictEqual(quoted.sqlState, "22P02")
      keepsSecret(quoted, ["hunter2"])
      // What a debugger may see, on demand.
      const original = Report.sqlErrorOf(quoted)
      assert.include(String((original!.reason.cause as Error).message), "hunter2")
      assert.isUndefined(Report.sqlErrorOf(new Error("another")))
      assert.isUndefined(Report.sqlErrorOf(undefined))
    })
  )

  it.effect("errors survive JSON: what the schema encodes is what it decodes", () =>
    Effect.gen(function* () {
      const broken = Report.make("json", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 / 0 as n`,
        deadline: "5 seconds"
      })
      const error = yield* failsWith(broken.run({}), "QueryFailed")
      const schema = [...broken.errors].find(
        (one) => (one as unknown as { readonly name?: string }).name === "QueryFailed"
      )
      const codec = Schema.toCodecJson(schema as Schema.Codec<typeof error>)
      const wire = JSON.stringify(yield* Schema.encodeEffect(codec)(error))
      const back = yield* Schema.decodeUnknownEffect(codec)(JSON.parse(wire))
      assert.strictEqual(back.message, error.message)
      assert.deepInclude(back, { _tag: "QueryFailed", sqlState: "22012" })
    })
  )

  it.effect("a query may use services, which the report then requires", () =>
    Effect.gen(function* () {
      const scaled = Report.make("scaled", {
        database: replica,
        params: { n: Schema.Int },
        row: { n: Schema.Int },
        query: (sql, { n }) => Effect.map(Unit, ({ factor }) => sql`select ${n * factor}::int as n`),
        deadline: "5 seconds"
      })
      assert.deepStrictEqual(yield* Effect.provideService(scaled.run({ n: 7 }), Unit, { factor: 6 }), [{ n: 42 }])
    })
  )

  it.effect("a query that waits for a service is within the deadline, too", () =>
    Effect.gen(function* () {
      const waits = Report.make("waits", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => Effect.andThen(Effect.sleep("20 seconds"), Effect.succeed(sql`select 1 as n`)),
        deadline: "200 millis"
      })
      const [error, millis] = yield* timed(failsWith(waits.run({}), "DeadlineExceeded"))
      assert.deepInclude(error, { key: "waits", deadlineMillis: 200, attempts: 0 })
      assert.isBelow(millis, 5000)
    })
  )

  it.effect("a fallback gives rows in place of what it names, and of nothing else", () =>
    Effect.gen(function* () {
      const declared = {
        database: replica,
        params: { n: Schema.Int },
        row: { n: Schema.Int },
        deadline: "5 seconds",
        fallback: { QueryFailed: () => Effect.succeed([{ n: -1 }]) }
      } as const
      const broken = Report.make("broken", { ...declared, query: (sql) => sql`select nothing` })
      const info = yield* broken.runWithInfo({ n: 1 })
      assert.deepInclude(info, { source: "fallback", attempts: 0, truncated: false, node: undefined })
      assert.deepStrictEqual(info.rows, [{ n: -1 }])
      const odd = Report.make("odd", { ...declared, query: (sql) => sql`select 'x' as n` })
      assert.strictEqual((yield* failsWith(odd.run({ n: 1 }), "RowDecodeError")).field, "n")
      const wrong: any = { n: "one" }
      assert.strictEqual((yield* failsWith(broken.run(wrong), "InvalidParameters")).report, "broken")
    })
  )

  it.effect("a deadline on a slow statement: the caller leaves in time and the server stops, too", () =>
    Effect.gen(function* () {
      const slow = Report.make("slow", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n from pg_sleep(30)`,
        deadline: "400 millis"
      })
      const [error, millis] = yield* timed(errorOf(slow.run({})))
      assert.include(["QueryFailed", "DeadlineExceeded"], error._tag)
      if (error._tag === "QueryFailed") assert.strictEqual(error.class, "StatementTimeout")
      assert.isBelow(millis, 5000)
      assert.deepStrictEqual(yield* numbers.run({ upTo: 1 }), [{ n: 1 }])
    })
  )
})

postgres(layerFleet())("Effect's own clients over a role", (it) => {
  it.effect("SqlClient runs statements, transactions, streams and a migrator, unchanged", () =>
    Effect.gen(function* () {
      const program = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const migrated = yield* PgMigrator.run({
          loader: PgMigrator.fromRecord({
            "0001_trips": Effect.flatMap(SqlClient.SqlClient, (db) => db`create table trips (id int primary key)`)
          })
        })
        assert.lengthOf(migrated, 1)
        yield* sql.withTransaction(Effect.andThen(sql`insert into trips values (1)`, sql`insert into trips values (2)`))
        const failed = yield* Effect.flip(
          sql.withTransaction(Effect.andThen(sql`insert into trips values (3)`, Effect.fail("mine" as const)))
        )
        assert.strictEqual(failed, "mine")
        const streamed = yield* Stream.runCollect(sql`select id from trips order by id`.stream)
        assert.deepStrictEqual([...streamed], [{ id: 1 }, { id: 2 }])
        const pg = yield* PgClient.PgClient
        assert.deepStrictEqual(yield* pg`select ${pg.json({ a: 1 })} as j`, [{ j: { a: 1 } }])
      })
      const { sql } = yield* primary
      yield* Effect.provide(
        program,
        Layer.mergeAll(Fleet.layerSqlClient("primary"), Layer.succeed(PgClient.PgClient, sql), NodeServices.layer)
      )
      const { pool } = (yield* primary).nodes[0]!
      assert.strictEqual((yield* pool.stats).leased, 0)
    })
  )

  it.effect(
    "on the session that a report has just read with, whoever may write can: statements, transactions, reports",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        yield* query("create table written (id int)")
        const declared = {
          database: primary,
          params: {},
          row: { id: Schema.Int },
          query: (sql: SqlClient.SqlClient) => sql`insert into written values (0) returning id`,
          deadline: "5 seconds"
        } as const
        const reads = Report.make("reads", {
          ...declared,
          query: (sql) => sql`select count(*)::int as id from written`
        })
        const sneaky = Report.make("sneaky", declared)
        const writes = Report.make("writes", { ...declared, writes: "once" })
        const refusedAgain = Effect.gen(function* () {
          assert.strictEqual((yield* failsWith(sneaky.run({}), "QueryFailed")).sqlState, "25006")
          yield* reads.run({})
        })
        yield* Effect.gen(function* () {
          const { sql } = yield* primary
          yield* refusedAgain
          yield* sql`insert into written values (1)`
          yield* refusedAgain
          yield* sql.withTransaction(
            Effect.andThen(sql`insert into written values (2)`, sql`insert into written values (3)`)
          )
          yield* refusedAgain
          // A savepoint is the first that the server hears of this transaction.
          yield* sql.withTransaction(sql.withTransaction(sql`insert into written values (4)`))
          yield* refusedAgain
          yield* writes.run({})
          yield* refusedAgain
          const pids =
            yield* sql`select pg_backend_pid() as pid, current_setting('default_transaction_read_only') as guarded`
          assert.deepInclude(pids[0], { guarded: "off" })
        }).pipe(
          Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(url, { maxConnections: 1 }))), { local: true })
        )
        const rows = yield* query("select id from written order by id")
        assert.deepStrictEqual(
          rows.map(({ id }) => id),
          [0, 1, 2, 3, 4]
        )
      })
  )

  it.effect("LISTEN hears what NOTIFY says over the same role", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { sql } = yield* primary
        // Registered when `listen` returns: what is said from here on is heard.
        const heard = yield* sql.listen("changes")
        yield* sql.notify("changes", "one")
        assert.deepInclude(yield* Queue.take(heard), { channel: "changes", payload: "one" })
      })
    )
  )
})

postgres(layerFleet())("a role out of the environment", (it) => {
  it.effect("layerConfig reads a URL or its parts, under a prefix for each role", () =>
    Effect.gen(function* () {
      const { name, replicaUrl, url } = yield* TestDatabase
      const replicaAt = new URL(replicaUrl)
      const environment = ConfigProvider.fromUnknown({
        PRIMARY_DATABASE_URL: url,
        PRIMARY_DB_SSLMODE: "disable",
        REPLICA_DB_HOST: replicaAt.hostname,
        REPLICA_DB_PORT: replicaAt.port,
        REPLICA_DB_NAME: name,
        REPLICA_DB_USER: "postgres",
        REPLICA_DB_SSLMODE: "disable",
        REPLICA_DB_MAX_CONNECTIONS: "3"
      })
      const live = Fleet.layerConfig({
        primary: { prefix: "PRIMARY", dotEnv: false },
        replica: { prefix: "REPLICA", dotEnv: false, minConnections: 1 }
      }).pipe(Layer.provide(ConfigProvider.layer(environment)), Layer.fresh)
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* numbers.runWithInfo({ upTo: 1 })).node, replicaAt.host)
        const { options } = yield* replica
        assert.deepInclude(options, { minConnections: 1, maxConnections: 3 })
      }).pipe(Effect.provide(live, { local: true }))
    })
  )

  it.effect(
    "what is wrong in the environment is told at once, by the names of the variables, without the password",
    () =>
      Effect.gen(function* () {
        class Other extends Database.Service<Other>()("other", { roles: ["only"] }) {}
        const environment = ConfigProvider.fromUnknown({
          DB_PORT: "70000",
          DB_MAX_CONNECTIONS: "many",
          DB_CONNECTION_TIMEOUT: "soon",
          DB_PASSWORD: "hunter2"
        })
        const error = yield* Effect.flip(
          Effect.scoped(
            Layer.build(
              Other.layerConfig({ only: { dotEnv: false } }).pipe(Layer.provide(ConfigProvider.layer(environment)))
            )
          )
        )
        assert.instanceOf(error, InvalidConfiguration)
        assert.sameMembers(
          error.issues.map((issue) => issue.name),
          ["DB_PORT", "DB_MAX_CONNECTIONS", "DB_CONNECTION_TIMEOUT"]
        )
        keepsSecret(error, ["hunter2"])
      })
  )

  it.effect("a role that is down when the layer is built: lazy builds, and a call fails typed and in time", () =>
    Effect.gen(function* () {
      const down = Fleet.layerRole("replica", at("postgres://postgres:hunter2@127.0.0.1:1/nowhere"))
      const program = Effect.gen(function* () {
        const late = Report.make("late", {
          database: replica,
          params: {},
          row: { n: Schema.Int },
          query: (sql) => sql`select 1 as n`,
          deadline: "700 millis"
        })
        const [error, millis] = yield* timed(failsWith(late.run({}), "AcquireTimeout"))
        assert.strictEqual(error.reason, "down")
        assert.strictEqual(error.lastError?.tag, "Unreachable")
        assert.isBelow(millis, 5000)
        keepsSecret(error, ["hunter2"])
      })
      yield* Effect.provide(program, Layer.fresh(down), { local: true })
    })
  )

  it.effect("a role that must be there when the layer is built fails the layer, typed and in time", () =>
    Effect.gen(function* () {
      const url = "postgres://postgres:hunter2@127.0.0.1:1/nowhere"
      for (const boot of ["connect-one", "fill"] as const) {
        const down = Fleet.layerRole("replica", at(url, { boot, connectionTimeout: "1 second" }))
        const [error, millis] = yield* timed(Effect.flip(Effect.scoped(Layer.build(Layer.fresh(down)))))
        assert.strictEqual(error._tag, "DatabaseUnavailable", boot)
        if (error._tag === "DatabaseUnavailable") assert.strictEqual(error.reason, "unreachable")
        assert.isBelow(millis, 10_000)
        keepsSecret(error, ["hunter2"])
      }
    })
  )

  it.effect("a database or a password that is wrong is told as such, at once", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const nowhere = new URL(url)
      nowhere.pathname = "/no_such_database"
      const down = Fleet.layerRole("replica", at(nowhere.href))
      const error = yield* Effect.provide(errorOf(numbers.run({ upTo: 1 })), Layer.fresh(down), { local: true })
      assert.strictEqual(error._tag, "DatabaseUnavailable")
      if (error._tag === "DatabaseUnavailable") {
        assert.deepInclude(error, { reason: "configuration" })
        assert.deepInclude(error.lastError, { sqlState: "3D000" })
      }
    })
  )
})
