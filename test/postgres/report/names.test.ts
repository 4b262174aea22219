/** What an error of the server names, and that no value is ever told with it. */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { knownCodes } from "../../unit/policy/sqlstates.ts"
import { failsWith, Fleet, keepsSecret, layerFleet } from "./support.ts"

const marker = "hunter2marker"

const setup = Layer.effectDiscard(
  Effect.flatMap(TestDatabase, ({ query }) =>
    Effect.forEach(
      [
        "create table orders (id int primary key, name text not null, price int check (price > 0), kind text unique)",
        "create table lines (id int, order_id int references orders (id))",
        "create table secured (id int)",
        `do $$ begin create role names_reader; exception when duplicate_object then null; end $$`,
        "create function peek() returns int language sql security definer as $$ select id from secured $$",
        "alter function peek() owner to names_reader",
        "create type mood as enum ('glad')",
        "create domain short as text check (length(value) < 5)",
        "insert into orders values (1, 'a', 1, 'one')",
        `create function raising(code text, value text) returns int language plpgsql as $$ begin
           raise exception '%', value using errcode = code, detail = value, hint = value, schema = value, table = value,
             column = value, constraint = value, datatype = value; end $$`,
        `create function running(value text) returns int language plpgsql as $$ declare found int; begin
           execute format('select %I from orders', value) into found; return found; end $$`
      ],
      (sql) => query(sql)
    )
  )
)

const declared = (sql: string, values: ReadonlyArray<unknown> = []) =>
  ({
    database: Fleet.role("primary"),
    params: {},
    row: { n: Schema.Unknown },
    query: (q: SqlClient.SqlClient) => q.unsafe<object>(sql, values),
    deadline: "5 seconds"
  }) as const

/** A report of one statement that nobody checks. */
const asked = (sql: string, values?: ReadonlyArray<unknown>) =>
  Report.make("asked", { ...declared(sql, values), writes: "once" })

const failed = (sql: string, values?: ReadonlyArray<unknown>) => failsWith(asked(sql, values).run({}), "QueryFailed")

