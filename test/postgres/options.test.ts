/** Options of a role that only a server can show. */
import { assert } from "@effect/vitest"
import { Database, type DatabaseOptions, Report } from "@sluice/sdk"
import type * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { layerDatabase, postgres, TestDatabase } from "../support/postgres.ts"
import { keepSpans } from "../support/spans.ts"

class Db extends Database.Service<Db>()("db", { roles: ["primary"] }) {}
const role = Db.role("primary")

const roleWith = (options: DatabaseOptions.Options) =>
  Layer.unwrap(
    Effect.map(TestDatabase, ({ url }) =>
      Db.layerRole("primary", { url: Redacted.make(url), maxConnections: 1, ...options })
    )
  )

const limits = Report.make("limits", {
  database: role,
  params: {},
  row: { statement: Schema.String },
  query: (sql) => sql`select current_setting('statement_timeout') as statement`,
  deadline: "5 seconds"
})

const settings = Effect.flatMap(
  role,
  ({ sql }) =>
    sql<Record<string, string>>`select current_setting('statement_timeout') as statement,
      current_setting('idle_in_transaction_session_timeout') as idle`
)

postgres(layerDatabase)("options of a role", (it) => {
  it.effect("the server's own timeouts hold where the role asks for them, also after a report's", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      yield* database.script([
        `alter database ${database.name} set statement_timeout = '54321ms'`,
        `alter database ${database.name} set idle_in_transaction_session_timeout = '43210ms'`
      ])
      const both = Effect.gen(function* () {
        const [before] = yield* settings
        const [during] = yield* limits.run({})
        const [after] = yield* settings
        assert.notInclude(["54321ms", "1min"], during!.statement)
        assert.deepStrictEqual(after, before)
        return before
      })
      assert.deepStrictEqual(yield* Effect.provide(both, roleWith({})), { statement: "1min", idle: "1min" })
      const server = roleWith({ statementTimeout: "server", idleInTransactionTimeout: "server" })
      assert.deepStrictEqual(yield* Effect.provide(both, server), { statement: "54321ms", idle: "43210ms" })
    })
  )

  it.effect("notices are told, and who throws at one breaks nothing", () =>
    Effect.gen(function* () {
      const told: Array<DatabaseOptions.Notice> = []
      const onNotice = (notice: DatabaseOptions.Notice) => {
        told.push(notice)
        throw new Error("of the program's own")
      }
      const raise = Effect.flatMap(role, ({ sql }) =>
        Effect.andThen(sql.unsafe("do $$ begin raise warning 'look'; end $$"), sql`select 1 as n`)
      )
      assert.deepStrictEqual(yield* Effect.provide(raise, roleWith({ onNotice })), [{ n: 1 }])
      assert.deepStrictEqual(told, [{ severity: "WARNING", sqlState: "01000", message: "look" }])
    })
  )

  it.effect("names are transformed both ways for sql, attributes are in its spans, and a type has its codec", () =>
    Effect.gen(function* () {
      const database = yield* TestDatabase
      yield* database.script([
        "create type mood as enum ('fine', 'bad')",
        "create table t (car_mood mood, map_x jsonb)"
      ])
      const [row] = yield* database.query(
        "select oid::int8, typarray::int8 as array from pg_type where typname = 'mood'"
      )
      const { spans, tracer } = keepSpans()
      const codec: PgTypes.Codec<{ readonly mood: string }> = {
        encode: ({ mood }) => Result.succeed(Buffer.from(mood)),
        decode: (bytes) => Result.succeed({ mood: Buffer.from(bytes).toString() })
      }
      const layer = roleWith({
        types: [{ oid: Number(row!["oid"]), arrayOid: Number(row!["array"]), codec }],
        transformQueryNames: (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
        transformResultNames: (name) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
        spanAttributes: { "fleet.name": "north" }
      })
      const program = Effect.gen(function* () {
        const { sql } = yield* role
        yield* sql`insert into t (${sql("carMood")}, ${sql("mapX")}) values ('fine', '{"in_side": 1}')`
        return yield* sql`select ${sql("carMood")}, array[car_mood] as all_moods, ${sql("mapX")} from t`
      })
      const rows = yield* program.pipe(Effect.provide(layer), Effect.withTracer(tracer))
      assert.deepStrictEqual(rows as ReadonlyArray<unknown>, [
        { carMood: { mood: "fine" }, allMoods: [{ mood: "fine" }], mapX: { inSide: 1 } }
      ])
      const own = spans.filter(({ attributes }) => attributes.get("fleet.name") === "north")
      assert.lengthOf(own, 2)
    })
  )
})
