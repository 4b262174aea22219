/**
 * How long calls took lately, and the percentiles of it.
 */
import { readOf, tableOf } from "../options/Field.ts"
import { latency as table } from "../options/policies.ts"

export interface Options {
  /** How many of the last calls count. Default 128. */
  readonly samples?: number | undefined
  /** Below this many there is no answer. Default 20. */
  readonly minimum?: number | undefined
}

export interface Latency {
  readonly record: (millis: number) => void
  /** Milliseconds that the share `p` (0 to 1) of the last calls did not exceed; undefined while too few are known. */
  readonly percentile: (p: number) => number | undefined
  readonly count: () => number
}

const fields = tableOf<Options>()(table)

export const make = (options: Options = {}): Latency => {
  const filled = readOf("Latency.make", fields, options)
  const size = filled.samples
  const minimum = Math.min(filled.minimum, size)
  // Sorting for every question would cost more than most policies; a quarter of the samples later is soon enough.
  const staleAfter = Math.max(1, size >> 2)
  const ring = new Float64Array(size)
  let sorted = new Float64Array(0)
  let recorded = 0
  let sortedAt = -Infinity
  return {
    record: (millis) => {
      ring[recorded % size] = millis
      recorded++
    },
    count: () => Math.min(recorded, size),
    percentile: (p) => {
      const count = Math.min(recorded, size)
      if (count < minimum) return undefined
      if (recorded - sortedAt >= staleAfter) {
        sorted = ring.slice(0, count).sort()
        sortedAt = recorded
      }
      return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))]
    }
  }
}
