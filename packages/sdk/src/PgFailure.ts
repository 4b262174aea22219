/**
 * What a failure of PostgreSQL means: one pure, total function over one table.
 *
 * It looks at the SQLSTATE, the severity and what this side knows about the attempt ({@link LocalFacts}). It never looks
 * at a message: messages are localised and change between versions.
 *
 * @example
 * ```ts
 * const failure = PgFailure.classify({ sqlState: "57P01", severity: "FATAL", sent: true, commit: false })
 * failure.class // "Shutdown"
 * failure.retry // "fresh-session"
 * failure.session // "drop"
 * ```
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { SqlError } from "effect/sql/SqlError"

/** How the work may be repeated. Anything but `never` still needs budget, deadline and attempts left. */
export type Retry =
  /** Repeating gives the same failure, or is not safe. */
  | "never"
  /** The session is fine: repeat the unit (the whole transaction, if there is one). */
  | "same"
  /** On another session; the node may be the same one. */
  | "fresh-session"
  /** Not before `delayFloorMillis`; the node may be the same one. */
  | "after-delay"
  /** Only on another node: this one gives the same failure again. */
  | "other-node"

/** What became of the statement. Whoever has no facts gets the worst that is possible. */
export type Outcome =
  /** The server never saw it. */
  | "not-sent"
  /** The server saw it and rolled it back. */
  | "not-applied"
  /** The answer is lost: it may have been applied. */
  | "unknown"
  /** The server confirmed it, and what came later failed. */
  | "applied"

/** What a breaker makes of it. `success` says: the server works. */
export type BreakerSignal = "failure" | "ignored" | "success"

/** The names that errors, metrics and declarations use for a group of codes. */
export type FailureClass =
  | "Unreachable"
  | "TlsRejected"
  | "ConnectionLost"
  | "OutcomeUnknown"
  | "ProtocolViolation"
  | "Shutdown"
  | "Starting"
  | "IdleTimeout"
  | "DatabaseGone"
  | "TooManyConnections"
  | "Resources"
  | "ResourceLimit"
  | "DiskOrIo"
  | "Serialization"
  | "Deadlock"
  | "CompletionUnknown"
  | "LockTimeout"
  | "ObjectState"
  | "Cancelled"
  | "StatementTimeout"
  | "AttemptTimeout"
  | "ReadOnly"
  | "TransactionMisuse"
  | "StalePlan"
  | "Authentication"
  | "Permission"
  | "CallerError"
  | "ForeignData"
  | "OperatorIntervention"
  | "Internal"
  | "Corruption"
  | "Raised"
  | "Unknown"

/** What the table holds for a code, or for the first two characters of codes. */
export interface Rule {
  readonly class: FailureClass
  /** For work that may be repeated: read-only, or declared idempotent. */
  readonly retry: Retry
  /** For a write that must not happen twice, once it is certain that it was not applied. What is in doubt is never repeated. */
  readonly write: Retry
  readonly breaker: BreakerSignal
  /** `reset`: the transaction state has to be cleaned first. A FATAL or PANIC always drops. */
  readonly session: "keep" | "reset" | "drop"
  /** The most retries this failure deserves in one call, whatever is declared. */
  readonly retries?: number | undefined
  /** Milliseconds to wait at the least. Presets scale it (250 ms, 1 s, 5 s). */
  readonly delayFloorMillis?: number | undefined
  /** The first retry of a call need not wait: a lost session says little about the server. */
  readonly immediate?: boolean | undefined
  /** From this retry on the primary is the better choice (conflicts with recovery recur on a standby). */
  readonly primaryAfter?: number | undefined
  /** The role of the node may have changed: look at once. */
  readonly probe?: boolean | undefined
  /** The fault of a configuration, a credential or a disk: somebody should know. */
  readonly alarm?: boolean | undefined
  /** The outcome is lost even though the server answered. */
  readonly outcomeUnknown?: boolean | undefined
}

