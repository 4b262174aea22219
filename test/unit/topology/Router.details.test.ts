/** Which node serves a call, where chance or a detail decides: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Router from "../../../packages/sdk/src/topology/Router.ts"
import type * as Standing from "../../../packages/sdk/src/topology/Standing.ts"
import { lost, primary, replica } from "./support.ts"

interface Node extends Router.NodeView {
  readonly load: number
}

const thresholds = NodeState.defaultThresholds
const standing = (role: NodeState.Role, lagMillis: number | undefined = 0): Standing.Standing => ({
  role,
  fenced: undefined,
  lagMillis,
  lagBytes: undefined
})
const node = (name: string, more: Partial<Node> = {}): Node => ({
  name,
  state: NodeState.observe(NodeState.initial(0), replica(0), 0),
  standing: standing("replica"),
  load: 0,
  outstanding() {
    return this.load
  },
  canServeNow: () => true,
  ...more
})
const lostTwice = [-2_000, -2_000].reduce(
  (state, at) => NodeState.fail(state, { at, error: lost }, at),
  NodeState.initial(-2_000)
)
const down = (name: string) => node(name, { state: lostTwice })
/** Up again for 1,000 of the 10,000 milliseconds in which its share grows. */
const ramped = [-1_000, -1_000].reduce((state, at) => NodeState.observe(state, replica(at), at), lostTwice)

/** Draws these numbers, one after the other. */
const draws = (...values: ReadonlyArray<number>) => {
  let next = 0
  return () => values[next++ % values.length]!
}
const first = () => 0.999
const want: Router.Want = { role: "replica" }
const order = (nodes: ReadonlyArray<Node>, random = first, more?: Partial<Router.Want>) =>
  Router.choose(nodes, { ...want, ...more }, 0, thresholds, random).candidates.map((one) => one.node.name)

describe("the order in which nodes are tried", () => {
  it("the least outstanding work comes first, then chance, then their own order", () => {
    const loads = [3, 1, 2].map((load, index) => node(`n${index}`, { load }))
    assert.deepStrictEqual(order(loads), ["n1", "n2", "n0"])
    const equals = ["n0", "n1", "n2"].map((name) => node(name))
    assert.deepStrictEqual(order(equals, draws(0.9, 0.1, 0.5)), ["n1", "n2", "n0"])
    assert.deepStrictEqual(order(equals), ["n0", "n1", "n2"])
  })

  it("of those that are down, too, the ones tried already come last", () => {
    assert.deepStrictEqual(order([down("n0"), down("n1")], first, { tried: ["n0"] }), ["n1", "n0"])
  })

  it("of two equals each is picked by half of the draws", () => {
    const equals = [node("n0"), node("n1")]
    const picked = (draw: number) => Router.pick(equals, want, 0, thresholds, () => draw)?.name
    assert.deepStrictEqual([picked(0), picked(0.499), picked(0.5), picked(0.999)], ["n1", "n1", "n0", "n0"])
  })

  it("a node that was down stands behind the others but for its share of the draws", () => {
    const nodes = [node("n0", { state: ramped }), node("n1", { load: 9 })]
    const withDraw = (draw: number) => order(nodes, () => draw)
    assert.strictEqual(NodeState.shareOf(ramped, 0), 0.1)
    assert.deepStrictEqual(withDraw(0.099), ["n0", "n1"])
    assert.deepStrictEqual(withDraw(0.1), ["n1", "n0"])
  })
})

describe("what a call may still hope for", () => {
  it("counts those that fit, as asked for or as fallback, and were not tried", () => {
    const nodes = [
      node("p", { state: NodeState.observe(NodeState.initial(0), primary(0), 0), standing: standing("primary") }),
      node("r"),
      node("s"),
      node("u", { state: NodeState.initial(0) }),
      down("d")
    ]
    const untried = (more: Partial<Router.Want>) => Router.untried(nodes, { ...want, ...more }, 0, thresholds)
    assert.strictEqual(untried({}), 2)
    assert.strictEqual(untried({ fallback: "primary" }), 3)
    assert.strictEqual(untried({ fallback: "primary", tried: ["r", "p"] }), 1)
    assert.strictEqual(untried({ tried: ["r", "s", "u"] }), 0)
  })

  it("the rest of its time, when nobody is left to share it with", () => {
    assert.deepStrictEqual([Router.budget(900, 1), Router.budget(900, 0), Router.budget(0, 0)], [900, 900, 0])
    assert.deepStrictEqual([Router.budget(-5, 3), Router.budget(20, 1)], [0, 20])
  })
})

describe("what is told of replicas that are too far behind", () => {
  const stale = (...lags: ReadonlyArray<number | undefined>) => {
    const declared = { ...want, maxLagMillis: 500 }
    const nodes = lags.map((lag, index) => node(`n${index}`, { standing: { ...standing("replica"), lagMillis: lag } }))
    return Router.tooStale("trips", declared, Router.choose(nodes, declared, 0, thresholds, first).refused)
  }

  it("the least that one of them is behind, as far as it is known", () => {
    assert.strictEqual(stale(900, undefined, 700)?.lagMillis, 700)
    assert.isFalse(Object.hasOwn(stale(undefined)!, "lagMillis"))
  })

  it("a node that was never seen has replayed nothing", () => {
    assert.isFalse(Router.hasReplayed(NodeState.initial(0), { lsn: 1n, timeline: 1 }))
  })
})

describe("a server that was down and has answered once", () => {
  const state = NodeState.observe(lostTwice, primary(-500), -500)
  const back = node("back", { state, standing: standing("primary") })

  it("is written to only when it was looked at beside the others: it may have been replaced", () => {
    assert.strictEqual(Router.fit(back, { role: "primary" }, 0, thresholds), "unknown")
  })

  it("is read from where nobody else serves", () => {
    assert.strictEqual(Router.fit(back, { role: "any" }, 0, thresholds), "returning")
    assert.strictEqual(Router.fit(back, { role: "replica", fallback: "primary" }, 0, thresholds), "returning")
  })
})
