/**
 * What a session knows about a failure, and the one place that makes its `SqlError`s.
 *
 * `PgFailure` decides by SQLSTATE and by these facts, never by message text. A failure whose statement was sent and whose
 * answer is lost says so: its `isRetryable` is `false`, because repeating it may apply it twice.
 */
import {
  AuthenticationError,
  AuthorizationError,
  ConnectionError,
  ConstraintError,
  DeadlockError,
  LockTimeoutError,
  SerializationError,
  SqlError,
  type SqlErrorReason,
  SqlSyntaxError,
  StatementTimeoutError,
  UniqueViolation,
  UnknownError
} from "effect/sql/SqlError"
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as PgFailure from "../../PgFailure.ts"

/** Which of the session's own bounds ended it. */
export type SessionBound = "close" | "connect" | "control" | "drain" | "message" | "reset" | "silence" | "validate"

/** The local truth about a failure: what `PgFailure` needs, and some more. Travels with the `SqlError`'s cause. */
export interface SessionFacts extends PgFailure.LocalFacts {
  /** Bytes of the statement may have reached the server. */
  readonly sent: boolean
  /** The answer that is lost could be that of a commit: the outcome is unknown. `false` where it is known. */
  readonly commit: boolean
  /** The session cannot write (read-only by setting or by recovery), so a repeat applies nothing twice. */
  readonly readOnly: boolean
  /** The session is lost with this failure. */
  readonly fatal: boolean
  /** `ERROR`, `FATAL` or `PANIC`, never localized; absent when the server said nothing. */
  readonly severity: string | undefined
  /** PostgreSQL's five characters, kept from FATAL messages and from the notice a crashing server sends. */
  readonly sqlState: string | undefined
  /** A bound of the session, when one of them ended it. */
  readonly bound: SessionBound | undefined
}

const unknownFacts: SessionFacts = {
  sent: false,
  commit: false,
  readOnly: false,
  fatal: false,
  severity: undefined,
  sqlState: undefined,
  bound: undefined
}

/** The facts of a failure that came from a session, `undefined` for any other error. */
export const factsOf = (error: unknown): SessionFacts | undefined => {
  const facts = PgFailure.factsOf(error)
  return facts !== undefined && "bound" in facts ? (facts as SessionFacts) : undefined
}

/** The timer in `PgFailure`'s words. */
const timerOf = (bound: SessionBound | undefined): "connect" | "watchdog" | undefined => {
  switch (bound) {
    case undefined:
    case "close":
    case "message":
      return undefined
    case "connect":
      return "connect"
    default:
      return "watchdog"
  }
}

type Code = { readonly code?: unknown; readonly errno?: unknown }

/** An `Error` with the server's fields, or with the code of a socket's error, and the facts. */
const makeCause = (cause: unknown, message: string, facts: SessionFacts, fields: object | undefined): Error => {
  const error = new Error(message, cause === undefined ? undefined : { cause })
  if (fields !== undefined) Object.assign(error, fields)
  else if (facts.sqlState !== undefined) {
    Object.assign(error, { code: facts.sqlState, severityUnlocalized: facts.severity ?? "FATAL" })
  }
  const timer = timerOf(facts.bound)
  const code = (cause as Code | undefined)?.code
  // Where programs look for it, and with the number that tells it from a SQLSTATE.
  if (typeof code === "string" && facts.sqlState === undefined && fields === undefined) {
    Object.assign(error, { code, errno: (cause as Code).errno ?? 0 })
  }
  const transport = typeof code === "string" ? (tlsCode.test(code) ? "TLS" : code) : facts.transport
  return PgFailure.attachFacts(error, {
    ...facts,
    ...(timer !== undefined && { timer }),
    ...(transport !== undefined && { transport })
  })
}

const tlsCode = /^(?:ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH)/

/** The server was there and is going, or is not taking sessions: a lost connection, unless the session outlived the error. */
const isConnectionState = (code: string, facts: SessionFacts): boolean =>
  facts.alive !== true && (code.startsWith("08") || code.startsWith("57P") || code === "25P03" || code === "53300")

