/**
 * How many calls may be under way at a time, and how many may wait for that.
 *
 * A permit is given back when the work has really ended: work that a deadline abandoned keeps its permit while it cleans up
 * (`Background`), because the server is still busy with it. The queue is bounded in length and in time; higher priorities
 * come first, and within a priority the tenants take turns (`Caller`).
 *
 * @example
 * ```ts
 * const bulkhead = Bulkhead.make({ key: "fleet/report", permits: 8, queue: 32, maxWait: "2 seconds" })
 * const answer = bulkhead.withPermit(work)
 * //    ^ fails with Overloaded (policy "bulkhead", limit, waiting, and retryAfterMillis when the pace is known)
 * ```
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { readOf, tableOf } from "../options/Field.ts"
import { bulkhead as table } from "../options/policies.ts"
import { tagOf } from "../internal/tagOf.ts"
import { Overloaded } from "../ReportError.ts"
import type { AdaptiveLimit, Outcome } from "./AdaptiveLimit.ts"
import * as Background from "./Background.ts"
import * as Caller from "./Caller.ts"
import * as Deadline from "./Deadline.ts"
import * as FairQueue from "./FairQueue.ts"
import { emit } from "./PolicyEvents.ts"
import { after, nowOf } from "./Time.ts"

export interface Options {
  readonly key: string
  /** Calls at a time; with `adaptive` the limit to begin with is the adaptive one's. */
  readonly permits: number
  /** Callers that may wait. Default 0: none (resilience4j). */
  readonly queue?: number | undefined
  /** The longest wait. Default: as long as the deadline allows. */
  readonly maxWait?: Duration.Input | undefined
  /** Finds the number of permits by itself. Default: off. */
  readonly adaptive?: AdaptiveLimit | undefined
  /** For `adaptive`: errors that say that the server has too much to do. Default: `AttemptTimeout`. */
  readonly overload?: ((error: unknown) => boolean) | undefined
}

export interface Description {
  readonly policy: "bulkhead"
  readonly key: string
  readonly permits: number
  readonly queue: number
  readonly maxWaitMillis: number | undefined
  readonly adaptive: { readonly name: string; readonly minimum: number; readonly maximum: number } | undefined
}

export interface Stats {
  readonly permits: number
  /** Permits given away, those of `draining` work included. */
  readonly inUse: number
  /** Permits whose caller has left while the work has not ended. */
  readonly draining: number
  readonly waiting: number
}

export interface Bulkhead {
  readonly describe: Description
  /** Runs `self` with a permit, and waits for one if it may. Fails with `Overloaded`. */
  readonly withPermit: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Overloaded, R>
  readonly stats: () => Stats
  /** More permits help waiters at once; fewer take effect as calls end. */
  readonly resize: (permits: number) => Effect.Effect<void>
}

const isAttemptTimeout = (error: unknown): boolean => tagOf(error) === "AttemptTimeout"

/** What the leases of one bulkhead share. */
interface Shared {
  readonly key: string
  readonly queue: FairQueue.FairQueue<Lease>
  readonly adaptive: AdaptiveLimit | undefined
  readonly maxQueue: number
  readonly maxWait: number | undefined
  readonly isOverload: (error: unknown) => boolean
  permits: number
  inUse: number
  draining: number
  pumping: boolean
  /** When a permit came back while there was none to have, and how many milliseconds lie between two of these. */
  lastBack: number | undefined
  pace: number | undefined
}

/** Weight of the newest of the times between two permits. */
const paceWeight = 0.2

/** A permit comes back. Measured only while all are in use: a quiet time says nothing about the pace. */
const pacing = (shared: Shared, fiber: Fiber.Fiber<unknown, unknown>): void => {
  if (shared.inUse < shared.permits) {
    shared.lastBack = undefined
    return
  }
  const now = nowOf(fiber)
  if (shared.lastBack !== undefined) {
    const took = now - shared.lastBack
    shared.pace = shared.pace === undefined ? took : shared.pace + paceWeight * (took - shared.pace)
  }
  shared.lastBack = now
}