postgres(Layer.provideMerge(setup, layerFleet()))("a failed statement", (it) => {
  it.effect("names what is missing, in the server's words, and the line", () =>
    Effect.gen(function* () {
      for (const [sql, problem, line] of [
        ["select 1 as n\nfrom ordrs", 'relation "ordrs" does not exist', 2],
        ["select nam as n from orders", 'column "nam" does not exist', 1],
        ["select\n\n  o.nam as n from orders o", "column o.nam does not exist", 3],
        ["select nosuch(1) as n", "function nosuch(integer) does not exist", 1],
        ["select 'é' as e,\n nosuch(1) as n", "function nosuch(integer) does not exist", 2],
        ["select 1::nosuch as n", 'type "nosuch" does not exist', 1],
        ["select id = name as n from orders", "operator does not exist: integer = text", 1],
        ["select id as n from orders, lines", 'column reference "id" is ambiguous', 1],
        ["insert into orders (nosuch) values (1)", 'column "nosuch" of relation "orders" does not exist', 1]
      ] as const) {
        const error = yield* failed(sql)
        assert.strictEqual(error.problem, problem)
        assert.strictEqual(error.line, line, sql)
        assert.strictEqual(error.class, "CallerError")
        assert.strictEqual(
          error.message,
          `asked: ${problem}, at line ${line} of its statement (SQLSTATE ${error.sqlState}, CallerError)`
        )
      }
    })
  )

  it.effect("names the constraint that is violated, its table and its column", () =>
    Effect.gen(function* () {
      for (const [sql, problem, names] of [
        [
          "insert into orders values ($1, 'b', 1, 'two')",
          "unique constraint orders_pkey of orders is violated",
          { schema: "public", table: "orders", constraint: "orders_pkey" }
        ],
        [
          "insert into orders (id) values ($1 + 5)",
          "column name of orders may not be null",
          { table: "orders", column: "name" }
        ],
        [
          "insert into orders values ($1 + 5, 'b', 0, 'two')",
          "check orders_price_check of orders is violated",
          { constraint: "orders_price_check" }
        ],
        [
          "insert into lines values (1, $1 + 40)",
          "foreign key lines_order_id_fkey of lines is violated",
          { constraint: "lines_order_id_fkey" }
        ]
      ] as const) {
        const error = yield* failed(sql, [1])
        assert.strictEqual(error.problem, problem)
        assert.deepInclude(error.names, names)
      }
    })
  )

  it.effect("names what a role may not touch", () =>
    Effect.gen(function* () {
      const error = yield* failed("select peek() as n")
      assert.deepInclude(error, {
        sqlState: "42501",
        class: "Permission",
        problem: "permission denied for table secured"
      })
    })
  )

  it.effect("says at level Debug where, with the line of the statement; nothing of it at the usual level", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const error = yield* Effect.provide(failed("select 1 as n\n  from ordrs o"), logger)
      assert.deepStrictEqual(lines, [])
      const expected = ["line 2:   from ordrs o", "               ^"].join("\n")
      assert.strictEqual(Report.excerptOf(error), expected)
      yield* Effect.provide(failed("select 1 as n\n  from ordrs o"), logger).pipe(
        Effect.provideService(References.MinimumLogLevel, "Debug")
      )
      assert.deepStrictEqual(
        lines.filter((line) => line.includes("ordrs")),
        [`${error.message}\n${expected}`]
      )
      yield* Effect.provide(
        failsWith(
          Stream.runDrain(Report.make("asked", declared("select 1 as n from ordrs")).stream({})),
          "QueryFailed"
        ),
        logger
      ).pipe(Effect.provideService(References.MinimumLogLevel, "Debug"))
      assert.include(lines.at(-1), "line 1: select 1 as n from ordrs")
    })
  )

  it.effect("tells no value: of a parameter, of a row, of what a function raises, whatever its code", () =>
    Effect.gen(function* () {
      const provoked: ReadonlyArray<readonly [sql: string, values?: ReadonlyArray<unknown>]> = [
        ["select $1::text::int as n", [marker]],
        ["select $1::text::uuid as n", [marker]],
        ["select $1::text::timestamptz as n", [marker]],
        ["select $1::text::jsonb as n", [marker]],
        ["select $1::text::mood as n", [marker]],
        ["select $1::text::short as n", [marker]],
        ["select $1::text::regclass as n", [marker]],
        ["select $1::text::regtype as n", [marker]],
        ["select $1::text::regrole as n", [marker]],
        ["select $1::text::int[] as n", [marker]],
        [`select '${marker}'::regclass as n`],
        [`select E'${marker}'::regtype as n`],
        [`select $$${marker}$$::regproc as n`],
        [`select $tag$${marker}$tag$::int as n`],
        [`select '${marker}'::int as n`],
        [`select 1 '${marker}'`],
        [`select '${marker}`],
        [`select 1 ${marker} ${marker}`],
        ["select nextval($1::text::regclass) as n", [marker]],
        ["select set_config($1, 'x', false) as n", [marker]],
        ["select current_setting($1) as n", [marker]],
        ["select has_table_privilege($1::text, 'select') as n", [marker]],
        ["select pg_get_serial_sequence($1, 'id') as n", [marker]],
        ["select to_date($1, 'YYYY-MM-DD') as n", [marker]],
        ["select regexp_match('a', $1 || '(') as n", [marker]],
        ["select decode($1, 'hex') as n", [marker]],
        ["select decode('aa', $1) as n", [marker]],
        ["select convert_to('a', $1) as n", [marker]],
        ["select xmlparse(document $1::text) as n", [marker]],
        ["select jsonb_path_query('{}', $1::text::jsonpath) as n", [marker]],
        ["select date_trunc($1, now()) as n", [marker]],
        ["select extract(year from $1::text::interval) as n", [marker]],
        ["insert into orders values (7, $1, 0, 'two') returning id as n", [marker]],
        ["insert into orders (id, kind) values (7, $1) returning id as n", [marker]],
        [`insert into orders values (8, 'b', 1, '${marker}'), (9, 'b', 1, '${marker}')`],
        ["select running($1) as n", [marker]],
        ["select dblink($1) as n", [marker]]
      ]
      const codes = new Set<string | undefined>()
      for (const [sql, values] of provoked) {
        const error = yield* failed(sql, values)
        codes.add(error.sqlState)
        keepsSecret(error, [marker])
      }
      assert.isAbove(codes.size, 12)
      for (const code of knownCodes) {
        if (code === "00000") continue
        const error = yield* Effect.flip(asked("select raising($1, $2) as n", [code, marker]).run({}))
        assert.strictEqual(error._tag === "QueryFailed" ? error.sqlState : code, code)
        keepsSecret(error, [marker])
        assert.isFalse("names" in error, code)
      }
    })
  )
})
