/** What spans and metrics tell of a call, and what they keep to themselves. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { failure, makeRole, refused, replica, rowsAfter, run, value } from "./support.ts"

const declared = {
  database: replica,
  params: { secret: Schema.String },
  row: { n: Schema.Int },
  query: (sql: any, p: { readonly secret: string }) => sql`select n from numbers where word = ${p.secret}`,
  deadline: "5 seconds",
  lane: "interactive"
} as const

const input = { secret: "hunter2" }

/** A tracer that keeps spans in the order of their ends. */
const tracing = () => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      const end = span.end.bind(span)
      span.end = (at, exit) => {
        end(at, exit)
        spans.push(span)
      }
      return span
    }
  })
  return { spans, traced: Effect.withTracer(tracer) }
}

const attributesOf = (span: Tracer.Span | undefined) => Object.fromEntries(span?.attributes ?? [])

describe("the spans of a call", () => {
  it.effect("tell the phases of each attempt, its server and its end; the call its source and its attempts", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(({ number }) =>
        number === 1 ? Effect.andThen(Effect.sleep(7), Effect.fail(refused("40001"))) : rowsAfter(30)
      )
      const { spans, traced } = tracing()
      const report = Report.make("numbers", {
        ...declared,
        retry: { schedule: Schedule.spaced("1 second"), jitter: "none" }
      })
      value(yield* run(provide(report.run(input)).pipe(traced)))
      assert.deepStrictEqual(
        spans.map(({ name }) => name),
        ["attempt numbers", "attempt numbers", "report numbers"]
      )
      const [first, second, call] = spans
      const common = { "sluice.report": "numbers", "sluice.lane": "interactive" }
      const attempt = { ...common, "sluice.source": "live", "server.address": "127.0.0.1:5432" }
      assert.deepStrictEqual(attributesOf(first), {
        ...attempt,
        "sluice.attempt": 1,
        "sluice.acquire_millis": 0,
        "sluice.statement_millis": 7,
        "sluice.outcome": "QueryFailed",
        "db.response.status_code": "40001"
      })
      assert.deepStrictEqual(attributesOf(second), {
        ...attempt,
        "sluice.attempt": 2,
        "sluice.acquire_millis": 0,
        "sluice.statement_millis": 30,
        "sluice.decode_millis": 0,
        "sluice.outcome": "ok"
      })
      assert.deepStrictEqual(attributesOf(call), {
        ...common,
        "sluice.source": "live",
        "sluice.attempts": 2,
        "sluice.outcome": "ok"
      })
      assert.strictEqual(first!.parent.valueOrUndefined?.spanId, call!.spanId)
    })
  )

  it.effect("tell the wait for a session, and that it was in vain", () =>
    Effect.gen(function* () {
      const { provide, role } = yield* makeRole(() => rowsAfter(1), { max: 1 })
      const hold = role.nodes[0]!.pool.use({ lane: "batch", name: "holder" }, () => Effect.never)
      yield* Effect.forkChild(hold, { startImmediately: true })
      const { spans, traced } = tracing()
      failure(yield* run(provide(Report.make("numbers", declared).run(input)).pipe(traced)), "AcquireTimeout")
      assert.deepInclude(attributesOf(spans[0]), {
        "sluice.acquire_millis": 4975,
        "sluice.outcome": "AcquireTimeout"
      })
      assert.deepInclude(attributesOf(spans[1]), { "sluice.attempts": 0, "sluice.outcome": "AcquireTimeout" })
    })
  )

  it.effect("end without rows, and without what the server or the caller said", () =>
    Effect.gen(function* () {
      // The error's message says hunter2, and so does the row.
      const { provide } = yield* makeRole(({ number }) =>
        number === 1 ? Effect.fail(refused("22P02")) : rowsAfter(1, [{ n: 1, word: "hunter2" }])
      )
      const { spans, traced } = tracing()
      const report = Report.make("numbers", declared)
      failure(yield* run(provide(report.run(input)).pipe(traced)), "QueryFailed")
      value(yield* run(provide(report.run(input)).pipe(traced)))
      assert.strictEqual(spans.length, 4)
      for (const { attributes, status } of spans) {
        assert(status._tag === "Ended")
        assert.notInclude(inspect([attributes, status], { depth: 20, showHidden: true, getters: true }), "hunter2")
        if (Exit.isFailure(status.exit)) assert.notInclude(Cause.pretty(status.exit.cause), "hunter2")
      }
    })
  )
})

describe("the metrics of a call", () => {
  it.effect("count the statements that were sent for it, also when it failed", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.fail(refused("40001")))
      const report = Report.make("counted", {
        ...declared,
        retry: { schedule: Schedule.spaced("1 second"), jitter: "none", retries: 2 }
      })
      failure(yield* run(provide(report.run(input))), "QueryFailed")
      const all = yield* Metric.snapshot
      const attempts = all.find(
        ({ attributes, id }) => id === "sluice.report.attempts" && attributes?.["sluice.report"] === "counted"
      )
      assert.deepInclude(attempts?.state, { count: 1, sum: 3 })
    })
  )
})
