/**
 * The instant at which a caller gets an answer, whatever happens.
 *
 * `Effect.timeout` waits until the interrupted work has cleaned up; a query that has to be cancelled on a server can take
 * seconds for that. Here the caller leaves on time: the work is interrupted, its cleanup goes on behind the caller
 * (`Background`), and keeps what it occupies until it has ended.
 *
 * A deadline is absolute and travels in the fiber's context; an inner one can only be earlier. Work that ends without
 * suspending costs no timer.
 *
 * Work whose every wait can leave by itself needs no fiber of its own: its deadline is *carried* (`Policy.carried`), each
 * wait asks `leave` for a timer, and whatever cannot promise to leave on time goes through `guard`.
 *
 * @example
 * ```ts
 * const answer = work.pipe(Deadline.within({ key: "stoppage", duration: "2 seconds" }))
 * //    ^ fails with DeadlineExceeded after 2 seconds, with the phase it was in and the last real error
 * ```
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import { refuse, tableOf } from "../options/Field.ts"
import { deadline as table } from "../options/policies.ts"
import { DeadlineExceeded, type LastError } from "../ReportError.ts"
import * as Background from "./Background.ts"
import { lastErrorField, lastErrorOf } from "./LastError.ts"
import { emit } from "./PolicyEvents.ts"
import { callAt, clockOf, millisOf, now, nowOf } from "./Time.ts"

/** What a call is waiting for. */
export type Phase = DeadlineExceeded["phase"]

/** What is known of a call while it runs. Written by the policies on its way, read when its deadline comes. */
export interface Progress {
  phase: Phase
  attempts: number
  lastError: LastError | undefined
  /** The call that this one made last, under a deadline of its own: it knows better. */
  inner: Progress | undefined
}

/** The deadline of a fiber. */
export interface Deadline {
  readonly key: string
  /** Monotonic milliseconds of the `Clock`. */
  readonly at: number
  readonly progress: Progress
  readonly outer: Deadline | undefined
  /** Nobody takes its caller away: whoever waits leaves by itself. Its length in milliseconds, for the error. */
  readonly carried: number | undefined
  /** Who takes its caller away, as long as somebody does: work that is detached from a call outlives its watch. */
  readonly watch: { live: boolean }
  /** It has come: whoever is interrupted now, or fails with its error, does so because of it. */
  expired: boolean
}

/** The deadline in force. Default: none. */
export const Current: Context.Reference<Deadline | undefined> = Context.Reference("@sluice/sdk/policy/Deadline", {
  defaultValue: (): Deadline | undefined => undefined
})

/** An attempt took as long as it was allowed to. Another attempt may follow; the call's own deadline is another error. */
export class AttemptTimeout extends Data.TaggedError("AttemptTimeout")<{
  readonly key: string
  readonly timeoutMillis: number
}> {
  override get message(): string {
    return `${this.key}: no answer within the attempt's ${this.timeoutMillis} ms`
  }
}

export interface Options {
  /** Names the call in errors and events. */
  readonly key: string
  /** From now. Zero or less fails at once. */
  readonly duration: Duration.Input
  /** The phase until some policy knows better. Default: `attempt`. */
  readonly phase?: Phase | undefined
}

const fields = tableOf<Options>()(table)

/** Asked at each call: what is plain is looked at no further. */
const durationOf = (subject: string, options: Options): number => {
  const { duration, key, phase } = options ?? {}
  const isPlain = typeof duration === "number" && !Number.isNaN(duration) && typeof key === "string" && key !== ""
  if (!isPlain || phase !== undefined) refuse(subject, fields, options)
  return millisOf(duration!)
}

const progressOf = (progress: Progress): Progress => {
  let deepest = progress
  while (deepest.inner !== undefined) deepest = deepest.inner
  return deepest
}

const exceeded = (
  fiber: Fiber.Fiber<unknown, unknown>,
  key: string,
  deadlineMillis: number,
  progress: Progress
): DeadlineExceeded => {
  const { attempts, lastError, phase } = progressOf(progress)
  emit(fiber, "deadline", key, "exceeded", { phase, attempts, deadlineMillis })
  return new DeadlineExceeded({ key, deadlineMillis, phase, attempts, ...lastErrorField(lastError) })
}

