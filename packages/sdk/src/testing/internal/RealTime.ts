/**
 * The time of servers. They do not follow `TestClock`, so a wait for one must not either: everything in here uses the
 * machine's clock, and the testing tools work the same inside `it.effect`.
 */
import * as Effect from "effect/Effect"

/** Waits real milliseconds. */
export const sleep = (millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Repeats `check` until it gives something other than `undefined`; gives `undefined` after `timeoutMillis`. */
export const poll = <A, E, R>(
  check: Effect.Effect<A | undefined, E, R>,
  options: { readonly everyMillis: number; readonly timeoutMillis: number }
): Effect.Effect<A | undefined, E, R> =>
  Effect.gen(function* () {
    const end = performance.now() + options.timeoutMillis
    for (;;) {
      const value = yield* check
      if (value !== undefined || performance.now() > end) return value
      yield* sleep(options.everyMillis)
    }
  })
