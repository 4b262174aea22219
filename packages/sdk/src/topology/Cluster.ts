/**
 * The servers of one database in this process: a pool and a probe each, what is known of them together, and the way in.
 *
 * A server that is alone and has nobody to be compared with is not watched: its pool says all there is to say.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { nameOf, type Place, type Resolved } from "../DatabaseOptions.ts"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { remember } from "../internal/originals.ts"
import { lastError } from "../internal/problems.ts"
import * as PgFailure from "../PgFailure.ts"
import { traits } from "../Profile.ts"
import { DatabaseUnavailable, type InvalidConfiguration, type LastError } from "../ReportError.ts"
import * as ChangeLog from "./ChangeLog.ts"
import type { Token } from "./Lsn.ts"
import * as Endpoint from "./Endpoint.ts"
import * as Look from "./Look.ts"
import * as Names from "./Names.ts"
import * as Node from "./Node.ts"
import type * as NodeState from "./NodeState.ts"
import * as PoolMetrics from "./PoolMetrics.ts"
import * as Probe from "./Probe.ts"
import * as Resolver from "./Resolver.ts"
import * as Topology from "./Topology.ts"

/** How the servers are watched. */
export interface WatchOptions {
  /** The longest one look may take. Default 1 second. */
  readonly timeout?: Duration.Input | undefined
  /** When to look next while all is well. Default every second, jittered. */
  readonly schedule?: Schedule.Schedule<unknown> | undefined
  /** When to look next while it is not. Default every 250 milliseconds, jittered. */
  readonly scheduleUnwell?: Schedule.Schedule<unknown> | undefined
  readonly thresholds?: Partial<NodeState.Thresholds> | undefined
  /** When names are looked up again (`addresses: "each"`), besides when a server is lost. Default every 15 seconds, jittered. */
  readonly lookup?: Schedule.Schedule<unknown> | undefined
  /** Watch a server that is alone, too. Default: if there is a `Health` to tell. */
  readonly always?: boolean | undefined
}

/** A server with its pool and its probe. */
export interface Member extends Node.Node {
  readonly probe: Probe.Probe | undefined
  /** Ends its probe and closes its pool, within the pool's two deadlines. */
  readonly close: Effect.Effect<void>
}

export interface Cluster {
  /** `database`, or `database/role` where a role has servers of its own. */
  readonly name: string
  readonly options: Resolved
  readonly topology: Topology.Topology<Member>
  /** Whether the servers are watched. */
  readonly watched: boolean
  /** Adds a server to the living cluster, or all of a name. One that is there already stays as it is. After `shutdown`: refused as `closed`. */
  readonly add: (address: Place) => Effect.Effect<void, DatabaseUnavailable | InvalidConfiguration>
  /** No new work for a server, or for those of a name as it was given; when what it does is done, at the latest at the pool's two deadlines, it is gone. */
  readonly remove: (name: string) => Effect.Effect<void>
  /** Looks at all servers now, and returns when all have answered or timed out. */
  readonly refresh: Effect.Effect<void>
  /** Evidence from a call: what a statement or a connect failed with, and when it was begun (monotonic milliseconds). */
  readonly noteFailure: (member: Member, failure: PgFailure.PgFailure, at: number) => void
  /** Names everything that the primary has committed up to now, for `Route.ReadAfter`. One round trip to the primary. */
  readonly token: Effect.Effect<Token, DatabaseUnavailable>
  /**
   * Refuses new callers at once; those who wait or hold a session have the first deadline of the option `shutdown`, then
   * what runs is cancelled, and after the second deadline sessions are destroyed. All servers at the same time. The end of
   * the layer does the same; but whoever disposes of a runtime interrupts the calls that run in it first, so run this before.
   */
  readonly shutdown: Effect.Effect<void>
  /** `shutdown` has begun. */
  readonly closing: () => boolean
  /** Replaces all sessions, under load and without a failed call: after a password or a certificate was changed. */
  readonly rotate: Effect.Effect<void>
}

