/**
 * A role's way to the servers of a cluster: which one serves the next attempt of a call.
 *
 * - One server that nobody watches: it is the one, at no cost.
 * - Usually some server is known to fit: the router's choice.
 * - If none is known to fit, everybody is looked at, and the caller waits for what they say: for a failover, that is, up to
 *   `patience` after the role was last served. After that callers fail at once, with the last real error.
 * - What fails before anything was sent (no session, breaker open) is tried on the next server within the same attempt, each
 *   with its part of the time that is left.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import type { SqlError } from "effect/sql/SqlError"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { remember } from "../internal/originals.ts"
import { reasonOf } from "../internal/problems.ts"
import { tagOf } from "../internal/tagOf.ts"
import * as PgFailure from "../PgFailure.ts"
import { DatabaseUnavailable, type ReplicaTooStale } from "../ReportError.ts"
import type { Cluster, Member } from "./Cluster.ts"
import type { RoleSource } from "./Health.ts"
import type { Token } from "./Lsn.ts"
import * as NodeDetails from "./NodeDetails.ts"
import type * as NodeState from "./NodeState.ts"
import * as Router from "./Router.ts"

/**
 * The write that reports have to see: they read from a replica that has replayed it, wait for one within their deadline, or
 * go to the primary where the role's `fallback` allows it. For roles with several servers.
 *
 * @example
 * ```ts
 * class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
 *
 * const afterTheWrite = Effect.gen(function* () {
 *   const token = yield* (yield* Fleet.servers).token
 *   return yield* trips.run({}).pipe(Effect.provideService(Route.ReadAfter, token))
 * })
 * ```
 */
export const ReadAfter: Context.Reference<Token | undefined> = Context.Reference("@sluice/sdk/topology/ReadAfter", {
  defaultValue: (): Token | undefined => undefined
})

/** The server and the sessions that a group of calls shares (see `Snapshot`). Default: none. */
export const Current: Context.Reference<{ readonly route: Route; readonly member: Member } | undefined> =
  Context.Reference("@sluice/sdk/topology/Snapshot", {
    defaultValue: (): { readonly route: Route; readonly member: Member } | undefined => undefined
  })

/** One call's way from server to server: made when it begins, changed as it goes on. */
export interface Call {
  /** What is called, in errors. */
  readonly key: string
  /** Servers it has been to. */
  readonly tried: Array<string>
  /** How many milliseconds are left, asked when it matters. Default: no limit. */
  readonly left?: ((fiber: Fiber.Fiber<unknown, unknown>) => number | undefined) | undefined
  /** Put around a wait that the caller's deadline could not end by itself. Default: nothing. */
  readonly guard?: (<A>(self: Effect.Effect<A, any>) => Effect.Effect<A, any>) | undefined
  /** It has to see this write. Default: {@link ReadAfter}. */
  token?: Token | undefined
  /** Replicas farther behind do not serve it, in milliseconds. Default: as the role says. */
  readonly maxLagMillis?: number | undefined
  /** Conflicts with recovery so far: they recur on a standby, so that the primary is the better choice. */
  conflicts?: number | undefined
  /** Only the primary will do from here on. */
  primary?: boolean | undefined
}

