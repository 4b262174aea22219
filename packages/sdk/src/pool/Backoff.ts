/**
 * The pause after a failed connect: a Schedule gives the ceiling, a random part of it is waited (full jitter), so that
 * many processes that lost the same server do not come back in step.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"

/** A random draw near zero would make the first retries a hammer. */
const leastPauseMillis = 10

export interface Backoff {
  /** Milliseconds until the next attempt. A schedule that ends keeps its last ceiling: the pool never gives up. */
  next(now: number, error: SqlError): Effect.Effect<number>
  reset(): void
}

export const make = (schedule: Schedule.Schedule<unknown, SqlError>, random: Random.Random): Backoff => {
  type Step = Effect.Success<ReturnType<typeof Schedule.toStep<unknown, SqlError, never, never>>>
  let step: Step | undefined
  let ceiling = 1_000
  return {
    next: Effect.fnUntraced(function* (now, error) {
      step ??= yield* Schedule.toStep(schedule)
      const exit = yield* Effect.exit(step(now, error))
      if (Exit.isSuccess(exit)) ceiling = Duration.toMillis(exit.value[1])
      else if (Cause.hasDies(exit.cause)) yield* Effect.logWarning("the connect backoff schedule died", exit.cause)
      return Math.max(leastPauseMillis, Math.round(random.nextDoubleUnsafe() * ceiling))
    }),
    reset() {
      step = undefined
    }
  }
}
