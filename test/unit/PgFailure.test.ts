import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import * as PgFailure from "../../packages/sdk/src/PgFailure.ts"
import { knownCodes } from "./policy/sqlstates.ts"

const retries = new Set(["never", "same", "fresh-session", "after-delay", "other-node"])
const outcomes = new Set(["not-sent", "not-applied", "unknown", "applied"])

const every = <A>(values: ReadonlyArray<A>): ReadonlyArray<A | undefined> => [undefined, ...values]

function* combinations(): Generator<PgFailure.LocalFacts> {
  for (const phase of every(["connect", "query"] as const)) {
    for (const sent of every([true, false])) {
      for (const commit of every([true, false])) {
        for (const cancelledBy of every(["us"] as const)) {
          for (const timer of every(["connect", "attempt", "attempt-cut", "statement", "watchdog"] as const)) {
            for (const transport of every(["ECONNREFUSED", "ECONNRESET", "EOF", "TLS", "EWHATEVER"])) {
              for (const rest of [
                {},
                { answered: true },
                { prepared: true },
                { inTransaction: true },
                { defect: true }
              ]) {
                yield { phase, sent, commit, cancelledBy, timer, transport, ...rest }
              }
            }
          }
        }
      }
    }
  }
}

const breakers = new Set(["failure", "ignored", "success"])
const sessions = new Set(["keep", "reset", "drop"])

const checkTotal = (input: PgFailure.Input): void => {
  const failure = PgFailure.classify(input)
  const check = (holds: boolean, rule: string): void => {
    if (!holds) assert.fail(`${rule}: ${JSON.stringify(input)} gives ${JSON.stringify(failure)}`)
  }
  check(retries.has(failure.retry) && retries.has(failure.write), "retry")
  check(outcomes.has(failure.outcome), "outcome")
  check(breakers.has(failure.breaker), "breaker")
  check(sessions.has(failure.session), "session")
  if (failure.write !== "never") {
    check(failure.outcome === "not-sent" || failure.outcome === "not-applied", "a write that may have been applied")
    check(failure.retry !== "never", "a write is never more repeatable than a read")
  }
  check(failure.outcome !== "applied" || failure.retry === "never", "what was answered is not asked again")
  check(input.phase !== "connect" || failure.session === "drop", "a session that was never ready is not kept")
  check(input.severity !== "FATAL" || failure.session === "drop", "a fatal error ends the session")
  check(input.severity !== "PANIC" || failure.session === "drop", "a panic ends the session")
}

describe("PgFailure.classify is total", () => {
  it("gives an answer for every code of PostgreSQL's appendix, at every severity, with every combination of facts", () => {
    const facts = [...combinations()]
    let turn = 0
    for (const code of knownCodes) {
      for (const severity of every(["ERROR", "FATAL", "PANIC"])) {
        checkTotal({ sqlState: code, severity })
        // All combinations for all codes would be minutes; a different slice for each code covers them all.
        for (let index = turn++ % 97; index < facts.length; index += 97) {
          checkTotal({ sqlState: code, severity, ...facts[index] })
        }
      }
    }
    for (const one of facts) checkTotal(one)
  })

  it("gives an answer for codes that nobody has defined", () => {
    let seed = 20_261_123
    const next = (): number => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff)
    const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for (let run = 0; run < 20_000; run++) {
      let code = ""
      for (let at = 0; at < 5; at++) code += letters[next() % 36]
      checkTotal({ sqlState: code })
    }
    for (const odd of ["", "x", "é", "toolongforacode", "57p01"]) checkTotal({ sqlState: odd })
  })

  it("knows the class of every code of the appendix", () => {
    const unknown = knownCodes.filter((code) => PgFailure.classify({ sqlState: code }).class === "Unknown")
    assert.deepStrictEqual(unknown, [])
  })
})

type Row = readonly [
  name: string,
  codes: ReadonlyArray<string>,
  facts: PgFailure.Input,
  expected: Partial<PgFailure.PgFailure>
]

const server = { phase: "query", sent: true, commit: true, severity: "ERROR" } as const
const fatal = { ...server, severity: "FATAL" } as const

