/** Series of servers that are gone go with them, and options of a snapshot are checked. */
import { assert, describe, it } from "@effect/vitest"
import * as Telemetry from "@sluice/sdk/Telemetry"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

describe("the metrics of a server that is gone", () => {
  it.effect("end with it, and begin anew when it comes back", () =>
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      const update = (node: string, value: number) =>
        Telemetry.gauge("sluice.node.up", { [Telemetry.attributes.node]: node }).updateUnsafe(value, context)
      const series = Effect.map(Metric.snapshot, (all) =>
        all
          .map(({ attributes, id }) => `${id} ${String((attributes as Record<string, string>)["server.address"])}`)
          .toSorted()
      )
      update("a:5432", 1)
      update("b:5432", 1)
      Telemetry.forget(context, Telemetry.attributes.node, "a:5432")
      assert.deepStrictEqual(yield* series, ["sluice.node.up b:5432"])
      update("a:5432", 1)
      assert.deepStrictEqual(yield* series, ["sluice.node.up a:5432", "sluice.node.up b:5432"])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
