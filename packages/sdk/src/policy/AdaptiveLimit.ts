/**
 * How many calls at a time a server can take, found out from how it answers. Opt-in for a bulkhead.
 *
 * A sample is the time the work took once it had its permit, never the time in the queue. Samples taken while less than
 * half of the limit was in use are ignored: they say nothing about the limit. Use one limit for one kind of query: reports
 * of 5 ms and of 5 s in the same limit break it.
 */

import { readOf, tableOf } from "../options/Field.ts"
import * as Fields from "../options/policies.ts"

/** `dropped`: the caller gave up or was wrong, which says nothing about the server. */
export type Outcome = "ok" | "overload" | "dropped"

export interface AdaptiveLimit {
  readonly name: "aimd" | "gradient"
  readonly minimum: number
  readonly maximum: number
  /** The limit now, a whole number. */
  readonly current: () => number
  readonly sample: (millis: number, inUse: number, outcome: Outcome) => void
}

export interface Options {
  /** Default 1. */
  readonly minimum?: number | undefined
  /** Never more: the size of the pool, say. */
  readonly maximum: number
  /** Default: `maximum`. */
  readonly initial?: number | undefined
}

export interface AimdOptions extends Options {
  readonly backoff?: number | undefined
  readonly slowMillis?: number | undefined
}

export interface GradientOptions extends Options {
  readonly tolerance?: number | undefined
  readonly smoothing?: number | undefined
  readonly samples?: number | undefined
}

const aimdFields = tableOf<AimdOptions>()(Fields.aimd)
const gradientFields = tableOf<GradientOptions>()(Fields.gradient)

const bounded = (minimum: number, most: number) => {
  const maximum = Math.max(minimum, most)
  return { minimum, maximum, clamp: (limit: number) => Math.min(maximum, Math.max(minimum, limit)) }
}

/**
 * Additive increase, multiplicative decrease: one more after a limit's worth of good answers, times `backoff` after a
 * failure by overload or an answer slower than `slowMillis`. The safe one to begin with.
 *
 * @param options.backoff default 0.9, and `slowMillis` default 5000 (Netflix concurrency-limits)
 */
export const aimd = (options: AimdOptions): AdaptiveLimit => {
  const { backoff, minimum, slowMillis } = readOf("AdaptiveLimit.aimd", aimdFields, options)
  const { clamp, maximum } = bounded(minimum, options.maximum)
  let limit = clamp(options.initial ?? maximum)
  return {
    name: "aimd",
    minimum,
    maximum,
    current: () => Math.floor(limit),
    sample: (millis, inUse, outcome) => {
      if (outcome === "dropped") return
      if (outcome === "overload" || millis > slowMillis) limit = clamp(limit * backoff)
      else if (inUse * 2 >= limit) limit = clamp(limit + 1 / limit)
    }
  }
}

/**
 * Compares recent answers with the long average: grows while they are alike, shrinks as they get slower.
 *
 * Known limits: creeps up under slight overload, and cannot tell a slow dependency from too many calls; `maximum` bounds both.
 *
 * @param options.tolerance how much slower is still alike; default 1.5
 * @param options.smoothing how fast the limit follows, in (0, 1]; default 0.2
 * @param options.samples the length of the long average; default 600 (all three: Netflix concurrency-limits, Gradient2)
 */
export const gradient = (options: GradientOptions): AdaptiveLimit => {
  const { minimum, samples, smoothing, tolerance } = readOf("AdaptiveLimit.gradient", gradientFields, options)
  const { clamp, maximum } = bounded(minimum, options.maximum)
  let limit = clamp(options.initial ?? maximum)
  let long = 0
  let short = 0
  let seen = 0
  return {
    name: "gradient",
    minimum,
    maximum,
    current: () => Math.floor(limit),
    sample: (millis, inUse, outcome) => {
      if (outcome === "dropped") return
      if (outcome === "overload") {
        limit = clamp(limit * 0.5)
        return
      }
      if (!(millis >= 0 && millis < Infinity)) return
      seen++
      // The first samples count in full, or the averages would begin at zero.
      short += (millis - short) / Math.min(seen, 10)
      long += (millis - long) / Math.min(seen, samples)
      // After a long slow time the long average forgets it quickly, or the limit would stay high for as long.
      if (long > short * 2) long *= 0.95
      if (inUse * 2 < limit) return
      const slope = short === 0 ? 1 : Math.max(0.5, Math.min(1, (tolerance * long) / short))
      const target = limit * slope + Math.sqrt(limit)
      limit = clamp(limit * (1 - smoothing) + target * smoothing)
    }
  }
}
