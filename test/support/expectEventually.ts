import * as Effect from "effect/Effect"

/**
 * Repeats `effect` every 10 ms of real time until its value passes `check`, and gives that value. Dies after
 * `timeoutMillis` (default 10 s, generous for a noisy machine) with the last value, so that the test says what it saw.
 */
export const expectEventually = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  check: (value: A) => boolean,
  timeoutMillis = 10_000
): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    const end = performance.now() + timeoutMillis
    for (;;) {
      const value = yield* effect
      if (check(value)) return value
      if (performance.now() > end) {
        return yield* Effect.die(new Error(`not within ${timeoutMillis} ms; last seen: ${JSON.stringify(value)}`))
      }
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10)))
    }
  })