/** Gives free permits to waiters. Not recursive: a waiter that ends at once would otherwise nest as deep as the queue. */
const pump = (shared: Shared): void => {
  if (shared.pumping || shared.queue.size() === 0) return
  shared.pumping = true
  while (shared.inUse < shared.permits) {
    const lease = shared.queue.next()
    if (lease === undefined) break
    shared.inUse++
    lease.grant()
  }
  shared.pumping = false
}

const giveBack = (shared: Shared): void => {
  shared.inUse--
  pump(shared)
}

const nothing = (): void => {}

/** One call's place: in the queue, then with a permit, then (perhaps) draining. */
class Lease implements Background.Holder, FairQueue.Entry {
  readonly shared: Shared
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly outer: Background.Holder | undefined
  state: "new" | "granted" | "done" = "new"
  holds = 0
  begin = 0
  priority = 0
  tenant = ""
  /** While it waits: how its caller goes on, and what would have taken the caller away. */
  resume: (refused?: Effect.Effect<never, Overloaded>) => void = nothing
  cancel = nothing
  stay = nothing

  constructor(shared: Shared, fiber: Fiber.Fiber<unknown, unknown>) {
    this.shared = shared
    this.fiber = fiber
    this.outer = fiber.getRef(Background.CurrentHolder)
  }

  /** Takes a permit if one is free and nobody waits for it. */
  take(): boolean {
    const { shared } = this
    if (shared.inUse >= shared.permits || shared.queue.size() > 0) return false
    shared.inUse++
    this.granted()
    return true
  }

  granted(): void {
    this.state = "granted"
    if (this.shared.adaptive !== undefined) this.begin = nowOf(this.fiber)
  }

  grant(): void {
    this.granted()
    this.ended()()
  }

  /** The work has ended, or its caller has left it. */
  end(exit: Exit.Exit<unknown, unknown>): void {
    if (this.state !== "granted") return
    this.state = "done"
    const { adaptive } = this.shared
    if (adaptive !== undefined) this.sample(adaptive, exit)
    pacing(this.shared, this.fiber)
    if (this.holds === 0) return giveBack(this.shared)
    this.shared.draining++
    // The adaptive limit may just have grown.
    pump(this.shared)
  }

  sample(adaptive: AdaptiveLimit, exit: Exit.Exit<unknown, unknown>): void {
    let outcome: Outcome = "ok"
    if (exit._tag === "Failure") {
      const error = Cause.findErrorOption(exit.cause)
      outcome = error._tag === "Some" && this.shared.isOverload(error.value) ? "overload" : "dropped"
    }
    adaptive.sample(nowOf(this.fiber) - this.begin, this.shared.inUse, outcome)
    this.shared.permits = adaptive.current()
  }

  hold(): () => void {
    const release = this.outer?.hold()
    let held = true
    this.holds++
    return () => {
      if (!held) return
      held = false
      release?.()
      if (--this.holds > 0 || this.state !== "done") return
      this.shared.draining--
      giveBack(this.shared)
    }
  }

  refusal(reason: string): Overloaded {
    const { key, pace, permits, queue } = this.shared
    const waiting = queue.size()
    emit(this.fiber, "bulkhead", key, "refused", { reason, permits, waiting })
    // When those ahead will have been served, at the pace of late.
    const retry = pace === undefined ? undefined : { retryAfterMillis: Math.ceil(pace * (waiting + 1)) }
    return new Overloaded({ policy: "bulkhead", key, limit: permits, waiting, ...retry })
  }

  /** Whether the queue has a place: a free one, or that of somebody less important. */
  mayWait(): boolean {
    const { maxQueue, maxWait, queue } = this.shared
    const { priority = Caller.priorities.report, tenant = "" } = this.fiber.getRef(Caller.Current)
    this.priority = priority
    this.tenant = tenant
    if (maxWait === 0 || maxQueue === 0) return false
    if (queue.size() < maxQueue) return true
    const last = queue.last()
    return last !== undefined && last.priority < priority
  }