/** What this side knows and the server's code does not say. Everything absent counts as the worst case. */
export interface LocalFacts {
  /** `connect`: the session was not ready yet. Absent: `query`. */
  readonly phase?: "connect" | "query" | undefined
  /** A byte of the statement was handed to the socket. Absent: `true` in phase `query`. */
  readonly sent?: boolean | undefined
  /** The lost answer could be that of a commit: a COMMIT, or a statement outside a transaction. Absent: `true`. */
  readonly commit?: boolean | undefined
  /** The server had confirmed the end of the statement (and of its commit) when this happened. */
  readonly answered?: boolean | undefined
  /** We sent the CancelRequest. */
  readonly cancelledBy?: "us" | undefined
  /** Which of our own timers fired first. `attempt-cut`: an attempt that the deadline made shorter than declared. */
  readonly timer?: "connect" | "attempt" | "attempt-cut" | "statement" | "watchdog" | undefined
  /** Node's code of a socket error (`ECONNREFUSED`, `ENOTFOUND`, `ECONNRESET`, `EPIPE`, ...), or `EOF`, `TLS`. */
  readonly transport?: string | undefined
  /** The statement ran from a prepared plan. */
  readonly prepared?: boolean | undefined
  /** The statement ran inside a transaction of the caller. */
  readonly inTransaction?: boolean | undefined
  /** The session outlived the error: who raised an outage, then, is not this server. */
  readonly alive?: boolean | undefined
  /** `false`: the statement may commit before it ends (`CALL`, `DO`, ...), so an ERROR proves no rollback. Absent: it cannot. */
  readonly atomic?: false | undefined
  /** The server was asked, by this side, to refuse writes. */
  readonly guarded?: boolean | undefined
  /** The session has refused writes since it was opened, and another one would. */
  readonly fromTheFirst?: boolean | undefined
  /** The login failed on this side: no password, or one that cannot be had. */
  readonly login?: boolean | undefined
  /** The session refused to send it: the server has not seen it. */
  readonly refused?: boolean | undefined
  /** What went wrong, in words without values or SQL text. */
  readonly problem?: string | undefined
  /** Names that the server gave with its error. */
  readonly names?: ServerNames | undefined
  /** Where in the statement's text the server found the error: its character, from 1, and its line, from 1. */
  readonly position?: number | undefined
  readonly line?: number | undefined
  /** That line of the statement, and a caret below it. SQL text: for a developer's eyes. */
  readonly excerpt?: string | undefined
  /** The C function of the server that raised the error (field `R`), which is never localised. */
  readonly routine?: string | undefined
  /** Thrown, not failed: a bug of ours or of the driver. */
  readonly defect?: boolean | undefined
}

/** Names of objects of the database. Never values. */
export interface ServerNames {
  readonly schema?: string
  readonly table?: string
  readonly column?: string
  readonly constraint?: string
  readonly dataType?: string
  /** The C function of the server that raised the error. */
  readonly routine?: string
}

/** What `classify` looks at. */
export interface Input extends LocalFacts {
  readonly sqlState?: string | undefined
  /** The unlocalised severity (field `V` of the protocol). Absent counts as `ERROR`. */
  readonly severity?: string | undefined
}

/** What to do. */
export interface PgFailure {
  readonly class: FailureClass
  readonly sqlState: string | undefined
  readonly retry: Retry
  readonly write: Retry
  readonly outcome: Outcome
  readonly breaker: BreakerSignal
  readonly session: "keep" | "reset" | "drop"
  readonly retries: number | undefined
  readonly delayFloorMillis: number | undefined
  readonly immediate: boolean
  readonly primaryAfter: number | undefined
  readonly probe: boolean
  readonly alarm: boolean
}

const rule = (
  name: FailureClass,
  retry: Retry,
  write: Rule["write"],
  breaker: BreakerSignal,
  session: Rule["session"],
  more?: Partial<Rule>
): Rule => ({ class: name, retry, write, breaker, session, ...more })

