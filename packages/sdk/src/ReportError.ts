/**
 * Everything that a report, a pool or a policy can fail with.
 *
 * A leaf: it knows neither SQL nor the driver, so every room may import it. Each error is a schema with a tag, an HTTP
 * status and a `message` computed from its fields. Nothing in here carries SQL text, parameters or secrets.
 */
import * as Schema from "effect/Schema"

/** What a policy remembers of the last real error, safe to leave the process. */
export const LastError = Schema.Struct({
  tag: Schema.String,
  message: Schema.String,
  sqlState: Schema.optionalKey(Schema.String)
})
export type LastError = typeof LastError.Type

const afterLastError = (last: LastError | undefined): string =>
  last === undefined
    ? ""
    : `; last error: ${last.tag}${last.sqlState === undefined ? "" : ` (${last.sqlState})`}: ${last.message}`

const seconds = (millis: number): string =>
  `${millis < 1000 ? `${Math.round(millis)} ms` : `${(millis / 1000).toFixed(1)} s`}`

const again = (retryAfterMillis: number | undefined): string =>
  retryAfterMillis === undefined ? "" : `; try again in ${seconds(retryAfterMillis)}`

/** The parameters do not fit the declaration. Nothing was sent. */
export class InvalidParameters extends Schema.TaggedError<InvalidParameters>("@sluice/sdk/InvalidParameters")(
  "InvalidParameters",
  {
    report: Schema.String,
    issues: Schema.Array(Schema.Struct({ field: Schema.String, problem: Schema.String }))
  },
  { httpApiStatus: 400 }
) {
  override get message(): string {
    return `${this.report}: ${this.issues.map((issue) => `${issue.field}: ${issue.problem}`).join("; ")}`
  }
}

/**
 * The server answered with an error. `sqlState` is PostgreSQL's code, `class` what PgFailure makes of it. `names` are those that
 * the server told of; `line` and `position` (in characters, both from 1) lead into the report's statement. Values are nowhere.
 */
export class QueryFailed extends Schema.TaggedError<QueryFailed>("@sluice/sdk/QueryFailed")(
  "QueryFailed",
  {
    report: Schema.String,
    sqlState: Schema.optionalKey(Schema.String),
    class: Schema.String,
    problem: Schema.String,
    names: Schema.optionalKey(
      Schema.Struct({
        schema: Schema.optionalKey(Schema.String),
        table: Schema.optionalKey(Schema.String),
        column: Schema.optionalKey(Schema.String),
        constraint: Schema.optionalKey(Schema.String),
        dataType: Schema.optionalKey(Schema.String),
        routine: Schema.optionalKey(Schema.String)
      })
    ),
    position: Schema.optionalKey(Schema.Int),
    line: Schema.optionalKey(Schema.Int)
  },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    const at = this.line === undefined ? "" : `, at line ${this.line} of its statement`
    const code = this.sqlState === undefined ? "" : ` (SQLSTATE ${this.sqlState}, ${this.class})`
    return `${this.report}: ${this.problem}${at}${code}`
  }
}

/**
 * A row does not fit the declared row. `row` counts from 0. `problem` tells what the column gives, what was declared and what to
 * write; `more` tells the same of the row's other fields that do not fit. The values are not told.
 */
export class RowDecodeError extends Schema.TaggedError<RowDecodeError>("@sluice/sdk/RowDecodeError")(
  "RowDecodeError",
  {
    report: Schema.String,
    row: Schema.Int,
    field: Schema.String,
    problem: Schema.String,
    more: Schema.optionalKey(Schema.Array(Schema.Struct({ field: Schema.String, problem: Schema.String })))
  },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    const problems = [this, ...(this.more ?? [])].map(({ field, problem }) => `field ${field}: ${problem}`)
    return `${this.report}: row ${this.row}, ${problems.join("; ")}`
  }
}

/** No session can be had because the server cannot be reached or refuses. */
export class DatabaseUnavailable extends Schema.TaggedError<DatabaseUnavailable>("@sluice/sdk/DatabaseUnavailable")(
  "DatabaseUnavailable",
  {
    pool: Schema.String,
    reason: Schema.Literals(["unreachable", "refused", "authentication", "configuration", "lost", "closed"]),
    retryAfterMillis: Schema.optionalKey(Schema.Finite),
    lastError: Schema.optionalKey(LastError)
  },
  { httpApiStatus: 503 }
) {
  override get message(): string {
    return `${this.pool} is unavailable (${this.reason})${afterLastError(this.lastError)}${again(this.retryAfterMillis)}`
  }
}

