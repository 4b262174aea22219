/**
 * The sessions of one node, and those who wait for them.
 *
 * A caller waits on the pool, never on a connect, and never beyond its deadline: first come, first served within a
 * priority, with shares of the pool kept for lanes that declare them. Whatever goes wrong with a session (it died, its
 * caller left in the middle of a statement, it was left in a transaction) is put right in the background and counted.
 *
 * **Bounds.** Users' sessions, connects included, are never more than `max`. Sessions that are draining or closing are
 * counted apart, up to `drainBudget`; beyond it they keep their place in `max`. The control lane has `control` sessions of
 * its own and as many draining. `stats.limit` is the sum: the most that the server can see.
 *
 * **How a session goes round.** idle -> leased -> idle when it comes back clean. On the way it may be *prepared* (validated
 * after it was silent, reset after it was left unclean) or *away* (draining, closing). See `Entry.ts`.
 *
 * **When the node is down.** See `Connector.ts`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readOf } from "../options/Field.ts"
import { closing as closingFields, ready as readyFields } from "../options/pool.ts"
import type { DatabaseUnavailable, PoolAccount } from "../ReportError.ts"
import * as Backoff from "./Backoff.ts"
import { Closing } from "./Closing.ts"
import { describeSqlError } from "./Connector.ts"
import { Housekeeper } from "./Housekeeper.ts"
import type { Poolable } from "./Poolable.ts"
import { PoolCore, type PoolRequest } from "./PoolCore.ts"
import type { PoolEvent, PoolStats } from "./PoolEvents.ts"
import {
  defaultConnectBackoff,
  InvalidPoolOptions,
  optionIssues,
  type PoolOptions,
  settingsOf,
  sizesOf,
  resized,
  resizeIssues
} from "./PoolOptions.ts"
import * as Report from "./PoolReport.ts"
import { Readiness } from "./Readiness.ts"
import type { AcquireError, Ticket } from "./Waiters.ts"

export type { PoolRequest } from "./PoolCore.ts"
export type { PoolEvent, PoolListener, PoolStats } from "./PoolEvents.ts"
export { controlLane, InvalidPoolOptions, type LaneOptions, listenLane, type PoolOptions } from "./PoolOptions.ts"
export type { AcquireError } from "./Waiters.ts"

export interface SessionPool<S extends Poolable> {
  readonly name: string

  /**
   * Leases a session while `f` runs, and takes it back however `f` ends.
   *
   * Fails with `AcquireTimeout` when the deadline comes first, `Overloaded` when too many wait already, and
   * `DatabaseUnavailable` when the node is down or the pool is closed.
   */
  readonly use: <A, E, R>(
    request: PoolRequest,
    f: (session: S) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | AcquireError, R>

  /** Leases a session until the scope ends. */
  readonly acquire: (request: PoolRequest) => Effect.Effect<S, AcquireError, Scope.Scope>

  readonly stats: Effect.Effect<PoolStats>

  /** The sessions that users may have, for somebody who goes without one. */
  readonly account: (caller: Fiber.Fiber<unknown, unknown>) => PoolAccount

  /** Callers that wait or hold a session, and whether one more would get one without waiting: two reads, for routing. */
  readonly outstanding: () => number
  readonly canServeNow: () => boolean

  /** What happens from now on. A subscriber that falls behind by 256 events misses the oldest. */
  readonly events: Stream.Stream<PoolEvent>

  /** Changes the size of the living pool. What is too much is closed as it comes back. */
  readonly resize: (size: {
    readonly min?: number | undefined
    readonly max?: number | undefined
  }) => Effect.Effect<void, InvalidPoolOptions>

  /** New leases wait, in their order and up to their deadlines; what is leased stays. The control lane goes on. */
  readonly suspend: Effect.Effect<void>
  readonly resume: Effect.Effect<void>

  /** Replaces every session: the idle ones now, the leased ones when they come back. For a rotated password or a moved node. */
  readonly evictAll: Effect.Effect<void>

  /** Those who wait fail now, with `DatabaseUnavailable`, because somebody knows that they wait in the wrong place. */
  readonly turnAway: Effect.Effect<void>

  /** Waits until `min` sessions (at least one) are there. After `timeout` fails with the last real error. */
  readonly awaitReady: (timeout: Duration.Input) => Effect.Effect<void, DatabaseUnavailable>

  /**
   * Refuses new callers at once. Those who wait or hold a session have `graceful`; then waiters fail, and what is on the
   * wire is cancelled; after `hard` more, sessions are destroyed. Returns by then, whoever holds what. Closing twice waits
   * for the first.
   */
  readonly close: (options?: {
    readonly graceful?: Duration.Input | undefined
    readonly hard?: Duration.Input | undefined
  }) => Effect.Effect<void>
}

