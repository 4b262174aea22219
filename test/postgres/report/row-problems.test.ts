/** What a row that does not fit its declaration tells: what came, what was declared, and what to write. */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { postgres } from "../../support/postgres.ts"
import { failsWith, Fleet, keepsSecret, layerFleet } from "./support.ts"

const asked = <Row extends Schema.Struct.Fields>(row: Row, sql: string) =>
  Report.make("asked", {
    database: Fleet.role("primary"),
    params: {},
    row,
    query: (q) => q.unsafe<object>(sql) as never,
    deadline: "5 seconds"
  })

/** Each type of the README's table, with a schema that cannot take it. */
const wrong: ReadonlyArray<readonly [value: string, field: Schema.Top, problem: string]> = [
  [
    "7::int8",
    Schema.Finite,
    "int8 gives a bigint, and number was declared; cast to ::int4 or ::float8, or declare Schema.BigInt"
  ],
  [
    "count(*)",
    Schema.Int,
    "int8 gives a bigint, and number was declared; cast to ::int4 or ::float8, or declare Schema.BigInt"
  ],
  ["7::int8", Schema.String, "int8 gives a bigint, and string was declared; cast to ::text, or declare Schema.BigInt"],
  [
    "7.5::numeric",
    Schema.Finite,
    "numeric gives a string, and number was declared; cast to ::float8, or declare Schema.FiniteFromString or Schema.BigDecimalFromString"
  ],
  [
    "7::int4",
    Schema.BigInt,
    "int4 gives a number, and bigint was declared; cast to ::int8, or declare Schema.Int or Schema.Finite"
  ],
  [
    "7::float8",
    Schema.String,
    "float8 gives a number, and string was declared; cast to ::text, or declare Schema.Int or Schema.Finite"
  ],
  ["7.5::float8", Schema.Int, "float8 gives a number, and an integer was declared: this value does not fit"],
  [
    "now()",
    Schema.String,
    "timestamptz gives a Date, and string was declared; declare Schema.Date or Schema.DateTimeUtcFromDate, or cast to ::text"
  ],
  [
    "now()",
    Schema.Finite,
    "timestamptz gives a Date, and number was declared; declare Schema.Date, or write extract(epoch from ...)"
  ],
  [
    "'2026-03-02'::date",
    Schema.Date,
    "date gives a string, and a valid Date was declared; cast to ::timestamptz, or declare Schema.String"
  ],
  ["true", Schema.Int, "bool gives a boolean, and number was declared; declare Schema.Boolean"],
  ["1", Schema.Boolean, "int4 gives a number, and boolean was declared; write a comparison, or declare Schema.Int"],
  [
    "'\\x00'::bytea",
    Schema.String,
    "bytea gives a Uint8Array, and string was declared; declare Schema.Uint8Array, or write encode(..., 'hex')"
  ],
  [
    `'{"a": 1}'::jsonb`,
    Schema.String,
    "jsonb gives an object, and string was declared; cast to ::text, or declare a Schema.Struct"
  ],
  [`'{"a": 1}'::jsonb`, Schema.Struct({ a: Schema.String }), "jsonb came, and string was declared for this part of it"],
  ["array[1, 2]", Schema.Int, "int4[] gives an array, and number was declared; declare Schema.Array, or unnest it"],
  [
    "1",
    Schema.Array(Schema.Int),
    "int4 gives a number, and array was declared; write array_agg, or declare a single value"
  ],
  ["null::int4", Schema.Int, "NULL came, and number was declared; declare Schema.NullOr, or write coalesce"],
  [
    "'x'::text",
    Schema.Literals(["a", "b"]),
    `text gives a string, and "a" | "b" was declared: this value does not fit`
  ],
  [
    "'x'::text",
    Schema.Finite,
    "text gives a string, and number was declared; cast to ::int4 or ::float8, or declare Schema.FiniteFromString"
  ],
  [
    "'12:00'::time",
    Schema.String,
    "time gives a bigint, and string was declared; cast to ::text, or declare Schema.BigInt"
  ],
  [
    "'1 day'::interval",
    Schema.String,
    "interval gives an object, and string was declared; cast to ::text, or declare a Schema.Struct"
  ]
]

postgres(layerFleet())("a row that does not fit", (it) => {
  it.effect("tells for each type what it gives, what was declared and what to write", () =>
    Effect.gen(function* () {
      for (const [value, field, problem] of wrong) {
        const error = yield* failsWith(
          asked({ n: field as Schema.Int }, `select ${value} as n`).run({}),
          "RowDecodeError"
        )
        assert.strictEqual(error.problem, problem, value)
      }
    })
  )

  it.effect("tells all of its fields that do not fit, and the nearest column of one that does not come", () =>
    Effect.gen(function* () {
      const error = yield* failsWith(
        asked(
          { plate: Schema.String, speed: Schema.Finite, seen: Schema.Date, fine: Schema.Int },
          "select 'hunter2marker' as plat, 7::int8 as speed, null::timestamptz as seen, 1 as fine"
        ).run({}),
        "RowDecodeError"
      )
      assert.deepStrictEqual([error.field, ...error.more!.map(({ field }) => field)], ["plate", "speed", "seen"])
      assert.strictEqual(
        error.message,
        `asked: row 0, field plate: the statement returns no such column; did you mean "plat"?; ` +
          "field speed: int8 gives a bigint, and number was declared; cast to ::int4 or ::float8, or declare Schema.BigInt; " +
          "field seen: NULL came, and a valid Date was declared; declare Schema.NullOr, or write coalesce"
      )
      keepsSecret(error, ["hunter2marker"])
      const none = yield* failsWith(asked({ plate: Schema.String }, "select 1 as n, 2 as m").run({}), "RowDecodeError")
      assert.strictEqual(none.problem, 'the statement returns no such column; it returns "n", "m"')
    })
  )

  it.effect("of a stream tells the types that may have given it", () =>
    Effect.gen(function* () {
      const { field, problem, row } = yield* failsWith(
        Stream.runDrain(asked({ n: Schema.Finite }, "select 1::int8 as n").stream({})),
        "RowDecodeError"
      )
      assert.deepStrictEqual(
        [row, field, problem],
        [
          0,
          "n",
          "a bigint came (int8 or time), and number was declared; cast to ::int4 or ::float8, or declare Schema.BigInt"
        ]
      )
    })
  )
})
