/**
 * From the driver's error to the report's: what the caller may know, and what stays in the process.
 */
import type { SqlError } from "effect/sql/SqlError"
import type * as PgFailure from "../PgFailure.ts"
import { DatabaseUnavailable, type LastError, OutcomeUnknown, QueryFailed } from "../ReportError.ts"

const originals = new WeakMap<object, SqlError>()

/**
 * The driver's own error behind a report's error, with the server's message and position, for a debugger or a test of
 * yours. It may contain SQL text and values: keep it out of logs and answers.
 */
export const sqlErrorOf = (error: unknown): SqlError | undefined =>
  typeof error === "object" && error !== null ? originals.get(error) : undefined

/** What a class of failures means, in words that hold neither SQL text nor values: the server's message may hold both. */
const problems: Partial<Record<PgFailure.FailureClass, string>> = {
  Unreachable: "the server cannot be reached",
  TlsRejected: "TLS was refused",
  ConnectionLost: "the connection was lost",
  OutcomeUnknown: "the answer was lost",
  ProtocolViolation: "the server or what stands before it broke the protocol",
  Shutdown: "the server is shutting down",
  Starting: "the server is starting",
  IdleTimeout: "the server ended an idle session",
  DatabaseGone: "the database does not exist",
  TooManyConnections: "the server has no connection left",
  Resources: "the server is short of a resource",
  ResourceLimit: "the statement went over a limit of the server",
  DiskOrIo: "the server's disk is full or failing",
  Serialization: "another transaction was in the way",
  Deadlock: "the server broke a deadlock",
  CompletionUnknown: "the server does not know whether it was applied",
  LockTimeout: "a lock was not granted in time",
  ObjectState: "an object is not in the state that the statement needs",
  Cancelled: "the statement was cancelled",
  StatementTimeout: "the server ended the statement at its timeout",
  AttemptTimeout: "no answer within the attempt's timeout",
  ReadOnly: "the server is read-only",
  TransactionMisuse: "the transaction does not allow the statement",
  StalePlan: "the statement's plan went stale",
  Authentication: "the server refused the credentials",
  Permission: "the role may not do this",
  CallerError: "the statement or its values do not fit the database",
  Internal: "the server reported an internal error",
  Corruption: "the server reported corrupted data"
}

const problemOf = (failure: PgFailure.PgFailure): string => problems[failure.class] ?? "the server reported an error"

/** A description of an error that is safe to leave the process. */
export const lastError = (failure: PgFailure.PgFailure): LastError => ({
  tag: failure.class,
  message: problemOf(failure),
  ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState })
})

const unavailable: Partial<Record<PgFailure.FailureClass, DatabaseUnavailable["reason"]>> = {
  Unreachable: "unreachable",
  TlsRejected: "configuration",
  ConnectionLost: "lost",
  OutcomeUnknown: "lost",
  Shutdown: "lost",
  Starting: "refused",
  IdleTimeout: "lost",
  DatabaseGone: "configuration",
  TooManyConnections: "refused",
  Authentication: "authentication"
}

/** What a failed statement means to the caller of a report that may (`writes`) or may not change data. */
export const fromSqlError = (
  report: string,
  pool: string,
  error: SqlError,
  failure: PgFailure.PgFailure,
  writes: boolean
): QueryFailed | DatabaseUnavailable | OutcomeUnknown => {
  const reason = unavailable[failure.class]
  const told =
    writes && failure.outcome === "unknown"
      ? new OutcomeUnknown({ key: report, lastError: lastError(failure) })
      : reason === undefined
        ? new QueryFailed({
            report,
            class: failure.class,
            problem: problemOf(failure),
            ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState })
          })
        : new DatabaseUnavailable({ pool, reason, lastError: lastError(failure) })
  originals.set(told, error)
  return told
}
