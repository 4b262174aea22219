/**
 * A second attempt elsewhere when the first takes unusually long; the first answer wins.
 *
 * Never on the same node: that doubles the load of whoever is slow because of its load. Hedges draw from the same budget as
 * retries, and a budget that is empty leaves the attempt that is under way alone. Losers are released in the background.
 *
 * @example
 * ```ts
 * const hedge = Hedge.make({ key: "stoppage", after: { percentile: 0.95 }, budget })
 * const answer = hedge.run((index) => attemptOn(nodes[index]), nodes.length)
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { readOf, tableOf } from "../options/Field.ts"
import { hedge as table } from "../options/policies.ts"
import * as Background from "./Background.ts"
import * as Latency from "./Latency.ts"
import { emit } from "./PolicyEvents.ts"
import type { RetryBudget } from "./RetryBudget.ts"
import { after, millisOf, nowOf } from "./Time.ts"

export interface Options<E = unknown> {
  readonly key: string
  /**
   * How long to wait for the first answer: a duration, or a percentile of what calls took lately (no hedge before enough
   * of them are known). Default: percentile 0.95 (failsafe-go).
   */
  readonly after?: Duration.Input | { readonly percentile: number } | undefined
  /** Never sooner than this. Default 1 ms (finagle). */
  readonly minimumMillis?: number | undefined
  /** Extra attempts. Default 1. */
  readonly max?: number | undefined
  /** Shared with retries. Default: none. */
  readonly budget?: RetryBudget | undefined
  /** Whether calls are counted into the budget here. `false` where a retry around it does that. Default `true`. */
  readonly deposits?: boolean | undefined
  /** Errors that another node would give too: they end the call. Any other error starts the next attempt at once. Default: all. */
  readonly fatal?: ((error: E) => boolean) | undefined
}

export interface Description {
  readonly policy: "hedge"
  readonly key: string
  readonly after: { readonly millis: number } | { readonly percentile: number }
  readonly max: number
}

export interface Hedge<in E = unknown> {
  readonly describe: Description
  /** What calls took lately. */
  readonly latency: Latency.Latency
  /**
   * @param attempt what to do on candidate 0, 1, ...: each must be another node
   * @param candidates how many there are; with one there is no hedging, and no cost
   */
  readonly run: <A, E1 extends E, R>(
    attempt: (candidate: number) => Effect.Effect<A, E1, R>,
    candidates: number
  ) => Effect.Effect<A, E1, R>
}

const fields = tableOf<Options>()(table)

export const make = <E = unknown>(options: Options<E>): Hedge<E> => {
  const { deposits, max, minimumMillis: minimum } = readOf("Hedge.make", fields, options)
  const { budget, fatal, key } = options
  const wanted = options.after ?? { percentile: 0.95 }
  const { percentile } = wanted as { readonly percentile?: number }
  const fixed = percentile === undefined ? millisOf(wanted as Duration.Input) : undefined
  const latency = Latency.make()

  const delay = (): number => Math.max(minimum, fixed ?? latency.percentile(percentile!) ?? Infinity)

  const isFatal = (cause: Cause.Cause<E>): boolean => {
    const error = Cause.findErrorOption(cause)
    if (error._tag === "None") return true
    return fatal === undefined || fatal(error.value)
  }

  /** Attempts begin in the step that also watches them: an interrupt between the two would leave one that nobody waits for. */
  const race = <A, E1 extends E, R>(
    caller: Fiber.Fiber<unknown, unknown>,
    begin: number,
    attempt: (candidate: number) => Effect.Effect<A, E1, R>,
    limit: number
  ): Effect.Effect<A, E1, R> =>
    Effect.callback((resume) => {
      const first = Effect.runForkWith(caller.context as never)(attempt(0) as Effect.Effect<A, E1>)
      const exit = first.pollUnsafe()
      if (exit !== undefined && (exit._tag === "Success" || isFatal(exit.cause))) {
        if (exit._tag === "Success") latency.record(nowOf(caller) - begin)
        return resume(exit)
      }
      const running = new Map<Fiber.Fiber<A, E1>, number>()
      let started = 1
      let over = false
      let cancel = (): void => {}
      let failed: Exit.Exit<A, E1> | undefined

      const leave = (): void => {
        over = true
        cancel()
        const at = nowOf(caller)
        for (const [fiber, begin] of running) {
          // It took at least this long: without it, the percentile would forget the slow ones.
          latency.record(at - begin)
          Background.abandon(caller, fiber)
        }
        running.clear()
      }

      const finish = (exit: Exit.Exit<A, E1>, candidate: number): void => {
        leave()
        if (started > 1)
          emit(caller, "hedge", key, candidate > 0 && exit._tag === "Success" ? "won" : "lost", { candidate })
        resume(exit)
      }

      /** `false`: there is no candidate or no budget left. */
      const next = (): boolean => {
        if (over || started > limit) return false
        if (budget !== undefined && !budget.withdraw(nowOf(caller))) {
          emit(caller, "hedge", key, "budget")
          return false
        }
        const candidate = started++
        emit(caller, "hedge", key, "started", { candidate })
        watch(Effect.runForkWith(caller.context as never)(attempt(candidate) as Effect.Effect<A, E1>), candidate)
        return true
      }

      const arm = (): void => {
        cancel()
        if (!over && started <= limit) cancel = after(caller, delay(), () => void (next() && arm()))
      }

      const watch = (fiber: Fiber.Fiber<A, E1>, candidate: number, at = nowOf(caller)): void => {
        // Its first steps may have made the caller leave.
        if (over) return Background.abandon(caller, fiber)
        running.set(fiber, at)
        fiber.addObserver((exit) => {
          if (over) return
          running.delete(fiber)
          if (exit._tag === "Success") {
            latency.record(nowOf(caller) - at)
            return finish(exit, candidate)
          }
          if (isFatal(exit.cause)) return finish(exit, candidate)
          // The first attempt's error is the one to tell, if all fail.
          if (candidate === 0 || failed === undefined) failed = exit
          if (next()) arm()
          else if (running.size === 0) finish(failed, candidate)
        })
      }

      watch(first, 0, begin)
      if (!over) arm()
      return Effect.sync(leave)
    })

  const run = <A, E1 extends E, R>(
    attempt: (candidate: number) => Effect.Effect<A, E1, R>,
    candidates: number
  ): Effect.Effect<A, E1, R> => {
    const limit = Math.min(max, candidates - 1)
    return Effect.withFiber((caller) => {
      const begin = nowOf(caller)
      if (budget !== undefined && deposits) budget.deposit(begin)
      return limit < 1 ? attempt(0) : race(caller, begin, attempt, limit)
    })
  }

  return {
    describe: { policy: "hedge", key, after: percentile === undefined ? { millis: fixed! } : { percentile }, max },
    latency,
    run
  }
}