// The floor of the preset `report`: a server that starts, or is full, is not ready any sooner.
const floor = 1000

const unreachable = rule("Unreachable", "fresh-session", "fresh-session", "failure", "drop", {
  probe: true
})
const tlsRejected = rule("TlsRejected", "never", "never", "failure", "drop", { alarm: true })
const connectionLost = rule("ConnectionLost", "fresh-session", "never", "failure", "drop", {
  immediate: true,
  probe: true
})
const outcomeLost = rule("OutcomeUnknown", "fresh-session", "never", "failure", "drop", { outcomeUnknown: true })
const protocol = rule("ProtocolViolation", "never", "never", "failure", "drop", { alarm: true })
const shutdown = rule("Shutdown", "fresh-session", "fresh-session", "failure", "drop", {
  probe: true
})
const crash: Rule = { ...shutdown, write: "never" }
const starting = rule("Starting", "after-delay", "after-delay", "failure", "drop", {
  delayFloorMillis: floor,
  probe: true
})
const idleTimeout = rule("IdleTimeout", "fresh-session", "never", "ignored", "drop", { alarm: true })
const databaseGone = rule("DatabaseGone", "never", "never", "failure", "drop", { alarm: true })
const tooMany = rule("TooManyConnections", "after-delay", "after-delay", "failure", "drop", {
  delayFloorMillis: floor
})
const resources = rule("Resources", "after-delay", "never", "failure", "keep", {
  retries: 1,
  delayFloorMillis: floor
})
const resourceLimit = rule("ResourceLimit", "never", "never", "failure", "keep")
const diskOrIo = rule("DiskOrIo", "other-node", "never", "failure", "keep", { alarm: true })
const serialization = rule("Serialization", "same", "same", "ignored", "keep", { primaryAfter: 2 })
const deadlock = rule("Deadlock", "same", "same", "ignored", "keep")
const completionUnknown = rule("CompletionUnknown", "same", "never", "ignored", "keep", { outcomeUnknown: true })
const lockTimeout = rule("LockTimeout", "same", "same", "ignored", "keep", { retries: 1 })
const objectState = rule("ObjectState", "never", "never", "ignored", "keep", { retries: 1 })
const cancelled = rule("Cancelled", "never", "never", "ignored", "keep")
const statementTimeout = rule("StatementTimeout", "never", "never", "ignored", "keep", { retries: 1 })
const attemptTimeout = rule("AttemptTimeout", "fresh-session", "never", "failure", "drop")
const readOnly = rule("ReadOnly", "other-node", "other-node", "ignored", "drop", { probe: true })
// Asked for by this side, or said by a function: the server is no other than before, and any other says the same.
const readOnlyOurs: Rule = { ...readOnly, retry: "never", write: "never", session: "keep", probe: false }
const misuse = rule("TransactionMisuse", "never", "never", "ignored", "reset")
const stalePlan = rule("StalePlan", "same", "same", "ignored", "keep", { retries: 1 })
const authentication = rule("Authentication", "never", "never", "ignored", "drop", { alarm: true })
const permission = rule("Permission", "never", "never", "ignored", "keep")
const caller = rule("CallerError", "never", "never", "ignored", "keep")
const foreignData = rule("ForeignData", "never", "never", "ignored", "keep")
const operator = rule("OperatorIntervention", "never", "never", "ignored", "keep")
const internal = rule("Internal", "never", "never", "failure", "keep", { alarm: true })
const corruption = rule("Corruption", "never", "never", "failure", "drop", { alarm: true })
const unknown = rule("Unknown", "never", "never", "ignored", "drop")
// A function or a foreign server said so, on a session that lives: this server is well.
const raised = rule("Raised", "never", "never", "ignored", "keep", { retries: 1 })
// A code of nobody we know, but the server did answer.
const unknownCode: Rule = { ...unknown, session: "keep" }
const defect: Rule = { ...unknown, breaker: "failure", alarm: true }

