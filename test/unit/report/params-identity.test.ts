/** Parameters whose schema carries a transformation at its root are encoded. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as ParamsCodec from "../../../packages/sdk/src/report/ParamsCodec.ts"

const Plain = Schema.Struct({ vehicle: Schema.String })

const upper = {
  decode: SchemaGetter.transform(({ vehicle }: { readonly vehicle: string }) => ({ vehicle: vehicle.toLowerCase() })),
  encode: SchemaGetter.transform(({ vehicle }: { readonly vehicle: string }) => ({ vehicle: vehicle.toUpperCase() }))
}

const cases: ReadonlyArray<readonly [string, Schema.Top]> = [
  ["Struct.pipe(decode)", Plain.pipe(Schema.decode(upper)) as never],
  ["Struct.pipe(decodeTo(the same struct))", Plain.pipe(Schema.decodeTo(Plain, upper)) as never],
  ["Struct.pipe(encode)", Plain.pipe(Schema.encode(upper)) as never],
  [
    "a field that is encoded",
    Schema.Struct({
      vehicle: Schema.String.pipe(
        Schema.decode({
          decode: SchemaGetter.transform((s: string) => s.toLowerCase()),
          encode: SchemaGetter.transform((s: string) => s.toUpperCase())
        })
      )
    })
  ]
]

describe("params are encoded by what is declared", () => {
  for (const [name, schema] of cases) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const expected = yield* Schema.encodeUnknownEffect(schema as never)({ vehicle: "abc" })
        const encoded = yield* ParamsCodec.make("r", schema)({ vehicle: "abc" }) as Effect.Effect<unknown>
        assert.deepStrictEqual(encoded, expected)
      })
    )
  }
})
