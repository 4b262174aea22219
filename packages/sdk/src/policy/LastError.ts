/**
 * What a policy remembers of the last real error.
 */
import { lastError } from "../internal/problems.ts"
import * as PgFailure from "../PgFailure.ts"
import type { LastError } from "../ReportError.ts"
import * as ReportError from "../ReportError.ts"

const ours: ReadonlySet<unknown> = new Set(Object.keys(ReportError))

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)

/** Safe to leave the process: messages of errors that are not ours may hold anything, so their tag has to do. */
export const lastErrorOf = (error: unknown): LastError => {
  if (typeof error !== "object" || error === null) return { tag: typeof error, message: "no description" }
  const known = error as Readonly<Record<string, unknown>>
  const tag = text(known["_tag"]) ?? text(known["name"]) ?? "Error"
  if (tag === "SqlError" && "reason" in error) return lastError(PgFailure.fromSqlError(error as never), error)
  const sqlState = text(known["sqlState"])
  return {
    tag,
    message: (ours.has(tag) ? text(known["message"]) : undefined) ?? tag,
    ...(sqlState === undefined ? undefined : { sqlState })
  }
}

/** For optional fields of errors, which must be absent rather than `undefined`. */
export const lastErrorField = (last: LastError | undefined): { readonly lastError?: LastError } =>
  last === undefined ? {} : { lastError: last }
