/**
 * The pool's state and its transitions, as plain synchronous code.
 *
 * A transition changes counters and lists only. What has to happen outside (a caller resumed, a fiber forked) is noted and
 * done by `flush` when the state is consistent again, so that a caller that is resumed may come straight back in.
 *
 * Between transitions this holds: no caller that may have a session waits while a usable one is idle. The hot path rests
 * on it: whoever finds a usable idle session has nobody ahead of him.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import type { SqlError } from "effect/sql/SqlError"
import { DatabaseUnavailable, Overloaded } from "../ReportError.ts"
import { Alarm } from "./Alarm.ts"
import type { Backoff } from "./Backoff.ts"
import { type Attempt, Connector, describeSqlError } from "./Connector.ts"
import { Compartment, Entry } from "./Entry.ts"
import { demand, Lane, nextInTurn } from "./Lanes.ts"
import type { Poolable } from "./Poolable.ts"
import { type ClosedReason, makeCounters, type PoolEvent } from "./PoolEvents.ts"
import { controlLane, type PoolOptions, type Settings } from "./PoolOptions.ts"
import * as Report from "./PoolReport.ts"
import { type AcquireError, Deadlines, Ticket } from "./Waiters.ts"

/** A session that lives this long shows that the node is up. */
export const provenMillis = 1_000

export interface Ports {
  readonly clock: Clock.Clock
  readonly random: Random.Random
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  readonly publish: (event: PoolEvent) => void
}

/** What a caller asks for. */
export interface PoolRequest {
  readonly lane: string
  /** Who asks, in errors and leak reports: a report's name. */
  readonly name: string
  /** Higher is served first. Default: the lane's. */
  readonly priority?: number | undefined
  /** When the caller must have an answer, in milliseconds of the Clock. `acquireTimeout` bounds it in any case. */
  readonly deadline?: number | undefined
}

export class PoolCore<S extends Poolable> {
  state: "open" | "suspended" | "closing" | "closed" = "open"
  /** Moves on when a session is found dead: what has not proved alive since is asked before it is used. */
  generation = 0
  /** Moves on when everything is to be replaced. */
  epoch = 0
  readonly main: Compartment<S>
  readonly control: Compartment<S>
  readonly lanes = new Map<string, Lane<S>>()
  readonly sessions = new Set<Entry<S>>()
  readonly connector: Connector<S>
  readonly counters = makeCounters()
  readonly options: PoolOptions<S>
  readonly settings: Settings
  readonly clock: Clock.Clock
  readonly alarm: Alarm
  /** Called when the pool may have become ready, empty, or has failed to connect. */
  onChange: ((change: "connected" | "failed" | "ended") => void) | undefined
  private readonly ports: Ports
  private readonly deadlines = new Deadlines<S>()
  private readonly resumed: Array<Ticket<S>> = []
  private readonly actions: Array<() => void> = []
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  private flushing = false
  private order = 0
  private leases = 0

  constructor(
    options: PoolOptions<S>,
    settings: Settings,
    sizes: { readonly min: number; readonly max: number; readonly control: number; readonly drainBudget: number },
    backoff: Backoff,
    ports: Ports
  ) {
    this.options = options
    this.settings = settings
    this.ports = ports
    this.clock = ports.clock
    this.main = new Compartment(sizes.min, sizes.max, sizes.drainBudget)
    this.control = new Compartment(0, sizes.control, sizes.control)
    for (const name of Object.keys(options.lanes ?? {})) this.lane(name)
    this.alarm = new Alarm(
      ports.clock,
      (effect) => this.fork(effect),
      () => this.onAlarm()
    )
    this.connector = new Connector(options, settings, backoff, {
      now: () => this.now(),
      generation: () => this.generation,
      epoch: () => this.epoch,
      defer: (action) => void this.actions.push(action),
      fork: (effect) => this.fork(effect),
      wakeAt: (at) => this.alarm.set(at),
      connected: (attempt, session) => this.connected(attempt, session),
      failed: (kind, error) => this.connectFailed(kind, error),
      ended: () => {
        this.pumpAll()
        this.onChange?.("ended")
        this.flush()
      }
    })
  }