/** The table: full codes, and two characters for the rest of a class. Read it beside PostgreSQL's appendix A. */
export const rules: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ["08", connectionLost],
  ["08001", unreachable],
  ["08004", unreachable],
  ["08007", outcomeLost],
  ["08P01", protocol],
  ["25", misuse],
  ["25006", readOnly],
  ["25P03", idleTimeout],
  ["25P04", idleTimeout],
  ["26", stalePlan],
  ["28", authentication],
  ["3D", databaseGone],
  ["40", serialization],
  ["40002", caller],
  ["40003", completionUnknown],
  ["40P01", deadlock],
  ["42", caller],
  ["42501", permission],
  ["53", resources],
  ["53100", diskOrIo],
  ["53300", tooMany],
  ["53400", resourceLimit],
  ["55", caller],
  ["55000", objectState],
  ["55006", objectState],
  ["55P03", lockTimeout],
  ["57", operator],
  ["57014", statementTimeout],
  ["57P01", shutdown],
  ["57P02", crash],
  ["57P03", starting],
  ["57P04", databaseGone],
  ["57P05", idleTimeout],
  ["58", diskOrIo],
  // A snapshot too old is made new by repeating, as any conflict is.
  ["72", serialization],
  ["F0", internal],
  ["HV", foreignData],
  ["XX", internal],
  ["XX001", corruption],
  ["XX002", corruption],
  ...["00", "01", "02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "27"].map(
    (group) => [group, caller] as const
  ),
  ...["2B", "2D", "2F", "34", "38", "39", "3B", "3F", "44", "54", "P0"].map((group) => [group, caller] as const)
])

/** Codes (five characters) or classes of codes (two) that a user adds, or changes in part. */
export type Overrides = ReadonlyMap<string, Partial<Rule>>

/** The overrides in force. Default: none. Provide it with {@link layer}. */
export const CurrentOverrides: Context.Reference<Overrides> = Context.Reference("@sluice/sdk/PgFailure/Overrides", {
  defaultValue: (): Overrides => new Map()
})

/**
 * Adds codes to the table, or changes what it says of them.
 *
 * @example
 * ```ts
 * const ours = PgFailure.layer({ "P0R01": { class: "Serialization", retry: "same" }, "55000": { retry: "same" } })
 * ```
 */
export const layer = (overrides: Readonly<Record<string, Partial<Rule>>>): Layer.Layer<never> =>
  Layer.succeed(CurrentOverrides, new Map(Object.entries(overrides)))

const isSqlState = (code: string): boolean => /^[0-9A-Z]{5}$/.test(code)
const isFatal = (severity: string | undefined): boolean => severity === "FATAL" || severity === "PANIC"

/** These say that a server cannot serve. Of this server they are true only where they ended the session, or began none. */
const outages: ReadonlySet<FailureClass> = new Set([
  "Unreachable",
  "ConnectionLost",
  "OutcomeUnknown",
  "ProtocolViolation",
  "Shutdown",
  "Starting",
  "IdleTimeout",
  "TooManyConnections",
  "DatabaseGone"
])

/** What PL/pgSQL, PL/Python, PL/Perl, PL/Tcl, postgres_fdw and dblink raise errors with, whatever their code. */
const raisers = /^(?:exec_stmt_raise|PLy_|plperl|do_spi_elog|pltcl|pgfdw_|connect_pg_server|dblink_)/

/** Its error says whatever its author likes. */
export const isRaiser = (routine: string | undefined): boolean => raisers.test(routine ?? "")

/** Those of them that pass on no timeout of this server's: PL/Python raises anew what ended its own statement. */
const strangers = /^(?:exec_stmt_raise|pgfdw_|dblink_)/

/** A word on the server, its credentials or its data, on a session that lives: somebody behind the server has it, or says so. */
const isRaised = (found: Rule, input: Input): boolean => {
  if (input.alive !== true || isFatal(input.severity)) return false
  if (outages.has(found.class)) return true
  const by = input.routine ?? ""
  if (found.class === "StatementTimeout") return strangers.test(by)
  const concernsServer = found.breaker === "failure" || found.session === "drop" || found.alarm === true
  // Nor is a plan stale that ran as far as to raise something.
  return (concernsServer || found.class === "StalePlan") && found.class !== "ReadOnly" && raisers.test(by)
}