const provide = <A, E, R>(self: Effect.Effect<A, E, R>, deadline: Deadline): Effect.Effect<A, E, R> =>
  Effect.updateContext(self, (context: Context.Context<R>) => Context.add(context, Current, deadline))

/** Runs `self` as a fiber of its own; at `deadline.at` the caller goes on with `onTime`'s error, and the work is abandoned. */
const leaveAt = <A, E, R, E2>(
  self: Effect.Effect<A, E, R>,
  caller: Fiber.Fiber<unknown, unknown>,
  deadline: Deadline,
  onTime: () => E2
): Effect.Effect<A, E | E2, R> => {
  const context = Context.add(caller.context as Context.Context<R>, Current, deadline)
  // Begun in the step that also watches it: an interrupt between the two would leave work that nobody waits for.
  return Effect.callback<A, E | E2, R>((resume) => {
    const work = Effect.runForkWith(context)(self)
    const exit = work.pollUnsafe()
    if (exit !== undefined) {
      deadline.watch.live = false
      return resume(exit)
    }
    // Once the caller has left, the end of the work is none of its business: `unwatch` comes first.
    const cancel = callAt(caller, deadline.at, () => {
      unwatch()
      const error = onTime()
      deadline.expired = true
      deadline.watch.live = false
      Background.abandon(caller, work)
      resume(Effect.fail(error))
    })
    const unwatch = work.addObserver((end) => {
      cancel()
      deadline.watch.live = false
      resume(end)
    })
    return Effect.sync(() => {
      cancel()
      unwatch()
      deadline.watch.live = false
      Background.abandon(caller, work)
    })
  })
}

const withinMillis = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  key: string,
  millis: number,
  phase: Phase
): Effect.Effect<A, E | DeadlineExceeded, R> =>
  Effect.withFiber((fiber) => {
    const outer = fiber.getRef(Current)
    const progress: Progress = { phase, attempts: 0, lastError: undefined, inner: undefined }
    const begin = now(clockOf(fiber))
    const at = begin + millis
    if (outer !== undefined) {
      outer.progress.inner = progress
      // The outer deadline comes first, and will take this caller away: no fiber and no timer are needed.
      if (outer.at <= at) {
        const inner = { key, at: outer.at, progress, outer, carried: undefined, expired: false }
        if (outer.carried !== undefined) {
          return leaveAt(self, fiber, { ...inner, watch: { live: true } }, () => come(fiber, outer))
        }
        if (outer.watch.live) return provide(self, { ...inner, watch: outer.watch })
        // Detached from a call that has ended: its deadline holds, but nobody is left to keep it.
        const left = Math.max(0, outer.at - begin)
        const late = () => exceeded(fiber, key, left, progress)
        return left > 0 ? leaveAt(self, fiber, { ...inner, watch: { live: true } }, late) : Effect.fail(late())
      }
    }
    if (!(at > begin)) return Effect.fail(exceeded(fiber, key, millis, progress))
    return leaveAt(
      self,
      fiber,
      { key, at, progress, outer, carried: undefined, watch: { live: true }, expired: false },
      () => exceeded(fiber, key, millis, progress)
    )
  })

/** A deadline that comes first is carried: `run` gives its work when it is in force, and is run at once. */
const carriedOf = <A, E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  run: (fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<A, E, R>,
  key: string,
  millis: number,
  phase: Phase
): Effect.Effect<A, E | DeadlineExceeded, R> => {
  const outer = fiber.getRef(Current)
  const begin = nowOf(fiber)
  let at = begin + millis
  const isInner = outer !== undefined && outer.at <= at
  if (millis <= 0 || (isInner && (outer.carried !== undefined || !outer.watch.live))) {
    return withinMillis(Effect.withFiber(run), key, millis, phase)
  }
  // The outer one takes this caller away; work that was detached from it is left alone then, and leaves by itself.
  if (isInner) at = outer.at + 1
  const before = fiber.context
  const within = Effect.withFiber<A, E, R>((fiber) => {
    const progress: Progress = { phase, attempts: 0, lastError: undefined, inner: undefined }
    if (outer !== undefined) outer.progress.inner = progress
    const deadline: Deadline = {
      key,
      at,
      progress,
      outer,
      carried: isInner ? Math.ceil(at - begin) : millis,
      watch: { live: true },
      expired: false
    }
    fiber.setContext(Context.add(before, Current, deadline))
    return run(fiber)
  })
  return Effect.onExitPrimitive(within, () => {
    fiber.setContext(before)
    return undefined
  })
}

