/** Values are the same under every setting of a server that changes how it prints or reads them. */
import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role } from "../attack/support.ts"
import { connect } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const settings = [
  "TimeZone = 'America/New_York'",
  "TimeZone = 'Asia/Kathmandu'",
  "DateStyle = 'SQL, DMY'",
  "DateStyle = 'German'",
  "DateStyle = 'Postgres, MDY'",
  "IntervalStyle = 'sql_standard'",
  "IntervalStyle = 'iso_8601'",
  "bytea_output = 'escape'",
  "extra_float_digits = 0",
  "standard_conforming_strings = off",
  "client_encoding = 'LATIN1'"
]

/** Of each type that is read in binary. Those in text print as the server's settings say, as psql does. */
const literals = [
  "true",
  "1::int2",
  "(-2147483648)::int4",
  "9007199254740993::int8",
  "0.1::float4",
  "0.30000000000000004::float8",
  "1e308::float8",
  "1234567890.12345678901234567890::numeric",
  "'Infinity'::numeric",
  "'\u00e4 \u20ac '' \\ \" \u{1f600}'::text",
  "'\\\\x00ff5c27'::text::bytea",
  "timestamptz '2024-07-15 12:34:56.789+00'",
  "timestamp '2024-03-10 02:30:00'",
  "timestamp '1066-10-14 00:00:00'",
  "date '2024-02-29'",
  "date '0044-03-15 BC'",
  "time '23:59:59.999999'",
  "interval '1 year -2 days 03:04:05.678'",
  '\'{"a": [1, "x\\\\y"]}\'::json',
  "'{\"a\": 0.1}'::jsonb",
  "array[timestamp '2024-07-15 12:00:00', null]",
  "array[[1, 2], [3, 4]]",
  "'00000000-0000-0000-0000-00000000002a'::uuid"
]

const parameters: ReadonlyArray<readonly [cast: string, value: unknown]> = [
  ["timestamptz", new Date("2024-07-15T12:34:56.789Z")],
  ["timestamp", new Date("2024-03-10T02:30:00.001Z")],
  ["timestamp", new Date("1066-10-14T23:59:59Z")],
  ["timestamp", new Date("0001-01-01T00:00:00Z")],
  ["timestamp[]", [new Date("2024-07-15T23:30:00Z"), null]],
  ["float8", 0.30000000000000004],
  ["float8[]", [0.1, 1e308, -0.1]],
  ["int8", 9007199254740993n],
  ["text", "\u00e4 \u20ac ' \\ \" \u{1f600} \\x41"],
  ["text[]", ["a\\b", "c'd", 'e"f', "NULL", "{}"]],
  ["bytea", Uint8Array.from([0, 255, 92, 39])],
  ["jsonb", '{"a": "x\\\\y"}']
]