  now(): number {
    return this.clock.currentTimeMillisUnsafe()
  }

  /** A lane that nobody declared has neither reserve nor cap. */
  lane(name: string): Lane<S> {
    let lane = this.lanes.get(name)
    if (lane === undefined) {
      const own = name === controlLane && this.control.max > 0
      const declared = this.options.lanes?.[name]
      lane = new Lane(name, own ? this.control : this.main, {
        reserved: own ? 0 : (declared?.reserved ?? 0),
        cap: own ? Infinity : (declared?.cap ?? Infinity),
        maxWaiting: declared?.maxWaiting ?? Infinity,
        priority: declared?.priority ?? (name === controlLane ? Infinity : 0)
      })
      this.lanes.set(name, lane)
    }
    return lane
  }

  ticket(request: PoolRequest): Ticket<S> {
    const lane = this.lane(request.lane)
    return new Ticket(lane, request.name, request.priority ?? lane.priority, request.deadline ?? Infinity)
  }

  // --- the hot path ---------------------------------------------------------------------------------------------

  /** Hands over a session that needs nothing, if there is one. */
  take(ticket: Ticket<S>): S | undefined {
    const lane = ticket.lane
    const home = lane.home
    const entry = home.idle[home.idle.length - 1]
    if (entry === undefined || lane.room <= 0 || this.state === "closing" || !this.serves(home)) return undefined
    const now = this.now()
    if (!this.usable(entry, now)) return undefined
    const reuse = this.options.hooks?.beforeReuse
    if (reuse !== undefined && !reuse(entry.session)) return undefined
    this.lease(ticket, entry, now)
    this.options.listener?.onAcquire?.(lane.name, 0)
    return entry.session
  }

  /** The caller has left, with a session or without. */
  finish(ticket: Ticket<S>): void {
    const entry = ticket.entry
    if (entry !== undefined) {
      ticket.entry = undefined
      this.release(ticket.lane, entry)
    } else if (ticket.bucket !== undefined) {
      this.counters.abandonedWaits++
      this.leave(ticket)
      if (this.state === "closing") this.onChange?.("ended")
    }
  }

  private usable(entry: Entry<S>, now: number): boolean {
    return (
      entry.generation === this.generation &&
      entry.session.dead === undefined &&
      now - entry.aliveAt <= this.settings.validateAfterIdle &&
      now < entry.expiresAt
    )
  }

  private serves(home: Compartment<S>): boolean {
    return this.state === "open" || (this.state === "suspended" ? home === this.control : this.state === "closing")
  }

  private lease(ticket: Ticket<S>, entry: Entry<S>, now: number): void {
    entry.home.enter(entry, "leased")
    ticket.lane.took()
    ticket.entry = entry
    entry.ticket = ticket
    entry.leasedAt = now
    entry.holder = ticket.name
    entry.uses++
    this.counters.acquired++
    if (this.settings.stackEvery > 0 && this.leases++ % this.settings.stackEvery === 0) {
      entry.stack = new Error("lease").stack
    }
  }

  private release(lane: Lane<S>, entry: Entry<S>): void {
    lane.gave()
    entry.ticket = undefined
    // Closing took it away while it was held.
    if (entry.state !== "leased") return
    const now = this.now()
    const home = entry.home
    const session = entry.session
    this.options.listener?.onRelease?.(lane.name, now - entry.leasedAt)
    if (entry.leakReported) this.leakReturned(lane, entry, now)
    entry.stack = entry.span = undefined
    entry.idleSince = entry.aliveAt = now
    if (
      home.waiting === 0 &&
      this.state === "open" &&
      session.dead === undefined &&
      session.clean &&
      !session.busy &&
      entry.generation === this.generation &&
      entry.epoch === this.epoch &&
      now < entry.expiresAt &&
      home.free >= 0 &&
      this.options.hooks?.afterRelease === undefined
    ) {
      home.enter(entry, "idle")
      return
    }
    if (session.dead === undefined && !session.busy && (!session.clean || this.options.hooks?.afterRelease)) {
      this.restore(entry)
    } else this.settle(entry)
    this.pump(home)
    this.flush()
  }

