/** A clock whose wall time is moved by hand, as an administrator or a time server moves it. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export const movable = () => {
  const live = Context.get(Context.empty(), Clock.Clock)
  let shift = 0
  const millis = () => live.currentTimeMillisUnsafe() + shift
  const nanos = () => live.currentTimeNanosUnsafe() + BigInt(shift) * 1_000_000n
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: () => live.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: live.monotonicTimeNanos,
    sleep: (duration) => live.sleep(duration)
  }
  return { clock, jump: (by: number) => void (shift += by) }
}
