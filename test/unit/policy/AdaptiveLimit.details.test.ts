/** Limits that are found out, where a boundary or a single sample decides: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as AdaptiveLimit from "../../../packages/sdk/src/policy/AdaptiveLimit.ts"

type Sample = readonly [millis: number, inUse: number, outcome?: AdaptiveLimit.Outcome]

const after = (limit: AdaptiveLimit.AdaptiveLimit, ...samples: ReadonlyArray<Sample>) => {
  for (const [millis, inUse, outcome = "ok"] of samples) limit.sample(millis, inUse, outcome)
  return limit.current()
}
const times = (count: number, sample: Sample): ReadonlyArray<Sample> => Array.from({ length: count }, () => sample)

describe("aimd", () => {
  const aimd = (initial: number) => AdaptiveLimit.aimd({ maximum: 100, initial })

  it("grows by one after a limit's worth of good answers, and not before", () => {
    assert.strictEqual(after(aimd(10), [1, 10]), 10)
    assert.strictEqual(after(aimd(10), ...times(10, [1, 10])), 10)
    assert.strictEqual(after(aimd(10), ...times(11, [1, 10])), 11)
  })

  it("a limit that is used by half is used", () => {
    // 2, 2.5, 2.9, 3.2.
    assert.strictEqual(after(aimd(2), [1, 1], [1, 2], [1, 2]), 3)
  })

  it("is a whole number, never more than what was found, and slow is what takes longer than that", () => {
    assert.strictEqual(after(aimd(10), ...times(2, [1, 10, "overload"])), 8)
    assert.strictEqual(after(aimd(10), [5_000, 10]), 10)
    assert.strictEqual(after(aimd(10), [5_001, 10]), 9)
  })
})

describe("gradient", () => {
  /** Follows at once: one sample shows what it means. */
  const gradient = (initial: number, options?: Parameters<typeof AdaptiveLimit.gradient>[0]) =>
    AdaptiveLimit.gradient({ maximum: 1_000, initial, smoothing: 1, tolerance: 1, ...options })

  it("halves at an overload, and is a whole number", () => {
    assert.strictEqual(after(gradient(10), [1, 10, "overload"]), 5)
    assert.strictEqual(after(gradient(10), ...times(2, [1, 10, "overload"])), 2)
  })

  it("whoever left or was wrong says nothing, however long it took", () => {
    assert.strictEqual(after(gradient(100), [1, 0], [9_000, 100, "dropped"]), 100)
  })

  it("answers that take no time are the best ones; a limit that is used by half is used", () => {
    assert.strictEqual(after(gradient(4), [0, 4]), 4 + Math.sqrt(4))
    assert.strictEqual(after(gradient(4), [0, 2]), 4 + Math.sqrt(4))
    assert.strictEqual(after(gradient(4), [0, 1]), 4)
  })

  it("compares the last ten answers or so with the average of all", () => {
    const long = (20 * 10 + 100) / 21
    const short = 10 + (100 - 10) / 10
    const shrunk = Math.floor((100 * long) / short + Math.sqrt(100))
    assert.isBelow(shrunk, 100)
    assert.strictEqual(after(gradient(100), ...times(20, [10, 0]), [100, 100]), shrunk)
  })

  it("a slow time that is over does not hide that answers get slower again", () => {
    const slow = [...times(30, [100, 0]), ...times(40, [10, 0]), ...times(9, [40, 0])]
    assert.isBelow(after(gradient(100), ...slow, [40, 100]), 100)
  })
})