postgres(ownCluster())("values under the settings of a server", (it) => {
  it.effect("read and written, they are the same", () =>
    Effect.gen(function* () {
      const primary = yield* server
      yield* primary.query("create role odd login")
      const usual = yield* connect(primary)
      const sql = `select ${literals.map((literal, index) => `${literal} as v${index}`).join(", ")}`
      const there = `select ${parameters.map(([cast], index) => `$${index + 1}::${cast} as v${index}`).join(", ")}`
      const values = parameters.map(([, value]) => value)
      const [read] = (yield* usual.query(sql)).rows
      const [back] = (yield* usual.query(there, values)).rows
      for (const [index, [cast, value]] of parameters.entries()) {
        if (cast !== "jsonb") assert.deepStrictEqual(back[`v${index}`], value, cast)
      }
      for (const setting of settings) {
        yield* primary.query("alter role odd reset all")
        yield* primary.query(`alter role odd set ${setting}`)
        const odd = yield* connect(primary, { username: "odd" })
        // Written for the usual strings: the literals themselves are read another way without them.
        if (!setting.startsWith("standard")) assert.deepStrictEqual((yield* odd.query(sql)).rows[0], read, setting)
        assert.deepStrictEqual((yield* odd.query(there, values)).rows[0], back, setting)
      }
      yield* primary.query("alter role odd reset all")
    })
  )

  it.effect("a number keeps its digits in a numeric, and a Date its instant in a timestamp and a date", () =>
    Effect.gen(function* () {
      const primary = yield* server
      yield* primary.query("alter role postgres set TimeZone = 'America/New_York'")
      const { sql } = yield* role(primary)
      yield* sql`create table kept (n numeric, ns numeric[], at timestamp, day date)`
      const at = new Date("2024-07-15T00:30:00.123Z")
      for (const n of [1560704964.331047, 0.1 + 0.2, 2 ** 53 + 2, 2 ** 70, 1e-7, 5, -0.5]) {
        yield* sql`insert into kept values (${n}, ${[n]}, ${at}, ${at})`
        const [row] = (yield* sql`delete from kept returning *`) as any
        assert.strictEqual(Number(row.n), n)
        assert.strictEqual(Number(row.ns[0]), n)
        assert.deepStrictEqual(row.at, at)
        assert.strictEqual(row.day, "2024-07-15")
        yield* sql`delete from kept`
        // In a transaction as outside of one, and where it is the first thing that is asked.
        const [inside] = (yield* sql.withTransaction(
          sql.unsafe(
            `insert into kept values ($1, null, $2, null) returning n, at, ${Math.abs(Math.trunc(n * 7))} as x`,
            [n, at]
          )
        )) as any
        assert.strictEqual(Number(inside.n), n)
        assert.deepStrictEqual(inside.at, at)
        yield* sql`delete from kept`
      }
      yield* primary.query("alter role postgres reset all")
    })
  )

  it.effect("a report's number has the type of its field, whatever its value", () =>
    Effect.gen(function* () {
      const primary = yield* server
      const { context, sql } = yield* role(primary)
      yield* sql`create table if not exists typed as select n::int4 as small, n::int8 as big, n::float8 as real, n::numeric as exact from generate_series(1, 20000) n`
      yield* sql`create index if not exists typed_small on typed (small)`
      yield* sql`create index if not exists typed_big on typed (big)`
      yield* sql`analyze typed`
      const Types = Report.make("types", {
        database: main,
        params: {
          real: Schema.NullOr(Schema.Finite),
          whole: Schema.NullOr(Schema.Int),
          reals: Schema.Array(Schema.Finite)
        },
        row: { real: Schema.String, whole: Schema.String, reals: Schema.String, half: Schema.NullOr(Schema.Finite) },
        query: (sql, p) =>
          sql`select pg_typeof(${p.real})::text as real, pg_typeof(${p.whole})::text as whole, pg_typeof(${p.reals})::text as reals, ${p.real} / 2 as half`,
        deadline: "5 seconds"
      })
      for (const [real, whole, reals] of [
        [12.5, 1, [0.5]],
        [12, 2_147_483_647, [1, 2]],
        [3_000_000_000, 0, []],
        [null, null, [1]]
      ] as const) {
        const [row] = yield* Effect.provide(Types.run({ real, whole, reals }), context)
        assert.deepStrictEqual(
          row,
          {
            real: "double precision",
            whole: "integer",
            reals: "double precision[]",
            half: real === null ? null : real / 2
          },
          JSON.stringify([real, whole])
        )
      }
      const big = yield* Effect.flip(Effect.provide(Types.run({ real: 1, whole: 3_000_000_000, reals: [] }), context))
      assert.include(big.message, "does not fit int4, which the statement asks for; write ::int8 behind it")
      // Where the statement asks for more it gets more, and its index is used.
      const by = (column: "big" | "exact" | "real" | "small") =>
        Report.make(`by-${column}`, {
          database: main,
          params: { whole: Schema.Int },
          row: { "QUERY PLAN": Schema.String },
          query: (sql, p) => sql`explain select * from typed where ${sql(column)} = ${p.whole}`,
          deadline: "5 seconds"
        })
      for (const column of ["small", "big"] as const) {
        const plan = yield* Effect.provide(by(column).run({ whole: 7 }), context)
        assert.include(JSON.stringify(plan), "Index Cond", column)
      }
      for (const column of ["big", "exact", "real"] as const) {
        yield* Effect.provide(by(column).run({ whole: 3_000_000_000 }), context)
      }
      const moment = Report.make("moment", {
        database: main,
        params: { millis: Schema.Int },
        row: { at: Schema.Date },
        query: (sql, p) => sql`select to_timestamp(${p.millis}::int8 / 1000.0) as at`,
        deadline: "5 seconds"
      })
      const [told] = yield* Effect.provide(moment.run({ millis: 1_721_000_000_000 }), context)
      assert.strictEqual(told!.at.getTime(), 1_721_000_000_000)
    })
  )

  it.effect("a small value keeps no big buffer, and a long json text no stack", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* server)
      const { rows } = yield* session.query(
        "select decode(repeat('ab', 32), 'hex') as v, repeat('x', 20000) as pad from generate_series(1, 300)"
      )
      const kept = new Set(rows.map((row) => row.v.buffer as ArrayBuffer))
      assert.isAtMost(
        [...kept].reduce((sum, { byteLength }) => sum + byteLength, 0),
        300 * 64
      )
      const long = yield* session.query(
        "select json_build_object('text', repeat('y\\\"', 4000000), 'n', 12345678901234567) ->> 'n' as n"
      )
      assert.strictEqual(long.rows[0].n, "12345678901234567")
      const read = yield* session.query(
        "select json_build_object('text', repeat('y', 8000000), 'n', 1234567890123456) as v"
      )
      assert.strictEqual(read.rows[0].v.n, 1234567890123456)
    })
  )

  it.effect("arrays of users' types are arrays, there and back", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* server)
      yield* session.query("create type mood as enum ('sad', 'ok')")
      yield* session.query("create table moods (m mood[], u uuid[], d date[])")
      const id = "00000000-0000-0000-0000-00000000002a"
      const { rows } = yield* session.query("insert into moods values ($1, $2, $3) returning *", [
        ["sad", "ok"],
        [id],
        ["2024-02-29"]
      ])
      assert.deepStrictEqual(rows, [{ m: ["sad", "ok"], u: [id], d: ["2024-02-29"] }])
      const found = yield* session.query("select 1 as n from moods where m[1] = any($1)", [["sad"]])
      assert.deepStrictEqual(found.rows, [{ n: 1 }])
      const sparse: Array<number> = [1]
      sparse[2] = 3
      const error = yield* Effect.flip(session.query("select $1::int[] as v", [sparse]))
      assert.include(error.message, "Parameter $1[2]: is missing")
    })
  )
})
