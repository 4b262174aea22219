/**
 * Time as the policies see it: milliseconds of the `Clock`'s monotonic time, and one timer.
 *
 * Instants are monotonic, so that a corrected wall clock neither ends a deadline early nor keeps a breaker open.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { live, now } from "../internal/Monotonic.ts"

export { now } from "../internal/Monotonic.ts"

/** The clock of a fiber. */
export const clockOf = (fiber: Fiber.Fiber<unknown, unknown>): Clock.Clock => fiber.getRef(Clock.Clock)

/** {@link now} by the clock of a fiber. */
export const nowOf = (fiber: Fiber.Fiber<unknown, unknown>): number => now(fiber.getRef(Clock.Clock))

/** Milliseconds of a duration; infinite stays infinite. */
export const millisOf = (duration: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(duration))

const longestTimer = 2 ** 31 - 1
const nothing = (): void => {}

/**
 * Calls back once after `millis`, by the clock of the fiber. Gives what takes the call back.
 *
 * The live clock is served by a plain timer: a fiber that sleeps costs twice as much, and every call has a deadline.
 */
export const after = (fiber: Fiber.Fiber<unknown, unknown>, millis: number, callback: () => void): (() => void) => {
  if (!(millis < Infinity)) return nothing
  const clock = fiber.getRef(Clock.Clock)
  if (clock === live && millis <= longestTimer) {
    // A timer that fires early would make a call end before its deadline; one tick late is the promise.
    const timer = setTimeout(callback, Math.max(0, Math.ceil(millis)))
    return () => clearTimeout(timer)
  }
  const sleeper = Effect.runForkWith(fiber.context)(clock.sleep(Duration.millis(Math.max(0, millis))))
  sleeper.addObserver((exit) => {
    if (exit._tag === "Success") callback()
  })
  return () => sleeper.interruptUnsafe()
}
