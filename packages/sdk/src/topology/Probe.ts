/**
 * Looks at one node again and again, each time within a timeout of its own.
 *
 * `look` is whatever asks the node. The loop gives up on it at the timeout, even if it cannot be interrupted at once, and
 * never has more than one successor of a hanging look on its way. Evidence from elsewhere (a lost socket, `25006`) makes it
 * look at once: requests that come together are answered by one look, begun after the last of them, and looks are never
 * closer together than `minGap`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { apart } from "../internal/apart.ts"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { millisOf } from "../options/Field.ts"

export interface Options<A, E> {
  /** Asks the node. */
  readonly look: Effect.Effect<A, E>
  /** The longest one look may take. Default 1 second. */
  readonly timeout?: Duration.Input | undefined
  /** When to look next while all is well. Default every second, jittered. */
  readonly schedule?: Schedule.Schedule<unknown> | undefined
  /** When to look next while `isWell` is false. Default every 250 ms, jittered. */
  readonly scheduleUnwell?: Schedule.Schedule<unknown> | undefined
  /** Default: always well. */
  readonly isWell?: (() => boolean) | undefined
  /** Between the beginnings of two looks. Default 50 ms. */
  readonly minGap?: Duration.Input | undefined
  /** Called with the time of asking, in monotonic milliseconds. `undefined` as error: the timeout. */
  readonly onResult: (at: number, result: Exit.Exit<A, E | "timeout">) => void
}

export interface Probe {
  /** Look as soon as the gap allows it. Returns at once. */
  readonly trigger: () => void
  /** Looks, and returns when a look that began after this call has ended. Never fails; bounded by gap and two timeouts. */
  readonly refresh: Effect.Effect<void>
}

/** One turn of the loop, in which sockets are read. */
const oneTurn = Effect.callback<void>((resume) => {
  const turn = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(turn))
})

const everySecond = Schedule.jittered(Schedule.spaced("1 second"))
const everyQuarter = Schedule.jittered(Schedule.spaced("250 millis"))

/** Begins to look, at once. Ends with the scope. */
export const make = <A, E>(options: Options<A, E>): Effect.Effect<Probe, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { isWell = () => true, look, onResult, schedule = everySecond, scheduleUnwell = everyQuarter } = options
    const timeout = Duration.millis(millisOf(options.timeout ?? "1 second")!)
    const minGap = millisOf(options.minGap ?? "50 millis")!
    const clock = yield* Clock.Clock
    const asked = Latch.makeUnsafe(false)
    let waiting: Array<Deferred.Deferred<void>> = []
    let last = -Infinity
    let closed = false

    // In a fiber of its own: leaving a look that does not let itself be interrupted must not hold up the loop.
    const lookOnce = Effect.exit(
      Effect.raceFirst(
        apart(look),
        // A process that was busy finds the timer due before it has read the answer: the sockets come first.
        Effect.andThen(Effect.andThen(clock.sleep(timeout), oneTurn), Effect.fail("timeout" as const))
      )
    )

    const once = Effect.gen(function* () {
      const gap = last + minGap - monotonicMillis(clock)
      if (gap > 0) yield* clock.sleep(Duration.millis(gap))
      const answered = waiting
      waiting = []
      asked.closeUnsafe()
      last = monotonicMillis(clock)
      const done = (): void => {
        for (const deferred of answered) Deferred.doneUnsafe(deferred, Exit.void)
      }
      // The end of the probe is an answer, too.
      const exit = yield* Effect.onInterrupt(lookOnce, () => Effect.sync(done))
      if (!(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))) onResult(last, exit)
      done()
    })

    let well = isWell()
    let step = yield* Schedule.toStep(well ? schedule : scheduleUnwell)
    const pause = Effect.gen(function* () {
      if (isWell() !== well) {
        well = !well
        step = yield* Schedule.toStep(well ? schedule : scheduleUnwell)
      }
      const next = yield* Effect.exit(step(clock.currentTimeMillisUnsafe(), undefined))
      // A schedule that ends leaves looking to those who ask for it.
      const sleep = Exit.isSuccess(next) ? clock.sleep(next.value[1]) : Effect.never
      yield* Effect.race(sleep, asked.await)
    })

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const deferred of waiting) Deferred.doneUnsafe(deferred, Exit.void)
      })
    )
    const loop = yield* Effect.forkScoped(Effect.forever(Effect.andThen(once, pause)))
    yield* Effect.addFinalizer(() => Fiber.interrupt(loop))

    return {
      trigger: () => {
        asked.openUnsafe()
      },
      refresh: Effect.suspend(() => {
        if (closed) return Effect.void
        const deferred = Deferred.makeUnsafe<void>()
        waiting.push(deferred)
        asked.openUnsafe()
        return Deferred.await(deferred)
      })
    }
  })
