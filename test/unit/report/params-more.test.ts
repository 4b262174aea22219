/** Every kind of parameter schema gives what the long way gives. */
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaParser from "effect/SchemaParser"
import * as ParamsCodec from "../../../packages/sdk/src/report/ParamsCodec.ts"

class Point extends Schema.Class<Point>("Point")({ x: Schema.Finite, y: Schema.Finite }) {}

const cases: Record<string, readonly [any, ReadonlyArray<unknown>]> = {
  plain: [Schema.Struct({ a: Schema.String }), [{ a: "x" }, { a: 1 }, { a: "x", extra: 1 }, {}, null]],
  constructorDefault: [
    Schema.Struct({ a: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("d"))) }),
    [{}, { a: "x" }, { a: undefined }, { extra: 1 }]
  ],
  slowDefault: [
    Schema.Struct({ a: Schema.String.pipe(Schema.withConstructorDefault(Effect.as(Effect.yieldNow, "d"))) }),
    [{}, { a: "x" }]
  ],
  optionalKey: [Schema.Struct({ a: Schema.optionalKey(Schema.String) }), [{}, { a: "x" }, { a: undefined }]],
  optional: [Schema.Struct({ a: Schema.optional(Schema.String) }), [{}, { a: "x" }, { a: undefined }]],
  fieldCheck: [Schema.Struct({ a: Schema.Finite.check(Schema.isGreaterThan(0)) }), [{ a: 1 }, { a: -1 }, { a: NaN }]],
  rootCheck: [
    Schema.Struct({ a: Schema.Finite, b: Schema.Finite }).check(Schema.makeFilter((p: any) => p.a < p.b)),
    [
      { a: 1, b: 2 },
      { a: 2, b: 1 }
    ]
  ],
  klass: [Point, [{ x: 1, y: 2 }, new Point({ x: 1, y: 2 }), { x: "1", y: 2 }]],
  klassField: [Schema.Struct({ p: Point }), [{ p: new Point({ x: 1, y: 2 }) }, { p: { x: 1, y: 2 } }]],
  option: [Schema.Struct({ a: Schema.Option(Schema.FiniteFromString) }), [{ a: Option.some(1) }, { a: Option.none() }]],
  optionFromNull: [
    Schema.Struct({ a: Schema.OptionFromNullOr(Schema.String) }),
    [{ a: Option.some("x") }, { a: Option.none() }]
  ],
  record: [Schema.Struct({ a: Schema.Record(Schema.String, Schema.Finite) }), [{ a: { q: 1 } }, { a: { q: "1" } }]],
  array: [Schema.Struct({ a: Schema.Array(Schema.Finite) }), [{ a: [1, 2] }, { a: ["1"] }]],
  arrayFrom: [Schema.Struct({ a: Schema.Array(Schema.FiniteFromString) }), [{ a: [1, 2] }]],
  union: [Schema.Struct({ a: Schema.Union([Schema.String, Schema.FiniteFromString]) }), [{ a: 1 }, { a: "x" }]],
  branded: [Schema.Struct({ a: Schema.String.pipe(Schema.brand("A")) }), [{ a: "x" }, { a: 1 }]],
  date: [
    Schema.Struct({ a: Schema.DateTimeUtc, b: Schema.Duration, c: Schema.Date }),
    [{ a: DateTime.makeUnsafe(0), b: "1 second", c: new Date(0) }]
  ],
  dateString: [Schema.Struct({ a: Schema.DateTimeUtcFromString }), [{ a: DateTime.makeUnsafe(0) }]],
  bytes: [Schema.Struct({ a: Schema.Uint8Array }), [{ a: new Uint8Array(2) }]],
  redacted: [Schema.Struct({ a: Schema.Redacted(Schema.String) }), [{ a: "x" }]],
  nullOr: [Schema.Struct({ a: Schema.NullOr(Schema.FiniteFromString) }), [{ a: null }, { a: 2 }]],
  literal: [Schema.Struct({ a: Schema.Literals(["x", "y"]) }), [{ a: "x" }, { a: "z" }]],
  nested: [
    Schema.Struct({ a: Schema.Struct({ b: Schema.Struct({ c: Schema.String }) }) }),
    [{ a: { b: { c: "x", e: 1 } } }]
  ],
  decodingDefault: [
    Schema.Struct({ a: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("d"))) }),
    [{ a: "x" }, {}]
  ],
  rootArray: [Schema.Array(Schema.String), [["x"], [1]]],
  keys: [Schema.Struct({ a: Schema.String }).pipe(Schema.encodeKeys({ a: "b" })), [{ a: "x" }]]
}

describe("params: the short cut gives what the long way gives", () => {
  for (const [name, [schema, inputs]] of Object.entries(cases)) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const quick = SchemaAST.toEncoded(schema.ast) === SchemaAST.toType(schema.ast)
        const all = { errors: "all" } as const
        for (const input of inputs) {
          const long = yield* Effect.exit(
            Effect.flatMap(SchemaParser.makeEffect(schema)(input as never, { parseOptions: all }), (value) =>
              SchemaParser.encodeUnknownEffect(schema)(value, all)
            ) as Effect.Effect<unknown, unknown>
          )
          const short = yield* Effect.exit(ParamsCodec.make("r", schema)(input) as Effect.Effect<unknown, unknown>)
          assert.strictEqual(short._tag, long._tag, `${name} ${quick} ${String(long)}`)
          if (Exit.isSuccess(long) && Exit.isSuccess(short)) assert.deepStrictEqual(short.value, long.value)
        }
      })
    )
  }
})
