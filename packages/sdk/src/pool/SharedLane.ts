/**
 * A lane whose sessions are shared: several fibers have their statements on one session at a time, in one write and one
 * answer. Opt-in, for short statements that only read.
 *
 * What is given up for the speed, and what is done about it:
 *
 * - statements wait for those before them: a session that has not answered for `slow` gets no more of them, and another
 *   one is opened while the lane may have it;
 * - a silent server would block everybody: a session that hears nothing for `silence` with statements on the wire is
 *   destroyed, and its callers fail with a lost connection, which a declared retry repeats elsewhere;
 * - a session that is lost takes its statements with it: hence reads only.
 *
 * The sessions are leases of the pool, in this lane, so that the lane's cap and the pool's bounds hold. A lease is given
 * back when nothing is on it, and after `hold` at the latest gets no more work, so that lifetimes hold too.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { AcquireTimeout, Overloaded, type PoolAccount } from "../ReportError.ts"
import type { Poolable } from "./Poolable.ts"
import type { AcquireError, PoolRequest, SessionPool } from "./SessionPool.ts"

/** A session that can be shared. */
export interface Shareable extends Poolable {
  /** Leaves abandoned statements behind by itself, and dies of a server that is silent for `silence` milliseconds. */
  share(shared: boolean, silence?: number): void
}

export interface Options {
  readonly lane: string
  /** Sessions at the most. */
  readonly sessions: number
  /** Statements on one session at the most. */
  readonly statements: number
  /** Callers that may wait. */
  readonly maxWaiting: number
  /** Milliseconds. */
  readonly silence: number
  /** Milliseconds without an answer after which a session gets no more statements. */
  readonly slow: number
  /** Milliseconds after which a lease is given back as soon as its statements are answered. */
  readonly hold: number
}

interface Member<S> {
  readonly session: S
  readonly scope: Scope.Closeable
  readonly since: number
  inUse: number
  /** When the last answer came, or the first statement after a rest began. */
  progress: number
}

/** A caller in the queue. What it was given is known here even if it is interrupted before it hears of it. */
interface Waiter<S> {
  readonly resume: (effect: Effect.Effect<Member<S>, AcquireError>) => void
  given: Member<S> | undefined
}

/** How long a lease is kept with nothing on it: the next caller is usually near. */
const lingerMillis = 50