/** A configuration that cannot hold. Every problem at once, each with the name to change; secrets are never shown. */
export class InvalidConfiguration extends Schema.TaggedError<InvalidConfiguration>("@sluice/sdk/InvalidConfiguration")(
  "InvalidConfiguration",
  {
    subject: Schema.String,
    issues: Schema.Array(
      Schema.Struct({
        name: Schema.String,
        value: Schema.optionalKey(Schema.String),
        expected: Schema.String,
        /** What is wrong, where it is not the value: an option that there is not, options that contradict each other. */
        problem: Schema.optionalKey(Schema.String)
      })
    )
  },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    const issues = this.issues.map(
      ({ expected, name, problem, value }) =>
        `${name}${value === undefined ? "" : ` is ${value}`}: ${problem ?? `must be ${expected}`}`
    )
    return `${this.subject}: ${issues.join("; ")}`
  }
}

/** Declarations that cannot hold together, found when the layer of their group is built. All of them, each with its cure. */
export class InvalidDeclarations extends Schema.TaggedError<InvalidDeclarations>("@sluice/sdk/InvalidDeclarations")(
  "InvalidDeclarations",
  {
    group: Schema.String,
    issues: Schema.Array(Schema.Struct({ subject: Schema.String, problem: Schema.String, cure: Schema.String }))
  },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    return `${this.group}: ${this.issues.map(({ cure, problem, subject }) => `${subject}: ${problem}; ${cure}`).join(". ")}`
  }
}

/** The counts of a pool at one instant. */
export const PoolCounts = Schema.Struct({
  idle: Schema.Int,
  leased: Schema.Int,
  connecting: Schema.Int,
  draining: Schema.Int,
  waiting: Schema.Int,
  max: Schema.Int
})
export type PoolCounts = typeof PoolCounts.Type

/** Who holds a session, and since when. */
export const Holder = Schema.Struct({
  name: Schema.String,
  lane: Schema.String,
  heldMillis: Schema.Finite
})
export type Holder = typeof Holder.Type

/** The sessions of a pool, as somebody found them who went without. */
export const PoolAccount = Schema.Struct({
  pool: Schema.String,
  counts: PoolCounts,
  /** Five at the most, the longest first. */
  holders: Schema.Array(Holder),
  heldByCaller: Schema.optionalKey(Schema.Int)
})
export type PoolAccount = typeof PoolAccount.Type

/** Where to look, by the reason. */
const nextLooks = {
  "all-leased": "look at who holds them; then at the lane's cap, maxConnections, or the reports' deadlines",
  "lane-full": "look at the lane's cap and maxWaiting in the role's options",
  connecting: "look at how long a connect takes (server's log, connectTimeout)",
  down: "look at the last error, and whether the server is up",
  leaked: "look at the stack of the holder (leakDetection)",
  suspended: "the pool was suspended; resume it",
  "queue-full": "look at maxWaiting, and at who holds the sessions"
} as const

/** The caller waited for a session as long as it was allowed to. */
export class AcquireTimeout extends Schema.TaggedError<AcquireTimeout>("@sluice/sdk/AcquireTimeout")(
  "AcquireTimeout",
  {
    pool: Schema.String,
    lane: Schema.String,
    reason: Schema.Literals(["all-leased", "lane-full", "connecting", "down", "leaked", "suspended", "queue-full"]),
    waitedMillis: Schema.Finite,
    counts: PoolCounts,
    holders: Schema.Array(Holder),
    /** Sessions of the pool that the caller holds itself, by its fiber, its scope or its transaction. None come back while it waits. */
    heldByCaller: Schema.optionalKey(Schema.Int),
    lastError: Schema.optionalKey(LastError)
  },
  { httpApiStatus: 503 }
) {
  override get message(): string {
    const { connecting, draining, idle, leased, max, waiting } = this.counts
    const holders = this.holders.map((holder) => `${holder.name} for ${seconds(holder.heldMillis)}`).join(", ")
    return (
      `${this.pool}: no session for lane ${this.lane} after ${seconds(this.waitedMillis)} (${this.reason}): ` +
      `${leased} leased, ${idle} idle, ${connecting} connecting, ${draining} draining of ${max}, ${waiting} waiting` +
      (holders === "" ? "" : `; longest held by ${holders}`) +
      (this.heldByCaller === undefined ? "" : `; ${this.heldByCaller} held by the caller itself while it waits`) +
      afterLastError(this.lastError) +
      `; ${nextLooks[this.reason]}`
    )
  }
}

