/**
 * Repeats work that failed in a way that repeating can mend, within attempts, a budget and the deadline.
 *
 * Which failures those are is the business of `classify`; this module knows no error by name. When it stops it gives the
 * last real error, never one of its own, and an event says why it stopped.
 *
 * @example
 * ```ts
 * const retry = Retry.make({
 *   key: "stoppage",
 *   schedule: Schedule.exponential("100 millis"),
 *   retries: 2,
 *   cap: "2 seconds",
 *   classify: (error: ReportError.DatabaseUnavailable | ReportError.CircuitOpen) => ({
 *     retry: error._tag === "DatabaseUnavailable"
 *   })
 * })
 * const answer = retry.run(attempt)
 * ```
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { readOf, tableOf } from "../options/Field.ts"
import { retry as table } from "../options/policies.ts"
import { tagOf } from "../internal/tagOf.ts"
import * as Deadline from "./Deadline.ts"
import * as Jitter from "./Jitter.ts"
import { emit } from "./PolicyEvents.ts"
import type { RetryBudget } from "./RetryBudget.ts"
import { clockOf, now, nowOf } from "./Time.ts"

/** What is to be done about an error. */
export interface Decision {
  readonly retry: boolean
  /** Milliseconds to wait at the least. */
  readonly delayFloorMillis?: number | undefined
  /** The other side said when: not before, and with jitter not all who were told so at the same instant. */
  readonly retryAfterMillis?: number | undefined
  /** The first retry of the call need not wait: a session was lost, the server may be well. */
  readonly immediate?: boolean | undefined
  /** The most retries that errors of this `kind` deserve in one call. */
  readonly retries?: number | undefined
  /** Names the kind of error in events and for `retries`. Default: the error's tag. */
  readonly kind?: string | undefined
}

/** What an attempt may know of those before it, to go elsewhere. */
export interface Attempt<out E> {
  /** From 1. */
  readonly number: number
  /** Why the attempt before failed. */
  readonly previous: { readonly error: E; readonly decision: Decision } | undefined
}

export interface Options<E, R = never> {
  /** Names the policy in events. */
  readonly key: string
  /** When to come back. It is asked for delays only: `retries` says how often. Default: exponential from 100 ms. */
  readonly schedule?: Schedule.Schedule<unknown, E, never, R> | undefined
  /** Retries after the first attempt. Default 2 (SRE: three attempts a request at the most). */
  readonly retries?: number | undefined
  /** The longest delay. Effect's `exponential` has none. Default 2 seconds. */
  readonly cap?: Duration.Input | undefined
  /** Default `full`. */
  readonly jitter?: Jitter.Jitter | undefined
  /** Shared with whoever else adds load, hedges above all. Default: none. */
  readonly budget?: RetryBudget | undefined
  /** A retry needs at least this much time after its delay, or it is not begun. Default 0. */
  readonly usefulMillis?: number | undefined
  readonly classify: (error: E) => Decision
}

export interface Description {
  readonly policy: "retry"
  readonly key: string
  readonly retries: number
  readonly capMillis: number
  readonly jitter: Jitter.Jitter
  readonly budget: RetryBudget["describe"] | undefined
  readonly usefulMillis: number
}

export interface Policy<in E, out R = never> {
  readonly describe: Description
  /** Repeats an effect, or what a function makes for each attempt. */
  readonly run: <A, E1 extends E, R1>(
    work: Effect.Effect<A, E1, R1> | ((attempt: Attempt<E1>) => Effect.Effect<A, E1, R1>)
  ) => Effect.Effect<A, E1, R | R1>
}

type Step<E, R> = (input: E) => Effect.Effect<Duration.Duration | undefined, never, R>

/** A schedule as a function to the next delay; undefined when it is done. */
const stepOf = <E, R>(schedule: Schedule.Schedule<unknown, E, never, R>): Effect.Effect<Step<E, R>, never, R> =>
  Effect.map(
    Schedule.toStep(schedule),
    (step) => (input: E) =>
      Effect.withFiber((fiber) =>
        Pull.catchDone(
          Effect.map(step(clockOf(fiber).currentTimeMillisUnsafe(), input), ([_, delay]) => delay),
          () => Effect.succeed(undefined)
        )
      )
  )

const first: Attempt<never> = { number: 1, previous: undefined }

const fields = tableOf<Options<unknown>>()(table)

