/**
 * What becomes of a session that nobody holds: back into the pool, put right in the background, or closed.
 *
 * Every way back goes through `settle`, so every rule (dead, closing, evicted, too old, too many, at work, unclean, not
 * proved alive) is asked every time, in one order.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import { describeSqlError } from "./Connector.ts"
import type { Entry } from "./Entry.ts"
import type { Lane } from "./Lanes.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolCore } from "./PoolCore.ts"
import type { ClosedReason } from "./PoolEvents.ts"
import * as Report from "./PoolReport.ts"

/** A session that was refused sooner than this says nothing of its elders: so that a server that never was the right one costs no storm. */
const settledMillis = 250

export class Care<S extends Poolable> {
  private readonly core: PoolCore<S>

  constructor(core: PoolCore<S>) {
    this.core = core
  }

  /** Decides what becomes of a session that nobody holds; `released` if somebody just did. */
  settle(entry: Entry<S>, released = false, now = this.core.now()): void {
    const home = entry.home
    const session = entry.session
    if (session.dead !== undefined) return this.discard(entry, "died", session.dead)
    const ending = this.core.state === "closed" || (this.core.state === "closing" && home.waiting === 0)
    if (ending) return this.retire(entry, "closing")
    if (entry.epoch < this.core.epoch) return this.retire(entry, "evicted")
    if (session.unfit) return this.dismiss(entry, now)
    if (now >= entry.expiresAt) return this.retire(entry, "lifetime")
    // A session that is there is worth more than one that is on its way.
    while (!this.hasPlace(entry)) if (!this.core.connector.cancelNewest(home)) return this.retire(entry, "surplus")
    if (session.busy) return this.drain(entry)
    if (!session.clean || (released && this.core.options.hooks?.afterRelease)) return this.restore(entry)
    if (entry.generation !== this.core.generation) return this.validate(entry)
    home.enter(entry, "idle")
  }

  /** The server is another one than when the session was opened. What is true of it may be true of its neighbours. */
  private dismiss(entry: Entry<S>, now: number): void {
    const isNews = entry.epoch === this.core.epoch && now - entry.openedAt >= settledMillis
    this.retire(entry, "unfit")
    if (!isNews) return
    this.core.epoch++
    this.core.moveGeneration(this.core.generation, "evicted")
  }

  /** Whether the session may stay, or come back, without exceeding `max`. */
  private hasPlace(entry: Entry<S>): boolean {
    const home = entry.home
    if (entry.state !== "away" && entry.state !== "gone") return home.free >= 0
    const own = entry.state === "away" && home.overflow > 0 ? 1 : 0
    return home.free + own > 0
  }

  /** Runs an effect on a session that is out of circulation, then decides about it. */
  private inBackground<A, E>(effect: Effect.Effect<A, E>, done: (exit: Exit.Exit<A, E>) => void): void {
    this.core.outbox.defer(() => {
      this.core.outbox.fork(
        Effect.flatMap(Effect.exit(effect), (exit) =>
          Effect.sync(() => {
            done(exit)
            this.core.pumpAll()
            this.core.onChange("ended")
            this.core.flush()
          })
        )
      )
    })
  }

  validate(entry: Entry<S>): void {
    const generation = this.core.generation
    entry.home.enter(entry, "preparing")
    this.core.counters.validations++
    this.inBackground(entry.session.validate, (exit) => {
      if (entry.state !== "preparing") return
      if (Exit.isSuccess(exit)) {
        entry.generation = generation
        entry.aliveAt = this.core.now()
        this.settle(entry)
      } else {
        this.discard(entry, "validation-failed", Report.firstError(exit.cause))
        this.core.moveGeneration(entry.generation, "corpse")
      }
    })
  }

  private restore(entry: Entry<S>): void {
    const session = entry.session
    const afterRelease = this.core.options.hooks?.afterRelease
    entry.home.enter(entry, "preparing")
    if (!session.clean) this.core.counters.resets++
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
        entry.aliveAt = this.core.now()
        this.settle(entry)
      } else this.discard(entry, "reset-failed", Exit.isFailure(exit) ? Report.firstError(exit.cause) : undefined)
    })
  }

  /** The caller has left and its statement has not: the session's place is free, its work is ended in the background. */
  private drain(entry: Entry<S>): void {
    const home = entry.home
    home.enter(entry, "away")
    if (this.overflows(entry)) return
    this.core.emit({ _tag: "DrainStarted", session: entry.session.id })
    this.inBackground(entry.session.drain, (exit) => {
      if (entry.state !== "away") return
      if (!Exit.isSuccess(exit) || !exit.value || entry.session.busy) {
        return this.discard(entry, "drain-failed", entry.session.dead)
      }
      this.core.counters.drained++
      entry.idleSince = entry.aliveAt = this.core.now()
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
    if (this.core.settings.drainOverflow === "hold" || entry.home.overflow === 0) return false
    this.discard(entry, "drain-overflow")
    return true
  }

  /** Destroys the socket now. */
  discard(entry: Entry<S>, reason: ClosedReason, error?: SqlError): void {
    if (entry.ticket !== undefined) this.core.endLease(entry.ticket.lane, entry, this.core.now())
    this.forget(entry)
    this.closedFor(entry, reason, error)
    entry.session.destroy()
  }

  private forget(entry: Entry<S>): void {
    entry.home.enter(entry, "gone")
    this.core.sessions.delete(entry)
  }

  private closedFor(entry: Entry<S>, reason: ClosedReason, error?: SqlError): void {
    this.core.counters.closed[reason]++
    this.core.emit({
      _tag: "SessionClosed",
      session: entry.session.id,
      reason,
      ageMillis: this.core.now() - entry.openedAt,
      ...(error === undefined ? {} : { error: (this.core.options.describeError ?? describeSqlError)(error) })
    })
  }

  leakReturned(lane: Lane<S>, entry: Entry<S>, now: number): void {
    entry.leakReported = false
    this.core.counters.leaksReturned++
    this.core.emit({ _tag: "LeakReturned", session: entry.session.id, holder: Report.leakHolder(entry, lane, now) })
  }
}
