import { factsOf, type FailureClass, type PgFailure } from "../PgFailure.ts"
import { remember } from "./originals.ts"
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

/** Codes that a caller meets often, where the class says too little. */
const conditions: Readonly<Record<string, string>> = {
  "0A000": "the server does not support what the statement asks for",
  "21000": "a subquery gave more than one row, or a row was changed twice",
  "22001": "a string is longer than its column allows",
  "22003": "a number is out of the range of its type",
  "22007": "a text is no date or time",
  "22008": "a date or time is out of the range of its type",
  "22012": "division by zero",
  "22021": "a string holds a character that the database's encoding does not have",
  "22023": "an argument of a function is not allowed",
  "22025": "an escape in a LIKE pattern is not complete",
  "2201B": "a regular expression is not valid",
  "2201W": "LIMIT is negative",
  "2201X": "OFFSET is negative",
  "2202E": "an array's dimensions do not fit",
  "22P02": "a text is no value of the type that it is read as",
  "22P03": "a parameter's bytes do not fit its type",
  "23000": "a constraint is violated",
  "23502": "a column may not be null",
  "23503": "a foreign key is violated",
  "23505": "a unique constraint is violated",
  "23514": "a check is violated",
  "23P01": "an exclusion constraint is violated",
  "25P02": "the transaction has failed before",
  "2BP01": "other objects depend on it",
  "3F000": "there is no such schema",
  "42601": "the statement has a syntax error",
  "42703": "there is no such column",
  "42704": "there is no such object",
  "42883": "there is no such function or operator for these types",
  "42P01": "there is no such table",
  "42P18": "a parameter's type is not known; cast it",
  "54001": "the statement needs more stack than the server gives",
  P0001: "a function raised an error",
  P0002: "a function found no row",
  P0003: "a function found more than one row",
  P0004: "a function's assertion failed"
}

/** A failure in words: its code's, else its class's. */
export const problemOf = (failure: FailureClass, sqlState?: string): string =>
  (failure === "CallerError" && sqlState !== undefined ? conditions[sqlState] : undefined) ??
  problems[failure] ??
  "the server reported an error"

/** A description of a failure that is safe to leave the process: what the session knows of it, else its class in words. */
export const lastError = (failure: PgFailure, error?: unknown): LastError =>
  remember(
    {
      tag: failure.class,
      message: factsOf(error)?.problem ?? problemOf(failure.class, failure.sqlState),
      ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState })
    },
    error
  )

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