export const make = <E, R = never>(options: Options<E, R>): Policy<E, R> => {
  const { cap, jitter, retries, usefulMillis: useful } = readOf("Retry.make", fields, options)
  const { budget, classify, key } = options
  const schedule = options.schedule ?? (Schedule.exponential("100 millis") as Schedule.Schedule<unknown, E, never, R>)

  /** Why not to retry after all, or how long to wait first. Draws from the budget. */
  const decide = (
    fiber: Fiber.Fiber<unknown, unknown>,
    decision: Decision,
    backoff: number
  ): number | "deadline" | "budget" => {
    const after = decision.retryAfterMillis
    const wanted = after === undefined ? backoff : jitter === "none" ? after : after + backoff
    const delay = Math.max(wanted, decision.delayFloorMillis ?? 0)
    if (Deadline.remainingOf(fiber) <= delay + useful) return "deadline"
    if (budget !== undefined && !budget.withdraw(now(clockOf(fiber)))) return "budget"
    return delay
  }

  const run = <A, E1 extends E, R1>(
    work: Effect.Effect<A, E1, R1> | ((attempt: Attempt<E1>) => Effect.Effect<A, E1, R1>)
  ): Effect.Effect<A, E1, R | R1> => {
    const attemptOf = Effect.isEffect(work) ? () => work : work

    /** The way of a call whose first attempt failed. */
    const again = (cause: Cause.Cause<E1>): Effect.Effect<A, E1, R | R1> => {
      let step: Step<E, R> | undefined
      let made = 0
      let previousDelay: number | undefined
      let base: number | undefined
      const perKind = new Map<string, number>()

      const failed = (cause: Cause.Cause<E1>): Effect.Effect<A, E1, R | R1> =>
        Effect.withFiber((fiber) => {
          const found = Cause.findErrorOption(cause)
          // Interruptions and defects are nobody's to repeat.
          if (found._tag === "None" || Cause.hasDies(cause) || Cause.hasInterrupts(cause))
            return Effect.failCause(cause)
          const error = found.value
          Deadline.noteOf(fiber, cause)
          const decision = classify(error)
          if (!decision.retry) return Effect.failCause(cause)
          const kind = decision.kind ?? String(tagOf(error) ?? "error")
          const stop = (reason: string): Effect.Effect<never, E1> => {
            emit(fiber, "retry", key, "stopped", { reason, kind, attempts: made + 1 })
            return Effect.failCause(cause)
          }
          const ofKind = perKind.get(kind) ?? 0
          if (made >= retries) return stop("attempts")
          if (decision.retries !== undefined && ofKind >= decision.retries) return stop("kind")
          return Effect.flatMap(nextDelay(error), (scheduled) => {
            if (scheduled === undefined) return stop("schedule")
            base ??= scheduled
            const random = fiber.getRef(Random.Random).nextDoubleUnsafe()
            const backoff =
              decision.immediate === true && made === 0
                ? 0
                : Jitter.apply(jitter, scheduled, cap, random, previousDelay, base)
            const delay = decide(fiber, decision, backoff)
            if (typeof delay === "string") return stop(delay)
            made++
            perKind.set(kind, ofKind + 1)
            previousDelay = backoff
            emit(fiber, "retry", key, "retry", { kind, attempt: made + 1, delayMillis: delay })
            const next = Effect.suspend(() => {
              Deadline.enterOf(fiber, "attempt")
              return Effect.catchCause(attemptOf({ number: made + 1, previous: { error, decision } }), failed)
            })
            if (delay === 0) return next
            Deadline.enterOf(fiber, "backoff")
            return Effect.andThen(Effect.sleep(Duration.millis(delay)), next)
          })
        })

      const nextDelay = (error: E1): Effect.Effect<number | undefined, never, R> =>
        Effect.map(
          step !== undefined
            ? step(error)
            : Effect.flatMap(stepOf(schedule), (made) => {
                step = made
                return made(error)
              }),
          (delay) => (delay === undefined ? undefined : Jitter.capped(Duration.toMillis(delay), cap))
        )

      return failed(cause)
    }

    return Effect.withFiber((fiber) => {
      budget?.deposit(nowOf(fiber))
      // Schedules may wait for anything: from the first failure on, a carried deadline needs a fiber of its own.
      return Effect.catchCause(
        attemptOf(first),
        (cause) => Deadline.guard(again(cause)) as Effect.Effect<A, E1, R | R1>
      )
    })
  }

  return {
    describe: { policy: "retry", key, retries, capMillis: cap, jitter, budget: budget?.describe, usefulMillis: useful },
    run
  }
}

/** {@link make} and run once. */
export const retry = <A, E, R, R2 = never>(
  self: Effect.Effect<A, E, R>,
  options: Options<E, R2>
): Effect.Effect<A, E, R | R2> => make(options).run(self)
