/** How an error of a report looks in each place that people look. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as ReportError from "@sluice/sdk/ReportError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import { failure, makeRole, refused, replica, run } from "./support.ts"

/** Paths and lines of this file. */
const steady = (text: string): string =>
  text.replace(/\(?(?:file:\/\/)?[^\s()]*printing\.test\.ts:\d+:\d+\)?/g, "(here)")

const counts = { idle: 0, leased: 2, connecting: 0, draining: 0, waiting: 1, max: 2 }

/** One of each tag. */
const errors: ReadonlyArray<Error & { readonly _tag: string }> = [
  new ReportError.InvalidParameters({ report: "stops", issues: [{ field: "from", problem: "Missing key" }] }),
  new ReportError.QueryFailed({ report: "stops", class: "CallerError", problem: "syntax", sqlState: "42601", line: 2 }),
  new ReportError.RowDecodeError({ report: "stops", row: 0, field: "n", problem: "NULL came" }),
  new ReportError.DatabaseUnavailable({ pool: "fleet/primary", reason: "lost" }),
  new ReportError.InvalidConfiguration({ subject: "fleet", issues: [{ name: "port", expected: "a number" }] }),
  new ReportError.InvalidDeclarations({ group: "fleet", issues: [{ subject: "stops", problem: "p", cure: "c" }] }),
  new ReportError.AcquireTimeout({
    pool: "p",
    lane: "report",
    reason: "all-leased",
    waitedMillis: 5,
    counts,
    holders: []
  }),
  new ReportError.Overloaded({ policy: "bulkhead", key: "k", limit: 1, waiting: 0 }),
  new ReportError.CircuitOpen({ key: "k", retryAfterMillis: 5 }),
  new ReportError.DeadlineExceeded({ key: "k", deadlineMillis: 5, phase: "attempt", attempts: 1 }),
  new ReportError.ReplicaTooStale({ key: "k", maxLagMillis: 5 }),
  new ReportError.OutcomeUnknown({ key: "k" })
]

describe("an error", () => {
  for (const error of errors) {
    it(`${error._tag} begins with its message, in a console, a cause, and what loggers read; JSON has its fields`, () => {
      const first = `@sluice/sdk/${error._tag}: ${error.message}`
      assert.isTrue(inspect(error).startsWith(first), inspect(error))
      assert.isTrue(Cause.pretty(Cause.fail(error)).startsWith(first))
      // pino's `err` and OpenTelemetry's `recordException` read these.
      assert.isTrue(error.stack!.startsWith(first))
      assert.isAbove(error.message.length, 5)
      const json = JSON.parse(JSON.stringify(error)) as Record<string, unknown>
      assert.strictEqual(json["_tag"], error._tag)
      assert.sameMembers(
        Object.keys(json),
        Object.keys(error).filter((key) => key !== "name")
      )
    })
  }

  it.effect("of a report shows where the report was declared and where it was called, and no frame of the SDK", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.fail(refused("42601")))
      const stops = Report.make("stops", {
        database: replica,
        params: { n: Schema.Int },
        row: { n: Schema.Int },
        query: (sql) => sql`select 1 as n`,
        deadline: "1 second"
      })
      const failed = failure(yield* run(provide(stops.run({ n: 1 }))), "QueryFailed")
      assert.strictEqual(
        steady(Cause.pretty(Cause.fail(failed))),
        [
          "@sluice/sdk/QueryFailed: stops: the statement has a syntax error (SQLSTATE 42601, CallerError)",
          "    at report stops (here)"
        ].join("\n")
      )
      const shown = steady(inspect(failed))
      assert.isTrue(shown.startsWith(`${steady(failed.stack!)} {`), shown)
      assert.include(shown, "sqlState: '42601'")
      assert.notMatch(shown, /packages\/sdk/)
      const dashboard = Effect.fn("dashboard")(function* () {
        return yield* stops.run({ n: 1 })
      })
      const { exit } = yield* run(provide(dashboard()))
      assert.deepStrictEqual(Exit.isFailure(exit) ? steady(Cause.pretty(exit.cause)).split("\n").slice(1) : [], [
        "    at report stops (here)",
        "    at dashboard (here)",
        "    at dashboard (definition) (here)"
      ])
      const wrong = failure(yield* run(provide(stops.run({ n: 1.5 }))), "InvalidParameters")
      assert.strictEqual(
        steady(wrong.stack!),
        "@sluice/sdk/InvalidParameters: stops: n: Expected an integer\n    at report stops (here)"
      )
    })
  )
})