/** Leases of one lane, several callers on each. Lives as long as the scope. */
export const make = Effect.fnUntraced(function* <S extends Shareable>(
  pool: SessionPool<S>,
  options: Options
): Effect.fn.Return<SessionPool<S>["use"], never, Scope.Scope> {
  const home = yield* Effect.scope
  const clock = yield* Clock.Clock
  const { lane, maxWaiting, sessions, silence, slow, statements } = options
  const members = new Set<Member<S>>()
  const waiting = new Set<Waiter<S>>()
  let opening = 0
  let closed = false

  const runFork = Effect.runForkWith(yield* Effect.context<never>())

  /** The session with the fewest statements that answers. */
  const pick = (now: number): Member<S> | undefined => {
    let best: Member<S> | undefined
    for (const member of members) {
      if (member.inUse >= statements || member.session.dead !== undefined) continue
      if (now - member.since >= options.hold) continue
      if (member.inUse > 0 && now - member.progress >= slow) continue
      if (best === undefined || member.inUse < best.inUse) best = member
    }
    return best
  }

  const take = (member: Member<S>, now: number): Member<S> => {
    if (member.inUse++ === 0) member.progress = now
    return member
  }

  const pump = (): void => {
    const now = monotonicMillis(clock)
    for (const waiter of waiting) {
      const member = pick(now)
      if (member === undefined) break
      waiter.given = take(member, now)
      waiter.resume(Effect.succeed(member))
    }
    if (closed) return
    const wanted = Math.ceil(waiting.size / statements) - opening
    const room = sessions - members.size - opening
    for (let more = Math.min(wanted, room); more > 0; more--) open()
  }

  const open = (): void => {
    opening++
    const opened = Effect.gen(function* () {
      const scope = yield* Scope.fork(home)
      const exit = yield* Effect.exit(Scope.provide(pool.acquire({ lane, name: `shared ${lane}` }), scope))
      opening--
      if (Exit.isFailure(exit)) {
        yield* Scope.close(scope, exit)
        // With no session left nobody else will serve those who wait.
        if (members.size === 0) for (const waiter of waiting) waiter.resume(Effect.failCause(exit.cause))
        return
      }
      const session = exit.value
      const now = monotonicMillis(clock)
      const member: Member<S> = { session, scope, since: now, inUse: 0, progress: now }
      session.share(true, silence)
      members.add(member)
      session.onDeath(() => retire(member))
      pump()
      if (member.inUse === 0) linger()
    })
    runFork(opened)
  }

  const retire = (member: Member<S>): void => {
    if (!members.delete(member)) return
    if (member.session.dead === undefined) member.session.share(false)
    runFork(Scope.close(member.scope, Exit.void))
    pump()
  }

  const giveBack = (member: Member<S>): void => {
    member.inUse--
    member.progress = monotonicMillis(clock)
    if (waiting.size > 0) pump()
    if (member.inUse === 0) linger()
  }

  let lingering: ReturnType<typeof setTimeout> | undefined
  const linger = (): void => {
    lingering ??= setTimeout(() => {
      lingering = undefined
      for (const member of members) if (member.inUse === 0) retire(member)
    }, lingerMillis)
  }

  yield* Scope.addFinalizer(
    home,
    Effect.sync(() => {
      closed = true
      clearTimeout(lingering)
    })
  )

  /** Nobody will be served in time: why, as the pool tells it. */
  const tooLate = (fiber: Fiber.Fiber<unknown, unknown>, waitedMillis: number): Effect.Effect<never, AcquireTimeout> =>
    Effect.flatMap(pool.stats, ({ connectFailures, lastError }) =>
      Effect.fail(
        new AcquireTimeout({
          ...accountFor(fiber),
          lane,
          reason: connectFailures > 0 ? "down" : members.size < sessions ? "connecting" : "lane-full",
          waitedMillis,
          ...(connectFailures > 0 && lastError !== undefined ? { lastError } : {})
        })
      )
    )

  /** Who waits here is unknown to the pool. */
  const accountFor = (fiber: Fiber.Fiber<unknown, unknown>): PoolAccount => {
    const account = pool.account(fiber)
    return { ...account, counts: { ...account.counts, waiting: waiting.size } }
  }

  const wait = (
    fiber: Fiber.Fiber<unknown, unknown>,
    request: PoolRequest,
    waiter: (given: Waiter<S>) => void
  ): Effect.Effect<Member<S>, AcquireError> => {
    if (waiting.size >= maxWaiting) {
      const key = `${pool.name}/${request.lane}`
      const sessions = accountFor(fiber)
      return Effect.fail(new Overloaded({ policy: "pool", key, limit: maxWaiting, waiting: waiting.size, sessions }))
    }
    return Effect.callback((resume) => {
      const asked = request.deadline ?? Infinity
      const left = (typeof asked === "number" ? asked : asked()) - monotonicMillis(clock)
      if (left <= 0) return resume(tooLate(fiber, 0))
      let timer: Fiber.Fiber<void> | undefined
      const leave = (): void => {
        timer?.interruptUnsafe()
        waiting.delete(queued)
      }
      const answer: Waiter<S>["resume"] = (outcome) => {
        leave()
        resume(outcome)
      }
      const queued: Waiter<S> = { resume: answer, given: undefined }
      waiter(queued)
      waiting.add(queued)
      pump()
      // Served, or refused, at once.
      if (!waiting.has(queued)) return
      if (left < Infinity) {
        timer = runFork(clock.sleep(Duration.millis(left)))
        timer.addObserver(({ _tag }) => {
          if (_tag === "Success" && waiting.has(queued)) answer(tooLate(fiber, left))
        })
      }
      return Effect.sync(leave)
    })
  }

  return (request, f) =>
    Effect.withFiber((fiber) => {
      let held: Member<S> | undefined
      let queued: Waiter<S> | undefined
      const now = monotonicMillis(clock)
      const member = waiting.size === 0 ? pick(now) : undefined
      const served =
        member === undefined
          ? Effect.flatMap(
              wait(fiber, request, (waiter) => {
                queued = waiter
              }),
              ({ session }) => f(session)
            )
          : Effect.suspend(() => f((held = take(member, now)).session))
      return Effect.onExitPrimitive(served, () => {
        const given = held ?? queued?.given
        if (given !== undefined) giveBack(given)
        return undefined
      })
    })
})
