import { Database, Report, type ReportError, ReportGroup } from "@sluice/sdk"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const base = {
  database: Fleet.role("replica"),
  params: { limit: Schema.Int },
  row: { id: Schema.Int, plate: Schema.String },
  query: (sql: any) => sql`select 1`,
  deadline: "10 seconds"
} as const

// Nothing listens there: what a declaration contradicts is found without a server.
const nowhere = Fleet.layerRole("replica", { host: "127.0.0.1", port: 1, minConnections: 0, maxConnections: 4 })

type Role = Database.Role<"fleet", "replica">

const build = <R extends Report.Any & { readonly "~Role": Role }>(group: ReportGroup.ReportGroup<string, R>) =>
  Effect.scoped(
    Layer.build(
      (ReportGroup.layer(group) as Layer.Layer<never, ReportError.InvalidDeclarations, Role>).pipe(
        Layer.provide(nowhere)
      )
    )
  )

describe("explain", () => {
  it("computes the worst case from the declaration", () => {
    const report = Report.make("worst", {
      ...base,
      attemptTimeout: "2 seconds",
      retry: { schedule: Schedule.exponential("100 millis"), retries: 3, cap: "250 millis" },
      breaker: {},
      bulkhead: { permits: 8, queue: 32 },
      maxRows: 1000
    })
    const explained = Report.explain(report)
    assert.strictEqual(explained.attempts, 4)
    assert.strictEqual(explained.backoffMillis, 100 + 200 + 250)
    assert.strictEqual(explained.lastAttemptBeginsMillis, 3 * 2000 + 550)
    assert.strictEqual(explained.worstCaseMillis, 4 * 2000 + 550)
    assert.strictEqual(explained.leases, 1)
    assert.strictEqual(explained.memoryBytes, 1000 * (16 + 2 * 32))
    assert.strictEqual(explained.role, "fleet/replica")
    assert.sameMembers(
      [...explained.failures],
      [
        "InvalidParameters",
        "QueryFailed",
        "RowDecodeError",
        "DatabaseUnavailable",
        "AcquireTimeout",
        "DeadlineExceeded",
        "CircuitOpen",
        "Overloaded"
      ]
    )
  })

  it("never promises more than the deadline", () => {
    const report = Report.make("capped", { ...base, attemptTimeout: "4 seconds", retry: { retries: 2 } })
    assert.strictEqual(Report.explain(report).worstCaseMillis, 10_000)
  })

  it("prints the order of the policies, whatever the order of the options", () => {
    const one = Report.make("one", { ...base, bulkhead: { permits: 1 }, retry: {}, breaker: {} })
    const two = Report.make("one", { breaker: {}, ...base, retry: {}, bulkhead: { permits: 1 } })
    assert.deepStrictEqual(Report.explain(one).order, Report.explain(two).order)
    assert.strictEqual(
      Report.explain(one).order.join(" > "),
      "span and metrics > deadline > retry with budget > breaker per node > bulkhead > lane report > statement > decode"
    )
  })

  it("leaves out what a fallback handles", () => {
    const report = Report.make("safe", {
      ...base,
      fallback: { DeadlineExceeded: () => Effect.succeed([]), AcquireTimeout: () => Effect.succeed([]) }
    })
    assert.notIncludeMembers([...Report.explain(report).failures], ["DeadlineExceeded", "AcquireTimeout"])
    assert.strictEqual(report.errors.size, Report.explain(report).failures.length)
  })

  it("prints text and Markdown", () => {
    const report = Report.make("printed", { ...base, ...Report.presets.report })
    const text = Report.explainText(report)
    assert.include(text, "answers within   30 s")
    assert.include(text, "50 % of the pool")
    const group = ReportGroup.make("fleet").add(report)
    assert.include(ReportGroup.catalogue(group), "### printed")
  })
})

describe("a declaration that is wrong by itself", () => {
  for (const [field, options] of [
    ["deadline", { deadline: "0 millis" }],
    ["maxRows", { maxRows: 0 }],
    ["attemptTimeout", { attemptTimeout: -1 }],
    ["bulkhead.permits", { bulkhead: { permits: 0 } }],
    ["breaker.failureRate", { breaker: { failureRate: 2 } }],
    ["retry.retries", { retry: { retries: 1.5 } }],
    ["rateLimit.window", { rateLimit: { limit: 1, window: "soon" } }]
  ] as const) {
    it(`throws where it is declared, naming ${field}`, () => {
      assert.throws(
        () => Report.make("wrong", { ...base, ...(options as object) } as any),
        new RegExp(`"wrong": ${field}`)
      )
    })
  }
})

describe("a group refuses at layer build", () => {
  it.live("attempts that cannot fit their deadline", () =>
    Effect.gen(function* () {
      const report = Report.make("late", { ...base, attemptTimeout: "6 seconds", retry: { retries: 2 } })
      const error = yield* Effect.flip(build(ReportGroup.make("fleet").add(report)))
      assert.strictEqual(error._tag, "InvalidDeclarations")
      assert.include(error.message, "report late: its last attempt may begin only after")
      assert.include(error.message, "attemptTimeout")
    })
  )

  it.live("a retry of a write that must happen once, and permits beyond the pool, both at the same time", () =>
    Effect.gen(function* () {
      const twice = Report.make("twice", { ...base, attemptTimeout: "1 second", retry: {}, writes: "once" })
      const wide = Report.make("wide", { ...base, bulkhead: { permits: 5 } })
      const error = yield* Effect.flip(build(ReportGroup.make("fleet").add(twice, wide)))
      assert.deepStrictEqual(error._tag === "InvalidDeclarations" ? error.issues.map(({ subject }) => subject) : [], [
        "report twice",
        "report wide"
      ])
    })
  )

  it.live("what explain says of a report alone, in the same words", () =>
    Effect.gen(function* () {
      const twice = Report.make("twice", { ...base, retry: {}, writes: "once" })
      const told = Report.explain(twice).contradictions
      assert.deepStrictEqual(
        told.map(({ problem }) => problem.slice(0, 24)),
        ["its last attempt may beg", "it retries, and declares"]
      )
      const error = yield* Effect.flip(build(ReportGroup.make("fleet").add(twice)))
      assert.deepStrictEqual(
        error._tag === "InvalidDeclarations" ? error.issues : [],
        told.map((one) => ({ subject: "report twice", ...one }))
      )
      for (const { cure, problem } of told) assert.include(Report.explainText(twice), `${problem}; ${cure}`)
      assert.notInclude(Report.explainText(Report.make("reads", { ...base })), "refuses")
    })
  )

  it.live("a lane that the pool does not have, and says which it has", () =>
    Effect.gen(function* () {
      const report = Report.make("misspelt", { ...base, lane: "intractive" })
      const error = yield* Effect.flip(build(ReportGroup.make("fleet").add(report)))
      assert.include(error.message, "has no lane intractive")
      assert.include(error.message, "interactive, report, batch")
    })
  )

  it.live("nothing that holds: the presets do", () =>
    Effect.gen(function* () {
      const reports = Object.entries(Report.presets).map(([name, preset]) =>
        Report.make(name, { ...base, ...(preset as typeof Report.presets.report) })
      )
      const [first, ...others] = reports
      yield* build(ReportGroup.make("fleet").add(first!, ...others))
    })
  )

  it("a name that is taken", () => {
    const report = Report.make("same", base)
    assert.throws(() => ReportGroup.make("fleet").add(report, report), /has a report "same" already/)
  })
})