  // --- waiting --------------------------------------------------------------------------------------------------

  /** Queues a caller, or refuses it. The answer comes through `ticket.resume`, before this returns if it can. */
  enqueue(ticket: Ticket<S>): void {
    const now = this.now()
    const { home, queue } = ticket.lane
    ticket.deadline = Math.min(ticket.deadline, now + this.settings.acquireTimeout)
    ticket.since = now
    const refusal = this.refusal(ticket, now)
    if (refusal !== undefined) return ticket.resume!(Effect.fail(refusal))
    ticket.order = this.order++
    queue.push(ticket)
    home.waiting++
    this.deadlines.add(ticket)
    this.pump(home)
    if (ticket.bucket !== undefined) this.alarm.set(ticket.deadline)
    this.flush()
  }

  private refusal(ticket: Ticket<S>, now: number): AcquireError | undefined {
    const { home, maxWaiting, name, queue } = ticket.lane
    if (this.state === "closing" || this.state === "closed") return this.closedError()
    if (ticket.deadline <= now) return this.timedOut(ticket, now)
    const laneFull = queue.size >= maxWaiting
    if (laneFull || home.waiting >= this.settings.maxWaiting) {
      this.counters.overloaded++
      this.emit({ _tag: "Overloaded", lane: name, waiting: home.waiting })
      return new Overloaded({
        policy: "pool",
        key: laneFull ? `${this.options.name} lane ${name}` : this.options.name,
        limit: laneFull ? maxWaiting : this.settings.maxWaiting,
        waiting: laneFull ? queue.size : home.waiting
      })
    }
    if (home.live === 0 && this.connector.refuses(now, ticket.deadline)) {
      this.counters.unavailable++
      return this.connector.unavailable(now)
    }
    return undefined
  }

  private closedError(): DatabaseUnavailable {
    this.counters.unavailable++
    return new DatabaseUnavailable({ pool: this.options.name, reason: "closed" })
  }

  private timedOut(ticket: Ticket<S>, now: number): AcquireError {
    const error = Report.acquireTimeout(this, ticket, now)
    this.counters.acquireTimeouts++
    this.emit({
      _tag: "AcquireTimedOut",
      lane: ticket.lane.name,
      reason: error.reason,
      waitedMillis: error.waitedMillis
    })
    return error
  }

  private leave(ticket: Ticket<S>): void {
    ticket.lane.queue.remove(ticket)
    ticket.lane.home.waiting--
    this.deadlines.remove(ticket)
  }

  private answer(ticket: Ticket<S>, outcome: Effect.Effect<S, AcquireError>): void {
    this.leave(ticket)
    ticket.outcome = outcome
    this.resumed.push(ticket)
  }

  private handOver(ticket: Ticket<S>, entry: Entry<S>, now: number): void {
    this.answer(ticket, Effect.succeed(entry.session))
    this.lease(ticket, entry, now)
    this.counters.waited++
    this.options.listener?.onAcquire?.(ticket.lane.name, now - ticket.since)
  }

  /** Tells everybody who waits in `home`. */
  failWaiting(home: Compartment<S>, error: () => AcquireError): void {
    for (const lane of home.lanes) {
      for (let ticket = lane.queue.head; ticket !== undefined; ticket = lane.queue.head) {
        this.counters.unavailable++
        this.answer(ticket, Effect.fail(error()))
      }
    }
  }

  private onAlarm(): void {
    const now = this.now()
    for (let ticket = this.deadlines.due(now); ticket !== undefined; ticket = this.deadlines.due(now)) {
      this.answer(ticket, Effect.fail(this.timedOut(ticket, now)))
    }
    this.onRound?.(now)
    this.pumpAll()
    this.alarm.set(this.deadlines.next)
    if (this.state === "closing") this.onChange?.("ended")
    this.flush()
  }

  /** The housekeeper's turn, at every ring of the alarm. */
  onRound: ((now: number) => void) | undefined

