/**
 * What the pool says about itself: counts, holders, and the error that explains why a caller went without.
 *
 * Computed from the pool's state when somebody asks or fails, never kept up to date on the hot path.
 */
import * as Cause from "effect/Cause"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Context from "effect/Context"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { remember } from "../internal/originals.ts"
import { AcquireTimeout, type Holder, type PoolAccount, type PoolCounts } from "../ReportError.ts"
import type { Compartment, Entry } from "./Entry.ts"
import type { Lane } from "./Lanes.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolCore } from "./PoolCore.ts"
import type { LaneStats, LeakHolder, PoolStats } from "./PoolEvents.ts"
import { sessionsIn } from "./Surrounding.ts"
import type { Ticket } from "./Waiters.ts"

/** How many holders an error names. */
const namedHolders = 5

export const counts = <S extends Poolable>(home: Compartment<S>): PoolCounts => ({
  idle: home.idle.length,
  leased: home.leased,
  connecting: home.connecting,
  draining: home.away,
  waiting: home.waiting,
  max: home.max
})

const leasedOf = <S extends Poolable>(core: PoolCore<S>, home: Compartment<S>): Array<Entry<S>> => {
  const leased: Array<Entry<S>> = []
  for (const entry of core.sessions) if (entry.home === home && entry.ticket !== undefined) leased.push(entry)
  return leased.sort((a, b) => a.leasedAt - b.leasedAt)
}

const holderOf = <S extends Poolable>(entry: Entry<S>, now: number): Holder => ({
  name: entry.ticket!.name,
  lane: entry.ticket!.lane.name,
  heldMillis: now - entry.leasedAt
})

export const leakHolder = <S extends Poolable>(entry: Entry<S>, lane: Lane<S>, now: number): LeakHolder => ({
  name: entry.holder,
  lane: lane.name,
  heldMillis: now - entry.leasedAt,
  ...(entry.span === undefined ? {} : { span: entry.span }),
  ...(entry.stack === undefined ? {} : { stack: entry.stack })
})

const reasonOf = <S extends Poolable>(
  core: PoolCore<S>,
  lane: Lane<S>,
  leased: ReadonlyArray<Entry<S>>
): AcquireTimeout["reason"] => {
  const home = lane.home
  if (core.state === "suspended" && home === core.main) return "suspended"
  if (core.connector.failures > 0 && home.live < home.max) return "down"
  if (lane.room <= 0 && home.leased < home.max) return "lane-full"
  if (leased.some((entry) => entry.leakReported)) return "leaked"
  return home.leased < home.max ? "connecting" : "all-leased"
}

/**
 * How many of these sessions a caller holds itself, as far as can be told: leased by its fiber, until the end of its scope,
 * or by a transaction that surrounds it.
 */
const heldBy = <S extends Poolable>(leased: ReadonlyArray<Entry<S>>, fiber: Fiber.Fiber<unknown, unknown>): number => {
  const scope = Option.getOrUndefined(Context.getOption(fiber.context, Scope.Scope))
  const inTransactions = sessionsIn(fiber.context)
  return leased.filter(({ session, ticket }) => {
    const ofScope = ticket!.scope !== undefined && ticket!.scope === scope
    return ticket!.fiber === fiber || ofScope || inTransactions.has(session)
  }).length
}

const accountOf = <S extends Poolable>(
  core: PoolCore<S>,
  home: Compartment<S>,
  leased: ReadonlyArray<Entry<S>>,
  fiber: Fiber.Fiber<unknown, unknown>,
  now: number
): PoolAccount => {
  const heldByCaller = heldBy(leased, fiber)
  return {
    pool: core.options.name,
    counts: counts(home),
    holders: leased.slice(0, namedHolders).map((entry) => holderOf(entry, now)),
    ...(heldByCaller === 0 ? {} : { heldByCaller })
  }
}

/** For somebody who goes without a session of `home`. */
export const account = <S extends Poolable>(
  core: PoolCore<S>,
  home: Compartment<S>,
  fiber: Fiber.Fiber<unknown, unknown>
): PoolAccount => accountOf(core, home, leasedOf(core, home), fiber, core.now())

export const acquireTimeout = <S extends Poolable>(
  core: PoolCore<S>,
  ticket: Ticket<S>,
  now: number
): AcquireTimeout => {
  const { home, name } = ticket.lane
  const leased = leasedOf(core, home)
  const lastError = core.connector.failures > 0 ? core.connector.lastError : undefined
  const told = new AcquireTimeout({
    ...accountOf(core, home, leased, ticket.fiber, now),
    lane: name,
    reason: reasonOf(core, ticket.lane, leased),
    waitedMillis: now - ticket.since,
    ...(lastError === undefined ? {} : { lastError })
  })
  return remember(told, lastError)
}

export const stats = <S extends Poolable>(core: PoolCore<S>): PoolStats => {
  const { connector, control, main } = core
  const now = core.now()
  const lanes: Record<string, LaneStats> = {}
  for (const lane of core.lanes.values()) {
    lanes[lane.name] = {
      leased: lane.leased,
      waiting: lane.queue.size,
      reserved: lane.reserved,
      cap: Math.min(lane.cap, lane.home.max)
    }
  }
  const longest = leasedOf(core, main)[0]
  return {
    ...counts(main),
    name: core.options.name,
    state: core.state,
    min: main.min,
    preparing: main.preparing,
    limit: main.max + main.drainBudget + control.max + control.drainBudget,
    control: counts(control),
    lanes,
    generation: core.generation,
    connectFailures: connector.failures,
    ...(connector.downSince === undefined ? {} : { downSinceMillis: now - connector.downSince }),
    ...(connector.lastError === undefined ? {} : { lastError: connector.lastError }),
    ...(longest === undefined ? {} : { longestHolder: holderOf(longest, now) }),
    counters: { ...core.counters, closed: { ...core.counters.closed } }
  }
}

export const firstError = (cause: Cause.Cause<SqlError>): SqlError | undefined =>
  cause.reasons.find(Cause.isFailReason)?.error
