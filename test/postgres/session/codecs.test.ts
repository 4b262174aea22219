import { assert, layer } from "@effect/vitest"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { factsOf, type Session } from "@sluice/sdk/pool/Session"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { connect, driver } from "./support.ts"

const primary = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const value = (session: Session, expression: string, params: ReadonlyArray<unknown> = []) =>
  Effect.map(session.query(`select ${expression} as v`, params), ({ rows }) => rows[0].v as unknown)

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a session's values", (it) => {
  it.effect("gives the text of types that the driver reads as garbage or dies of", () =>
    Effect.gen(function* () {
      const server = yield* primary
      yield* server.query("create type colour as enum ('red', 'green')")
      yield* server.query("create type pair as (a int, b text)")
      yield* server.query("create domain positive as int check (value > 0)")
      const cases: ReadonlyArray<readonly [expression: string, text: unknown]> = [
        ["'red'::colour", "red"],
        ["array['red','green']::colour[]", ["red", "green"]],
        [
          "array[array['red', null], array['green', 'red']]::colour[]",
          [
            ["red", null],
            ["green", "red"]
          ]
        ],
        ["array[1, 2]::positive[]", ["1", "2"]],
        ["int4range(1, 5)", "[1,5)"],
        ["'{[1,3),[5,7)}'::int4multirange", "{[1,3),[5,7)}"],
        ["row(1, 'x')::pair", "(1,x)"],
        ["row(1, 'x')", "(1,x)"],
        ["'08:00:2b:01:02:03'::macaddr", "08:00:2b:01:02:03"],
        ["'a fat cat'::tsvector", "'a' 'cat' 'fat'"],
        ["'16/B374D848'::pg_lsn", "16/B374D848"],
        ["'12'::xid8", "12"],
        ["point(1, 2)", "(1,2)"],
        ["B'1010'::bit(4)", "1010"],
        ["'<a/>'::xml", "<a/>"],
        ["'a'::\"char\"", "a"],
        ["pg_sleep(0)", ""],
        ["'x'::unknown", "x"],
        ["5::positive", 5]
      ]
      const session = yield* connect(server)
      for (const [expression, text] of cases) {
        for (let round = 0; round < 2; round++)
          assert.deepStrictEqual(yield* value(session, expression), text, expression)
      }
      assert.match(String(yield* value(session, "12.5::money")), /12\.50/)
      assert.isUndefined(session.dead)
      // Beside columns that stay binary, in one row.
      const { rows } = yield* session.query("select 1 as a, int4range(1, 2) as b, 2::int8 as c, null::macaddr as d")
      assert.deepStrictEqual(rows, [{ a: 1, b: "[1,2)", c: 2n, d: null }])

      const bare = yield* driver(server)
      const garbage = yield* bare.query("select int4range(1, 5) as v")
      assert.notStrictEqual(garbage.rows[0]?.["v"], "[1,5)")
      const bareDead = yield* driver(server)
      yield* Effect.flip(bareDead.query("select point(1, 2) as v"))
      yield* Effect.flip(bareDead.query("select 1"))
    })
  )

  it.effect("agrees with the driver on every type that the driver knows", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      const bare = yield* driver(server)
      const expressions = [
        "true",
        "'\\x0102'::bytea",
        "'n'::name",
        "1::int8",
        "1::int2",
        "1::int4",
        "'t'::text",
        "1::oid",
        `'{"a":1}'::json`,
        "'10.0.0.0/8'::cidr",
        "1.5::float4",
        "1.5::float8",
        "'10.0.0.1'::inet",
        "'b'::bpchar(3)",
        "'v'::varchar",
        "'2026-01-02'::date",
        "'12:34:56.789'::time",
        "'2026-01-02 03:04:05'::timestamp",
        "'2026-01-02 03:04:05Z'::timestamptz",
        "'1 mon 2 days 3 us'::interval",
        "'12:34+02'::timetz",
        "'-12.50'::numeric",
        "'NaN'::numeric",
        "'pg_class'::regclass",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
        `'{"a":[1]}'::jsonb`,
        "array[1,2,null]",
        "array['a',null]",
        "'{}'::int[]",
        "array[1.5]::float8[]",
        "array['2026-01-02Z'::timestamptz]"
      ]
      for (const expression of expressions) {
        const expected = (yield* bare.query(`select ${expression} as v`)).rows[0]?.["v"]
        assert.deepStrictEqual(yield* value(session, expression), expected, expression)
      }
    })
  )

  it.effect("tells infinity, arrays of more dimensions, and instants that no Date can hold", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      assert.strictEqual(yield* value(session, "'infinity'::timestamptz"), Number.POSITIVE_INFINITY)
      assert.strictEqual(yield* value(session, "'-infinity'::timestamp"), Number.NEGATIVE_INFINITY)
      assert.deepStrictEqual(yield* value(session, "array[[1,2,3],[4,5,6]]"), [
        [1, 2, 3],
        [4, 5, 6]
      ])
      assert.deepStrictEqual(yield* value(session, "array[[['a'],['b']],[['c'],[null]]]"), [
        [["a"], ["b"]],
        [["c"], [null]]
      ])
      assert.deepStrictEqual(yield* value(session, "'[5:7]={1,2,3}'::int[]"), [1, 2, 3])
      assert.deepStrictEqual(yield* value(session, "array['infinity'::timestamptz]"), [Number.POSITIVE_INFINITY])
      for (const expression of ["'294276-12-31'::timestamptz", "array['294276-12-31'::timestamptz]"]) {
        const error = yield* Effect.flip(value(session, expression))
        assert.match(error.message, /"v".*cast the column to text/)
        assert.isFalse(factsOf(error)?.fatal)
      }
      assert.isUndefined(session.dead)
    })
  )

  it.effect("fails the statement with the value, not the session and not the neighbours on the wire", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      const results = yield* Effect.forEach(
        Array.from({ length: 9 }, (_, n) => n),
        (n) => Effect.result(value(session, n === 4 ? "'294276-12-31'::timestamptz" : `${n}`)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        results.map(({ _tag }) => _tag),
        Array.from({ length: 9 }, (_, n) => (n === 4 ? "Failure" : "Success"))
      )
      assert.isTrue(session.clean)
      yield* session.begin()
      yield* Effect.ignore(value(session, "'294276-12-31'::timestamptz"))
      assert.strictEqual(session.status, "transaction", "the transaction goes on")
      yield* session.rollback
    })
  )

  it.effect("sees that a column's type has changed under a described statement", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const config = { prepare: false } as const
      const session = yield* connect(server, config)
      yield* session.query("create temp table changing (v int)")
      yield* session.query("insert into changing values (1)")
      const all = session.query("select v from changing")
      assert.deepStrictEqual((yield* all).rows, [{ v: 1 }])
      yield* session.query("alter table changing alter column v type int4range using int4range(v, v + 1)")
      const first = yield* Effect.result(all)
      if (first._tag === "Failure") assert.match(first.failure.message, /another type than when/)
      assert.deepStrictEqual((yield* all).rows, [{ v: "[1,2)" }])
    })
  )

  it.effect("sends what has one true answer", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      const type = (expression: string, param: unknown) =>
        Effect.map(
          session.query(`select pg_typeof(${expression})::text as t, ${expression} as v`, [param]),
          ({ rows }) => [rows[0].t, rows[0].v]
        )
      assert.deepStrictEqual(yield* type("$1", [1, 2.5]), ["double precision[]", [1, 2.5]])
      assert.deepStrictEqual(yield* type("$1", [1, 3e9]), ["bigint[]", [1n, 3000000000n]])
      assert.deepStrictEqual(yield* type("$1", [1, 2n]), ["bigint[]", [1n, 2n]])
      assert.deepStrictEqual(yield* type("$1::int[]", [null, null]), ["integer[]", [null, null]])
      assert.deepStrictEqual(yield* type("$1::int[]", []), ["integer[]", []])
      assert.deepStrictEqual(
        yield* type("$1", [
          [1, 2],
          [3, 4]
        ]),
        [
          "integer[]",
          [
            [1, 2],
            [3, 4]
          ]
        ]
      )
      assert.deepStrictEqual(
        yield* type("$1", [
          ['a"b', "c\\d"],
          [null, "NULL"]
        ]),
        [
          "text[]",
          [
            ['a"b', "c\\d"],
            [null, "NULL"]
          ]
        ]
      )
      assert.deepStrictEqual(yield* type("$1", 2n ** 70n), ["numeric", String(2n ** 70n)])
      assert.deepStrictEqual(yield* type("$1", new Uint8Array([1, 2])), ["bytea", new Uint8Array([1, 2])])
      assert.deepStrictEqual(yield* type("$1::bigint", "42"), ["bigint", 42n])
      assert.deepStrictEqual(yield* type("$1", PgTypes.jsonb({ a: 1 })), ["jsonb", { a: 1 }])
      assert.deepStrictEqual(yield* type("$1::text", "Grüße 🎉"), ["text", "Grüße 🎉"])
    })
  )

  it.effect("refuses a parameter that cannot be sent, by its position, and sends nothing", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      const cases: ReadonlyArray<readonly [unknown, RegExp]> = [
        [{ a: 1 }, /\$2: Object/],
        [new Date(Number.NaN), /\$2: an invalid Date/],
        ["half \ud83d", /\$2: .*surrogate/],
        ["nul \0", /\$2: .*NUL/],
        [[1, "x"], /\$2\[2\]/],
        [[1, { a: 1 }], /\$2\[2\]/],
        [Symbol("s"), /\$2: a symbol/],
        [PgTypes.int4(1.5), /\$2: /],
        [[Number.MAX_SAFE_INTEGER, 2n ** 60n, 0.5], /\$2: .*float8/]
      ]
      for (const [param, message] of cases) {
        const error = yield* Effect.flip(session.query("select $1::text, $2::text", ["ok", param]))
        assert.match(error.message, message)
        assert.isFalse(factsOf(error)?.sent)
      }
      yield* Effect.flip(session.query("select 1 \0; drop table x"))
      assert.isTrue(session.clean)
    })
  )
})
