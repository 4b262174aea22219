import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import * as PolicyEvents from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { postgres } from "../../support/postgres.ts"
import { errorOf, layerFleet, replica } from "./support.ts"
import { keepSpans } from "../../support/spans.ts"

const secret = "hunter2"

const report = Report.make("measured", {
  database: replica,
  params: { code: Schema.String, secret: Schema.String },
  row: { n: Schema.Int },
  query: (sql, { code, secret }) => sql`select case when ${code}::text = '' then 1 else ${secret}::text::int end as n`,
  deadline: "5 seconds",
  lane: "interactive"
})

const ok = report.run({ code: "", secret })
const failing = report.run({ code: "x", secret })

/** Runs with a tracer that keeps what it is given. */
const traced = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { spans, tracer } = keepSpans()
    const exit = yield* Effect.exit(Effect.withTracer(effect, tracer))
    return { exit, spans }
  })

const parentOf = (span: Tracer.NativeSpan): string | undefined =>
  Option.getOrUndefined(Option.map(span.parent, ({ spanId }) => spanId))

postgres(layerFleet())("telemetry of a report", (it) => {
  it.effect("a span for the call, a child for each attempt, with the declaration's attributes and the outcome", () =>
    Effect.gen(function* () {
      const { spans } = yield* traced(ok)
      const call = spans.find(({ name }) => name === "report measured")!
      const attempts = spans.filter(({ name }) => name === "attempt measured")
      assert.deepInclude(Object.fromEntries(call.attributes), {
        "sluice.report": "measured",
        "sluice.lane": "interactive"
      })
      assert.lengthOf(attempts, 1)
      assert.strictEqual(parentOf(attempts[0]!), call.spanId)
      for (const { status } of spans) assert(status._tag === "Ended" && Exit.isSuccess(status.exit))
    })
  )

  it.effect("a retried call has a span for each attempt; only the one that failed failed", () =>
    Effect.gen(function* () {
      const again = Report.make("again", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 2 as n from pg_sleep(0.6)`,
        deadline: "10 seconds",
        retry: { retries: 2 }
      })
      const { sql } = yield* replica
      const running = yield* Effect.forkChild(traced(again.runWithInfo({})))
      // The session dies under the statement: a fresh one answers.
      yield* expectEventually(
        sql`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and state = 'active' and pid <> pg_backend_pid()`,
        (ended) => ended.length === 1
      )
      const { exit, spans } = yield* Fiber.join(running)
      assert(Exit.isSuccess(exit))
      assert.deepInclude(exit.value, { attempts: 2, rows: [{ n: 2 }] })
      const outcomes = spans
        .filter(({ name }) => name === "attempt again")
        .map(({ status }) => status._tag === "Ended" && Exit.isSuccess(status.exit))
      assert.deepStrictEqual(outcomes, [false, true])
    })
  )

  it.effect("nothing of the parameters is in spans, errors, events and metrics", () =>
    Effect.gen(function* () {
      const events: Array<PolicyEvents.PolicyEvent> = []
      const { exit, spans } = yield* traced(
        Effect.provideService(failing, PolicyEvents.CurrentListener, (event) => void events.push(event))
      )
      assert.isTrue(Exit.isFailure(exit))
      for (const span of spans) {
        const { attributes, events: spanEvents, name, status } = span
        assert.notInclude(inspect({ attributes, spanEvents, name, status }, { depth: 20, showHidden: true }), secret)
      }
      assert.notInclude(inspect(events, { depth: 20 }), secret)
      assert.notInclude(inspect(yield* Metric.snapshot, { depth: 20 }), secret)
      assert.notInclude(yield* Metric.dump, secret)
    })
  )

  it.effect("metrics: the duration of calls by outcome, and the pool's under OpenTelemetry's names", () =>
    Effect.gen(function* () {
      const counts = Effect.map(Metric.snapshot, (all) => {
        const of = (outcome: string): number => {
          const found = all.find(
            ({ attributes, id }) =>
              id === "db.client.operation.duration" &&
              attributes?.["sluice.report"] === "measured" &&
              attributes["sluice.outcome"] === outcome
          )
          return found === undefined ? 0 : (found.state as { readonly count: number }).count
        }
        return { ok: of("ok"), failed: of("QueryFailed"), invalid: of("InvalidParameters"), left: of("interrupted") }
      })
      const before = yield* counts
      yield* ok
      yield* ok
      yield* errorOf(failing)
      const wrong: any = { code: 1 }
      yield* errorOf(report.run(wrong))
      const slow = Report.make("measured", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n from pg_sleep(5)`,
        deadline: "10 seconds"
      })
      const left = yield* Effect.forkChild(slow.run({}))
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(left)
      const after = yield* counts
      assert.deepStrictEqual(after, {
        ok: before.ok + 2,
        failed: before.failed + 1,
        invalid: before.invalid + 1,
        left: before.left + 1
      })

      const { pool } = (yield* replica).nodes[0]!
      const ofPool = Effect.map(Metric.snapshot, (all) =>
        all.filter(({ attributes }) => attributes?.["db.client.connection.pool.name"] === pool.name)
      )
      const named = yield* expectEventually(ofPool, (all) => all.some(({ id }) => id === "db.client.connection.max"))
      const ids = new Set(named.map(({ id }) => id))
      for (const id of [
        "db.client.connection.count",
        "db.client.connection.max",
        "db.client.connection.pending_requests",
        "db.client.connection.create_time",
        "db.client.connection.wait_time",
        "db.client.connection.use_time"
      ]) {
        assert.isTrue(ids.has(id), id)
      }
    })
  )

  it.effect("a stream is a call, too: one span, one duration, with the outcome of its end", () =>
    Effect.gen(function* () {
      const streamed = Report.make("streamed", {
        database: replica,
        params: { bad: Schema.Int },
        row: { n: Schema.Int },
        query: (sql, { bad }) =>
          sql`select nullif(n, ${bad}) as n from (select generate_series(1, 3000) as n) as numbers`,
        deadline: "10 seconds"
      })
      const outcomes = Effect.map(Metric.snapshot, (all) =>
        Object.fromEntries(
          all
            .filter(
              ({ attributes, id }) =>
                id === "db.client.operation.duration" && attributes?.["sluice.report"] === "streamed"
            )
            .map(({ attributes, state }) => [
              attributes!["sluice.outcome"],
              (state as { readonly count: number }).count
            ])
        )
      )
      const { spans } = yield* traced(Stream.runDrain(streamed.stream({ bad: 0 })))
      const call = spans.find(({ name }) => name === "report streamed")!
      assert.deepStrictEqual(
        spans.map(({ name }) => name),
        ["report streamed", "attempt streamed"]
      )
      assert.strictEqual(parentOf(spans[1]!), call.spanId)
      for (const { status } of spans) assert.strictEqual(status._tag, "Ended")
      assert.deepStrictEqual(yield* outcomes, { ok: 1 })
      yield* errorOf(Stream.runDrain(streamed.stream({ bad: 2500 })))
      assert.deepStrictEqual(yield* outcomes, { ok: 1, RowDecodeError: 1 })
      yield* Stream.runDrain(Stream.take(streamed.stream({ bad: 0 }), 1))
      assert.deepStrictEqual(yield* outcomes, { ok: 2, RowDecodeError: 1 })
      const stuck = yield* Effect.forkChild(Stream.runForEach(streamed.stream({ bad: 0 }), () => Effect.never))
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(stuck)
      assert.deepStrictEqual(yield* outcomes, { ok: 2, RowDecodeError: 1, interrupted: 1 })
    })
  )
})
