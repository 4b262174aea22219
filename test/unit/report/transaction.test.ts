/** What a declared transaction says of itself, and what it refuses, before it runs. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import { replica } from "./support.ts"

const refusal = (options: unknown): string => {
  try {
    Report.transaction(replica, options as never)
  } catch (error) {
    return (error as Error).message
  }
  return "accepted"
}

describe("the declaration of a transaction", () => {
  const cases: ReadonlyArray<readonly [options: unknown, says: string]> = [
    [undefined, "deadline must be declared, such as 8 seconds"],
    [{}, "deadline must be declared"],
    [{ deadline: "soon" }, "deadline must be a duration above zero"],
    [
      { deadline: 1000, isolation: "snapshot" },
      "isolation must be one of read committed, repeatable read, serializable"
    ],
    [{ deadline: 1000, isolation: "serializable; drop table t" }, "isolation must be one of"],
    [{ deadline: 1000, readOnly: "yes" }, "readOnly must be true or false"],
    [{ deadline: 1000, deferrable: 1 }, "deferrable must be true or false"],
    [{ deadline: 1000, deferrable: true }, 'only with isolation: "serializable" and readOnly: true'],
    [{ deadline: 1000, outside: "no" }, "outside must be true or false"],
    [
      { deadline: 1000, isolationLevel: "serializable" },
      "isolationLevel: unknown option; there are name, deadline, isolation"
    ],
    [{ deadline: 1000, readonly: true }, "did you mean readOnly?"],
    [{ deadline: 1000, attemptTimeout: 10 }, "attemptTimeout: unknown option"],
    [{ deadline: 1000, lane: "" }, "lane must be the name of a lane"],
    [{ deadline: 1000, name: "" }, "name must be a text"],
    [{ deadline: 1000, retry: { retries: -1 } }, "retry.retries must be a whole number of at least 0"],
    [{ deadline: 1000, bulkhead: { permits: 0 } }, "bulkhead.permits must be a whole number of at least 1"]
  ]
  it("is refused by the name of its field", () => {
    for (const [options, says] of cases) {
      assert.include(refusal(options), says, JSON.stringify(options))
      assert.match(refusal(options), /^Transaction "/)
    }
    assert.include(refusal({ deadline: 0 }), 'Transaction "transaction on fleet/replica": deadline')
    assert.throws(() => Report.transaction(undefined as never, { deadline: 1000 }), /database must be a role/)
    assert.throws(
      () => Report.transaction(Effect.void, replica, { deadline: 1000, readOnly: 3 as never }),
      /readOnly must be true or false/
    )
  })

  it("says what it costs at worst, and how it may fail", () => {
    const unit = Report.transaction(replica, {
      name: "transfer",
      deadline: "5 seconds",
      isolation: "serializable",
      retry: { retries: 3 },
      bulkhead: { permits: 4 }
    })
    assert.strictEqual(
      Report.explainText(unit),
      [
        "transfer",
        "  runs on          fleet/replica, lane report",
        "  effect           transaction, serializable",
        "  answers within   5 s",
        "  attempts         4, the whole of it each time, 700 ms of backoff at most",
        "  sessions         1 a call",
        "  at the same time 4",
        "  queue            8",
        "  in a transaction a savepoint in its role's, not repeated",
        "  order            span and metrics > deadline > retry with budget > bulkhead > lane report > BEGIN ISOLATION LEVEL SERIALIZABLE > what runs in it > COMMIT",
        "  can fail with    QueryFailed, DatabaseUnavailable, AcquireTimeout, DeadlineExceeded, Overloaded, OutcomeUnknown"
      ].join("\n")
    )
    assert.deepInclude(Report.explain(unit), {
      worstCaseMillis: 5_000,
      lastAttemptBeginsMillis: 5_000,
      contradictions: []
    })
    const reading = Report.transaction(replica, { deadline: 1000, readOnly: true, outside: true })
    assert.notInclude(Report.explain(reading).failures, "OutcomeUnknown")
    assert.strictEqual(reading.errors.size, Report.explain(reading).failures.length)
    assert.include(Report.explainMarkdown(reading), "| in a transaction | a transaction of its own |")
  })
})
