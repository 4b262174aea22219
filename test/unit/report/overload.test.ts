/** What a report does and tells when there is too much to do. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { begin, failure, makeRole, refused, replica, rowsAfter, run } from "./support.ts"

const declared = {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`select n from numbers`,
  deadline: "10 seconds"
} as const

describe("an overloaded report", () => {
  it.effect("an adaptive bulkhead lets fewer in while the server says that it is too slow, and more again later", () =>
    Effect.gen(function* () {
      let slow = true
      const { executions, provide } = yield* makeRole(
        () => (slow ? Effect.andThen(Effect.sleep(100), Effect.fail(refused("57014"))) : rowsAfter(10)),
        { max: 20 }
      )
      const report = Report.make("adapts", {
        ...declared,
        bulkhead: { permits: 16, queue: 0, adaptive: "aimd" }
      })
      /** How many of twenty callers at once reach the server. */
      const admitted = Effect.gen(function* () {
        const before = executions.length
        const callers = yield* Effect.forEach(Array.from({ length: 20 }), () => begin(provide(report.run({}))))
        yield* TestClock.adjust(100)
        yield* Effect.forEach(callers, Fiber.join)
        return executions.length - before
      })
      assert.strictEqual(yield* admitted, 16)
      for (let round = 0; round < 5; round++) yield* admitted
      assert.isAtMost(yield* admitted, 2)
      slow = false
      for (let round = 0; round < 200; round++) yield* admitted
      assert.strictEqual(yield* admitted, 16)
    })
  )

  it.effect("gradient is to be had as well, and what it is called stands in the explanation", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => rowsAfter(1))
      const adaptive = { algorithm: "gradient", minimum: 2 } as const
      const report = Report.make("gradient", { ...declared, bulkhead: { permits: 4, adaptive } })
      assert.isTrue(Exit.isSuccess((yield* run(provide(report.run({})))).exit))
      assert.include(Report.explainText(report), "up to 4, found by gradient")
      assert.throws(
        () => Report.make("wrong", { ...declared, bulkhead: { permits: 4, adaptive: "magic" as never } }),
        /bulkhead.adaptive must be one of aimd, gradient/
      )
    })
  )

  it.effect("who finds the queue full is told when those ahead will have been served", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => rowsAfter(100))
      const report = Report.make("narrow", { ...declared, bulkhead: { permits: 1, queue: 3 } })
      const callers = yield* Effect.forEach([1, 2, 3, 4], () => begin(provide(report.run({}))))
      const early = failure(yield* run(provide(report.run({})), 0), "Overloaded")
      assert.isUndefined(early.retryAfterMillis)
      yield* TestClock.adjust(200)
      const more = yield* Effect.forEach([1, 2], () => begin(provide(report.run({}))))
      assert.strictEqual(failure(yield* run(provide(report.run({})), 0), "Overloaded").retryAfterMillis, 400)
      yield* TestClock.adjust(1000)
      yield* Effect.forEach([...callers, ...more], Fiber.join)
    })
  )

  it.effect("what policies did is counted, by policy, key and event", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(({ number }) =>
        number === 1 ? Effect.fail(refused("40001")) : number === 2 ? rowsAfter(0) : Effect.never
      )
      const registry = new Map()
      const report = Report.make("counted", { ...declared, retry: {}, bulkhead: { permits: 1, queue: 0 } })
      const call = Effect.provideService(provide(report.run({})), Metric.MetricRegistry, registry)
      yield* run(call)
      const holder = yield* begin(call)
      yield* run(call, 0)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(holder)
      const counted = (yield* Effect.provideService(Metric.snapshot, Metric.MetricRegistry, registry))
        .filter(({ id }) => id === "sluice.policy.events")
        .map(({ attributes, state }) => [
          attributes?.["sluice.policy"],
          attributes?.["sluice.key"],
          attributes?.["sluice.event"],
          (state as { readonly count: number }).count
        ])
        .sort()
      assert.deepStrictEqual(counted, [
        ["bulkhead", "fleet/replica/report", "refused", 1],
        ["deadline", "counted", "exceeded", 1],
        ["retry", "counted", "retry", 1]
      ])
    })
  )
})
