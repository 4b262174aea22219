/** A call's deadline holds wherever the call is, although no fiber watches it. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import { sessionBy } from "../../../packages/sdk/src/report/Bound.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import { failure, makeRole, refused, replica, rowsAfter, run } from "./support.ts"

const declared = {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`select n from numbers`,
  deadline: "1 second"
} as const

const never = Schema.Int.pipe(
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transformEffect(() => Effect.never),
    encode: SchemaGetter.transform((n: number) => n)
  })
)

const stuck: ReadonlyArray<readonly [where: string, report: any, script: Parameters<typeof makeRole>[0]]> = [
  ["the server's answer", Report.make("answer", declared), () => Effect.never],
  ["a query that is an effect", Report.make("query", { ...declared, query: () => Effect.never }), () => rowsAfter(1)],
  ["a row's own decoding", Report.make("row", { ...declared, row: { n: never } }), () => rowsAfter(1)],
  [
    "a retry's schedule",
    Report.make("schedule", { ...declared, retry: Schedule.tap(Schedule.spaced(1), () => Effect.never) as never }),
    () => Effect.fail(refused("40001"))
  ],
  [
    "a breaker's schedule",
    Report.make("breaker", {
      ...declared,
      breaker: { consecutiveFailures: 1, openFor: Schedule.tap(Schedule.spaced(1), () => Effect.never) as never }
    }),
    () => Effect.fail(refused("57P01", "FATAL"))
  ],
  [
    "a bulkhead's queue",
    Report.make("queue", { ...declared, bulkhead: { permits: 1, queue: 10 } }),
    () => Effect.never
  ],
  [
    "an attempt that its timeout does not end",
    Report.make("attempt", { ...declared, attemptTimeout: 990 }),
    () => Effect.never
  ]
]

describe("the deadline of a read", () => {
  for (const [where, report, script] of stuck) {
    it.effect(`is kept in ${where}`, () =>
      Effect.gen(function* () {
        const { provide, role } = yield* makeRole(script)
        const [first, second] = yield* Effect.all([run(provide(report.run({}))), run(provide(report.run({})))], {
          concurrency: 2
        })
        for (const outcome of [first, second]) {
          if (where === "a breaker's schedule" && outcome.millis === 0) continue
          // What the circuit was opened by is known, and told, when the deadline comes.
          failure(outcome as any, where === "a breaker's schedule" ? "DatabaseUnavailable" : "DeadlineExceeded")
          assert.isAtMost(outcome.millis, 1000)
        }
        for (const { pool } of role.nodes) {
          const stats = yield* pool.stats
          assert.deepInclude(stats, { leased: 0, waiting: 0 })
        }
      })
    )
  }

  it.effect("is kept in a fault that was injected", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => rowsAfter(1))
      const hangs = FaultInjection.layer([{ rate: 1, hang: true }])
      const outcome = yield* run(provide(Report.make("fault", declared).run({})).pipe(Effect.provide(hangs)))
      failure(outcome, "DeadlineExceeded")
      assert.strictEqual(outcome.millis, 1000)
    })
  )

  it.effect("is kept by who begins to wait for a session in the very moment in which it comes", () =>
    Effect.gen(function* () {
      const { carried } = Deadline.make({ key: "k", duration: 100 })
      const asked = carried(Effect.withFiber((fiber) => Effect.map(Effect.sleep(100), sessionBy(fiber, undefined))))
      const waiting = yield* Effect.forkChild(asked, { startImmediately: true })
      yield* TestClock.adjust(100)
      const by = yield* Fiber.join(waiting)
      assert.isAtMost(by, yield* Clock.currentTimeMillis)
    })
  )
})