const callerCodes = ["22012", "22P02", "23505", "23503", "42601", "42P01", "42703", "21000", "54001", "P0001", "0A000"]

// Section 6.4 of the notes, row by row.
const table: ReadonlyArray<Row> = [
  [
    "unreachable",
    ["08001", "08004"],
    { phase: "connect" },
    {
      class: "Unreachable",
      retry: "fresh-session",
      write: "fresh-session",
      breaker: "failure",
      outcome: "not-sent"
    }
  ],
  [
    "connection lost",
    ["08000", "08003", "08006"],
    server,
    {
      class: "ConnectionLost",
      retry: "fresh-session",
      write: "never",
      breaker: "failure",
      session: "drop",
      outcome: "unknown",
      immediate: true
    }
  ],
  [
    "transaction resolution unknown",
    ["08007"],
    server,
    {
      class: "OutcomeUnknown",
      retry: "fresh-session",
      write: "never",
      breaker: "failure",
      session: "drop",
      outcome: "unknown"
    }
  ],
  [
    "protocol violation",
    ["08P01"],
    server,
    { class: "ProtocolViolation", retry: "never", write: "never", breaker: "failure", session: "drop" }
  ],
  [
    "shutdown with a commit on its way",
    ["57P01", "57P02"],
    fatal,
    {
      class: "Shutdown",
      retry: "fresh-session",
      write: "never",
      breaker: "failure",
      session: "drop",
      outcome: "unknown",
      probe: true
    }
  ],
  [
    "admin shutdown before a commit",
    ["57P01"],
    { ...fatal, commit: false },
    { write: "fresh-session", outcome: "not-applied" }
  ],
  ["crash before a commit", ["57P02"], { ...fatal, commit: false }, { write: "never", outcome: "not-applied" }],
  [
    "starting",
    ["57P03"],
    { phase: "connect", severity: "FATAL" },
    {
      class: "Starting",
      retry: "after-delay",
      write: "after-delay",
      breaker: "failure",
      outcome: "not-sent",
      delayFloorMillis: 1000
    }
  ],
  [
    "idle timeouts",
    ["57P05", "25P03", "25P04"],
    fatal,
    { class: "IdleTimeout", retry: "fresh-session", write: "never", breaker: "ignored", session: "drop", alarm: true }
  ],
  [
    "database gone",
    ["57P04", "3D000"],
    fatal,
    { class: "DatabaseGone", retry: "never", write: "never", breaker: "failure", session: "drop" }
  ],
  [
    "too many connections",
    ["53300"],
    { phase: "connect", severity: "FATAL" },
    {
      class: "TooManyConnections",
      retry: "after-delay",
      write: "after-delay",
      breaker: "failure",
      outcome: "not-sent",
      delayFloorMillis: 1000
    }
  ],
  [
    "resources",
    ["53000", "53200"],
    server,
    { class: "Resources", retry: "after-delay", retries: 1, write: "never", breaker: "failure", session: "keep" }
  ],
  [
    "a limit of the configuration recurs",
    ["53400"],
    server,
    { class: "ResourceLimit", retry: "never", write: "never", breaker: "failure", session: "keep" }
  ],
  [
    "disk",
    ["53100", "58030", "58000"],
    server,
    { class: "DiskOrIo", retry: "other-node", write: "never", breaker: "failure", session: "keep" }
  ],
  ["disk, fatal", ["58030"], fatal, { session: "drop" }],
  [
    "serialization",
    ["40001"],
    server,
    {
      class: "Serialization",
      retry: "same",
      write: "same",
      breaker: "ignored",
      session: "keep",
      outcome: "not-applied",
      primaryAfter: 2
    }
  ],
  ["conflict with recovery that ends the session", ["40001"], fatal, { class: "Serialization", session: "drop" }],
  [
    "deadlock",
    ["40P01"],
    server,
    { class: "Deadlock", retry: "same", write: "same", breaker: "ignored", session: "keep", outcome: "not-applied" }
  ],
  [
    "completion unknown",
    ["40003"],
    server,
    {
      class: "CompletionUnknown",
      retry: "same",
      write: "never",
      breaker: "ignored",
      session: "keep",
      outcome: "unknown"
    }
  ],
  [
    "lock timeout",
    ["55P03"],
    server,
    { class: "LockTimeout", retry: "same", retries: 1, write: "same", breaker: "ignored", session: "keep" }
  ],
  [
    "object state",
    ["55006", "55000"],
    server,
    { class: "ObjectState", retry: "never", write: "never", breaker: "ignored", session: "keep" }
  ],
  [
    "cancelled by us",
    ["57014"],
    { ...server, cancelledBy: "us" },
    { class: "Cancelled", retry: "never", write: "never", breaker: "ignored" }
  ],
  [
    "statement timeout",
    ["57014"],
    server,
    {
      class: "StatementTimeout",
      retry: "never",
      write: "never",
      breaker: "ignored",
      session: "keep"
    }
  ],
  [
    "authentication timeout",
    ["57014"],
    { phase: "connect", severity: "FATAL" },
    { class: "Unreachable", breaker: "failure", outcome: "not-sent", session: "drop" }
  ],
  [
    "read only",
    ["25006"],
    server,
    {
      class: "ReadOnly",
      retry: "other-node",
      write: "other-node",
      breaker: "ignored",
      session: "drop",
      probe: true,
      outcome: "not-applied"
    }
  ],
  [
    "read only since the session was opened",
    ["25006"],
    { ...server, fromTheFirst: true },
    { class: "ReadOnly", retry: "other-node", write: "other-node", session: "keep", probe: true }
  ],
  [
    "read only, because this side asked for it",
    ["25006"],
    { ...server, guarded: true },
    { class: "ReadOnly", retry: "never", write: "never", session: "keep", probe: false, outcome: "not-applied" }
  ],
  [
    "read only, as a function says",
    ["25006"],
    { ...server, routine: "exec_stmt_raise" },
    { class: "ReadOnly", retry: "never", write: "never", session: "keep", probe: false }
  ],
  [
    "a word on the server that a function raises",
    ["XX000", "XX001", "28000", "58030", "53100"],
    { ...server, alive: true, routine: "exec_stmt_raise" },
    { class: "Raised", retry: "never", write: "never", breaker: "ignored", session: "keep", alarm: false }
  ],
  [
    "a stale plan that a function raises",
    ["26000", "0A000"],
    { ...server, alive: true, prepared: true, routine: "exec_stmt_raise" },
    { retry: "never", write: "never", breaker: "ignored", session: "keep" }
  ],
  [
    "a timeout of a server behind this one",
    ["57014"],
    { ...server, alive: true, routine: "pgfdw_report_error" },
    { class: "Raised", retry: "never" }
  ],
  [
    "a timeout of this server, in PL/Python",
    ["57014"],
    { ...server, alive: true, routine: "PLy_elog_impl" },
    { class: "StatementTimeout" }
  ],
  [
    "misused transaction",
    ["25P01", "25P02", "25001"],
    server,
    { class: "TransactionMisuse", retry: "never", write: "never", breaker: "ignored", session: "reset" }
  ],
  [
    "stale plan",
    ["26000", "0A000"],
    { ...server, prepared: true },
    { class: "StalePlan", retry: "same", retries: 1, write: "same", breaker: "ignored", session: "keep" }
  ],
  [
    "stale plan in a transaction",
    ["26000"],
    { ...server, prepared: true, inTransaction: true },
    { retry: "never", write: "never" }
  ],
  [
    "authentication",
    ["28000", "28P01"],
    { phase: "connect", severity: "FATAL" },
    { class: "Authentication", retry: "never", write: "never", breaker: "ignored", alarm: true }
  ],
  [
    "permission",
    ["42501"],
    server,
    { class: "Permission", retry: "never", write: "never", breaker: "ignored", session: "keep" }
  ],
  [
    "caller",
    callerCodes,
    server,
    {
      class: "CallerError",
      retry: "never",
      write: "never",
      breaker: "ignored",
      session: "keep",
      outcome: "not-applied"
    }
  ],
  [
    "internal",
    ["XX000"],
    server,
    { class: "Internal", retry: "never", write: "never", breaker: "failure", session: "keep" }
  ],
  ["internal, fatal", ["XX000"], fatal, { session: "drop" }],
  [
    "corruption",
    ["XX001", "XX002"],
    server,
    { class: "Corruption", retry: "never", write: "never", breaker: "failure", session: "drop", alarm: true }
  ]
]

