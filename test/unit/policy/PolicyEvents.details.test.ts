/** What is counted of what policies did, and what is remembered of errors: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { lastErrorOf } from "../../../packages/sdk/src/policy/LastError.ts"
import { emit } from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import * as Telemetry from "../../../packages/sdk/src/Telemetry.ts"
import { recorder } from "./support.ts"

describe("an event of a policy", () => {
  const counted = (enabled: boolean) =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      yield* Effect.withFiber((fiber) => Effect.sync(() => emit(fiber, "retry", "trips", "stopped"))).pipe(
        listen,
        Effect.provideService(Telemetry.Enabled, enabled)
      )
      assert.strictEqual(events.length, 1, "who listens is told in any case")
      return (yield* Metric.snapshot).map(({ attributes, id, state }) => [id, attributes, state])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))

  it.effect("is counted by policy, key and event", () =>
    Effect.gen(function* () {
      const attributes = {
        [Telemetry.attributes.policy]: "retry",
        [Telemetry.attributes.key]: "trips",
        [Telemetry.attributes.event]: "stopped"
      }
      assert.deepStrictEqual(yield* counted(true), [
        ["sluice.policy.events", attributes, { count: 1, incremental: true }]
      ])
    })
  )

  it.effect("is not counted where nothing is measured", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* counted(false), [])
    })
  )
})

describe("what is remembered of an error", () => {
  it("is its kind, where it is no object", () => {
    for (const [error, tag] of [
      ["text", "string"],
      [null, "object"],
      [undefined, "undefined"],
      [7, "number"]
    ] as const) {
      assert.deepStrictEqual(lastErrorOf(error), { tag, message: "no description" })
    }
  })

  it("is nothing that is no text", () => {
    assert.deepStrictEqual(lastErrorOf({ _tag: 5, name: 7, message: 9, sqlState: 42_601 }), {
      tag: "Error",
      message: "Error"
    })
    assert.deepStrictEqual(lastErrorOf({ _tag: 5, name: "Own" }), { tag: "Own", message: "Own" })
  })
})
