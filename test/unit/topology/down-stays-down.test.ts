/** A server that is down does not become better by failing again. */
import { assert, describe, it } from "@effect/vitest"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import { lost, primary } from "./support.ts"

const { fail, initial, observe } = NodeState

describe("a node that is down", () => {
  it("stays down while looks fail, also after one good look in between (downAfter 3)", () => {
    const thresholds = { ...NodeState.defaultThresholds, downAfter: 3 }
    let state = observe(initial(0), primary(0), 0, thresholds)
    for (const at of [1, 2, 3]) state = fail(state, { at, error: lost }, at, thresholds)
    assert.strictEqual(state.phase, "down")
    state = observe(state, primary(4), 4, thresholds)
    assert.strictEqual(state.phase, "returning")
    state = fail(state, { at: 5, error: lost }, 5, thresholds)
    assert.strictEqual(state.phase, "down")
    const again = fail(state, { at: 6, error: lost }, 6, thresholds)
    const back = observe(again, primary(7), 7, thresholds)
    assert.deepStrictEqual([again.phase, back.phase, NodeState.shareOf(back, 7, thresholds)], ["down", "returning", 1])
  })
})
