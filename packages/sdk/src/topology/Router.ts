/**
 * Which node serves a call: a pure choice over what is known of the nodes.
 *
 * A node that is known not to fit (another role, fenced, too far behind, being drained) is never chosen. The others are
 * tried in this order:
 *
 * 1. nodes that fit and have not been tried in this call: those that can serve at once before those where one has to wait
 *    (so that every one is tried before waiting on one), the role asked for before its fallback, the own zone before others,
 *    then the least outstanding work, and chance between equals;
 * 2. nodes that were down and have answered once, then nodes of which nothing is known: these are looked at before they are
 *    used (`verify`);
 * 3. nodes that were tried already, in the same order;
 * 4. nodes that are down: they fail fast by themselves, and are found again by being used.
 *
 * A node that was down gets a growing share: the rest of the time it stands behind the others. Least outstanding work is
 * fair with a dead neighbour, as taking turns is not: what the dead one does not take is spread over all.
 */
import { ReplicaTooStale } from "../ReportError.ts"
import type { Token } from "./Lsn.ts"
import * as NodeState from "./NodeState.ts"
import type { Standing } from "./Standing.ts"

/** What the router looks at. */
export interface NodeView {
  readonly name: string
  readonly zone?: string | undefined
  readonly state: NodeState.NodeState
  readonly standing: Standing
  /** No new work, because the node is to be removed. */
  readonly draining?: boolean | undefined
  /** What was looked at need not be what serves: its address leads to one server after another. */
  readonly switching?: boolean | undefined
  /** Callers that wait or hold a session. */
  outstanding(): number
  /** A caller would get a session without waiting. */
  canServeNow(): boolean
}

/** What a call asks for. Keep it with the role or the report: it holds nothing of a single call but `token` and `tried`. */
export interface Want {
  readonly role: "primary" | "replica" | "any"
  /** A replica farther behind does not fit. Default: any distance. */
  readonly maxLagMillis?: number | undefined
  /** Where a replica is asked for and none fits, the primary does. */
  readonly fallback?: "primary" | undefined
  /** Preferred, never required. */
  readonly zone?: string | undefined
  /** The node has to have replayed this write. */
  readonly token?: Token | undefined
  /** Names of nodes that this call has been to. */
  readonly tried?: ReadonlyArray<string> | undefined
}

/** Why a node was not chosen. */
export type Reason = "wrong-role" | "fenced" | "too-stale" | "lag-unknown" | "not-replayed" | "draining"

export interface Candidate<N extends NodeView> {
  readonly node: N
  /** Nothing is known of it: look at it before it is used. */
  readonly verify: boolean
}

export interface Choice<N extends NodeView> {
  readonly candidates: ReadonlyArray<Candidate<N>>
  readonly refused: ReadonlyArray<{
    readonly name: string
    readonly reason: Reason
    readonly lagMillis: number | undefined
  }>
}

/** Fits as asked for; fits as fallback; would, but was just down; nothing is known; is down; or the reason why not. */
type Fit = "fits" | "fallback" | "returning" | "unknown" | "down" | Reason

/** Whether one node fits. */
export const fit = (
  node: NodeView,
  want: Want,
  now: number,
  thresholds: NodeState.Thresholds = NodeState.defaultThresholds
): Fit => {
  if (node.draining === true) return "draining"
  const { fenced, lagMillis } = node.standing
  if (fenced !== undefined) return "fenced"
  const state = node.state
  if (state.phase === "down") return "down"
  const role = NodeState.roleOf(state, now, thresholds)
  if (role === undefined) return "unknown"
  if (role === "primary") {
    const found: Fit = want.role === "replica" ? (want.fallback === "primary" ? "fallback" : "wrong-role") : "fits"
    if (state.phase !== "returning" || found === "wrong-role") return found
    // It may have been replaced while it was away: nobody writes to it before all were looked at.
    return want.role === "primary" ? "unknown" : "returning"
  }
  if (want.role === "primary") return "wrong-role"
  if (want.maxLagMillis !== undefined) {
    if (lagMillis === undefined) return "lag-unknown"
    if (lagMillis > want.maxLagMillis) return "too-stale"
  }
  if (want.token !== undefined && (node.switching === true || !hasReplayed(state, want.token))) return "not-replayed"
  return state.phase === "returning" ? "returning" : "fits"
}

/** Whether what was last seen of a node includes a write. */
export const hasReplayed = (state: NodeState.NodeState, token: Token): boolean => {
  const seen = state.observation
  if (seen?.lsn === undefined || seen.lsn < token.lsn) return false
  return token.timeline === undefined || seen.timeline === undefined || seen.timeline >= token.timeline
}

