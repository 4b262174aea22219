/**
 * How many extra requests a client may add to its own load: one budget for retries and hedges together.
 *
 * Over any window, extra requests are at most `ratio` of the calls in it, and `minimum` besides. A budget is drawn from
 * when the decision falls, before the backoff sleeps: one that counted at the end of the sleep would let every sleeper
 * through.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { readOf, tableOf } from "../options/Field.ts"
import { retryBudget as table } from "../options/policies.ts"
import { now } from "./Time.ts"

export interface Options {
  readonly key: string
  /** Extra requests per call. Default 0.2 (failsafe-go, finagle). */
  readonly ratio?: number | undefined
  /** Extra requests per window however few calls there are. Default 3 (failsafe-go): a quiet service may retry too. */
  readonly minimum?: number | undefined
  /** Default 10 seconds (finagle). */
  readonly window?: Duration.Input | undefined
}

export interface Description {
  readonly policy: "retry-budget"
  readonly key: string
  readonly ratio: number
  readonly minimum: number
  readonly windowMillis: number
}

export interface RetryBudget {
  readonly describe: Description
  /** Counts a call. */
  readonly deposit: (now: number) => void
  /** Takes one extra request out, or says no. */
  readonly withdraw: (now: number) => boolean
  /** Extra requests that could be taken out now. */
  readonly available: (now: number) => number
}

// Deposits count for slightly less than a window and withdrawals for slightly more, so that the promise holds for every
// window, not only for those that begin with a bucket.
const buckets = 10

const fields = tableOf<Options>()(table)

export const make = (options: Options): RetryBudget => {
  const { minimum, ratio, window: windowMillis } = readOf("RetryBudget.make", fields, options)
  const width = windowMillis / buckets
  const size = buckets + 1
  const deposits = new Float64Array(size)
  const withdrawals = new Float64Array(size)
  let deposited = 0
  let withdrawn = 0
  let current = 0

  /** Moves to the bucket of `at`. Time that goes backwards stays in the bucket it is in. */
  const advance = (at: number): void => {
    const bucket = Math.floor(at / width)
    if (bucket <= current) return
    if (bucket - current >= size) {
      deposits.fill(0)
      withdrawals.fill(0)
      deposited = 0
      withdrawn = 0
    } else {
      for (let step = current + 1; step <= bucket; step++) {
        const slot = step % size
        withdrawn -= withdrawals[slot]!
        withdrawals[slot] = 0
        // The oldest deposits leave one bucket before the oldest withdrawals do.
        deposited -= deposits[(step + 1) % size]!
        deposits[(step + 1) % size] = 0
      }
    }
    current = bucket
  }

  const available = (at: number): number => {
    advance(at)
    return Math.max(0, Math.floor(minimum + ratio * deposited) - withdrawn)
  }

  return {
    describe: { policy: "retry-budget", key: options.key, ratio, minimum, windowMillis },
    deposit: (at) => {
      advance(at)
      deposits[current % size]!++
      deposited++
    },
    withdraw: (at) => {
      if (available(at) < 1) return false
      withdrawals[current % size]!++
      withdrawn++
      return true
    },
    available
  }
}

/** Extra requests that could be taken out now. */
export const available = (budget: RetryBudget): Effect.Effect<number> =>
  Clock.clockWith((clock) => Effect.succeed(budget.available(now(clock))))
