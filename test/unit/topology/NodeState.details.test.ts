/** What is known of a node and whether an answer holds, in the cases that are rare: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Hysteresis from "../../../packages/sdk/src/topology/Hysteresis.ts"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import { lost, primary } from "./support.ts"

const { fail, initial, observe, revoke, roleOf, shareOf } = NodeState
const failed = (at: number) => ({ at, error: lost })

const down = [1, 2].reduce((state, at) => fail(state, failed(at), at), observe(initial(0), primary(0), 0))
const returning = observe(down, primary(3), 3)
const returned = observe(returning, primary(4), 4)

describe("the state of a node", () => {
  it("`since` is when it came into its phase, however often it was looked at", () => {
    let state = observe(initial(0), primary(1), 1)
    for (const now of [2, 3]) state = observe(state, primary(now), now)
    assert.deepStrictEqual([state.phase, state.since, state.at], ["up", 1, 3])
    assert.deepStrictEqual([returned.phase, returned.since], ["up", 4])
    assert.strictEqual(fail(down, failed(9), 9).since, 2)
  })

  it("one that comes back and fails once is down again, and begins to count anew", () => {
    let state = fail(returning, failed(4), 4)
    assert.deepStrictEqual([state.phase, state.failures], ["down", 1])
    state = observe(state, primary(5), 5)
    assert.strictEqual(state.phase, "returning")
    assert.strictEqual(observe(state, primary(6), 6).phase, "up")
  })

  it("what a server says against itself counts at once, and takes the role alone", () => {
    const up = observe(initial(0), primary(10), 10)
    const revoked = revoke(up, failed(10), 11)
    assert.deepStrictEqual([revoked.phase, revoked.since, revoked.failures], ["suspect", 11, 0])
    assert.deepStrictEqual([revoked.lastError, revoked.lastErrorAt], [lost, 10])
    assert.isUndefined(roleOf(revoked, 11))
  })

  it("and nothing if it was asked earlier, or is not used anyway", () => {
    const up = observe(initial(0), primary(10), 10)
    assert.strictEqual(revoke(up, failed(9), 11), up)
    for (const state of [down, returning]) assert.strictEqual(revoke(state, failed(9), 9), state)
  })

  it("a server that is out of recovery and refuses writes is no primary", () => {
    assert.strictEqual(roleOf(observe(initial(0), primary(0, { readOnly: true }), 0), 0), "readonly")
  })

  it("a share never grows beyond all of it, and is all of it at once where no ramp is wanted", () => {
    assert.deepStrictEqual([shareOf(returned, 10_004), shareOf(returned, 60_000)], [1, 1])
    const none = { ...NodeState.defaultThresholds, rampMillis: 0 }
    assert.strictEqual(shareOf(returned, 4, none), 1)
  })
})

describe("an answer that holds", () => {
  const hold = { riseMillis: 10, fallMillis: 20 }

  it("gives the same object as long as nothing changes", () => {
    const yes = Hysteresis.initial(true, 0)
    assert.strictEqual(Hysteresis.step(yes, true, 5, hold), yes)
    const contrary = Hysteresis.step(yes, false, 6, hold)
    assert.deepStrictEqual(contrary, { value: true, since: 0, contraryAt: 6 })
    assert.strictEqual(Hysteresis.step(contrary, false, 7, hold), contrary)
  })
})