/** Inside of a carried deadline: work that may wait for something that does not leave on time. Elsewhere it is the work itself. */
export const guard = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | DeadlineExceeded, R> =>
  Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(Current)
    if (deadline?.carried === undefined) return self
    return leaveAt(self, fiber, { ...deadline, carried: undefined, watch: { live: true } }, () => come(fiber, deadline))
  })

/** A carried deadline has come. */
const come = (fiber: Fiber.Fiber<unknown, unknown>, deadline: Deadline): DeadlineExceeded => {
  deadline.expired = true
  return exceeded(fiber, deadline.key, deadline.carried!, deadline.progress)
}

/** The time of an attempt, for {@link leave}. */
export interface AttemptLimit {
  readonly key: string
  readonly millis: number
}

const nothing = (): void => {}

/**
 * For a wait that can leave by itself: calls back once, when a carried deadline or the attempt's time comes, with the error
 * to leave with. Gives what takes that back. A deadline that is not carried takes its caller away without it.
 */
export const leave = (
  fiber: Fiber.Fiber<unknown, unknown>,
  onTime: (error: DeadlineExceeded | AttemptTimeout) => void,
  attempt?: AttemptLimit
): (() => void) => {
  const deadline = fiber.getRef(Current)
  const now = nowOf(fiber)
  // Cut short by the call's deadline, an attempt says nothing about the server.
  if (deadline !== undefined && (attempt === undefined || deadline.at <= now + attempt.millis)) {
    if (deadline.carried === undefined) return nothing
    return callAt(fiber, deadline.at, () => onTime(come(fiber, deadline)))
  }
  if (attempt === undefined) return nothing
  const { key, millis } = attempt
  return callAt(fiber, now + millis, () => {
    emit(fiber, "attempt", key, "timeout", { timeoutMillis: millis })
    onTime(new AttemptTimeout({ key, timeoutMillis: millis }))
  })
}

/**
 * The caller has an answer within `duration`. Nested deadlines: the earliest holds.
 *
 * Fails with `DeadlineExceeded`: the phase the call was in, its attempts, the last real error.
 */
export const within: {
  (options: Options): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DeadlineExceeded, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, options: Options): Effect.Effect<A, E | DeadlineExceeded, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, options: Options) => {
  const millis = durationOf("Deadline.within", options)
  return withinMillis(self, options.key, millis, options.phase ?? "attempt")
})

const remember = (progress: Progress, cause: Cause.Cause<unknown>): void => {
  const error = Cause.findErrorOption(cause)
  if (error._tag === "Some") progress.lastError = lastErrorOf(error.value)
}

const attemptMillis = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  key: string,
  millis: number
): Effect.Effect<A, E | AttemptTimeout, R> =>
  Effect.withFiber((fiber) => {
    const outer = fiber.getRef(Current)
    const progress = outer?.progress ?? { phase: "attempt", attempts: 0, lastError: undefined, inner: undefined }
    progress.attempts++
    progress.phase = "attempt"
    progress.inner = undefined
    const at = nowOf(fiber) + millis
    // Cut short by the call's deadline, it says nothing about the server, and the call's own timer does the work.
    if (outer !== undefined && outer.at <= at) return self
    return leaveAt(
      self,
      fiber,
      { key, at, progress, outer, carried: undefined, watch: { live: true }, expired: false },
      () => {
        emit(fiber, "attempt", key, "timeout", { timeoutMillis: millis })
        return new AttemptTimeout({ key, timeoutMillis: millis })
      }
    )
  })

/**
 * One attempt: as {@link within}, counted, and with an error of its own, because another attempt may follow.
 *
 * An attempt that the call's deadline would cut short has no timer of its own and never fails with `AttemptTimeout`.
 */
export const attempt: {
  (options: Options): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | AttemptTimeout, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, options: Options): Effect.Effect<A, E | AttemptTimeout, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, options: Options) => {
  const millis = durationOf("Deadline.attempt", options)
  return attemptMillis(self, options.key, millis)
})

