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
import type * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { Alarm } from "./Alarm.ts"
import type { Backoff } from "./Backoff.ts"
import { Care } from "./Care.ts"
import { type Attempt, Connector, describeSqlError } from "./Connector.ts"
import { Compartment, Entry } from "./Entry.ts"
import { demand, Lane, nextInTurn } from "./Lanes.ts"
import { Outbox } from "./Outbox.ts"
import type { Poolable } from "./Poolable.ts"
import { makeCounters, type PoolEvent } from "./PoolEvents.ts"
import { controlLane, type PoolOptions, type Settings } from "./PoolOptions.ts"
import { Ticket } from "./Waiters.ts"
import { Waiting } from "./Waiting.ts"

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
  /**
   * When the caller must have an answer, in monotonic milliseconds; a function is asked only if the caller has to wait.
   * `acquireTimeout` bounds it in any case.
   */
  readonly deadline?: number | (() => number) | undefined
  /** Who will hold it, where somebody else asks on its behalf. */
  readonly holder?: Fiber.Fiber<unknown, unknown> | undefined
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
  onChange: (change: "connected" | "failed" | "ended") => void = () => {}
  readonly outbox: Outbox<S>
  readonly waiting: Waiting<S>
  readonly care: Care<S>
  private readonly ports: Ports
  private leases = 0
  /** Sessions that somebody waits to see, beyond `min`. */
  wanted = 0

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
    this.outbox = new Outbox(ports.fork)
    this.waiting = new Waiting(this)
    this.care = new Care(this)
    this.main = new Compartment(sizes.min, sizes.max, sizes.drainBudget)
    this.control = new Compartment(0, sizes.control, sizes.control)
    for (const name of Object.keys(options.lanes ?? {})) this.lane(name)
    this.alarm = new Alarm(
      ports.clock,
      (effect) => this.outbox.fork(effect),
      () => this.onAlarm()
    )
    this.connector = new Connector(options, settings, backoff, {
      now: () => this.now(),
      generation: () => this.generation,
      epoch: () => this.epoch,
      defer: (action) => this.outbox.defer(action),
      fork: (effect) => this.outbox.fork(effect),
      wakeAt: (at) => this.alarm.set(at),
      connected: (attempt, session) => this.connected(attempt, session),
      failed: (kind, error) => this.connectFailed(kind, error),
      ended: () => {
        this.pumpAll()
        this.onChange("ended")
        this.flush()
      }
    })
  }

  now(): number {
    return monotonicMillis(this.clock)
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

  ticket(request: PoolRequest, fiber: Fiber.Fiber<unknown, unknown>, scope?: Scope.Scope): Ticket<S> {
    const lane = this.lane(request.lane)
    return new Ticket(lane, request.name, request.priority ?? lane.priority, request.deadline ?? Infinity, fiber, scope)
  }

  // --- the hot path ---------------------------------------------------------------------------------------------

  /** Hands over a session that needs nothing, if there is one. */
  take(ticket: Ticket<S>): S | undefined {
    const lane = ticket.lane
    const home = lane.home
    const entry = home.freshest
    if (entry === undefined || lane.room <= 0 || this.state === "closing" || !this.serves(home)) return undefined
    const now = this.now()
    if (!this.usable(entry, now)) return undefined
    if (this.refused(entry)) return undefined
    this.lease(ticket, entry, now)
    this.options.listener?.onAcquire?.(lane.name, 0)
    return entry.session
  }

  /** The caller has left, with a session or without. */
  finish(ticket: Ticket<S>): void {
    const entry = ticket.entry
    if (entry !== undefined) {
      this.release(ticket.lane, entry)
    } else if (ticket.bucket !== undefined) {
      this.counters.abandonedWaits++
      this.waiting.leave(ticket)
      if (this.state === "closing") this.onChange("ended")
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

  /** A session that was never used is not asked about: else a hook that always refuses is a loop of connects. */
  private refused(entry: Entry<S>): boolean {
    const reuse = this.options.hooks?.beforeReuse
    return reuse !== undefined && entry.uses > 0 && !reuse(entry.session)
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

  /** The holder gives back, or is left with a session that is of no use: what it does with that is counted no more. */
  endLease(lane: Lane<S>, entry: Entry<S>, now: number): void {
    lane.gave()
    entry.ticket!.entry = undefined
    entry.ticket = undefined
    this.options.listener?.onRelease?.(lane.name, now - entry.leasedAt)
    if (entry.leakReported) this.care.leakReturned(lane, entry, now)
    entry.stack = entry.span = undefined
  }

  private release(lane: Lane<S>, entry: Entry<S>): void {
    const now = this.now()
    const home = entry.home
    const session = entry.session
    this.endLease(lane, entry, now)
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
    this.care.settle(entry, true, now)
    this.pump(home, now)
    this.flush()
  }

  private handOver(ticket: Ticket<S>, entry: Entry<S>, now: number): void {
    this.waiting.answer(ticket, Effect.succeed(entry.session))
    this.lease(ticket, entry, now)
    this.counters.waited++
    this.options.listener?.onAcquire?.(ticket.lane.name, now - ticket.since)
  }

  private onAlarm(): void {
    const now = this.now()
    this.alarm.set(this.waiting.tellLate(now))
    this.onRound(now)
    this.pumpAll()
    this.onChange("ended")
    this.flush()
  }

  /** The housekeeper's turn, at every ring of the alarm. */
  onRound: (now: number) => void = () => {}

  // --- moving sessions ------------------------------------------------------------------------------------------

  /** Serves who can be served, and begins what the others and `min` need. */
  pump(home: Compartment<S>, now = this.now()): void {
    if (home.waiting > 0 && this.serves(home)) {
      while (home.idle.length > 0) {
        const ticket = nextInTurn(home)
        if (ticket === undefined) break
        const entry = this.freshest(home, now)
        if (entry === undefined) break
        this.handOver(ticket, entry, now)
      }
      let wanted = demand(home)
      if (wanted > home.preparing) {
        this.connector.giveWay(home, now)
        wanted = demand(home)
      }
      let need = wanted - home.preparing - home.connecting
      // What is idle now has been silent for too long. Asking it is cheaper than a connect.
      while (need > 0 && home.idle.length > 0) {
        this.care.validate(home.freshest!)
        need--
      }
      while (need > 0 && home.free > 0 && this.connector.start(home, now)) need--
    }
    if (this.state === "open") {
      const least = home === this.main ? Math.max(this.wanted, home.min) : home.min
      while (home.live + home.connecting < least && home.free > 0 && this.connector.start(home, now));
    }
  }

  pumpAll(): void {
    this.pump(this.control)
    this.pump(this.main)
  }

  private freshest(home: Compartment<S>, now: number): Entry<S> | undefined {
    for (;;) {
      const entry = home.freshest
      if (entry === undefined) return undefined
      if (now >= entry.expiresAt) this.care.retire(entry, "lifetime")
      else if (!this.usable(entry, now)) return undefined
      else if (this.refused(entry)) this.care.retire(entry, "refused")
      else return entry
    }
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
    this.care.settle(entry)
    session.onDeath((cause) => this.died(entry, cause))
    this.pumpAll()
    this.onChange("connected")
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
    if (connector.tells(kind, now)) {
      for (const home of [this.control, this.main]) {
        if (home.live === 0) this.waiting.failAll(home, () => connector.unavailable(now))
      }
    }
    this.pumpAll()
    this.onChange("failed")
    this.flush()
  }

  /** The session's own cry: its socket has ended, or the server said something fatal. */
  private died(entry: Entry<S>, cause: SqlError): void {
    if (entry.state === "gone" || entry.state === "away") return
    const now = this.now()
    if (entry.uses === 0 && now - entry.openedAt < provenMillis) this.connector.stillborn(cause, entry.openedAt)
    // Whoever holds it, or puts it right, finds out by itself, when it likes: its place is for others from now on.
    this.care.discard(entry, "died", cause)
    this.moveGeneration(entry.generation, "corpse")
    this.pumpAll()
    this.onChange("ended")
    this.flush()
  }

  /** Where one is dead, others may be: all are asked together, so that ten dead sessions cost one timeout. */
  moveGeneration(of: number, reason: "corpse" | "evicted"): void {
    if (of < this.generation) return
    this.generation++
    this.emit({ _tag: "GenerationMoved", generation: this.generation, reason })
    this.connector.cancelAll()
    for (const home of [this.control, this.main]) {
      for (const entry of home.idle.slice()) this.care.settle(entry)
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
    while (home.free < 0 && this.connector.cancelNewest(home));
    while (home.free < 0 && home.idle.length > 0) this.care.retire(home.idle[0]!, "surplus")
    this.pumpAll()
    this.flush()
  }

  /** Sees to it that so many sessions are on their way, for somebody who waits until the pool is ready. */
  want(sessions: number): void {
    this.wanted = sessions
    this.pumpAll()
    this.flush()
  }

  emit(event: PoolEvent): void {
    this.outbox.defer(() => this.ports.publish(event))
  }

  flush(): void {
    this.outbox.flush()
  }
}