  // --- moving sessions ------------------------------------------------------------------------------------------

  /** Serves who can be served, and begins what the others and `min` need. */
  pump(home: Compartment<S>): void {
    const now = this.now()
    if (home.waiting > 0 && this.serves(home)) {
      for (let ticket = nextInTurn(home); ticket !== undefined; ticket = nextInTurn(home)) {
        const entry = this.freshest(home, now)
        if (entry === undefined) break
        this.handOver(ticket, entry, now)
      }
      if (demand(home) > home.preparing) this.connector.giveWay(home, now)
      let need = demand(home) - home.preparing - home.connecting
      // What is idle now has been silent for too long. Asking it is cheaper than a connect.
      while (need > 0 && home.idle.length > 0) {
        this.validate(home.idle[home.idle.length - 1]!)
        need--
      }
      while (need > 0 && home.free > 0 && this.connector.start(home, now)) need--
    }
    if (this.state === "open") {
      while (home.live + home.connecting < home.min && home.free > 0 && this.connector.start(home, now));
    }
  }

  pumpAll(): void {
    this.pump(this.control)
    this.pump(this.main)
  }

  private freshest(home: Compartment<S>, now: number): Entry<S> | undefined {
    for (;;) {
      const entry = home.idle[home.idle.length - 1]
      if (entry === undefined) return undefined
      if (entry.session.dead !== undefined) this.discard(entry, "died", entry.session.dead)
      else if (now >= entry.expiresAt) this.retire(entry, "lifetime")
      else if (!this.usable(entry, now)) return undefined
      else if (this.options.hooks?.beforeReuse?.(entry.session) === false) this.retire(entry, "refused")
      else return entry
    }
  }

  /** Decides what becomes of a session that nobody holds. */
  settle(entry: Entry<S>): void {
    const now = this.now()
    const home = entry.home
    const session = entry.session
    if (session.dead !== undefined) return this.discard(entry, "died", session.dead)
    if (this.state === "closed" || (this.state === "closing" && home.waiting === 0))
      return this.retire(entry, "closing")
    if (entry.epoch < this.epoch) return this.retire(entry, "evicted")
    if (now >= entry.expiresAt) return this.retire(entry, "lifetime")
    // A session that is there is worth more than one that is on its way.
    while (!this.hasPlace(entry)) if (!this.connector.cancelNewest(home)) return this.retire(entry, "surplus")
    if (session.busy) return this.drain(entry)
    if (!session.clean) return this.restore(entry)
    if (entry.generation !== this.generation) return this.validate(entry)
    home.enter(entry, "idle")
  }

  /** Whether the session may stay, or come back, without exceeding `max`. */
  private hasPlace(entry: Entry<S>): boolean {
    const home = entry.home
    if (entry.state !== "away" && entry.state !== "gone") return home.free >= 0
    const own = entry.state === "away" && home.overflow > 0 ? 1 : 0
    return home.free + own > 0
  }

  private connected(attempt: Attempt<S>, session: S): void {
    const now = this.now()
    if (!this.connector.unproven) this.nodeAnswers(now)
    this.counters.connects++
    const { lifetimeJitter, maxLifetime } = this.settings
    const lifetime = maxLifetime * (1 - lifetimeJitter * this.ports.random.nextDoubleUnsafe())
    const entry = new Entry(session, attempt.home, now, now + lifetime, attempt.generation, attempt.epoch)
    this.sessions.add(entry)
    this.emit({ _tag: "SessionOpened", session: session.id, connectMillis: now - attempt.startedAt })
    this.settle(entry)
    session.onDeath((cause) => this.died(entry, cause))
    this.pumpAll()
    this.onChange?.("connected")
    this.flush()
  }

  nodeAnswers(now: number): void {
    const downMillis = this.connector.succeeded(now)
    if (downMillis !== undefined) this.emit({ _tag: "Up", downMillis })
  }

