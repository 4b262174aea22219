import { assert, describe, it } from "@effect/vitest"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Router from "../../../packages/sdk/src/topology/Router.ts"
import * as Standing from "../../../packages/sdk/src/topology/Standing.ts"
import { lost, primary, replica, seed, seeded } from "./support.ts"

const thresholds = NodeState.defaultThresholds

class Node implements Router.NodeView {
  readonly name: string
  readonly zone: string | undefined
  state: NodeState.NodeState = NodeState.initial(0)
  standing: Standing.Standing = Standing.nothing
  draining = false
  load = 0
  free = true
  constructor(name: string, zone?: string) {
    this.name = name
    this.zone = zone
  }
  outstanding(): number {
    return this.load
  }
  canServeNow(): boolean {
    return this.free
  }
}

/** What probes would find, given to nodes. */
const settle = (nodes: ReadonlyArray<Node>, now: number, memory = Standing.empty): Standing.Memory => {
  const judged = Standing.judge(memory, new Map(nodes.map((node) => [node.name, node.state])), now)
  for (const node of nodes) node.standing = judged.standings.get(node.name)!
  return judged.memory
}

const cluster = (...roles: ReadonlyArray<"primary" | "replica" | "unknown" | "down">): ReadonlyArray<Node> => {
  const nodes = roles.map((role, index) => {
    const node = new Node(`n${index}`)
    const instance = node.name
    if (role === "primary") node.state = NodeState.observe(node.state, primary(0, { instance }), 0)
    if (role === "replica") node.state = NodeState.observe(node.state, replica(0, { instance }), 0)
    if (role === "down") {
      for (const at of [0, 0]) node.state = NodeState.fail(node.state, { at, error: lost }, 0)
    }
    return node
  })
  settle(nodes, 0)
  return nodes
}

const random = seeded(1)
const order = (nodes: ReadonlyArray<Node>, want: Router.Want, now = 0) =>
  Router.choose(nodes, want, now, thresholds, random).candidates.map(({ node }) => node.name)
const refusals = (nodes: ReadonlyArray<Node>, want: Router.Want) =>
  Router.choose(nodes, want, 0, thresholds, random).refused.map(({ name, reason }) => `${name} ${reason}`)

