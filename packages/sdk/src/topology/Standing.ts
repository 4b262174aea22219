/**
 * What a node is among the others: which of them is the primary, who is fenced, how far the replicas are behind.
 *
 * **Fencing.** A promotion begins a new timeline. The highest one ever seen is remembered, so that an old primary that
 * comes back is refused even while the new one cannot be reached. Two servers that both claim to be primary on the same
 * timeline are told apart by their instance: the one in use stays, the other is fenced, and takes its place only when the
 * one in use is down, removed or no primary any more; a look that is late is no reason. A server of another cluster (its
 * system identifier differs from that of most nodes) is fenced too. A server that was primary before another one, and does
 * not tell its timeline, is not believed until it was seen as a standby: it would be taken for the new one. Peers
 * (CockroachDB and its like) have no primary, so none is fenced for another.
 *
 * **Lag.** A server's own idea of its delay is wrong in both directions: after a quiet hour the first write looks an hour
 * old, and a standby that lost its upstream says it has replayed all it received. So positions that the primary was seen
 * at are remembered with their times. A replica that has replayed the newest of them is not behind; one that has not is
 * behind at least since then, and at most since the position it has reached. One that was ahead of where the primary was
 * seen later follows another primary, whether it tells its timeline or not: how far it is behind is not known.
 */
import type { Lsn } from "./Lsn.ts"
import * as NodeState from "./NodeState.ts"
import { isSame } from "./NodeState.ts"

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

/** A node whose role is known, and what it said. */
interface Answer {
  readonly name: string
  readonly role: NodeState.Role
  readonly seen: NodeState.Observation
}

interface Sample {
  readonly at: number
  readonly lsn: Lsn
}

/** What is remembered between looks. */
export interface Memory {
  readonly systemId: string | undefined
  /** The highest timeline seen of `systemId`, when (`undefined`: its beginning was not seen), and on which node. */
  readonly timeline: number | undefined
  readonly timelineAt: number | undefined
  readonly timelineNode: string | undefined
  /** The node that is used as primary, or was last. */
  readonly primary: string | undefined
  readonly primaryInstance: string | undefined
  /** Nodes that were primary before the one in use, and were not seen as standbys since. */
  readonly deposed: ReadonlySet<string>
  /** Nodes that claimed to be primary beside the one in use, on its timeline. */
  readonly seconds: ReadonlySet<string>
  /** Replicas that follow another primary, with what they told when that was found. */
  readonly strays: ReadonlyMap<string, NodeState.Observation>
  /** Positions of the primary on `timeline`, oldest first. */
  readonly samples: ReadonlyArray<Sample>
}

export const empty: Memory = {
  systemId: undefined,
  timeline: undefined,
  timelineAt: undefined,
  timelineNode: undefined,
  primary: undefined,
  primaryInstance: undefined,
  deposed: new Set(),
  seconds: new Set(),
  strays: new Map(),
  samples: []
}

/** Enough for two minutes of looks once a second; what is older only makes a long lag look a little shorter. */
const mostSamples = 128

