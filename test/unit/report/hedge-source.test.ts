/** The source that a span tells is that of the answer. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { makeRole, replica, rowsAfter, run, value } from "./support.ts"
import { keepSpans } from "../../support/spans.ts"

// Takes as many milliseconds to decode as it says.
const slow = Schema.Int.pipe(
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transformEffect((n: number) => Effect.as(Effect.sleep(n), n)),
    encode: SchemaGetter.transform((n: number) => n)
  })
)

describe("the source of a call's answer", () => {
  it.effect("is told by its span as by its result, also when the hedge's rows came and were too late", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(
        ({ number }) => (number === 1 ? rowsAfter(20, [{ n: 50 }]) : rowsAfter(20, [{ n: 500 }])),
        { nodes: 2 }
      )
      const { spans, tracer } = keepSpans()
      const report = Report.make("numbers", {
        database: replica,
        params: {},
        row: { n: slow },
        query: (sql) => sql`select n from numbers`,
        deadline: "5 seconds",
        hedge: { after: 10, budget: { ratio: 1, minimum: 10 } }
      })
      const result = value(yield* run(provide(report.runWithInfo({})).pipe(Effect.withTracer(tracer))))
      const call = spans.find(({ name }) => name === "report numbers")
      assert.strictEqual(result.source, "live")
      assert.strictEqual(call?.attributes.get("sluice.source"), result.source)
    })
  )
})
