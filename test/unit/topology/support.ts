/** Nodes without servers, and chance that can be repeated. */
import type * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"

/** Numbers from 0 to 1 that a seed repeats (mulberry32). */
export const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

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
