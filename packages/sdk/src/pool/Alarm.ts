/**
 * One timer for the whole pool: the nearest deadline, connect attempt or round of the housekeeper. However many callers
 * wait, one fiber sleeps.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { monotonicMillis } from "../internal/Monotonic.ts"

/** setTimeout takes no more than 2^31 ms; waking early is harmless. */
const longestSleepMillis = 3_600_000

export class Alarm {
  private at = Infinity
  private fiber: Fiber.Fiber<void> | undefined
  private stopped = false
  private readonly clock: Clock.Clock
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly ring: () => void

  constructor(clock: Clock.Clock, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>, ring: () => void) {
    this.clock = clock
    this.fork = fork
    this.ring = ring
  }

  /** Rings at `at` or earlier. An alarm that turns out to be early is set again by whoever it woke. */
  set(at: number): void {
    if (at >= this.at || this.stopped) return
    this.fiber?.interruptUnsafe()
    this.at = at
    const wait = Math.min(Math.max(Math.ceil(at - monotonicMillis(this.clock)), 1), longestSleepMillis)
    this.fiber = this.fork(
      Effect.andThen(
        this.clock.sleep(Duration.millis(wait)),
        Effect.sync(() => {
          this.at = Infinity
          this.fiber = undefined
          this.ring()
        })
      )
    )
  }

  stop(): void {
    this.stopped = true
    this.fiber?.interruptUnsafe()
  }
}
