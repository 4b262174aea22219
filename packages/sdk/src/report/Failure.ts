/**
 * From the driver's error to the report's: what the caller may know, and what stays in the process.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { originalOf, remember } from "../internal/originals.ts"
import { lastError, problemOf, reasonOf } from "../internal/problems.ts"
import * as PgFailure from "../PgFailure.ts"
import { DatabaseUnavailable, OutcomeUnknown, QueryFailed, RowDecodeError } from "../ReportError.ts"
import type { Declared } from "./Declared.ts"
import { atPlace } from "./Place.ts"

/**
 * The driver's own error behind a report's error, with the server's message and position, for a debugger or a test of
 * yours. It may contain SQL text and values: keep it out of logs and answers.
 */
export const sqlErrorOf = (error: unknown): SqlError | undefined => originalOf(error) as SqlError | undefined

/**
 * The line of the statement in which the server found the error, and a caret below it. For a developer: it is SQL text.
 * `undefined`: the server told no place.
 */
export const excerptOf = (error: unknown): string | undefined => PgFailure.factsOf(sqlErrorOf(error))?.excerpt

/** At log level Debug the statement's own line is shown. */
export const failWith = <E>(error: E, declared: Declared): Effect.Effect<never, E> => {
  const told = atPlace(error, declared)
  const excerpt = excerptOf(told)
  return excerpt === undefined
    ? Effect.fail(told)
    : Effect.andThen(Effect.logDebug(`${(told as QueryFailed).message}\n${excerpt}`), Effect.fail(told))
}

/** The server is asked to refuse them: it is not the server that is read-only. */
const undeclaredWrite = `a report that does not declare writes may not change data (writes: "once" or "idempotent")`

const readOnlyByDesign = "the session or its transaction was declared read-only"

const readOnlyProblem = (writes: boolean, byDesign: boolean): string =>
  writes ? (byDesign ? readOnlyByDesign : problemOf("ReadOnly")) : undeclaredWrite

/** The session could not read a column. It was asked for nothing else: the server has done its work. */
const unreadableOf = (error: SqlError): { readonly column: string; readonly row?: number } | undefined => {
  const cause = error.reason.cause instanceof Error ? error.reason.cause.cause : undefined
  return cause instanceof Error && "typeOid" in cause && "column" in cause ? (cause as never) : undefined
}

/** What a failed statement means to the caller of a report that may (`writes`) or may not change data. */
export const fromSqlError = (
  report: string,
  pool: string,
  error: SqlError,
  failure: PgFailure.PgFailure,
  writes: boolean
): QueryFailed | DatabaseUnavailable | OutcomeUnknown | RowDecodeError => {
  const unreadable = unreadableOf(error)
  if (unreadable !== undefined) {
    const told = new RowDecodeError({
      report,
      row: unreadable.row ?? 0,
      field: unreadable.column,
      problem: "the value does not fit into JavaScript's type for it; cast the column, to text at the least"
    })
    return remember(told, error)
  }
  const facts = PgFailure.factsOf(error)
  const reason = reasonOf(failure.class)
  const told =
    writes && failure.outcome === "unknown"
      ? new OutcomeUnknown({ key: report, lastError: lastError(failure, error) })
      : reason === undefined
        ? new QueryFailed({
            report,
            class: failure.class,
            problem:
              facts?.problem ??
              (failure.class === "ReadOnly"
                ? readOnlyProblem(writes, facts?.guarded === true)
                : problemOf(failure.class, failure.sqlState)),
            ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState }),
            ...(facts?.names === undefined ? undefined : { names: facts.names }),
            ...(facts?.position === undefined ? undefined : { position: facts.position }),
            ...(facts?.line === undefined ? undefined : { line: facts.line })
          })
        : new DatabaseUnavailable({ pool, reason, lastError: lastError(failure, error) })
  return remember(told, error)
}
