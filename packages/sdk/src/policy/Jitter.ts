/**
 * Chance in waiting times, so that callers who failed together do not come back together.
 *
 * Every function is total: whatever the attempt number made of the delay (overflow, NaN), the result lies in
 * `[0, cap]`. A delay that became NaN once made a whole fleet retry without any delay.
 */

/**
 * - `none`: the delay itself.
 * - `full`: anywhere in `[0, delay)`. The default: spreads best.
 * - `equal`: anywhere in `[delay / 2, delay)`: never at once.
 * - `decorrelated`: anywhere in `[base, 3 * previous)`: grows by chance.
 */
export type Jitter = "none" | "full" | "equal" | "decorrelated"

/** `delay` as a number of milliseconds in `[0, cap]`. What is not a number is as long as allowed, never as short. */
export const capped = (delay: number, cap: number): number => (delay <= cap ? Math.max(0, delay) : cap)

/**
 * A delay with chance in it.
 *
 * @param delay what the schedule says, milliseconds
 * @param cap the longest delay, milliseconds
 * @param random in `[0, 1)`
 * @param previous the delay before this one; undefined for the first
 * @param base the shortest delay of `decorrelated`
 */
export const apply = (
  jitter: Jitter,
  delay: number,
  cap: number,
  random: number,
  previous: number | undefined,
  base: number
): number => {
  const bounded = capped(delay, cap)
  switch (jitter) {
    case "none":
      return bounded
    case "full":
      return bounded * random
    case "equal":
      return bounded / 2 + (bounded / 2) * random
    case "decorrelated": {
      const low = capped(base, cap)
      const high = capped((previous ?? low) * 3, cap)
      return capped(low + Math.max(0, high - low) * random, cap)
    }
  }
}

/** `base * factor ^ (attempt - 1)`, capped: survives any attempt number. */
export const exponential = (base: number, factor: number, attempt: number, cap: number): number =>
  capped(base * factor ** Math.max(0, attempt - 1), cap)
