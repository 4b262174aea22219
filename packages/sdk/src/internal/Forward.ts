/**
 * The wall clock's milliseconds, which only go forward: for what is told in times of day, and compared with what was known
 * before. A clock that is set back must not make old evidence look newer than new; one that leaps forward, as after a
 * machine slept, lets what was known expire, which monotonic time need not do.
 */
import type * as Clock from "effect/Clock"

interface Forward {
  last: number
  /** How far the clock was set back so far. */
  shift: number
}

const clocks = new WeakMap<Clock.Clock, Forward>()

export const forwardMillis = (clock: Clock.Clock): number => {
  const wall = clock.currentTimeMillisUnsafe()
  let known = clocks.get(clock)
  if (known === undefined) clocks.set(clock, (known = { last: wall, shift: 0 }))
  if (wall + known.shift < known.last) known.shift = known.last - wall
  return (known.last = wall + known.shift)
}