/** Where a code alone means several things, local facts decide. */
const bySqlState = (code: string, input: Input): Rule => {
  const found = byCode(code, input)
  if (!isRaised(found, input)) return found
  // A Bind that does not fit its statement, a database that a statement names: the caller's, unless somebody raised it.
  const isOurs = found.class === "ProtocolViolation" || found.class === "DatabaseGone"
  if (isOurs && !raisers.test(input.routine ?? "")) return caller
  return found.outcomeUnknown === true ? { ...raised, outcomeUnknown: true } : raised
}

/** What finds a plan stale. A server that names no functions is believed by the code alone. */
const revalidates = "RevalidateCachedQuery"

const byCode = (code: string, input: Input): Rule => {
  if (code === "57014") {
    if (input.cancelledBy === "us") return cancelled
    // PostgreSQL uses the code for authentication_timeout too; only then it ends the session.
    if (isFatal(input.severity)) return unreachable
  }
  if (code === "0A000" && input.prepared === true && (input.routine ?? revalidates) === revalidates) return stalePlan
  if (code === "25006" && (input.guarded === true || raisers.test(input.routine ?? ""))) return readOnlyOurs
  return rules.get(code) ?? rules.get(code.slice(0, 2)) ?? unknownCode
}

const byFacts = (input: Input): Rule => {
  if (input.defect === true) return defect
  if (input.refused === true) return caller
  if (input.login === true) return authentication
  if (input.transport === "TLS") return tlsRejected
  if (input.timer === "connect") return unreachable
  if (input.transport !== undefined || input.timer === "watchdog") {
    return input.phase === "connect" || neverConnected.has(input.transport ?? "") ? unreachable : connectionLost
  }
  if (input.cancelledBy === "us" && input.timer === undefined) return cancelled
  if (input.timer === "attempt" || input.timer === "statement") return attemptTimeout
  // Cut short by the deadline, it says nothing about the server.
  if (input.timer === "attempt-cut") return { ...attemptTimeout, breaker: "ignored" }
  return unknown
}

const neverConnected: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENOENT"
])

// The server refuses these before it looks at a statement; only a session that knows better can say otherwise.
const beforeStatement: ReadonlySet<FailureClass> = new Set([
  "Unreachable",
  "TlsRejected",
  "Starting",
  "TooManyConnections"
])

const outcomeOf = (found: Rule, input: Input): Outcome => {
  if (input.answered === true) return "applied"
  if (input.refused === true) return "not-sent"
  if (input.phase === "connect" || input.sent === false) return "not-sent"
  if (beforeStatement.has(found.class) && input.sent !== true) return "not-sent"
  if (found.outcomeUnknown === true || input.atomic === false) return "unknown"
  // An ERROR of the server means that it rolled back. A session that ended leaves the commit in doubt.
  const ended =
    input.sqlState === undefined ||
    isFatal(input.severity) ||
    found.class === "ConnectionLost" ||
    found.class === "Shutdown"
  return ended && input.commit !== false ? "unknown" : "not-applied"
}

const writeOf = (found: Rule, retry: Retry, outcome: Outcome): Retry => {
  // What never left may be repeated wherever a read may.
  if (outcome === "not-sent" || retry === "never") return retry
  return outcome === "not-applied" ? found.write : "never"
}

const sessionOf = (found: Rule, input: Input): Rule["session"] => {
  if (isFatal(input.severity) || input.phase === "connect") return "drop"
  return found.class === "ReadOnly" && input.fromTheFirst === true ? "keep" : found.session
}

/**
 * What to do about a failure. Total: any input gives an answer; what is not known is never repeated.
 *
 * @param overrides what a user added; {@link CurrentOverrides} of the fiber, if you have one
 */
