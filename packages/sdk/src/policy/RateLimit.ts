/**
 * How many calls may begin in a time: a token bucket computed from the clock, without a timer and without a queue.
 *
 * Effect's `RateLimiter` is not used: it wants a store service in every caller's requirements, and its waiting knows no
 * deadline. For a limit that many processes share, use that one with Redis.
 *
 * @example
 * ```ts
 * const limit = RateLimit.make({ key: "export", limit: 10, window: "1 minute", perTenant: true })
 * const answer = limit.run(work)
 * //    ^ fails with Overloaded (policy "rate-limit", retryAfterMillis)
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { readOf, tableOf } from "../options/Field.ts"
import { rateLimit as table } from "../options/policies.ts"
import { Overloaded } from "../ReportError.ts"
import * as Caller from "./Caller.ts"
import * as Deadline from "./Deadline.ts"
import { emit } from "./PolicyEvents.ts"
import { nowOf } from "./Time.ts"

export interface Options {
  readonly key: string
  /** Calls per `window`, over time. After a quiet time `burst` calls may begin at once, besides those of the window. */
  readonly limit: number
  readonly window: Duration.Input
  /** Calls that may begin at once after a quiet time. Default: `limit`. */
  readonly burst?: number | undefined
  /** A bucket for each tenant (`Caller`). Default: one for all. */
  readonly perTenant?: boolean | undefined
  /** Waits this long for a token, and never beyond the deadline. Default 0: refuses at once. */
  readonly maxWait?: Duration.Input | undefined
}

export interface Description {
  readonly policy: "rate-limit"
  readonly key: string
  readonly limit: number
  readonly windowMillis: number
  readonly burst: number
  readonly perTenant: boolean
  readonly maxWaitMillis: number
}

export interface RateLimit {
  readonly describe: Description
  readonly run: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Overloaded, R>
  /** How many buckets are kept. */
  readonly tenants: () => number
}

// Tenants come and go: from this many on, those whose bucket is full again are forgotten.
const sweepAt = 1024

const fields = tableOf<Options>()(table)

export const make = (options: Options): RateLimit => {
  const filled = readOf("RateLimit.make", fields, options)
  const { key, limit } = options
  const { burst = limit, maxWait, perTenant } = filled
  const windowMillis = filled.window!
  const interval = windowMillis / limit
  const depth = burst * interval
  /** For each tenant the instant at which its bucket is full again. */
  const fullAt = new Map<string, number>()

  const refuse = (fiber: Fiber.Fiber<unknown, unknown>, wait: number): Effect.Effect<never, Overloaded> => {
    const retryAfterMillis = Math.ceil(wait)
    emit(fiber, "rate-limit", key, "refused", { retryAfterMillis })
    return Effect.fail(new Overloaded({ policy: "rate-limit", key, limit, waiting: 0, retryAfterMillis }))
  }

  const run = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Overloaded, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | Overloaded, R> => {
      const tenant = perTenant ? (fiber.getRef(Caller.Current).tenant ?? "") : ""
      const now = nowOf(fiber)
      const known = fullAt.get(tenant)
      if (known === undefined && fullAt.size >= sweepAt) {
        for (const [other, at] of fullAt) if (at <= now) fullAt.delete(other)
      }
      const filling = Math.max(0, (known ?? 0) - now)
      const next = now + filling + interval
      const wait = filling + interval - depth
      // What is left of adding and subtracting instants is not a reason to refuse.
      if (wait < 1e-6) {
        fullAt.set(tenant, next)
        return self
      }
      if (wait > maxWait || wait >= Deadline.remainingOf(fiber)) return refuse(fiber, wait)
      // The token is taken now, so that those who wait come in turn; who leaves gives it back.
      fullAt.set(tenant, next)
      Deadline.enterOf(fiber, "admission")
      return Effect.andThen(
        Effect.onInterrupt(Effect.sleep(Duration.millis(wait)), () =>
          Effect.sync(() => void fullAt.set(tenant, (fullAt.get(tenant) ?? next) - interval))
        ),
        self
      )
    })

  return {
    describe: { policy: "rate-limit", key, limit, windowMillis, burst, perTenant, maxWaitMillis: maxWait },
    run,
    tenants: () => fullAt.size
  }
}
