/** A node of a topology as `Health` shows it. */
import * as Effect from "effect/Effect"
import type { Member } from "./Cluster.ts"
import type { NodeDetail } from "./Health.ts"
import type { View } from "./Topology.ts"

/** `since`: in milliseconds of the wall clock. */
export const of = (view: View<Member>, since: number): NodeDetail => {
  const { observation, lastError, phase } = view.state
  const { fenced, lagMillis, role } = view.standing
  const { connecting, draining, idle, leased, max, waiting } = Effect.runSync(view.member.pool.stats)
  return {
    name: view.name,
    state: view.draining ? "draining" : fenced === undefined ? phase : "fenced",
    role: role ?? "unknown",
    fenced: fenced?.reason,
    lagMillis,
    timeline: observation?.timeline,
    serverVersion: observation?.serverVersion,
    pool: { connecting, draining, idle, leased, max, waiting },
    lastError: phase === "up" ? undefined : lastError,
    since
  }
}