/**
 * Makes a pool that lives as long as the scope.
 *
 * @example
 * ```ts
 * const program = Effect.gen(function* () {
 *   const pool = yield* SessionPool.make({ name: "fleet/primary@127.0.0.1:5432", connect, classifyConnect })
 *   return yield* pool.use({ lane: "report", name: "stoppage" }, (session) => session.query("select 1"))
 * })
 * ```
 */
export const make = Effect.fnUntraced(function* <S extends Poolable>(
  options: PoolOptions<S>
): Effect.fn.Return<SessionPool<S>, DatabaseUnavailable | InvalidPoolOptions, Scope.Scope> {
  const issues = optionIssues(options)
  if (issues.length > 0) {
    const name: unknown = options?.name
    return yield* new InvalidPoolOptions({ pool: typeof name === "string" ? name : "a pool", issues })
  }
  const settings = settingsOf(options)
  const { control, drainBudget, max, min } = sizesOf(options)

  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const random = yield* Random.Random
  // What runs in the background belongs to the pool, not to whoever happened to make it.
  const services = Context.omit(Scope.Scope)(yield* Effect.context<Scope.Scope>())
  const pubsub = yield* PubSub.sliding<PoolEvent>(256)
  const listener = guarded(options).listener?.onEvent

  const core = new PoolCore(
    guarded(options),
    settings,
    { min, max, control, drainBudget },
    Backoff.make(options.connectBackoff ?? defaultConnectBackoff, random),
    {
      clock,
      random,
      fork: Effect.runForkWith(services),
      publish: (event) => {
        PubSub.publishUnsafe(pubsub, event)
        listener?.(event)
      }
    }
  )
  const housekeeper = new Housekeeper(core)
  const readiness = new Readiness(core)
  const closing = new Closing(core, Deferred.makeUnsafe<void>(), Deferred.makeUnsafe<void>())
  core.onRound = (now) => housekeeper.ring(now)
  core.onChange = (change) => {
    readiness.changed(change)
    closing.changed()
  }

  const close: SessionPool<S>["close"] = (limits) =>
    Effect.suspend(() => {
      const asked = readOf("SessionPool.close", closingFields, limits ?? {})
      return Effect.andThen(
        closing.run(asked.graceful ?? settings.closeGraceful, asked.hard ?? settings.closeHard),
        PubSub.shutdown(pubsub)
      )
    })
  yield* Scope.addFinalizer(scope, close())

  housekeeper.ring(core.now())
  const boot = options.boot?.mode ?? "lazy"
  core.pumpAll()
  core.flush()
  if (boot !== "lazy") {
    const ready = readiness.firstAnswer(boot === "fill" ? Math.max(min, 1) : 1)
    yield* options.boot?.schedule === undefined ? ready : Effect.retry(ready, options.boot.schedule)
  }

  const wait = (ticket: Ticket<S>): Effect.Effect<S, AcquireError> =>
    Effect.callback((resume) => {
      ticket.resume = resume
      core.waiting.enqueue(ticket)
    })
  const spans = options.leakDetection !== undefined

  // The release is in place before the session is taken: however and whenever the caller leaves, `finish` is called once,
  // and finds out from the ticket what there is to give back.
  const use: SessionPool<S>["use"] = (request, f) =>
    Effect.withFiber((fiber) => {
      const ticket = core.ticket(request, fiber)
      return Effect.onExitPrimitive(
        Effect.suspend(() => {
          const session = core.take(ticket)
          if (session === undefined) {
            return Effect.flatMap(wait(ticket), spans ? (waited) => noteSpan(ticket, f(waited)) : f)
          }
          return spans ? noteSpan(ticket, f(session)) : f(session)
        }),
        () => {
          core.finish(ticket)
          return undefined
        }
      )
    })

  const acquire: SessionPool<S>["acquire"] = (request) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        const leaseScope = Context.getUnsafe(fiber.context, Scope.Scope)
        const ticket = core.ticket(request, request.holder ?? fiber, leaseScope)
        const finish = Effect.sync(() => core.finish(ticket))
        const leased = Effect.suspend(() => {
          const session = core.take(ticket)
          return session === undefined ? wait(ticket) : Effect.succeed(session)
        })
        return Effect.andThen(
          Scope.addFinalizer(leaseScope, finish),
          Effect.onExit(
            spans
              ? Effect.flatMap(restore(leased), (session) => noteSpan(ticket, Effect.succeed(session)))
              : restore(leased),
            (exit) => (Exit.isSuccess(exit) ? Effect.void : finish)
          )
        )
      })
    )

  return {
    name: options.name,
    use,
    acquire,
    close,
    stats: Effect.sync(() => Report.stats(core)),
    account: (caller) => Report.account(core, core.main, caller),
    outstanding: () => core.main.leased + core.main.preparing + core.main.waiting,
    canServeNow: () =>
      core.state === "open" && core.main.waiting === 0 && (core.main.idle.length > 0 || core.main.free > 0),
    events: Stream.fromPubSub(pubsub),
    awaitReady: (timeout) =>
      Effect.suspend(() =>
        readiness.within(
          Math.max(core.main.min, 1),
          readOf("SessionPool.awaitReady", readyFields, { timeout }).timeout!
        )
      ),
    suspend: Effect.sync(() => core.suspend()),
    resume: Effect.sync(() => core.resume()),
    turnAway: Effect.sync(() => {
      core.waiting.failAll(core.main, () => core.connector.unavailable(core.now()))
      core.flush()
    }),
    evictAll: Effect.sync(() => core.evictAll()),
    resize: (size) =>
      Effect.suspend(() => {
        const now = { min: core.main.min, max: core.main.max, control, drainBudget }
        const wrong = resizeIssues(options, size, now)
        if (wrong.length > 0) return Effect.fail(new InvalidPoolOptions({ pool: options.name, issues: wrong }))
        const { max, min } = resized(size, now)
        core.resize(min, max)
        return Effect.void
      })
  }
})