/** Milliseconds that the fiber has left. `Infinity` without a deadline, never below zero. */
export const remainingOf = (fiber: Fiber.Fiber<unknown, unknown>): number => {
  const deadline = fiber.getRef(Current)
  return deadline === undefined ? Infinity : Math.max(0, deadline.at - nowOf(fiber))
}

/** Milliseconds left before the deadline. `Infinity` without one, never below zero. */
export const remaining: Effect.Effect<number> = Effect.withFiberSucceed(remainingOf)

/** Notes what the call waits for from now on. */
export const enterOf = (fiber: Fiber.Fiber<unknown, unknown>, phase: Phase): void => {
  const progress = fiber.getRef(Current)?.progress
  if (progress === undefined) return
  progress.phase = phase
  progress.inner = undefined
}

/** {@link enterOf}, unless a carried deadline has come already: then its error, for whoever is about to begin something. */
export const enterInTimeOf = (fiber: Fiber.Fiber<unknown, unknown>, phase: Phase): DeadlineExceeded | undefined => {
  const deadline = fiber.getRef(Current)
  if (deadline === undefined) return undefined
  if (deadline.carried !== undefined && deadline.at <= nowOf(fiber)) return come(fiber, deadline)
  deadline.progress.phase = phase
  deadline.progress.inner = undefined
  return undefined
}

/** Notes that an attempt begins, where no {@link attempt} does it. */
export const beginAttemptOf = (fiber: Fiber.Fiber<unknown, unknown>): void => {
  const progress = fiber.getRef(Current)?.progress
  if (progress === undefined) return
  progress.attempts++
  progress.phase = "attempt"
  progress.inner = undefined
}

/** Notes what the call waits for from now on. */
export const enter = (phase: Phase): Effect.Effect<void> => Effect.withFiberSucceed((fiber) => enterOf(fiber, phase))

/** Notes the last real error of the call, for the message of its deadline. */
export const noteOf = (fiber: Fiber.Fiber<unknown, unknown>, cause: Cause.Cause<unknown>): void => {
  const deadline = fiber.getRef(Current)
  if (deadline !== undefined) remember(deadline.progress, cause)
}

/** Whether a deadline of this fiber has come: an interruption now is the deadline's doing. */
export const expiredOf = (fiber: Fiber.Fiber<unknown, unknown>): boolean => {
  for (let deadline = fiber.getRef(Current); deadline !== undefined; deadline = deadline.outer) {
    if (deadline.expired) return true
  }
  return false
}

/** What a declared deadline is, as data. */
export interface Description {
  readonly policy: "deadline" | "attempt"
  readonly key: string
  readonly millis: number
}

/** A deadline made once, for many calls. */
export interface Policy {
  readonly describe: Description
  readonly within: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DeadlineExceeded, R>
  /** As `within`, without a fiber: for work that waits by {@link leave} and {@link guard} alone. */
  readonly carried: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DeadlineExceeded, R>
  /** `carried` for a fiber that runs at once what it is given here, and asks for its work then. */
  readonly carriedOf: <A, E, R>(
    fiber: Fiber.Fiber<unknown, unknown>,
    run: (fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | DeadlineExceeded, R>
}

/** A deadline made once, for many calls. */
export const make = (options: Options): Policy => {
  refuse("Deadline.make", fields, options)
  const { key, phase = "attempt" } = options
  const millis = millisOf(options.duration)
  return {
    describe: { policy: "deadline", key, millis },
    within: (self) => withinMillis(self, key, millis, phase),
    carried: (self) => Effect.withFiber((fiber) => carriedOf(fiber, () => self, key, millis, phase)),
    carriedOf: (fiber, run) => carriedOf(fiber, run, key, millis, phase)
  }
}

/** An attempt's timeout made once, for many calls. */
export interface AttemptPolicy {
  readonly describe: Description
  readonly attempt: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | AttemptTimeout, R>
}

/** An attempt's timeout made once, for many calls. */
export const makeAttempt = (options: Options): AttemptPolicy => {
  refuse("Deadline.makeAttempt", fields, options)
  const { key } = options
  const millis = millisOf(options.duration)
  return {
    describe: { policy: "attempt", key, millis },
    attempt: (self) => attemptMillis(self, key, millis)
  }
}