describe("the router", () => {
  it("gives a replica to who asks for one, and the primary only where that was declared", () => {
    const nodes = cluster("primary", "replica")
    assert.deepStrictEqual(order(nodes, { role: "replica" }), ["n1"])
    assert.deepStrictEqual(refusals(nodes, { role: "replica" }), ["n0 wrong-role"])
    assert.deepStrictEqual(order(nodes, { role: "replica", fallback: "primary" }), ["n1", "n0"])
    assert.deepStrictEqual(order(nodes, { role: "primary" }), ["n0"])
  })

  it("refuses a replica behind its declared lag, or of unknown lag, and says so", () => {
    const nodes = cluster("primary", "replica", "replica")
    nodes[1]!.standing = { ...nodes[1]!.standing, lagMillis: 900 }
    nodes[2]!.standing = { ...nodes[2]!.standing, lagMillis: undefined }
    const want: Router.Want = { role: "replica", maxLagMillis: 500 }
    const { candidates, refused } = Router.choose(nodes, want, 0, thresholds, random)
    assert.deepStrictEqual(candidates, [])
    assert.deepStrictEqual(refusals(nodes, want), ["n0 wrong-role", "n1 too-stale", "n2 lag-unknown"])
    const error = Router.tooStale("stoppage", want, refused)
    assert.strictEqual(error?.message, "stoppage: replica is 900 ms behind, declared at most 500 ms")
    assert.deepStrictEqual(order(nodes, { ...want, fallback: "primary" }), ["n0"])
  })

  it("reads a write only where it was replayed: the primary always has it", () => {
    const nodes = cluster("primary", "replica", "replica")
    nodes[2]!.state = NodeState.observe(nodes[2]!.state, replica(0, { lsn: 150n, instance: "n2" }), 0)
    const token = { lsn: 120n, timeline: 1 }
    assert.deepStrictEqual(order(nodes, { role: "replica", token }), ["n2"])
    assert.deepStrictEqual(order(nodes, { role: "primary", token }), ["n0"])
    assert.deepStrictEqual(order(nodes, { role: "replica", token: { lsn: 151n }, fallback: "primary" }), ["n0"])
    assert.deepStrictEqual(order(nodes, { role: "replica", token: { lsn: 120n, timeline: 2 } }), [])
  })

  it("tries everyone who can serve at once before waiting on one", () => {
    const nodes = cluster("primary", "replica", "replica")
    nodes[1]!.free = false
    nodes[2]!.load = 9
    assert.deepStrictEqual(order(nodes, { role: "replica", fallback: "primary" }), ["n2", "n0", "n1"])
  })

  it("prefers the own zone, but not over one who can serve at once", () => {
    const nodes = [new Node("far", "b"), new Node("near", "a")]
    for (const node of nodes) node.state = NodeState.observe(node.state, replica(0), 0)
    settle(nodes, 0)
    nodes[1]!.load = 5
    assert.deepStrictEqual(order(nodes, { role: "replica", zone: "a" }), ["near", "far"])
    nodes[1]!.free = false
    assert.deepStrictEqual(order(nodes, { role: "replica", zone: "a" }), ["far", "near"])
  })

  it("puts nodes already tried last, unknown ones before them, and those that are down at the end", () => {
    const nodes = cluster("replica", "replica", "unknown", "down")
    const { candidates } = Router.choose(nodes, { role: "replica", tried: ["n0"] }, 0, thresholds, random)
    assert.deepStrictEqual(
      candidates.map(({ node, verify }) => [node.name, verify]),
      [
        ["n1", false],
        ["n2", true],
        ["n0", false],
        ["n3", true]
      ]
    )
  })

  it("gives no work to a node that is to be removed", () => {
    const nodes = cluster("replica", "replica")
    nodes[0]!.draining = true
    assert.deepStrictEqual(order(nodes, { role: "any" }), ["n1"])
  })

  it("trusts nothing that has expired", () => {
    const nodes = cluster("primary")
    assert.isUndefined(Router.pick(nodes, { role: "primary" }, 10_001, thresholds, random))
    const [candidate] = Router.choose(nodes, { role: "primary" }, 10_001, thresholds, random).candidates
    assert.isTrue(candidate?.verify)
  })

  it("splits what is left of the deadline between the candidates", () => {
    // Three hosts, two of them black holes: the third still gets a third.
    let left = 900
    const spent = [3, 2, 1].map((candidates) => {
      const budget = Router.budget(left, candidates)
      left -= budget
      return budget
    })
    assert.deepStrictEqual(spent, [300, 300, 300])
    assert.strictEqual(Router.budget(60, 3), 50)
    assert.strictEqual(Router.budget(20, 3), 20)
    assert.strictEqual(Router.budget(-5, 1), 0)
  })

  it("spreads the work of a dead node over all others, and gives a returning one its growing share", () => {
    console.log(`seed ${seed}`)
    const draw = seeded(seed)
    const nodes = cluster("down", "replica", "replica", "replica")
    const served = (now: number): ReadonlyArray<number> => {
      const counts = new Map(nodes.map((node) => [node.name, 0]))
      for (let call = 0; call < 6_000; call++) {
        const node = Router.pick(nodes, { role: "replica" }, now, thresholds, draw)!
        counts.set(node.name, counts.get(node.name)! + 1)
      }
      return [...counts.values()]
    }
    const [dead, ...alive] = served(0)
    assert.strictEqual(dead, 0)
    for (const count of alive) assert.approximately(count, 2_000, 250, `seed ${seed}: ${alive.join(", ")}`)

    for (const at of [1, 2]) nodes[0]!.state = NodeState.observe(nodes[0]!.state, replica(at), at)
    settle(nodes, 2)
    const shares = [2, 3_002, 9_000].map((now) => served(now)[0]!)
    assert.isAtMost(shares[0]!, 0.1 * 6_000, `seed ${seed}`)
    assert.isTrue(
      shares[0]! > 0 && shares[0]! < shares[1]! && shares[1]! < shares[2]!,
      `seed ${seed}: ${shares.join(", ")}`
    )
    for (const node of nodes) node.state = NodeState.observe(node.state, replica(12_000), 12_000)
    assert.approximately(served(12_003)[0]!, 1_500, 250, `seed ${seed}: all of its share after the ramp`)
  })

  it("nodes that change at random: never one that is known not to fit, and always one if one is known to fit", () => {
    console.log(`seed ${seed}`)
    const draw = seeded(seed)
    const among = <A>(values: ReadonlyArray<A>): A => values[Math.floor(draw() * values.length)]!
    for (let run = 0; run < 60; run++) {
      const nodes = Array.from(
        { length: 1 + Math.floor(draw() * 4) },
        (_, index) => new Node(`n${index}`, among(["a", "b"]))
      )
      // What the nodes really are, as the last look that succeeded found them.
      const truth = new Map<
        string,
        { role: "primary" | "replica"; timeline: number; lsn: bigint; lag: number | undefined; at: number }
      >()
      const known = new Set<string>()
      let memory = Standing.empty
      let timeline = 1
      let highest = 0
      for (let now = 1; now < 3_000; now += Math.floor(draw() * 90)) {
        const node = among(nodes)
        if (draw() < 0.3) {
          node.state = NodeState.fail(node.state, { at: now, error: lost }, now)
          known.delete(node.name)
        } else {
          const role = draw() < 0.35 ? "primary" : "replica"
          if (role === "primary" && draw() < 0.3) timeline++
          const on = Math.max(1, timeline - Math.floor(draw() * 2))
          const lsn = BigInt(Math.floor(draw() * 100))
          const seen = { instance: node.name, timeline: on, lsn }
          node.state = NodeState.observe(node.state, role === "primary" ? primary(now, seen) : replica(now, seen), now)
          truth.set(node.name, { role, timeline: on, lsn, lag: undefined, at: now })
          known.add(node.name)
          highest = Math.max(highest, on)
        }
        memory = settle(nodes, now, memory)
        for (const each of nodes) each.load = Math.floor(draw() * 5)
        for (const each of nodes) each.free = draw() < 0.7
        const want: Router.Want = {
          role: among(["primary", "replica", "any"] as const),
          fallback: among([undefined, "primary"] as const),
          maxLagMillis: among([undefined, 0, 500]),
          token: among([undefined, { lsn: 50n }]),
          zone: among([undefined, "a"]),
          tried: among([undefined, ["n0"], ["n1", "n2"]])
        }
        const context = `seed ${seed}, run ${run}, at ${now}, ${want.role}`
        const fits = (name: string): boolean => {
          const is = truth.get(name)
          const found = nodes.find((each) => each.name === name)!
          if (is === undefined || !known.has(name)) return false
          if (is.role === "primary") {
            const mayServe = want.role !== "replica" || want.fallback === "primary"
            return mayServe && is.timeline === highest && found.standing.fenced === undefined
          }
          const lag = found.standing.lagMillis
          const fresh = want.maxLagMillis === undefined || (lag !== undefined && lag <= want.maxLagMillis)
          return want.role !== "primary" && fresh && (want.token === undefined || is.lsn >= 50n)
        }
        const { candidates, refused } = Router.choose(nodes, want, now, thresholds, draw)
        assert.strictEqual(candidates.length + refused.length, nodes.length, context)
        for (const { node: chosen, verify } of candidates) {
          if (known.has(chosen.name)) assert.isTrue(fits(chosen.name), `${context}: ${chosen.name} does not fit`)
          else assert.isTrue(verify, `${context}: ${chosen.name} is not known and has to be looked at`)
        }
        for (const { name } of refused) assert.isTrue(known.has(name) && !fits(name), `${context}: ${name} was refused`)
        const picked = Router.pick(nodes, want, now, thresholds, draw)
        const settled = nodes.filter((each) => each.state.phase === "up" && fits(each.name))
        assert.strictEqual(picked === undefined, settled.length === 0, context)
        if (picked !== undefined) {
          assert.isTrue(fits(picked.name), context)
          const first = candidates[0]!.node
          const triedOf = (each: Node) => want.tried?.includes(each.name) === true
          if (!triedOf(picked))
            assert.strictEqual(picked.free, first.free, `${context}: waits on ${picked.name} though another is free`)
        }
        // Two primaries are never both used.
        const writable = nodes.filter((each) => Router.fit(each, { role: "primary" }, now, thresholds) === "fits")
        assert.isAtMost(writable.length, 1, context)
      }
    }
  })
})
