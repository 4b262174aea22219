/** Nodes without servers, and chance that can be repeated. */
import type * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"

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