/** Looks at all nodes together. Called when the evidence on a node has changed, never on the way of a call. */
export const judge = (
  memory: Memory,
  nodes: ReadonlyMap<string, NodeState.NodeState>,
  now: number,
  thresholds: NodeState.Thresholds = NodeState.defaultThresholds,
  peers = false
): { readonly memory: Memory; readonly standings: ReadonlyMap<string, Standing> } => {
  const answered: Array<Answer> = []
  for (const [name, state] of nodes) {
    const role = NodeState.roleOf(state, now, thresholds)
    if (role !== undefined) answered.push({ name, role, seen: state.observation! })
  }

  const systemId = clusterOf(memory.systemId, answered, nodes.size)
  let next: Memory = systemId === memory.systemId ? memory : { ...empty, systemId }
  const ours = ({ seen }: Answer): boolean => seen.systemId === undefined || seen.systemId === systemId

  let ahead: Answer | undefined
  for (const answer of answered) {
    // A standby may announce the new timeline before its primary was asked.
    if (ours(answer) && (answer.seen.timeline ?? 0) > (ahead?.seen.timeline ?? next.timeline ?? 0)) ahead = answer
  }
  if (ahead !== undefined) {
    const { name, seen } = ahead
    next = {
      ...next,
      timeline: seen.timeline,
      // Who knows no primary before it does not know since when there is this one.
      timelineAt: next.primary === undefined ? undefined : seen.at,
      timelineNode: name,
      seconds: empty.seconds,
      strays: empty.strays,
      samples: []
    }
  }

  for (const { name, role } of answered) {
    if (role === "replica" && next.deposed.has(name)) next = { ...next, deposed: without(next.deposed, name) }
    if (role === "replica" && next.seconds.has(name)) next = { ...next, seconds: without(next.seconds, name) }
  }
  const silent = isSilent(next.primary, nodes, answered)

  const fenced = new Map<string, Fenced>()
  const claims: Array<Answer> = []
  for (const answer of answered) {
    const { name, role, seen } = answer
    const { timeline } = seen
    const refuse = (reason: Fenced["reason"], by: string | undefined): void => {
      fenced.set(name, { reason, by, timeline, highestTimeline: next.timeline })
    }
    if (!ours(answer)) refuse("other-cluster", next.primary)
    else if (role !== "replica" && timeline !== undefined && timeline < (next.timeline ?? timeline)) {
      refuse("old-timeline", next.timelineNode)
    } else if (role === "primary" && timeline === undefined && next.deposed.has(name)) {
      refuse("second-primary", next.primary)
    } else if (role === "primary" && silent && next.seconds.has(name)) {
      refuse("second-primary", next.primary)
    } else if (role === "primary") claims.push(answer)
  }

  const used = choosePrimary(next, claims)
  if (used !== undefined && !peers) {
    const seconds = new Set([...next.seconds].filter((name) => nodes.has(name)))
    for (const claim of claims) {
      const { name, seen } = claim
      if (claim === used || isSame(used.seen.instance, seen.instance)) seconds.delete(name)
      else {
        seconds.add(name)
        fenced.set(name, {
          reason: "second-primary",
          by: used.name,
          timeline: seen.timeline,
          highestTimeline: next.timeline
        })
      }
    }
    const { deposed, primary } = next
    // Under another name, or on a new address behind one name, it may be the same server.
    const isNew = primary !== undefined && primary !== used.name && !isSame(used.seen.instance, next.primaryInstance)
    next = remember(
      {
        ...next,
        primary: used.name,
        primaryInstance: used.seen.instance,
        // Every look at any node comes by here.
        seconds: seconds.size === 0 && next.seconds.size === 0 ? next.seconds : seconds,
        deposed: isNew ? new Set([...deposed, primary].filter((name) => name !== used.name)) : deposed
      },
      used.seen
    )
  }

  next = { ...next, strays: straying(next, nodes, answered) }
  const standings = new Map<string, Standing>()
  for (const name of nodes.keys()) standings.set(name, nothing)
  const newest = next.samples.at(-1)?.lsn
  for (const { name, role, seen } of answered) {
    const behind = (): number | undefined =>
      newest === undefined || seen.lsn === undefined || next.strays.has(name)
        ? undefined
        : Math.max(Number(newest - seen.lsn), 0)
    standings.set(name, {
      role,
      fenced: fenced.get(name),
      lagMillis: role !== "replica" ? 0 : next.strays.has(name) ? undefined : lagOf(next, seen),
      lagBytes: role === "replica" ? behind() : 0
    })
  }
  return { memory: next, standings }
}

/** The system identifier of most nodes that answer; between equals, the one that held so far. */
const clusterOf = (current: string | undefined, answered: ReadonlyArray<Answer>, nodes: number): string | undefined => {
  const votes = new Map<string | undefined, number>()
  for (const { seen } of answered) {
    if (seen.systemId !== undefined) votes.set(seen.systemId, (votes.get(seen.systemId) ?? 0) + 1)
  }
  let best = current
  let most = votes.get(current) ?? 0
  for (const [id, count] of votes) {
    if (count > most) {
      best = id
      most = count
    }
  }
  // Where nobody of the known cluster answers, they may just be away: only more than half of all nodes overrule them.
  return current !== undefined && !votes.has(current) && most * 2 <= nodes ? current : best
}