describe("PgFailure: every row of the table", () => {
  for (const [name, codes, facts, expected] of table) {
    it(`${name}: ${codes.join(" ")}`, () => {
      for (const sqlState of codes) assert.deepInclude(PgFailure.classify({ sqlState, ...facts }), expected)
    })
  }

  const withoutCode: ReadonlyArray<readonly [string, PgFailure.Input, Partial<PgFailure.PgFailure>]> = [
    [
      "refused",
      { transport: "ECONNREFUSED", phase: "connect" },
      { class: "Unreachable", write: "fresh-session", outcome: "not-sent", breaker: "failure" }
    ],
    ["no such host", { transport: "ENOTFOUND" }, { class: "Unreachable", outcome: "not-sent" }],
    [
      "reset while connecting",
      { transport: "ECONNRESET", phase: "connect" },
      { class: "Unreachable", outcome: "not-sent", session: "drop" }
    ],
    ["our connect timer", { timer: "connect", phase: "connect" }, { class: "Unreachable", outcome: "not-sent" }],
    [
      "certificate refused",
      { transport: "TLS", phase: "connect" },
      { class: "TlsRejected", retry: "never", alarm: true }
    ],
    [
      "reset under a query",
      { transport: "ECONNRESET", sent: true },
      {
        class: "ConnectionLost",
        retry: "fresh-session",
        write: "never",
        outcome: "unknown",
        breaker: "failure",
        session: "drop"
      }
    ],
    [
      "dead before it was written to",
      { transport: "EPIPE", sent: false },
      { class: "ConnectionLost", write: "fresh-session", outcome: "not-sent" }
    ],
    [
      "lost before the commit",
      { transport: "EOF", sent: true, commit: false },
      { outcome: "not-applied", write: "never" }
    ],
    [
      "silent session",
      { timer: "watchdog", sent: true },
      { class: "ConnectionLost", breaker: "failure", session: "drop" }
    ],
    [
      "attempt timeout",
      { timer: "attempt", sent: true, cancelledBy: "us" },
      { class: "AttemptTimeout", breaker: "failure", write: "never" }
    ],
    [
      "attempt cut by the deadline",
      { timer: "attempt-cut", sent: true },
      { class: "AttemptTimeout", breaker: "ignored" }
    ],
    [
      "cancelled by us, no answer",
      { cancelledBy: "us", sent: true },
      { class: "Cancelled", breaker: "ignored", retry: "never" }
    ],
    [
      "nothing known",
      {},
      { class: "Unknown", retry: "never", write: "never", breaker: "ignored", session: "drop", outcome: "unknown" }
    ],
    ["a defect", { defect: true }, { class: "Unknown", breaker: "failure", session: "drop" }],
    ["decode failure after the answer", { answered: true }, { retry: "never", write: "never", outcome: "applied" }]
  ]
  for (const [name, input, expected] of withoutCode) {
    it(`no code: ${name}`, () => assert.deepInclude(PgFailure.classify(input), expected))
  }

  it("never repeats a write whose session says that it was sent, however early the code sounds", () => {
    assert.strictEqual(PgFailure.classify({ sqlState: "57P03", severity: "FATAL", sent: true }).write, "never")
  })
})

