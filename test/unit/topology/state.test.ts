import { assert, describe, it } from "@effect/vitest"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import { lost, primary, seed, seeded } from "./support.ts"

const { fail, initial, observe, revoke, roleOf, shareOf } = NodeState

describe("the state of a node", () => {
  it("one failed look revokes the role; one good look gives it back", () => {
    let state = observe(initial(0), primary(1), 1)
    assert.strictEqual(roleOf(state, 1), "primary")
    state = fail(state, { at: 2, error: lost }, 2)
    assert.strictEqual(state.phase, "suspect")
    assert.isUndefined(roleOf(state, 2))
    assert.deepStrictEqual(state.lastError, lost)
    state = observe(state, primary(3), 3)
    assert.strictEqual(roleOf(state, 3), "primary")
    assert.strictEqual(shareOf(state, 3), 1, "a node that was never down needs no ramp")
  })

  it("an answer that comes late, to an earlier question, changes nothing", () => {
    const demoted = revoke(observe(initial(0), primary(10), 10), { at: 20, error: lost }, 20)
    assert.strictEqual(observe(demoted, primary(15), 25), demoted)
    assert.strictEqual(fail(observe(initial(0), primary(20), 20), { at: 10, error: lost }, 30).phase, "up")
  })

  it("evidence that nobody renews expires", () => {
    const state = observe(initial(0), primary(0), 0)
    assert.strictEqual(roleOf(state, 10_000), "primary")
    assert.isUndefined(roleOf(state, 10_001))
  })

  it("a node that was down comes back after two good looks, with a share that grows", () => {
    let state = observe(initial(0), primary(0), 0)
    for (const at of [1, 2]) state = fail(state, { at, error: lost }, at)
    assert.strictEqual(state.phase, "down")
    state = observe(state, primary(3), 3)
    assert.strictEqual(state.phase, "returning")
    state = observe(state, primary(4), 4)
    assert.strictEqual(state.phase, "up")
    const shares = [4, 2_000, 6_000, 10_004].map((now) => shareOf(state, now))
    assert.deepStrictEqual(shares, [0.1, 0.1996, 0.5996, 1])
  })

  it("random evidence: no flapping beyond the thresholds, and no older evidence wins", () => {
    console.log(`seed ${seed}`)
    const random = seeded(seed)
    for (let run = 0; run < 100; run++) {
      const thresholds: NodeState.Thresholds = {
        ...NodeState.defaultThresholds,
        downAfter: 1 + Math.floor(random() * 4),
        upAfter: 1 + Math.floor(random() * 4)
      }
      let state = initial(0)
      // The model: the newest evidence, and how many of a kind came in a row.
      let newest = -Infinity
      let good = 0
      let bad = 0
      for (let now = 1; now < 120; now++) {
        const at = now - Math.floor(random() * 6)
        const before = state
        const succeeded = random() < (now % 40 < 20 ? 0.9 : 0.2)
        state = succeeded
          ? observe(state, primary(at), now, thresholds)
          : fail(state, { at, error: lost }, now, thresholds)
        const context = `seed ${seed}, run ${run}, step ${now}`
        if (at < newest) {
          assert.strictEqual(state, before, context)
          continue
        }
        newest = at
        assert.strictEqual(state.at, at, context)
        good = succeeded ? good + 1 : 0
        bad = succeeded ? 0 : bad + 1
        if (!succeeded) assert.isUndefined(roleOf(state, now, thresholds), `${context}: a failed look revokes the role`)
        const wasDown = before.phase === "down" || before.phase === "returning"
        if (state.phase === "down" && !wasDown) assert.isAtLeast(bad, thresholds.downAfter, context)
        if (state.phase === "up" && wasDown) assert.isAtLeast(good, thresholds.upAfter, context)
        if (!succeeded && wasDown) assert.strictEqual(state.phase, "down", context)
        if (bad >= thresholds.downAfter) assert.strictEqual(state.phase, "down", context)
        if (good >= thresholds.upAfter) assert.strictEqual(state.phase, "up", context)
        if (before.phase !== state.phase) assert.strictEqual(state.since, now, context)
      }
    }
  })
})