export const classify = (input: Input, overrides?: Overrides): PgFailure => {
  const code = input.sqlState
  let found = code === undefined ? byFacts(input) : bySqlState(code, input)
  if (code !== undefined && overrides !== undefined && overrides.size > 0) {
    const change = overrides.get(code) ?? overrides.get(code.slice(0, 2))
    if (change !== undefined) found = { ...found, ...change }
  }
  const outcome = outcomeOf(found, input)
  // A plan that went stale inside a transaction has aborted it: only its owner can begin again.
  const aborted = found.class === "StalePlan" && input.inTransaction === true
  const retry = outcome === "applied" || aborted ? "never" : found.retry
  return {
    class: found.class,
    sqlState: code,
    retry,
    write: writeOf(found, retry, outcome),
    outcome,
    breaker: found.breaker,
    session: sessionOf(found, input),
    retries: found.retries,
    delayFloorMillis: found.delayFloorMillis,
    immediate: found.immediate === true,
    primaryAfter: found.primaryAfter,
    probe: found.probe === true,
    alarm: found.alarm === true
  }
}

/** The key under which a session leaves its {@link LocalFacts} on the cause of a `SqlError`. */
export const FactsKey = "~sluice/facts"

/** Leaves what the session knows on the cause of an error it is about to fail with. Gives the cause back. */
export const attachFacts = <Cause extends object>(cause: Cause, facts: LocalFacts): Cause => {
  Object.defineProperty(cause, FactsKey, { value: facts, enumerable: false, configurable: true, writable: true })
  return cause
}

const property = (from: unknown, name: string): unknown =>
  typeof from === "object" && from !== null ? (from as Readonly<Record<string, unknown>>)[name] : undefined

const text = (from: unknown, name: string): string | undefined => {
  const value = property(from, name)
  return typeof value === "string" ? value : undefined
}

/** What the session left on an error: on a `SqlError`, on its reason, or on the cause itself. */
export const factsOf = (error: unknown): LocalFacts | undefined => {
  const reason = property(error, "reason")
  const found =
    property(property(reason, "cause"), FactsKey) ??
    property(reason, FactsKey) ??
    property(property(error, "cause"), FactsKey) ??
    property(error, FactsKey)
  return typeof found === "object" && found !== null ? (found as LocalFacts) : undefined
}

const tlsCode = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/

/** Reads what a `SqlError` carries. Facts given here win over those that the session attached. */
export const inputOf = (error: SqlError, facts?: LocalFacts): Input => {
  const reason = error.reason
  const attached = factsOf(error)
  const known: LocalFacts = { phase: reason.operation === "connect" ? "connect" : "query", ...attached, ...facts }
  let cause: unknown = reason.cause
  for (let depth = 0; depth < 4 && cause !== undefined; depth++) {
    const code = text(cause, "code")
    const severity = text(cause, "severityUnlocalized") ?? text(cause, "severity")
    // `EPIPE` has the form of a SQLSTATE; what a server says has a severity, what a socket says an errno.
    if (code !== undefined && isSqlState(code) && property(cause, "errno") === undefined && code !== "EPIPE") {
      // A C function's name is not localised; this one means that the plan is stale, and not that a feature is missing.
      const routine = text(cause, "routine")
      const stale = code === "0A000" && routine === revalidates
      return { ...known, sqlState: code, severity, routine, ...(stale ? { prepared: true } : undefined) }
    }
    if (code !== undefined) return { ...known, transport: known.transport ?? (tlsCode.test(code) ? "TLS" : code) }
    cause = property(cause, "cause")
  }
  const lost = reason._tag === "ConnectionError" && known.timer === undefined && known.transport === undefined
  return lost ? { ...known, transport: "EOF" } : known
}

/** {@link classify} for what the driver fails with. */
export const fromSqlError = (error: SqlError, facts?: LocalFacts, overrides?: Overrides): PgFailure =>
  classify(inputOf(error, facts), overrides)