  private connectFailed(kind: "transient" | "permanent", error: SqlError): void {
    const now = this.now()
    const { connector } = this
    this.counters.connectFailures++
    const described = connector.lastError ?? describeSqlError(error)
    if (connector.failures === 1) this.emit({ _tag: "Down", error: described })
    this.emit({
      _tag: "ConnectFailed",
      failures: connector.failures,
      kind,
      retryInMillis: connector.nextAttemptAt - now,
      error: described
    })
    if (kind === "permanent") {
      for (const home of [this.control, this.main]) {
        if (home.live === 0) this.failWaiting(home, () => connector.unavailable(now))
      }
    }
    this.pumpAll()
    this.onChange?.("failed")
    this.flush()
  }

  /** The session's own cry: its socket has ended, or the server said something fatal. */
  private died(entry: Entry<S>, cause: SqlError): void {
    if (entry.state === "gone" || entry.state === "away") return
    const now = this.now()
    if (entry.uses === 0 && now - entry.openedAt < provenMillis) this.connector.stillborn(cause, entry.openedAt)
    if (entry.state === "idle") this.discard(entry, "died", cause)
    this.moveGeneration(entry.generation, "corpse")
    this.pumpAll()
    this.flush()
  }

  /** Where one is dead, others may be: all are asked together, so that ten dead sessions cost one timeout. */
  moveGeneration(of: number, reason: "corpse" | "evicted"): void {
    if (of < this.generation) return
    this.generation++
    this.emit({ _tag: "GenerationMoved", generation: this.generation, reason })
    this.connector.cancelAll()
    for (const home of [this.control, this.main]) {
      for (const entry of home.idle.slice()) this.settle(entry)
    }
  }

  // --- from outside, while it lives -------------------------------------------------------------------------------

  suspend(): void {
    if (this.state !== "open") return
    this.state = "suspended"
    this.emit({ _tag: "Suspended" })
    this.flush()
  }

  resume(): void {
    if (this.state !== "suspended") return
    this.state = "open"
    this.emit({ _tag: "Resumed" })
    this.connector.hurry()
    this.pumpAll()
    this.flush()
  }

  evictAll(): void {
    if (this.state === "closed") return
    this.epoch++
    this.connector.hurry()
    this.moveGeneration(this.generation, "evicted")
    this.pumpAll()
    this.flush()
  }

  resize(min: number, max: number): void {
    const home = this.main
    home.min = min
    home.max = max
    this.emit({ _tag: "Resized", min, max })
    while (home.free < 0 && home.idle.length > 0) this.retire(home.idle[0]!, "surplus")
    this.pumpAll()
    this.flush()
  }

  /** Sees to it that sessions are on their way, for somebody who wants to know that the pool is ready. */
  bringUp(sessions: number): void {
    const home = this.main
    const now = this.now()
    while (home.live + home.connecting < sessions && home.free > 0 && this.connector.start(home, now));
    this.flush()
  }

  // --- in the background ----------------------------------------------------------------------------------------

  /** Runs an effect on a session that is out of circulation, then decides about it. */
  private inBackground<A, E>(effect: Effect.Effect<A, E>, done: (exit: Exit.Exit<A, E>) => void): void {
    this.actions.push(() => {
      this.fork(
        Effect.flatMap(Effect.exit(effect), (exit) =>
          Effect.sync(() => {
            done(exit)
            this.pumpAll()
            this.onChange?.("ended")
            this.flush()
          })
        )
      )
    })
  }

  validate(entry: Entry<S>): void {
    const generation = this.generation
    entry.home.enter(entry, "preparing")
    this.counters.validations++
    this.inBackground(entry.session.validate, (exit) => {
      if (entry.state !== "preparing") return
      if (Exit.isSuccess(exit)) {
        entry.generation = generation
        entry.aliveAt = this.now()
        this.settle(entry)
      } else {
        this.discard(entry, "validation-failed", Report.firstError(exit.cause))
        this.moveGeneration(entry.generation, "corpse")
      }
    })
  }

