/** Nodes without servers, and chance that can be repeated. */
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Standing from "../../../packages/sdk/src/topology/Standing.ts"

export { mulberry32 as seeded } from "../../support/random.ts"

/** Printed by every test that draws; set SEED to repeat one. */
export const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31))

export const lost = { tag: "Unreachable", message: "the server cannot be reached" }

export const primary = (at: number, more?: Partial<NodeState.Observation>): NodeState.Observation => ({
  at,
  inRecovery: false,
  readOnly: false,
  lsn: 100n,
  timeline: 1,
  systemId: "7",
  instance: "one",
  ...more
})

export const replica = (at: number, more?: Partial<NodeState.Observation>): NodeState.Observation => ({
  at,
  inRecovery: true,
  readOnly: true,
  lsn: 100n,
  receiveLsn: 100n,
  delayMillis: 0,
  timeline: 1,
  systemId: "7",
  instance: "two",
  ...more
})

type Seen = Readonly<Record<string, NodeState.Observation | "lost" | "silent">>

/** Looks at several nodes again and again, as probes would. */
export const watch = (peers = false) => {
  const states = new Map<string, NodeState.NodeState>()
  let memory = Standing.empty
  return (now: number, seen: Seen) => {
    for (const [name, observation] of Object.entries(seen)) {
      const state = states.get(name) ?? NodeState.initial(now)
      if (observation === "silent") continue
      states.set(
        name,
        observation === "lost"
          ? NodeState.fail(state, { at: now, error: lost }, now)
          : NodeState.observe(state, observation, now)
      )
    }
    const judged = Standing.judge(memory, states, now, undefined, peers)
    memory = judged.memory
    return judged.standings
  }
}
