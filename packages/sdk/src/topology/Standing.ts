/**
 * What a node is among the others: which of them is the primary, who is fenced, how far the replicas are behind.
 *
 * **Fencing.** A promotion begins a new timeline. The highest one ever seen is remembered, so that an old primary that
 * comes back is refused even while the new one cannot be reached. Two servers that both claim to be primary on the same
 * timeline are told apart by their instance: the one in use stays, the other is fenced. A server of another cluster (its
 * system identifier differs from that of most nodes) is fenced too. What a server does not tell (CockroachDB has no
 * timelines) fences nobody.
 *
 * **Lag.** A server's own idea of its delay is wrong in both directions: after a quiet hour the first write looks an hour
 * old, and a standby that lost its upstream says it has replayed all it received. So positions that the primary was seen
 * at are remembered with their times. A replica that has replayed the newest of them is not behind; one that has not is
 * behind at least since then, and at most since the position it has reached.
 */
import type { Lsn } from "./Lsn.ts"
import * as NodeState from "./NodeState.ts"

/** Why a node is not used, whatever it says of itself. */
export interface Fenced {
  readonly reason: "old-timeline" | "second-primary" | "other-cluster"
  /** The node that is used instead, or has been. */
  readonly by: string | undefined
  readonly timeline: number | undefined
  readonly highestTimeline: number | undefined
}

export interface Standing {
  /** What the node may be used as. `undefined`: not known. */
  readonly role: NodeState.Role | undefined
  readonly fenced: Fenced | undefined
  /** How far the replica was behind when it was last asked, in milliseconds. `undefined`: not known. 0 for a primary. */
  readonly lagMillis: number | undefined
  /** The same in bytes of write-ahead log. */
  readonly lagBytes: number | undefined
}

export const nothing: Standing = { role: undefined, fenced: undefined, lagMillis: undefined, lagBytes: undefined }

interface Sample {
  readonly at: number
  readonly lsn: Lsn
}

/** What is remembered between looks. */
export interface Memory {
  readonly systemId: string | undefined
  /** The highest timeline seen of `systemId`, when, and on which node. */
  readonly timeline: number | undefined
  readonly timelineAt: number
  readonly timelineNode: string | undefined
  /** The node that is used as primary, or was last. */
  readonly primary: string | undefined
  readonly primaryInstance: string | undefined
  /** Positions of the primary on `timeline`, oldest first. */
  readonly samples: ReadonlyArray<Sample>
}

export const empty: Memory = {
  systemId: undefined,
  timeline: undefined,
  timelineAt: -Infinity,
  timelineNode: undefined,
  primary: undefined,
  primaryInstance: undefined,
  samples: []
}

/** Enough for two minutes of looks once a second; what is older only makes a long lag look a little shorter. */
const mostSamples = 128

/** Looks at all nodes together. Called when the evidence on a node has changed, never on the way of a call. */
export const judge = (
  memory: Memory,
  nodes: ReadonlyMap<string, NodeState.NodeState>,
  now: number,
  thresholds: NodeState.Thresholds = NodeState.defaultThresholds
): { readonly memory: Memory; readonly standings: ReadonlyMap<string, Standing> } => {
  const roles = new Map<string, NodeState.Role | undefined>()
  for (const [name, state] of nodes) roles.set(name, NodeState.roleOf(state, now, thresholds))

  const systemId = clusterOf(memory.systemId, nodes, roles)
  let next: Memory = systemId === memory.systemId ? memory : { ...empty, systemId }
  const ours = (state: NodeState.NodeState): boolean =>
    systemId === undefined || state.observation?.systemId === undefined || state.observation.systemId === systemId

  let ahead: NodeState.Observation | undefined
  let aheadOn: string | undefined
  for (const [name, state] of nodes) {
    const seen = state.observation
    // A standby may announce the new timeline before its primary was asked.
    if (roles.get(name) === undefined || seen?.timeline === undefined || !ours(state)) continue
    if (seen.timeline > (ahead?.timeline ?? next.timeline ?? 0)) {
      ahead = seen
      aheadOn = name
    }
  }
  if (ahead !== undefined) {
    next = { ...next, timeline: ahead.timeline, timelineAt: ahead.at, timelineNode: aheadOn, samples: [] }
  }

  const fenced = new Map<string, Fenced>()
  const claims: Array<[name: string, state: NodeState.NodeState]> = []
  for (const [name, state] of nodes) {
    const role = roles.get(name)
    if (role === undefined) continue
    const timeline = state.observation?.timeline
    const refuse = (reason: Fenced["reason"], by: string | undefined): void => {
      fenced.set(name, { reason, by, timeline, highestTimeline: next.timeline })
    }
    if (!ours(state)) refuse("other-cluster", next.primary)
    else if (role !== "replica" && timeline !== undefined && timeline < (next.timeline ?? timeline)) {
      refuse("old-timeline", next.timelineNode)
    } else if (role === "primary") claims.push([name, state])
  }

  next = choosePrimary(next, claims, fenced)
  const primary = next.primary === undefined ? undefined : nodes.get(next.primary)
  if (primary?.observation !== undefined && claims.some(([name]) => name === next.primary)) {
    next = remember(next, primary.observation)
  }

  const standings = new Map<string, Standing>()
  for (const [name, state] of nodes) {
    const role = roles.get(name)
    if (role === undefined) standings.set(name, nothing)
    else {
      const lagMillis = role === "replica" ? lagOf(next, state.observation!) : 0
      const newest = next.samples.at(-1)?.lsn
      const lsn = state.observation!.lsn
      standings.set(name, {
        role,
        fenced: fenced.get(name),
        lagMillis,
        lagBytes:
          role !== "replica" ? 0 : newest === undefined || lsn === undefined ? undefined : Number(max0(newest - lsn))
      })
    }
  }
  return { memory: next, standings }
}

