/**
 * Milliseconds that only go forward, for everything that waits or grows old: a corrected wall clock must not end a deadline
 * or a lifetime early, nor keep anybody waiting. The origin is arbitrary; only differences mean something.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

/** The clock of a program that was given no other. */
export const live = Context.get(Context.empty(), Clock.Clock)

/** The live clock's own way leads over a BigInt; this is on the way of every lease. */
export const now = (clock: Clock.Clock): number =>
  clock === live ? performance.now() : Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** {@link now} in whole milliseconds. */
export const monotonicMillis = (clock: Clock.Clock): number => Math.floor(now(clock))

/** The wall time of such an instant, for people: by the wall clock as it is now. */
export const wallMillis = (clock: Clock.Clock, at: number): number =>
  clock.currentTimeMillisUnsafe() + at - monotonicMillis(clock)
