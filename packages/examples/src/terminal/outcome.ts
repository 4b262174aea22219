/** How a command of the examples ends: errors as one line for people, and an exit code. */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { isSqlError } from "effect/sql/SqlError"

/** What an error says, on one line for people. */
export const tellError = (error: unknown): string => {
  if (isSqlError(error)) {
    const cause = error.reason.cause
    return `PostgreSQL: ${cause instanceof Error ? cause.message : error.message}`
  }
  return error instanceof Error ? error.message : String(error)
}

/** Prints what a failure says; a defect with its stack, since it is a mistake of ours. The command line tells its own errors. */
export const outcome = <A, E, R>(main: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.tapCause(main, (cause) => {
    if (Cause.hasInterruptsOnly(cause)) return Effect.void
    if (Cause.hasDies(cause)) return Console.error(Cause.pretty(cause))
    const error = Cause.squash(cause)
    return String((error as { _tag?: unknown })._tag) === "ShowHelp" ? Effect.void : Console.error(tellError(error))
  })
