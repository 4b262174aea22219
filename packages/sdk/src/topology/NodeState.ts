/**
 * What is known of one node, and how it changes: pure, with the time given.
 *
 * ```
 *             good                      bad                    bad, `downAfter` in a row
 *  unknown ----------> up  ---------------------> suspect --------------------------------> down
 *                       ^  <---------------------    |   ^                                  |   ^
 *                       |           good              \__|  bad, fewer                 good |   | bad
 *                       |                                                                   v   |
 *                       +------------------------------------------------------------- returning
 *                          good, `upAfter` in a row: its share grows over `rampMillis`
 * ```
 *
 * - One failed look revokes the role: what a silent node was before is no evidence of what it is now.
 * - Evidence carries the time at which it was asked for. What was asked earlier never replaces what was asked later, in
 *   whatever order the answers come.
 * - Evidence that nobody renews counts for `expireMillis`: a stalled process does not trust what it knew before.
 */
import type { LastError } from "../ReportError.ts"
import type { Lsn } from "./Lsn.ts"

/** What one look at a node said. */
export interface Observation {
  /** When the node was asked, in monotonic milliseconds: what it said is at least as new. */
  readonly at: number
  readonly inRecovery: boolean
  /** The server refuses writes (`default_transaction_read_only`, or in recovery). */
  readonly readOnly: boolean
  /** Replayed position of a standby, written position of a primary. */
  readonly lsn?: Lsn | undefined
  /** Received position of a standby. */
  readonly receiveLsn?: Lsn | undefined
  /** The server's own idea of its replay delay. 0 where everything received is replayed. */
  readonly delayMillis?: number | undefined
  /** A standby has a connection to its upstream. */
  readonly streaming?: boolean | undefined
  readonly timeline?: number | undefined
  /** `pg_control_system()`: the same for all nodes of a cluster. */
  readonly systemId?: string | undefined
  /** Tells two servers apart that claim the same; the same server under two names gives it twice. */
  readonly instance?: string | undefined
  /** `server_version_num`. */
  readonly serverVersion?: number | undefined
  readonly maxConnections?: number | undefined
}

/** Two facts are the same if both are known, and equal. What a server does not tell is like nothing else, and like no other's. */
export const isSame = <A>(one: A | undefined, other: A | undefined): boolean => one !== undefined && one === other

/** Evidence against a node. */
export interface Failure {
  /** When it was asked, in monotonic milliseconds. */
  readonly at: number
  readonly error: LastError
}

export type Phase = "unknown" | "up" | "suspect" | "down" | "returning"

/** What a node is, by its own words. `readonly`: a server out of recovery that refuses writes. */
export type Role = "primary" | "replica" | "readonly"

export interface NodeState {
  readonly phase: Phase
  /** Since when it is in this phase. */
  readonly since: number
  /** The newest good look, kept after a failure as history. Ask {@link roleOf} what it still proves. */
  readonly observation: Observation | undefined
  /** When the answer of the newest good look was here: what it said is no newer. */
  readonly answeredAt: number
  /** The time of the newest evidence, good or bad. */
  readonly at: number
  /** Looks in a row that failed. */
  readonly failures: number
  /** Looks in a row that succeeded. */
  readonly successes: number
  /** Since when its share grows. */
  readonly rampSince: number | undefined
  readonly lastError: LastError | undefined
  readonly lastErrorAt: number | undefined
}

/** How many looks it takes, and how long things last. Durations in milliseconds. */
export interface Thresholds {
  /** Failed looks in a row until a node is down. Default 2. */
  readonly downAfter: number
  /** Good looks in a row until a node that was down is up. Default 2. */
  readonly upAfter: number
  /** How long the share of a returning node grows. Default 10 seconds. */
  readonly rampMillis: number
  /** The share that a returning node begins with. Default 0.1. */
  readonly rampFrom: number
  /** How long evidence counts that nobody renews. Default 10 seconds, Npgsql's `Host Recheck Seconds`. */
  readonly expireMillis: number
}

export const defaultThresholds: Thresholds = {
  downAfter: 2,
  upAfter: 2,
  rampMillis: 10_000,
  rampFrom: 0.1,
  expireMillis: 10_000
}

export const initial = (now: number): NodeState => ({
  phase: "unknown",
  since: now,
  observation: undefined,
  answeredAt: -Infinity,
  at: -Infinity,
  failures: 0,
  successes: 0,
  rampSince: undefined,
  lastError: undefined,
  lastErrorAt: undefined
})

const enter = (state: NodeState, phase: Phase, now: number): Pick<NodeState, "phase" | "since"> => ({
  phase,
  since: state.phase === phase ? state.since : now
})

/** A look succeeded. Gives the same object if the evidence is older than what is known. */
export const observe = (
  state: NodeState,
  observation: Observation,
  now: number,
  thresholds: Thresholds = defaultThresholds
): NodeState => {
  if (observation.at < state.at) return state
  const wasDown = state.phase === "down" || state.phase === "returning"
  const successes = state.successes + 1
  const returned = wasDown && successes >= thresholds.upAfter
  const phase = wasDown && !returned ? "returning" : "up"
  return {
    ...state,
    ...enter(state, phase, now),
    observation,
    answeredAt: now,
    at: observation.at,
    failures: 0,
    successes,
    rampSince: returned ? now : state.rampSince
  }
}

/** A look failed, or a statement proved that the node cannot be reached. */
export const fail = (
  state: NodeState,
  failure: Failure,
  now: number,
  thresholds: Thresholds = defaultThresholds
): NodeState => {
  if (failure.at < state.at) return state
  const failures = state.failures + 1
  // One that is down stays down: else it would be trusted at its next good look, and flap.
  const down = state.phase === "down" || state.phase === "returning" || failures >= thresholds.downAfter
  return {
    ...state,
    ...enter(state, down ? "down" : "suspect", now),
    at: failure.at,
    failures,
    successes: 0,
    rampSince: undefined,
    lastError: failure.error,
    lastErrorAt: failure.at
  }
}

/**
 * The node said that it is not what we thought (`25006`): the role is gone until somebody looks again. That it answered
 * at all is no reason to think it down.
 */
export const revoke = (state: NodeState, failure: Failure, now: number): NodeState =>
  failure.at < state.at || state.phase === "down" || state.phase === "returning"
    ? state
    : {
        ...state,
        ...enter(state, "suspect", now),
        at: failure.at,
        lastError: failure.error,
        lastErrorAt: failure.at
      }

/** What the newest evidence proves the node to be. `undefined`: nothing. */
export const roleOf = (state: NodeState, now: number, thresholds: Thresholds = defaultThresholds): Role | undefined => {
  const observation = state.observation
  if (observation === undefined || (state.phase !== "up" && state.phase !== "returning")) return undefined
  if (now - observation.at > thresholds.expireMillis) return undefined
  return observation.inRecovery ? "replica" : observation.readOnly ? "readonly" : "primary"
}

/** The share of its fair load that a node should get: below 1 for a while after it was down. */
export const shareOf = (state: NodeState, now: number, thresholds: Thresholds = defaultThresholds): number => {
  if (state.rampSince === undefined) return 1
  const since = now - state.rampSince
  return since >= thresholds.rampMillis ? 1 : Math.max(thresholds.rampFrom, since / thresholds.rampMillis)
}