export interface Route {
  /** `database/role`. */
  readonly name: string
  readonly cluster: Cluster
  /** What the role asks for. */
  readonly want: Router.Want
  readonly nodes: () => ReadonlyArray<Member>
  /** The one server of a cluster that is not watched. */
  readonly only: Member | undefined
  /** The server for the next attempt. `deadline` in monotonic milliseconds. */
  readonly next: (call: Call, deadline?: number) => Effect.Effect<Member, DatabaseUnavailable | ReplicaTooStale>
  /**
   * Runs one attempt, told until when a session has to be had (`undefined`: no limit of its own). When it fails before anything was sent, with `AcquireTimeout`, `DatabaseUnavailable` or
   * `CircuitOpen`, the next server is tried, until none is left.
   */
  readonly attempt: <A, E, R>(
    call: Call,
    run: (member: Member, acquireDeadline: number | undefined) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | DatabaseUnavailable | ReplicaTooStale, R>
  /** `attempt` for a fiber that runs at once what it is given here. */
  readonly attemptOf: <A, E, R>(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    run: (member: Member, acquireDeadline: number | undefined) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | DatabaseUnavailable | ReplicaTooStale, R>
  /** For `Health`. */
  readonly source: RoleSource
}

const notSent: ReadonlySet<unknown> = new Set(["AcquireTimeout", "DatabaseUnavailable", "CircuitOpen"])

/** What was seen within this time is the present, for a caller who would fail. */
const recentMillis = 1_000

/** A caller that leaves after less than this proves nothing. */
const suspectMillis = 500

const isNotSent = (error: unknown): boolean => notSent.has(tagOf(error))

export const make = (
  name: string,
  cluster: Cluster,
  want: Router.Want,
  overrides: PgFailure.Overrides,
  options?: {
    readonly patience?: Duration.Input | undefined
    /** What is asked of a server that is the only one there is, where servers come and go. */
    readonly alone?: Router.Want | undefined
  }
): Route => {
  const { topology } = cluster
  const patience = Duration.toMillis(Duration.fromInputUnsafe(options?.patience ?? "2 seconds"))
  let servedAt: number | undefined
  const nodes = (): ReadonlyArray<Member> => topology.nodes.map(({ member }) => member)
  const only = cluster.watched ? undefined : topology.nodes[0]?.member

  const alone = options?.alone
  const asked = (): Router.Want => (alone !== undefined && topology.isAlone ? alone : want)

  const wantOf = (call: Call): Router.Want => {
    if (call.primary === true) return { role: "primary", tried: call.tried }
    const { fallback, maxLagMillis, role, zone } = asked()
    return {
      role,
      fallback,
      zone,
      maxLagMillis: call.maxLagMillis ?? maxLagMillis,
      token: call.token,
      tried: call.tried
    }
  }

  /** What is known now is enough to say which one. */
  const known = (wanted: Router.Want, now: number): Member | undefined => {
    const picked = topology.pick(wanted, now)
    if (picked !== undefined) {
      servedAt = now
      return picked.member
    }
    // One that comes back, and is what is asked for, is better than none.
    return topology.choose(wanted).candidates.find(({ verify }) => !verify)?.node.member
  }

  const failure = (call: Call, wanted: Router.Want): DatabaseUnavailable | ReplicaTooStale => {
    const stale = Router.tooStale(call.key, wanted, topology.choose(wanted).refused)
    // A report that declares no lag has no such error: for it, nobody could serve.
    if (stale !== undefined && call.maxLagMillis !== undefined) return stale
    let last: NodeState.NodeState | undefined
    for (const { state } of topology.nodes) {
      if ((state.lastErrorAt ?? -Infinity) > (last?.lastErrorAt ?? -Infinity)) last = state
    }
    const lastError = stale === undefined ? last?.lastError : { tag: stale._tag, message: stale.message }
    const told = new DatabaseUnavailable({
      pool: name,
      reason: (lastError === undefined ? undefined : reasonOf(lastError.tag)) ?? "unreachable",
      ...(lastError === undefined ? {} : { lastError })
    })
    return remember(told, lastError)
  }

  /** Waits for a change after which what is known names a server. */
  const awaitChange = (wanted: Router.Want, clock: Clock.Clock): Effect.Effect<Member> =>
    Effect.callback((resume) => {
      const stop = topology.onChange(() => {
        const found = known(wanted, monotonicMillis(clock))
        if (found !== undefined) resume(Effect.succeed(found))
      })
      return Effect.sync(stop)
    })

  const look = (wanted: Router.Want, clock: Clock.Clock): Effect.Effect<Member | undefined> =>
    Effect.map(cluster.refresh, () => known(wanted, monotonicMillis(clock)))

  /** A position that moves is no change of state: whoever waits for one looks again and again. */
  const lookAgain = (wanted: Router.Want, clock: Clock.Clock): Effect.Effect<Member> =>
    Effect.flatMap(Effect.andThen(Effect.sleep("20 millis"), look(wanted, clock)), (found) =>
      found === undefined ? lookAgain(wanted, clock) : Effect.succeed(found)
    )

  const within = <A>(self: Effect.Effect<A>, millis: number): Effect.Effect<A | undefined> =>
    millis === Infinity
      ? self
      : Effect.timeoutOrElse(self, {
          duration: Duration.millis(Math.max(millis, 1)),
          orElse: () => Effect.succeed(undefined)
        })

  const next: Route["next"] = (call, deadline = Infinity) =>
    Effect.clockWith((clock) => {
      const wanted = wantOf(call)
      const now = monotonicMillis(clock)
      const found = known(wanted, now)
      if (found !== undefined) return Effect.succeed(found)
      if (cluster.closing()) return Effect.fail(new DatabaseUnavailable({ pool: name, reason: "closed" }))
      const searched = search(call, wanted, clock, deadline)
      return call.guard === undefined ? searched : call.guard(searched)
    })

  /** None is known to fit. */
  const search = (call: Call, wanted: Router.Want, clock: Clock.Clock, deadline: number) =>
    Effect.suspend((): Effect.Effect<Member, DatabaseUnavailable | ReplicaTooStale> => {
      const now = monotonicMillis(clock)
      const until = call.token === undefined ? Math.min((servedAt ??= now) + patience, deadline) : deadline
      // Everybody has just said no: asking once more would only make the caller wait.
      const fresh = topology.nodes.every(({ state }) => now - state.at < recentMillis)
      if (now >= until && fresh) return Effect.fail(failure(call, wanted))
      const changed = awaitChange(wanted, clock)
      const first = within(Effect.raceFirst(look(wanted, clock), changed), deadline - now)
      return Effect.flatMap(first, (early) => {
        if (early !== undefined) return Effect.succeed(early)
        const left = until - monotonicMillis(clock)
        const more = wanted.token === undefined ? changed : lookAgain(wanted, clock)
        return Effect.flatMap(left > 0 ? within(more, left) : Effect.undefined, (late) =>
          late === undefined ? Effect.fail(failure(call, wanted)) : Effect.succeed(late)
        )
      })
    })

  /** What a failed attempt proves of its server, and what it means for the next one. */
  const note = (call: Call, member: Member, error: unknown, at: number): void => {
    const tag = tagOf(error)
    if (tag === "SqlError") {
      const failure = PgFailure.fromSqlError(error as SqlError, undefined, overrides)
      cluster.noteFailure(member, failure, at)
      if (failure.primaryAfter !== undefined && want.fallback === "primary") {
        call.conflicts = (call.conflicts ?? 0) + 1
        if (call.conflicts >= failure.primaryAfter) call.primary = true
      }
    } else if (tag === "AttemptTimeout" || notSent.has(tag)) member.probe?.trigger()
  }

  /** Whether somebody else can be asked: one that fits, or one that may be found because this one does not fit any more. */
  const isElsewhere = (call: Call, member: Member): boolean => {
    const wanted = wantOf(call)
    return topology.untried(wanted) > 0 || !topology.fits(member.name, wanted)
  }

  const attempt: Route["attempt"] = (call, run) => Effect.withFiber((fiber) => attemptOf(fiber, call, run))

  const attemptOf: Route["attemptOf"] = (fiber, call, run) => {
    const shared = fiber.getRef(Current)
    const fixed = shared?.route === route ? shared.member : only
    if (fixed !== undefined) {
      call.tried.push(fixed.name)
      return run(fixed, undefined)
    }
    const clock = fiber.getRef(Clock.Clock)
    call.token ??= fiber.getRef(ReadAfter)
    const step = (more: number): Effect.Effect<any, any, any> => {
      const left = call.left?.(fiber)
      const now = monotonicMillis(clock)
      const deadline = left === undefined || left === Infinity ? undefined : now + left
      const found = known(wantOf(call), now)
      return found === undefined
        ? Effect.flatMap(next(call, deadline), (member) => go(member, more, deadline))
        : go(found, more, deadline)
    }
    const go = (member: Member, more: number, deadline: number | undefined): Effect.Effect<any, any, any> => {
      const now = monotonicMillis(clock)
      let until = deadline
      if (deadline !== undefined && more > 1) {
        until = now + Router.budget(deadline - now, topology.untried(wantOf(call), now))
      }
      call.tried.push(member.name)
      const once = member.isWarm() ? run(member, until) : Effect.andThen(member.warm, run(member, until))
      const noted = Effect.onExitPrimitive(once, (exit) => {
        if (Exit.isSuccess(exit)) return undefined
        const error = Cause.hasInterruptsOnly(exit.cause) ? undefined : Cause.squash(exit.cause)
        if (error !== undefined && tagOf(error) !== "DeadlineExceeded") note(call, member, error, now)
        // Whoever had to leave after a while may have been talking to a server that is frozen.
        else if (monotonicMillis(clock) - now >= suspectMillis) member.probe?.trigger()
        return undefined
      })
      return more <= 1
        ? noted
        : Effect.catch(noted, (error: unknown) =>
            isNotSent(error) && isElsewhere(call, member) ? step(more - 1) : Effect.fail(error)
          )
    }
    return step(topology.nodes.length)
  }

  const source: RoleSource = {
    name,
    ask: () => {
      if (cluster.closing()) return { serves: false }
      const one = only
      if (one !== undefined) return { serves: one.canServeNow() || one.outstanding() > 0 }
      const wanted = asked()
      if (!topology.serves(wanted)) return { serves: false }
      const { fallback, ...own } = wanted
      return { serves: true, degraded: topology.serves(own) ? undefined : `served by the ${fallback}` }
    },
    nodes: () => topology.nodes.map((view) => NodeDetails.of(view, topology.wallTime(view.state.since))),
    onChange: (listener) => topology.onChange(listener)
  }

  const route: Route = { name, cluster, want, nodes, only, next, attempt, attemptOf, source }
  return route
}