/** Of servers that claim to be primary: the one in use, also under another name; else the one that has written most. */
const choosePrimary = (memory: Memory, claims: ReadonlyArray<Answer>): Answer | undefined => {
  const rank = ({ name, seen }: Answer): number =>
    name === memory.primary ? 2 : isSame(seen.instance, memory.primaryInstance) ? 1 : 0
  let used = claims[0]
  for (const claim of claims) {
    const ahead = rank(claim) - rank(used!)
    if (ahead > 0 || (ahead === 0 && (claim.seen.lsn ?? 0n) > (used!.seen.lsn ?? 0n))) used = claim
  }
  return used
}

/** The primary has not answered lately, and is not known to be down: it may well be there. */
const isSilent = (
  primary: string | undefined,
  nodes: ReadonlyMap<string, NodeState.NodeState>,
  answered: ReadonlyArray<Answer>
): boolean => {
  const state = primary === undefined ? undefined : nodes.get(primary)
  return state !== undefined && state.phase !== "down" && !answered.some(({ name }) => name === primary)
}

const without = (names: ReadonlySet<string>, name: string): ReadonlySet<string> =>
  new Set([...names].filter((other) => other !== name))

const remember = (memory: Memory, primary: NodeState.Observation): Memory => {
  const { at, lsn } = primary
  if (lsn === undefined || at <= (memory.samples.at(-1)?.at ?? -Infinity)) return memory
  return { ...memory, samples: [...memory.samples, { at, lsn }].slice(-mostSamples) }
}

/** Replicas that were ahead of the primary, and were neither rebuilt nor seen on its timeline since. */
const straying = (
  { samples, strays, timeline }: Memory,
  nodes: ReadonlyMap<string, NodeState.NodeState>,
  answered: ReadonlyArray<Answer>
): Memory["strays"] => {
  const newest = samples.at(-1)
  const isAhead = ({ name, seen }: Answer): boolean =>
    newest !== undefined && (seen.lsn ?? 0n) > newest.lsn && nodes.get(name)!.answeredAt < newest.at
  let found: Map<string, NodeState.Observation> | undefined
  for (const answer of answered) {
    const { name, role, seen } = answer
    if (role !== "replica" || isSame(seen.timeline, timeline)) continue
    const before = strays.get(name)
    const stays = before !== undefined && (before === seen || isSame(seen.instance, before.instance))
    if (stays) (found ??= new Map()).set(name, before)
    else if (isAhead(answer)) (found ??= new Map()).set(name, seen)
  }
  // One that tells who it is, is known again after a silence.
  for (const [name, before] of strays) {
    const isThere = answered.some((answer) => answer.name === name)
    if (!isThere && before.instance !== undefined && nodes.has(name)) (found ??= new Map()).set(name, before)
  }
  return found ?? empty.strays
}

/** See the top of this file. In milliseconds before the replica was asked. */
const lagOf = (memory: Memory, replica: NodeState.Observation): number | undefined => {
  const { lsn, timeline } = replica
  const told = replica.delayMillis
  if ((timeline ?? Infinity) < (memory.timeline ?? 0)) {
    // It does not follow the promoted server (yet): it has missed what was written since then.
    return memory.timelineAt === undefined ? undefined : Math.max(told ?? 0, replica.at - memory.timelineAt)
  }
  if (lsn === undefined) return told
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
  // The primary was not seen ahead of it: only what it has received and not replayed can be missing. Who was seen nowhere
  // before it was asked proves nothing.
  if (missed === undefined) return reached === undefined ? told : Math.min(told ?? 0, replica.at - reached.at)
  const least = replica.at - missed.at
  const most = reached === undefined ? Infinity : replica.at - reached.at
  return Math.min(Math.max(told ?? least, least), most)
}