/** What is called in the middle of a transition must not be able to break the pool by throwing. */
const guarded = <S extends Poolable>(options: PoolOptions<S>): PoolOptions<S> => ({
  ...options,
  classifyConnect: orElse("transient" as const, options.classifyConnect),
  describeError: orElse(
    { tag: "Unknown", message: "an error that could not be described" },
    options.describeError ?? describeSqlError
  ),
  hooks: options.hooks && {
    ...options.hooks,
    beforeReuse: options.hooks.beforeReuse && orElse(false, options.hooks.beforeReuse)
  },
  listener: options.listener && {
    ...(options.listener.onAcquire && { onAcquire: orElse(undefined, options.listener.onAcquire) }),
    ...(options.listener.onRelease && { onRelease: orElse(undefined, options.listener.onRelease) }),
    ...(options.listener.onEvent && { onEvent: orElse(undefined, options.listener.onEvent) })
  }
})

const orElse =
  <Args extends ReadonlyArray<unknown>, A>(otherwise: A, f: (...args: Args) => A) =>
  (...args: Args): A => {
    try {
      return f(...args)
    } catch {
      return otherwise
    }
  }

/** Remembers under which span a session is held: opt-in, with leak detection. */
const noteSpan = <S extends Poolable, A, E, R>(
  ticket: Ticket<S>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const span = fiber.cache.span
    if (span !== undefined && ticket.entry !== undefined) {
      ticket.entry.span = {
        traceId: span.traceId,
        spanId: span.spanId,
        ...(span._tag === "Span" ? { name: span.name } : {})
      }
    }
    return effect
  })