/** The system identifier of most nodes that answer; between equals, the one that held so far. */
const clusterOf = (
  current: string | undefined,
  nodes: ReadonlyMap<string, NodeState.NodeState>,
  roles: ReadonlyMap<string, NodeState.Role | undefined>
): string | undefined => {
  const votes = new Map<string, number>()
  for (const [name, state] of nodes) {
    const id = state.observation?.systemId
    if (id !== undefined && roles.get(name) !== undefined) votes.set(id, (votes.get(id) ?? 0) + 1)
  }
  let best = current
  for (const [id, count] of votes) if (best === undefined || count > (votes.get(best) ?? 0)) best = id
  // One node alone does not overrule what several have agreed on: they may just be away.
  if (
    current !== undefined &&
    best !== current &&
    !votes.has(current) &&
    nodes.size > 1 &&
    (votes.get(best!) ?? 0) * 2 <= nodes.size
  ) {
    return current
  }
  return best
}

/** Of servers that claim to be primary on one timeline, one is used. Servers without timelines or instances all are. */
const choosePrimary = (
  memory: Memory,
  claims: ReadonlyArray<readonly [name: string, state: NodeState.NodeState]>,
  fenced: Map<string, Fenced>
): Memory => {
  if (claims.length === 0) return memory
  const instanceOf = (state: NodeState.NodeState) => state.observation?.instance
  const rank = ([name, state]: (typeof claims)[number]): number =>
    name === memory.primary
      ? 2
      : memory.primaryInstance !== undefined && instanceOf(state) === memory.primaryInstance
        ? 1
        : 0
  let used = claims[0]!
  for (const claim of claims) {
    if (rank(claim) > rank(used)) used = claim
    else if (rank(claim) === rank(used) && (claim[1].observation?.lsn ?? 0n) > (used[1].observation?.lsn ?? 0n))
      used = claim
  }
  const instance = instanceOf(used[1])
  for (const [name, state] of claims) {
    const timeline = state.observation?.timeline
    if (timeline === undefined || instance === undefined || instanceOf(state) === undefined) continue
    if (instanceOf(state) !== instance) {
      fenced.set(name, { reason: "second-primary", by: used[0], timeline, highestTimeline: memory.timeline })
    }
  }
  return used[0] === memory.primary && instance === memory.primaryInstance
    ? memory
    : { ...memory, primary: used[0], primaryInstance: instance }
}

const remember = (memory: Memory, primary: NodeState.Observation): Memory => {
  if (primary.lsn === undefined) return memory
  const last = memory.samples.at(-1)
  if (last !== undefined && last.at >= primary.at) return memory
  const kept = memory.samples.length < mostSamples ? memory.samples : memory.samples.slice(-mostSamples + 1)
  return { ...memory, samples: [...kept, { at: primary.at, lsn: primary.lsn }] }
}

const max0 = (value: bigint): bigint => (value < 0n ? 0n : value)

/** See the top of this file. In milliseconds before the replica was asked. */
const lagOf = (memory: Memory, replica: NodeState.Observation): number | undefined => {
  const { lsn, timeline } = replica
  const told = replica.delayMillis
  if (timeline !== undefined && memory.timeline !== undefined && timeline < memory.timeline) {
    // It does not follow the promoted server (yet): it has missed what was written since then.
    return Math.max(told ?? 0, replica.at - memory.timelineAt, 0)
  }
  if (lsn === undefined || memory.samples.length === 0) return told
  let reached: Sample | undefined
  let missed: Sample | undefined
  for (const sample of memory.samples) {
    if (sample.at > replica.at) break
    if (sample.lsn <= lsn) reached = sample
    else {
      missed = sample
      break
    }
  }
  // The primary was not seen ahead of it: only what it has received and not replayed can be missing.
  if (missed === undefined)
    return told === undefined ? 0 : reached === undefined ? told : Math.min(told, replica.at - reached.at)
  const least = replica.at - missed.at
  const most = reached === undefined ? Infinity : replica.at - reached.at
  return Math.min(Math.max(told ?? least, least), most)
}