/** A connect that fails like this says that the server is not there; one refused for lack of room does not. */
const unreachable: ReadonlySet<string> = new Set(["Unreachable", "Starting", "Shutdown", "ConnectionLost"])

const lastErrorOf = (error: unknown, overrides: PgFailure.Overrides): LastError => {
  if (error === "timeout") return { tag: "AttemptTimeout", message: "no answer within the probe's timeout" }
  if (typeof error !== "object" || error === null || !("_tag" in error)) {
    return { tag: "Unknown", message: "the probe failed" }
  }
  if ("lastError" in error && error.lastError !== undefined) return remember(error.lastError as LastError, error)
  if (error._tag === "SqlError") {
    return lastError(PgFailure.fromSqlError(error as never, undefined, overrides), error as never)
  }
  return { tag: String(error._tag), message: "no session for the probe" }
}

export const make = Effect.fnUntraced(function* (
  name: string,
  options: Resolved,
  watch?: WatchOptions
): Effect.fn.Return<Cluster, DatabaseUnavailable | InvalidConfiguration, Scope.Scope> {
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const overrides = yield* PgFailure.CurrentOverrides
  const { noToken, servers, switching } = traits[options.profile]
  const isName = ({ address, host }: Place): boolean =>
    options.addresses === "each" && address === undefined && Resolver.isName(host)
  const watched = options.hosts.length > 1 || switching || options.addresses === "each" || watch?.always === true
  const topology = yield* Topology.make<Member>({
    thresholds: watch?.thresholds,
    peers: servers === "peers"
  })
  const run = Effect.runForkWith(yield* Effect.context<never>())

  let hadPrimary = false
  const lineOf = ChangeLog.make(name)
  topology.onChange((change) => {
    if (change.kind === "role" && change.to === "primary") hadPrimary = true
    // Who will be the next one is to be known soon.
    if (change.kind === "role" && change.from === "primary") {
      for (const { member } of topology.nodes) member.probe?.trigger()
    }
    const { level, text } = lineOf(change)
    run(Effect.logWithLevel(level)(text))
    if (change.kind === "added" || change.kind === "removed") return
    const down = change.kind === "phase" && change.to === "down"
    if (down) names?.trigger()
    const fenced = change.kind === "fenced" && change.to !== "in use"
    const pool = topology.get(change.node)?.member.pool
    if (pool === undefined) return
    // What is idle on a server that must not be used any more would only be in the way, and so is waiting there.
    if (fenced) run(pool.evictAll)
    if (fenced || down || (change.kind === "role" && change.from !== "unknown")) run(pool.turnAway)
  })

  let closing = false
  const closed = (own: string) => new DatabaseUnavailable({ pool: `${name}@${own}`, reason: "closed" })
  const shutdown = Effect.suspend(() => {
    closing = true
    return Effect.forEach(topology.nodes, ({ member }) => member.pool.close(), {
      concurrency: "unbounded",
      discard: true
    })
  })

  const gone = (own: string): Effect.Effect<void> =>
    Effect.callback<void>((resume) => {
      const stop = topology.onChange(({ kind, node }) => {
        if (kind === "removed" && node === own) resume(Effect.void)
      })
      return Effect.sync(stop)
    })

  const addOne: Cluster["add"] = Effect.fnUntraced(function* (address) {
    const own = nameOf(address)
    if (closing) return yield* closed(own)
    // One that is just taking its leave is there no more: it comes back when it is gone.
    while (topology.get(own)?.draining === true) {
      yield* gone(own)
      if (closing) return yield* closed(own)
    }
    if (topology.get(own) !== undefined) return
    const memberScope = yield* Scope.fork(scope)
    const built = Effect.gen(function* () {
      yield* PoolMetrics.endWithScope("node", own)
      let probe: Probe.Probe | undefined
      const onTrouble = (refusal?: LastError): void => {
        if (closing) return
        // Who looks through the pool waits as its callers do; the pool knows sooner that nobody answers.
        if (refusal !== undefined && unreachable.has(refusal.tag)) {
          topology.failed(own, { at: monotonicMillis(clock), error: refusal })
        }
        probe?.trigger()
      }
      const endpoint = Endpoint.make(topology, own, () => member?.pool)
      const trouble = watched ? { onTrouble, admit: endpoint.admit } : undefined
      const node = yield* Node.make(name, options, address, trouble)
      const close = Scope.close(memberScope, Exit.void)
      const start = (live: Probe.Probe | undefined): Member => ({ ...node, probe: live, close })
      // The end came while it was made: what is added now would outlive it.
      if (closing) return yield* closed(own)
      if (!watched) return topology.add(start(undefined))
      let told = false
      // The probe's first answer must find the node in the topology.
      let member: Member | undefined
      const early: Array<() => void> = []
      const whenAdded = (f: () => void): void => void (member === undefined ? early.push(f) : f())
      probe = yield* Probe.make({
        look: node.look,
        timeout: watch?.timeout,
        schedule: watch?.schedule,
        scheduleUnwell: watch?.scheduleUnwell,
        isWell: () => topology.get(own)?.state.phase === "up" && (topology.primary !== undefined || !hadPrimary),
        onResult: (at, exit) =>
          whenAdded(() => {
            // A pool that is closed says nothing about its server.
            if (closing) return
            if (Exit.isSuccess(exit)) {
              if (switching) endpoint.admit(exit.value)
              else topology.observed(own, exit.value)
              if (!told) {
                told = true
                run(tellRoom(name, node, exit.value.maxConnections))
              }
            } else {
              const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
              topology.failed(own, { at, error: lastErrorOf(failure, overrides) })
            }
          })
      })
      if (closing) return yield* closed(own)
      member = start(probe)
      topology.add(member)
      for (const f of early) f()
    })
    yield* Effect.onError(Scope.provide(built, memberScope), () => Scope.close(memberScope, Exit.void))
  })

  const removeOne = (own: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const member = topology.get(own)?.member
      if (member === undefined) return Effect.void
      topology.drain(own)
      // Removed twice, it is gone when the first removal has ended; one that has come back by then is another.
      return Effect.andThen(
        Effect.andThen(member.close, member.pool.close()),
        Effect.sync(() => {
          if (topology.get(own)?.member === member) topology.remove(own)
        })
      )
    })

  const names =
    options.addresses !== "each"
      ? undefined
      : yield* Names.make({
          resolver: yield* Resolver.Current,
          schedule: watch?.lookup,
          isWell: () => topology.nodes.every(({ draining, state }) => draining || state.phase !== "down"),
          has: (own) => {
            const view = topology.get(own)
            return view === undefined ? "absent" : view.draining ? "draining" : "present"
          },
          // What cannot be added for want of sense in its options could not have been built in the first place.
          add: (place) =>
            Effect.catch(addOne(place), (error) =>
              error._tag === "DatabaseUnavailable" && error.reason === "closed" ? Effect.void : Effect.die(error)
            ),
          look: (own) => Effect.suspend(() => topology.get(own)?.member.probe?.refresh ?? Effect.void),
          remove: (own) => Effect.asVoid(Effect.forkIn(removeOne(own), scope)),
          onLookup: (host, ok) =>
            run(
              ok
                ? Effect.logInfo(`${name}: ${host} can be looked up again`)
                : Effect.logWarning(`${name}: ${host} cannot be looked up, its known addresses are used`)
            )
        })

  const add: Cluster["add"] = (address) =>
    names !== undefined && !closing && isName(address) ? names.follow(address) : addOne(address)

  const remove: Cluster["remove"] = (own) =>
    names === undefined
      ? removeOne(own)
      : Effect.flatMap(names.forget(own), (followed) => (followed ? Effect.void : removeOne(own)))

  const refresh: Cluster["refresh"] = Effect.suspend(() =>
    Effect.forEach(topology.nodes, ({ member }) => member.probe?.refresh ?? Effect.void, {
      concurrency: "unbounded",
      discard: true
    })
  )

  // Names are looked up together: one that nobody answers for must not hold up the others.
  const together = options.hosts.some(isName) ? "unbounded" : 1
  yield* Effect.forEach(options.hosts, add, { concurrency: together, discard: true })
  // Before the servers' own scopes, which would close one after the other.
  yield* Effect.addFinalizer(() => shutdown)
  if (watched)
    yield* tellBudget(
      name,
      topology.nodes.map(({ member }) => member)
    )
  if (watched && options.boot !== "lazy") {
    const anyUp = Effect.callback<void>((resume) => {
      const stop = topology.onChange(({ to }) => {
        if (to === "up") resume(Effect.void)
      })
      return Effect.sync(stop)
    })
    yield* options.boot === "fill" ? refresh : Effect.raceFirst(refresh, anyUp)
    if (!topology.nodes.some(({ state }) => state.phase === "up")) {
      const lastError = topology.nodes.find(({ state }) => state.lastError !== undefined)?.state.lastError
      return yield* new DatabaseUnavailable({
        pool: name,
        reason: "unreachable",
        ...(lastError === undefined ? {} : { lastError })
      })
    }
    if (options.boot === "fill") {
      yield* Effect.forEach(topology.nodes, ({ member }) => member.warm, { discard: true })
    }
  }

  return {
    name,
    options,
    topology,
    watched,
    add,
    remove,
    refresh,
    shutdown,
    closing: () => closing,
    token: Effect.suspend(() => {
      if (noToken !== undefined) return Effect.fail(notAvailable(name, options, "tokens", noToken))
      const primary = topology.primary ?? (topology.nodes.length === 1 ? topology.nodes[0] : undefined)
      return primary === undefined
        ? Effect.fail(new DatabaseUnavailable({ pool: name, reason: "unreachable" }))
        : Effect.mapError(Look.token(primary.member.pool), (error) =>
            error._tag === "DatabaseUnavailable"
              ? error
              : new DatabaseUnavailable({ pool: name, reason: "lost", lastError: lastErrorOf(error, overrides) })
          )
    }),
    rotate: Effect.suspend(() =>
      Effect.forEach(topology.nodes, ({ member }) => member.pool.evictAll, { discard: true })
    ),
    noteFailure: (member, failure, at) => {
      if (!watched) return
      // Asked for by this side, or said by a function, it is no news of the server.
      if (failure.class === "ReadOnly" && failure.probe)
        topology.revoked(member.name, { at, error: lastError(failure) })
      // A statement that got no answer may mean a frozen server: nothing else would tell before the next look.
      if (failure.probe || failure.class === "AttemptTimeout") member.probe?.trigger()
    }
  }
})

