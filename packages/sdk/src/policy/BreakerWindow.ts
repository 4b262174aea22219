/**
 * What a closed breaker remembers of the last calls: how many, how many failed, how many were slow.
 */

/** Counts over a window. */
export interface Window {
  readonly record: (failed: boolean, slow: boolean, now: number) => void
  readonly reset: () => void
  /** Up to date as of the last `record`. */
  readonly counts: { calls: number; failures: number; slow: number }
}

const failedBit = 1
const slowBit = 2

/** The last `size` calls, however old. */
export const ofCalls = (size: number): Window => {
  const ring = new Uint8Array(size)
  const counts = { calls: 0, failures: 0, slow: 0 }
  let at = 0
  return {
    counts,
    record: (failed, slow) => {
      if (counts.calls === size) {
        const old = ring[at]!
        if ((old & failedBit) !== 0) counts.failures--
        if ((old & slowBit) !== 0) counts.slow--
      } else counts.calls++
      ring[at] = (failed ? failedBit : 0) | (slow ? slowBit : 0)
      if (failed) counts.failures++
      if (slow) counts.slow++
      at = at + 1 === size ? 0 : at + 1
    },
    reset: () => {
      at = 0
      counts.calls = counts.failures = counts.slow = 0
    }
  }
}

/** Time is cut into this many pieces; the oldest is forgotten as a whole. */
export const pieces = 10

/** The calls of the last `millis`, to a tenth. */
export const ofTime = (millis: number): Window => {
  const width = millis / pieces
  const calls = new Float64Array(pieces)
  const failures = new Float64Array(pieces)
  const slows = new Float64Array(pieces)
  const counts = { calls: 0, failures: 0, slow: 0 }
  let current = -Infinity
  const clear = (slot: number): void => {
    counts.calls -= calls[slot]!
    counts.failures -= failures[slot]!
    counts.slow -= slows[slot]!
    calls[slot] = failures[slot] = slows[slot] = 0
  }
  return {
    counts,
    record: (failed, slow, now) => {
      const piece = Math.floor(now / width)
      if (piece > current) {
        // From zero: a slot below it would not be a slot, and a process that has just begun is near to zero.
        for (let step = Math.max(0, current + 1, piece - pieces + 1); step <= piece; step++) clear(step % pieces)
        current = piece
      }
      const slot = current % pieces
      calls[slot]!++
      counts.calls++
      if (failed) {
        failures[slot]!++
        counts.failures++
      }
      if (slow) {
        slows[slot]!++
        counts.slow++
      }
    },
    reset: () => {
      calls.fill(0)
      failures.fill(0)
      slows.fill(0)
      counts.calls = counts.failures = counts.slow = 0
    }
  }
}