/**
 * A limit that protects the database said no at once. `policy` and `key` say which one.
 *
 * `retryAfterMillis` is there where it is known: a rate limit knows its next turn, shedding its window, a bulkhead how fast its
 * calls have ended lately. A full queue of a pool, and a bulkhead that has seen nothing end yet, do not know: come back with
 * a backoff of your own, or not at all.
 */
export class Overloaded extends Schema.TaggedError<Overloaded>("@sluice/sdk/Overloaded")(
  "Overloaded",
  {
    policy: Schema.Literals(["pool", "bulkhead", "rate-limit", "shed"]),
    key: Schema.String,
    limit: Schema.Finite,
    waiting: Schema.Int,
    retryAfterMillis: Schema.optionalKey(Schema.Finite),
    /** Where the policy is `pool`: its sessions at that instant. */
    sessions: Schema.optionalKey(PoolAccount)
  },
  { httpApiStatus: 503 }
) {
  override get message(): string {
    return `${this.key}: refused by ${this.policy} (limit ${this.limit}, ${this.waiting} waiting)${again(this.retryAfterMillis)}`
  }
}

/** The breaker of `key` is open: nothing was sent. */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>("@sluice/sdk/CircuitOpen")(
  "CircuitOpen",
  {
    key: Schema.String,
    retryAfterMillis: Schema.Finite,
    lastError: Schema.optionalKey(LastError)
  },
  { httpApiStatus: 503 }
) {
  override get message(): string {
    const look = this.lastError === undefined ? "" : "; look at that error; the breaker's log line says why it opened"
    return `${this.key}: circuit open, nothing was sent${again(this.retryAfterMillis)}${afterLastError(this.lastError)}${look}`
  }
}

/** The caller's deadline came first. `phase` says what it was waiting for. */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>("@sluice/sdk/DeadlineExceeded")(
  "DeadlineExceeded",
  {
    key: Schema.String,
    deadlineMillis: Schema.Finite,
    phase: Schema.Literals(["admission", "queue", "acquire", "attempt", "backoff", "decode"]),
    attempts: Schema.Int,
    lastError: Schema.optionalKey(LastError)
  },
  { httpApiStatus: 504 }
) {
  override get message(): string {
    return `${this.key}: no answer within ${seconds(this.deadlineMillis)} (in ${this.phase}, attempt ${this.attempts})${afterLastError(this.lastError)}`
  }
}

/** No replica is within the declared lag, and the declaration does not allow the primary. */
export class ReplicaTooStale extends Schema.TaggedError<ReplicaTooStale>("@sluice/sdk/ReplicaTooStale")(
  "ReplicaTooStale",
  {
    key: Schema.String,
    maxLagMillis: Schema.Finite,
    lagMillis: Schema.optionalKey(Schema.Finite)
  },
  { httpApiStatus: 503 }
) {
  override get message(): string {
    return `${this.key}: replica is ${this.lagMillis === undefined ? "of unknown age" : `${seconds(this.lagMillis)} behind`}, declared at most ${seconds(this.maxLagMillis)}`
  }
}

/** The statement was sent and its answer lost: it may or may not have been applied. Never repeated by Sluice. */
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>("@sluice/sdk/OutcomeUnknown")(
  "OutcomeUnknown",
  {
    key: Schema.String,
    lastError: Schema.optionalKey(LastError)
  },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    return `${this.key}: the statement was sent and its answer lost; it may have been applied${afterLastError(this.lastError)}`
  }
}

type Inspect = (value: unknown, options: object) => string

/** `console.log` shows the message and the place, then the fields. */
function inspected(this: Error, _depth: number, options: object, inspect?: Inspect): string {
  const { message: _, ...fields } = this
  return inspect === undefined ? String(this.stack) : `${this.stack} ${inspect(fields, options)}`
}

for (const error of [
  InvalidParameters,
  QueryFailed,
  RowDecodeError,
  DatabaseUnavailable,
  InvalidConfiguration,
  InvalidDeclarations,
  AcquireTimeout,
  Overloaded,
  CircuitOpen,
  DeadlineExceeded,
  ReplicaTooStale,
  OutcomeUnknown
]) {
  Object.defineProperty(error.prototype, Symbol.for("nodejs.util.inspect.custom"), { value: inspected })
}