/** What the profile does not have. */
export const notAvailable = (
  name: string,
  { profile }: Resolved,
  what: "snapshots" | "tokens",
  why: string
): DatabaseUnavailable =>
  new DatabaseUnavailable({
    pool: name,
    reason: "configuration",
    lastError: { tag: "NotAvailable", message: `profile ${profile} has no ${what}: ${why}` }
  })

/** Whether the pool may take more than the server has, said once a server. */
const tellRoom = (name: string, node: Node.Node, maxConnections: number | undefined): Effect.Effect<void> =>
  maxConnections === undefined
    ? Effect.void
    : Effect.flatMap(node.pool.stats, ({ limit }) => {
        const line = `${name}: ${node.name} allows ${maxConnections} connections, this process takes at most ${limit}`
        return limit < maxConnections ? Effect.logDebug(line) : Effect.logWarning(`${line}: too many`)
      })

/** What all pools together may take, said once a database. */
const tellBudget = (name: string, members: ReadonlyArray<Node.Node>): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.forEach(members, ({ pool }) => Effect.map(pool.stats, ({ limit }) => limit)),
    (limits) => {
      const sum = limits.reduce((all, limit) => all + limit, 0)
      return Effect.logInfo(
        `${name}: at most ${sum} sessions from this process, on ${limits.length} server${limits.length === 1 ? "" : "s"}`
      )
    }
  )