  private restore(entry: Entry<S>): void {
    const session = entry.session
    const afterRelease = this.options.hooks?.afterRelease
    entry.home.enter(entry, "preparing")
    if (!session.clean) this.counters.resets++
    const reset = session.clean ? Effect.void : session.reset
    const effect =
      afterRelease === undefined
        ? reset
        : Effect.andThen(
            reset,
            Effect.suspend(() => afterRelease(session))
          )
    this.inBackground(effect, (exit) => {
      if (entry.state !== "preparing") return
      if (Exit.isSuccess(exit) && session.clean) {
        entry.aliveAt = this.now()
        this.settle(entry)
      } else this.discard(entry, "reset-failed", Exit.isFailure(exit) ? Report.firstError(exit.cause) : undefined)
    })
  }

  /** The caller has left and its statement has not: the session's place is free, its work is ended in the background. */
  private drain(entry: Entry<S>): void {
    const home = entry.home
    home.enter(entry, "away")
    if (this.overflows(entry)) return
    this.emit({ _tag: "DrainStarted", session: entry.session.id })
    this.inBackground(entry.session.drain, (exit) => {
      if (entry.state !== "away") return
      if (!Exit.isSuccess(exit) || !exit.value || entry.session.busy) {
        return this.discard(entry, "drain-failed", entry.session.dead)
      }
      this.counters.drained++
      entry.idleSince = entry.aliveAt = this.now()
      this.settle(entry)
    })
  }

  /** Says goodbye in the background. */
  retire(entry: Entry<S>, reason: ClosedReason): void {
    entry.home.enter(entry, "away")
    if (this.overflows(entry)) return
    this.closedFor(entry, reason)
    this.inBackground(entry.session.close, () => this.forget(entry))
  }

  private overflows(entry: Entry<S>): boolean {
    if (this.settings.drainOverflow === "hold" || entry.home.overflow === 0) return false
    this.discard(entry, "drain-overflow")
    return true
  }

  /** Destroys the socket now. */
  discard(entry: Entry<S>, reason: ClosedReason, error?: SqlError): void {
    this.forget(entry)
    this.closedFor(entry, reason, error)
    entry.session.destroy()
  }

  private forget(entry: Entry<S>): void {
    entry.home.enter(entry, "gone")
    this.sessions.delete(entry)
  }

  private closedFor(entry: Entry<S>, reason: ClosedReason, error?: SqlError): void {
    this.counters.closed[reason]++
    this.emit({
      _tag: "SessionClosed",
      session: entry.session.id,
      reason,
      ageMillis: this.now() - entry.openedAt,
      ...(error === undefined ? {} : { error: (this.options.describeError ?? describeSqlError)(error) })
    })
  }

  private leakReturned(lane: Lane<S>, entry: Entry<S>, now: number): void {
    entry.leakReported = false
    this.counters.leaksReturned++
    this.emit({ _tag: "LeakReturned", session: entry.session.id, holder: Report.leakHolder(entry, lane, now) })
  }

  // --- outside --------------------------------------------------------------------------------------------------

  emit(event: PoolEvent): void {
    this.actions.push(() => this.ports.publish(event))
  }

  /** Does it when the state is consistent. */
  defer(action: () => void): void {
    this.actions.push(action)
  }

  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    const fiber = this.ports.fork(effect)
    if (fiber.pollUnsafe() === undefined) {
      this.fibers.add(fiber)
      fiber.addObserver(() => this.fibers.delete(fiber))
    }
    return fiber
  }

  interruptFibers(): void {
    for (const fiber of this.fibers) fiber.interruptUnsafe()
  }

  /** Resumes callers and forks fibers, now that the state is consistent. What they cause in turn is done in the same loop. */
  flush(): void {
    if (this.flushing) return
    this.flushing = true
    try {
      for (let more = true; more;) {
        more = false
        for (let index = 0; index < this.resumed.length; index++) {
          const ticket = this.resumed[index]!
          ticket.resume!(ticket.outcome!)
        }
        this.resumed.length = 0
        for (let index = 0; index < this.actions.length; index++) this.actions[index]!()
        this.actions.length = 0
        more = this.resumed.length > 0
      }
    } finally {
      this.flushing = false
    }
  }
}
