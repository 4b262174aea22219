/**
 * Time as the policies see it: milliseconds of the `Clock`'s monotonic time, and timers.
 *
 * Instants are monotonic, so that a corrected wall clock neither ends a deadline early nor keeps a breaker open.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { live, now } from "../internal/Monotonic.ts"
import * as Timers from "./Timers.ts"

export { now } from "../internal/Monotonic.ts"

/** The clock of a fiber. */
export const clockOf = (fiber: Fiber.Fiber<unknown, unknown>): Clock.Clock => fiber.getRef(Clock.Clock)

/** {@link now} by the clock of a fiber. */
export const nowOf = (fiber: Fiber.Fiber<unknown, unknown>): number => now(fiber.getRef(Clock.Clock))

/** Milliseconds of a duration; infinite stays infinite, as a text too, which Effect does not know. */
export const millisOf = (duration: Duration.Input): number =>
  typeof duration === "string" && /^infinity$/i.test(duration)
    ? Infinity
    : Duration.toMillis(Duration.fromInputUnsafe(duration))

const nothing = (): void => {}

/**
 * Calls back once, at an instant of {@link now} by the clock of the fiber. Gives what takes the call back.
 *
 * The live clock is served by plain timers: a fiber that sleeps costs twice as much, and every call has a deadline.
 */
export const callAt = (fiber: Fiber.Fiber<unknown, unknown>, at: number, callback: () => void): (() => void) => {
  if (!(at < Infinity)) return nothing
  const clock = fiber.getRef(Clock.Clock)
  if (clock === live) return Timers.callAt(at, callback)
  const sleeper = Effect.runForkWith(fiber.context)(clock.sleep(Duration.millis(Math.max(0, at - now(clock)))))
  sleeper.addObserver((exit) => {
    if (exit._tag === "Success") callback()
  })
  return () => sleeper.interruptUnsafe()
}

/** {@link callAt}, `millis` from now. */
export const after = (fiber: Fiber.Fiber<unknown, unknown>, millis: number, callback: () => void): (() => void) =>
  callAt(fiber, nowOf(fiber) + millis, callback)