const sqlError = (cause: unknown, operation = "query"): SqlError =>
  new SqlError({ reason: new UnknownError({ cause, message: "x", operation }) })
const lost = (cause: unknown, operation = "query"): SqlError =>
  new SqlError({ reason: new ConnectionError({ cause, message: "x", operation }) })
const coded = (fields: object): Error => Object.assign(new Error("localised"), fields)

describe("PgFailure.fromSqlError", () => {
  it("reads the code and the unlocalised severity of the cause", () => {
    const error = sqlError(coded({ code: "40001", severity: "FATALE", severityUnlocalized: "FATAL" }))
    assert.deepInclude(PgFailure.fromSqlError(error), { class: "Serialization", session: "drop" })
  })

  it("reads the facts that the session attached, and lets the caller's win", () => {
    const error = lost(PgFailure.attachFacts(new Error("gone"), { sent: false, transport: "EPIPE" }))
    assert.deepStrictEqual(PgFailure.factsOf(error), { sent: false, transport: "EPIPE" })
    assert.strictEqual(PgFailure.fromSqlError(error).outcome, "not-sent")
    assert.strictEqual(PgFailure.fromSqlError(error, { sent: true }).outcome, "unknown")
    assert.strictEqual(PgFailure.factsOf(lost(new Error("gone"))), undefined)
    assert.strictEqual(PgFailure.factsOf(undefined), undefined)
  })

  it("does not take EPIPE, which has the form of a SQLSTATE, for one", () => {
    assert.deepInclude(PgFailure.fromSqlError(lost(coded({ code: "EPIPE", errno: -32 }))), {
      class: "ConnectionLost",
      sqlState: undefined
    })
    assert.strictEqual(PgFailure.fromSqlError(lost(coded({ code: "EPIPE" }))).sqlState, undefined)
  })

  it("finds a socket's code under a wrapping error", () => {
    const error = lost(new Error("outer", { cause: coded({ code: "ECONNREFUSED", errno: -111 }) }))
    assert.deepInclude(PgFailure.fromSqlError(error), { class: "Unreachable", outcome: "not-sent" })
  })

  it("takes a connection error without a code for a lost connection, or for an unreachable server while connecting", () => {
    assert.deepInclude(PgFailure.fromSqlError(lost(new Error("Connection is closed"))), { class: "ConnectionLost" })
    assert.deepInclude(PgFailure.fromSqlError(lost(new Error("timed out"), "connect")), { class: "Unreachable" })
  })

  it("knows a refused certificate", () => {
    const error = lost(coded({ code: "DEPTH_ZERO_SELF_SIGNED_CERT" }), "connect")
    assert.strictEqual(PgFailure.fromSqlError(error).class, "TlsRejected")
  })

  it("tells a stale plan from a missing feature by the server's routine, not by its message", () => {
    const stale = coded({ code: "0A000", severity: "ERROR", routine: "RevalidateCachedQuery" })
    assert.strictEqual(PgFailure.fromSqlError(sqlError(stale)).class, "StalePlan")
    const missing = coded({ code: "0A000", severity: "ERROR", routine: "transformSelectStmt" })
    assert.strictEqual(PgFailure.fromSqlError(sqlError(missing)).class, "CallerError")
  })

  it("does not depend on the message", () => {
    for (const code of knownCodes) {
      const say = (message: string) =>
        PgFailure.fromSqlError(sqlError(Object.assign(new Error(message), { code, severity: "ERROR" })))
      assert.deepStrictEqual(say("canceling statement due to statement timeout"), say("annulation de la requête"))
    }
  })
})

describe("PgFailure overrides", () => {
  it.effect("a layer adds a code and changes part of another", () =>
    Effect.gen(function* () {
      const overrides = yield* PgFailure.CurrentOverrides
      assert.deepInclude(PgFailure.classify({ sqlState: "QQ001", severity: "ERROR" }, overrides), {
        class: "Serialization",
        retry: "same",
        breaker: "ignored"
      })
      assert.deepInclude(PgFailure.classify({ sqlState: "55000", severity: "ERROR" }, overrides), {
        class: "ObjectState",
        retry: "same"
      })
      assert.strictEqual(PgFailure.classify({ sqlState: "40P01" }, overrides).class, "Deadlock")
    }).pipe(
      Effect.provide(PgFailure.layer({ QQ: { class: "Serialization", retry: "same" }, "55000": { retry: "same" } }))
    )
  )
})
