import { factsOf, type FailureClass, type PgFailure } from "../PgFailure.ts"
import type { DatabaseUnavailable, LastError } from "../ReportError.ts"

/** What a class of failures means, in words that hold neither SQL text nor values: the server's message may hold both. */
const problems: Partial<Record<FailureClass, string>> = {
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
  Corruption: "the server reported corrupted data",
  Raised: "a function or a foreign server raised the error of an outage, and the session lives"
}

/** The class in words. */
export const problemOf = (failure: FailureClass): string => problems[failure] ?? "the server reported an error"

/** A description of a failure that is safe to leave the process: what the session knows of it, else its class in words. */
export const lastError = (failure: PgFailure, error?: unknown): LastError => ({
  tag: failure.class,
  message: factsOf(error)?.problem ?? problemOf(failure.class),
  ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState })
})

/** Classes of failures that mean that the database is not available, and the reason that is told. */
const reasons: Partial<Record<FailureClass, DatabaseUnavailable["reason"]>> = {
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

/** `undefined`: the server answered. The name may be any tag. */
export const reasonOf = (failure: string): DatabaseUnavailable["reason"] | undefined =>
  Object.hasOwn(reasons, failure) ? reasons[failure as FailureClass] : undefined
