/**
 * An address that leads to one server after another (profiles `haproxy` and `aurora`): whose sessions may be lent.
 *
 * Every look goes through a session that was opened for it, and every new session is looked at, so both say where the
 * address leads to at that time. When that is another primary, or a server of another role, all older sessions are replaced:
 * one of them may be on the demoted server, which need not know that it was demoted. A session that leads somewhere else
 * than the newest look (a balancer that has not noticed yet, a name out of a cache) is refused.
 *
 * Between the switch and the next look, at most a second, sessions on the old primary are lent. No client can know better;
 * keeping it from taking writes then is the business of whoever promotes (Patroni's demotion and watchdog, synchronous
 * replication, HAProxy's `on-marked-down shutdown-sessions`).
 */
import * as Effect from "effect/Effect"
import type { Session } from "../pool/Session.ts"
import type { SessionPool } from "../pool/SessionPool.ts"
import { isSame, type Observation } from "./NodeState.ts"
import type { Member, Topology } from "./Topology.ts"

export interface Endpoint {
  /** Takes note of what a session leads to. `false`: it must not be lent. */
  readonly admit: (seen: Observation) => boolean
}

/** Standbys serve alike, primaries do not: two that do not tell who they are are two. */
const same = (one: Observation, other: Observation): boolean =>
  one.inRecovery === other.inRecovery && (one.inRecovery || isSame(one.instance, other.instance))

export const make = <M extends Member>(
  topology: Topology<M>,
  name: string,
  pool: () => SessionPool<Session> | undefined
): Endpoint => {
  let inUse: Observation | undefined
  return {
    admit: (seen) => {
      const known = topology.get(name)
      // The first session may be there before its server is listed.
      if (known === undefined) return true
      // Before anybody is told: who waits for the new role must not be given a session of the old one.
      if (inUse !== undefined && seen.at >= known.state.at && !same(inUse, seen)) {
        const living = pool()
        if (living !== undefined) Effect.runSync(living.evictAll)
      }
      topology.observed(name, seen)
      const newest = known.state.observation
      if (newest !== seen) return newest !== undefined && same(newest, seen)
      if (known.standing.fenced !== undefined) return false
      inUse = seen
      return true
    }
  }
}