  // Closures that a property is given where they are made are put into the old generation by V8, and all of their call with
  // them: a million calls an hour that only a full collection would find. Hence fields and arguments.
  wait<A, E, R>(granted: Effect.Effect<A, E, R>): Effect.Effect<A, E | Overloaded, R> {
    const { fiber, shared } = this
    return Effect.callback<A, E | Overloaded, R>((resume) => {
      // Others may have had a turn since it was asked.
      if (this.take()) return resume(granted)
      if (!this.mayWait()) return resume(Effect.fail(this.refusal(shared.maxQueue === 0 ? "no permit" : "queue full")))
      const displaced = shared.queue.size() < shared.maxQueue ? undefined : shared.queue.last()
      if (displaced !== undefined) shared.queue.remove(displaced)
      const phase = fiber.getRef(Deadline.Current)?.progress.phase
      this.waits((refused) => {
        if (phase !== undefined) Deadline.enterOf(fiber, phase)
        resume(refused ?? granted)
      })
      shared.queue.add(this)
      Deadline.enterOf(fiber, "queue")
      this.stay = Deadline.leave(fiber, (error) => {
        this.left()
        resume(Effect.fail(error as never))
      })
      // A deadline that comes first takes the caller away by itself.
      if (shared.maxWait !== undefined && Deadline.remainingOf(fiber) > shared.maxWait) {
        this.cancel = after(fiber, shared.maxWait, () => {
          if (shared.queue.remove(this)) this.refuse("waited too long")
        })
      }
      // Last, because it may be back in the same step.
      displaced?.refuse("displaced")
      return Effect.sync(() => this.left())
    })
  }

  waits(resume: (refused?: Effect.Effect<never, Overloaded>) => void): void {
    this.resume = resume
  }

  /** Its wait is over, one way or another. */
  ended(): (refused?: Effect.Effect<never, Overloaded>) => void {
    const { resume } = this
    this.resume = nothing
    this.cancel()
    this.stay()
    return resume
  }

  left(): void {
    this.ended()
    this.shared.queue.remove(this)
  }

  refuse(reason: string): void {
    this.ended()(Effect.fail(this.refusal(reason)))
  }
}

const fields = tableOf<Options>()(table)

export const make = (options: Options): Bulkhead => {
  const { maxWait, queue } = readOf("Bulkhead.make", fields, options)
  const { adaptive, key } = options
  const shared: Shared = {
    key,
    queue: FairQueue.make<Lease>(),
    adaptive,
    maxQueue: queue,
    maxWait,
    isOverload: options.overload ?? isAttemptTimeout,
    permits: adaptive?.current() ?? options.permits,
    inUse: 0,
    draining: 0,
    pumping: false,
    lastBack: undefined,
    pace: undefined
  }

  const withPermit = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Overloaded, R> =>
    Effect.withFiber((fiber) => {
      const lease = new Lease(shared, fiber)
      const before = fiber.context
      const granted = () => {
        fiber.setContext(Context.add(before, Background.CurrentHolder, lease))
        return self
      }
      // Taken inside, given back outside: an interrupt at any point between leaks nothing.
      return Effect.onExitPrimitive(
        Effect.suspend((): Effect.Effect<A, E | Overloaded, R> => {
          return lease.take() ? granted() : lease.wait(Effect.suspend(granted))
        }),
        (exit) => {
          fiber.setContext(before)
          lease.end(exit)
          return undefined
        }
      )
    })

  return {
    describe: {
      policy: "bulkhead",
      key,
      permits: options.permits,
      queue: shared.maxQueue,
      maxWaitMillis: maxWait,
      adaptive:
        adaptive === undefined
          ? undefined
          : { name: adaptive.name, minimum: adaptive.minimum, maximum: adaptive.maximum }
    },
    withPermit,
    stats: () => ({
      permits: shared.permits,
      inUse: shared.inUse,
      draining: shared.draining,
      waiting: shared.queue.size()
    }),
    resize: (size) =>
      Effect.sync(() => {
        shared.permits = size
        pump(shared)
      })
  }
}
