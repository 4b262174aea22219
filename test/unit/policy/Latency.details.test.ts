/** Percentiles of what calls took lately: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Latency from "../../../packages/sdk/src/policy/Latency.ts"

/** 1 ms, 2 ms, ... */
const rising = (count: number, options?: Latency.Options) => {
  const latency = Latency.make(options)
  for (let millis = 1; millis <= count; millis++) latency.record(millis)
  return latency
}

describe("what calls took lately", () => {
  it("says nothing below 20 calls, or below as many as are wanted, and then speaks", () => {
    assert.isUndefined(rising(19).percentile(0.5))
    assert.isDefined(rising(20).percentile(0.5))
    assert.isUndefined(rising(2, { minimum: 3 }).percentile(0.5))
    assert.isDefined(rising(3, { minimum: 3 }).percentile(0.5))
  })

  it("a percentile is a time that this share of the calls did not exceed", () => {
    assert.strictEqual(rising(20).percentile(0.49), 10)
    assert.strictEqual(rising(100).percentile(0.955), 96)
    assert.strictEqual(rising(100).percentile(1), 100)
  })

  it("an answer is old by less than a quarter of the calls that count: sorting for each would cost too much", () => {
    const latency = rising(20)
    assert.strictEqual(latency.percentile(1), 20)
    for (let call = 1; call <= 31; call++) {
      latency.record(1_000)
      assert.strictEqual(latency.percentile(1), 20, `${call} calls later`)
    }
    latency.record(1_000)
    assert.strictEqual(latency.percentile(1), 1_000, "32 calls later")
  })

  it("where few calls count, every one is looked at", () => {
    const latency = rising(2, { samples: 2 })
    assert.strictEqual(latency.percentile(1), 2)
    latency.record(9)
    assert.strictEqual(latency.percentile(1), 9)
  })
})
