/**
 * Whole milliseconds that only go forward, for everything that waits or grows old: a corrected wall clock must not end a
 * deadline or a lifetime early, nor keep anybody waiting. The origin is arbitrary; only differences mean something.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"

const live = Context.get(Context.empty(), Clock.Clock)

/** An instant of {@link monotonicMillis} as the wall clock tells it now, for people. */
export const wallOf = (clock: Clock.Clock, instant: number): number =>
  clock.currentTimeMillisUnsafe() - (monotonicMillis(clock) - instant)

/** The live clock's way leads over a BigInt; this is on the way of every lease. */
export const monotonicMillis = (clock: Clock.Clock): number =>
  Math.floor(clock === live ? performance.now() : Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
