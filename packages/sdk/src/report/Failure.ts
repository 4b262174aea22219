/**
 * From the driver's error to the report's: what the caller may know, and what stays in the process.
 */
import type { SqlError } from "effect/sql/SqlError"
import { DatabaseUnavailable, type LastError, QueryFailed } from "../ReportError.ts"

const originals = new WeakMap<object, SqlError>()

/**
 * The driver's own error behind a report's error, with the server's message and position, for a debugger or a test of
 * yours. It may contain SQL text and values: keep it out of logs and answers.
 */
export const sqlErrorOf = (error: unknown): SqlError | undefined =>
  typeof error === "object" && error !== null ? originals.get(error) : undefined

/** PostgreSQL's SQLSTATE, which the driver keeps on the cause. */
export const sqlStateOf = (error: SqlError): string | undefined => {
  const cause = error.reason.cause
  if (typeof cause !== "object" || cause === null || !("code" in cause)) return undefined
  return typeof cause.code === "string" && /^[0-9A-Z]{5}$/.test(cause.code) ? cause.code : undefined
}

/** A description that holds neither SQL text nor values: the server's message may hold both. */
export const lastError = (error: SqlError): LastError => {
  const sqlState = sqlStateOf(error)
  return {
    tag: error.reason._tag,
    message: sqlState === undefined ? "the connection failed" : "the server reported an error",
    ...(sqlState === undefined ? undefined : { sqlState })
  }
}

/** What a failed statement means to the caller of a report. */
export const fromSqlError = (report: string, pool: string, error: SqlError): QueryFailed | DatabaseUnavailable => {
  const sqlState = sqlStateOf(error)
  const failure =
    error.reason._tag === "ConnectionError" && sqlState === undefined
      ? new DatabaseUnavailable({ pool, reason: "lost", lastError: lastError(error) })
      : new QueryFailed({
          report,
          class: error.reason._tag,
          problem: "the server refused the statement",
          ...(sqlState === undefined ? undefined : { sqlState })
        })
  originals.set(failure, error)
  return failure
}