const refusals: ReadonlySet<Fit> = new Set<Reason>([
  "wrong-role",
  "fenced",
  "too-stale",
  "lag-unknown",
  "not-replayed",
  "draining"
])

const rankOf = (
  node: NodeView,
  found: Fit,
  want: Want,
  now: number,
  thresholds: NodeState.Thresholds,
  random: () => number
): number => {
  if (refusals.has(found)) return Infinity
  const tried = want.tried !== undefined && want.tried.includes(node.name)
  if (found === "down") return tried ? 160 : 128
  let rank = tried ? 64 : 0
  if (found === "unknown") return rank + 48
  if (found === "returning") return rank + 32
  if (!node.canServeNow()) rank += 16
  if (found === "fallback") rank += 8
  const share = NodeState.shareOf(node.state, now, thresholds)
  if (share < 1 && random() >= share) rank += 4
  if (want.zone !== undefined && node.zone !== want.zone) rank += 2
  return rank
}

/**
 * The first of {@link choose}'s candidates, without making the others: for the usual call. `undefined` when no node is
 * known to fit; then {@link choose} says why.
 */
export const pick = <N extends NodeView>(
  nodes: ReadonlyArray<N>,
  want: Want,
  now: number,
  thresholds: NodeState.Thresholds,
  random: () => number
): N | undefined => {
  if (nodes.length === 1) {
    const only = nodes[0]!
    const found = fit(only, want, now, thresholds)
    return found === "fits" || found === "fallback" ? only : undefined
  }
  let best: N | undefined
  let bestRank = 0
  let bestLoad = 0
  let equals = 0
  for (const node of nodes) {
    const found = fit(node, want, now, thresholds)
    if (found !== "fits" && found !== "fallback") continue
    const rank = rankOf(node, found, want, now, thresholds, random)
    if (best !== undefined && rank > bestRank) continue
    const load = node.outstanding()
    if (best === undefined || rank < bestRank || load < bestLoad) {
      best = node
      bestRank = rank
      bestLoad = load
      equals = 1
    } else if (load === bestLoad && random() * ++equals < 1) best = node
  }
  return best
}

/** All candidates in the order in which they are tried, and why the others are none. */
export const choose = <N extends NodeView>(
  nodes: ReadonlyArray<N>,
  want: Want,
  now: number,
  thresholds: NodeState.Thresholds,
  random: () => number
): Choice<N> => {
  const ranked: Array<{ candidate: Candidate<N>; rank: number; load: number; chance: number }> = []
  const refused: Array<{ name: string; reason: Reason; lagMillis: number | undefined }> = []
  for (const node of nodes) {
    const found = fit(node, want, now, thresholds)
    const rank = rankOf(node, found, want, now, thresholds, random)
    if (rank === Infinity) {
      refused.push({ name: node.name, reason: found as Reason, lagMillis: node.standing.lagMillis })
    } else {
      const verify = found === "unknown" || found === "down"
      ranked.push({ candidate: { node, verify }, rank, load: node.outstanding(), chance: random() })
    }
  }
  ranked.sort((a, b) => a.rank - b.rank || a.load - b.load || a.chance - b.chance)
  return { candidates: ranked.map((entry) => entry.candidate), refused }
}

/** How many nodes that fit this call has not been to. */
export const untried = (
  nodes: ReadonlyArray<NodeView>,
  want: Want,
  now: number,
  thresholds: NodeState.Thresholds
): number => {
  let count = 0
  for (const node of nodes) {
    const found = fit(node, want, now, thresholds)
    if ((found === "fits" || found === "fallback") && want.tried?.includes(node.name) !== true) count++
  }
  return count
}

/** Why a call for a replica could not be served, if staleness is the reason. */
export const tooStale = (
  key: string,
  want: Want,
  refused: Choice<NodeView>["refused"]
): ReplicaTooStale | undefined => {
  const stale = refused.filter(
    ({ reason }) => reason === "too-stale" || reason === "lag-unknown" || reason === "not-replayed"
  )
  if (stale.length === 0) return undefined
  const lags = stale.flatMap(({ lagMillis }) => (lagMillis === undefined ? [] : [lagMillis]))
  return new ReplicaTooStale({
    key,
    maxLagMillis: want.maxLagMillis ?? 0,
    ...(lags.length === 0 ? {} : { lagMillis: Math.min(...lags) })
  })
}

/**
 * How long one of several candidates may take: an equal part of what is left, at least `leastMillis`, and all of it for
 * the last. Dead hosts therefore never cost as many timeouts as there are hosts.
 */
export const budget = (remainingMillis: number, candidatesLeft: number, leastMillis = 50): number =>
  Math.max(0, Math.min(remainingMillis, Math.max(remainingMillis / Math.max(candidatesLeft, 1), leastMillis)))