const reasonOf = (
  code: string | undefined,
  facts: SessionFacts,
  constraint: string | undefined,
  props: { readonly cause: unknown; readonly message: string; readonly operation: string }
): SqlErrorReason => {
  if (code === undefined) return new UnknownError(props)
  if (isConnectionState(code, facts)) return new ConnectionError(props)
  if (code.startsWith("28")) return new AuthenticationError(props)
  if (code === "42501") return new AuthorizationError(props)
  if (code.startsWith("42")) return new SqlSyntaxError(props)
  if (code === "23505") return new UniqueViolation({ ...props, constraint: constraint?.trim() || "unknown" })
  if (code.startsWith("23")) return new ConstraintError(props)
  switch (code) {
    case "40P01":
      return new DeadlockError(props)
    case "40001":
      return new SerializationError(props)
    case "55P03":
      return new LockTimeoutError(props)
    case "57014":
      return new StatementTimeoutError(props)
    default:
      return new UnknownError(props)
  }
}

/** An outcome that is not known must not look repeatable to `Effect.retry({ while: (e) => e.isRetryable })`. */
const withOutcome = (reason: SqlErrorReason, facts: SessionFacts): SqlErrorReason => {
  if ((facts.fatal && facts.sent && facts.commit && !facts.readOnly) || facts.atomic === false) {
    Object.defineProperty(reason, "isRetryable", { value: false, enumerable: false })
  }
  return reason
}

export const isFatalSeverity = (severity: string | undefined): boolean => severity === "FATAL" || severity === "PANIC"

/** The server answered with an error. */
export const serverError = (
  fields: PgProtocol.ErrorFields,
  operation: string,
  facts: Partial<SessionFacts> = {}
): SqlError => {
  const severity = fields.severityUnlocalized ?? fields.severity
  const all: SessionFacts = {
    ...unknownFacts,
    fatal: isFatalSeverity(severity),
    severity,
    sqlState: fields.code,
    ...facts
  }
  const message = fields.message ?? "The server reported an error"
  const cause = makeCause(undefined, message, all, fields)
  return new SqlError({
    reason: withOutcome(reasonOf(fields.code, all, fields.constraint, { cause, message, operation }), all)
  })
}

/** The connection is gone, or could not be made. */
export const connectionError = (
  cause: unknown,
  message: string,
  operation: string,
  facts: Partial<SessionFacts> = {}
): SqlError => {
  const all: SessionFacts = { ...unknownFacts, fatal: true, ...facts }
  const reason = new ConnectionError({ cause: makeCause(cause, message, all, undefined), message, operation })
  return new SqlError({ reason: withOutcome(reason, all) })
}

/** The credentials cannot be had, or were refused before the server could say so. */
export const authenticationError = (cause: unknown, message: string): SqlError =>
  new SqlError({
    reason: new AuthenticationError({
      cause: makeCause(cause, message, { ...unknownFacts, fatal: true, login: true, problem: message }, undefined),
      message,
      operation: "connect"
    })
  })

/** Something about this statement alone: a parameter that cannot be sent, a column that cannot be read. */
export const statementError = (
  cause: unknown,
  message: string,
  operation: string,
  facts: Partial<SessionFacts> = {}
): SqlError => {
  const all: SessionFacts = { ...unknownFacts, ...facts }
  return new SqlError({
    reason: new UnknownError({ cause: makeCause(cause, message, all, undefined), message, operation })
  })
}

/** The same death, told to one statement: each has facts of its own. */
export const withFacts = (error: SqlError, facts: Partial<SessionFacts>): SqlError => {
  const known = factsOf(error)
  if (known === undefined) return error
  const all: SessionFacts = { ...known, ...facts }
  const { reason } = error
  const told = reason.cause as Error & { readonly constraint?: string }
  const { message } = told
  const fields = Object.keys(told).length === 0 ? undefined : { ...told }
  const cause = makeCause(told.cause, message, all, fields)
  const props = { cause, message, operation: reason.operation ?? "query" }
  const next =
    reason._tag === "ConnectionError" ? new ConnectionError(props) : reasonOf(all.sqlState, all, told.constraint, props)
  return new SqlError({ reason: withOutcome(next, all) })
}
