/**
 * Callers who wait: let in or refused, answered once, and told when their deadline comes.
 */
import * as Effect from "effect/Effect"
import { Deadlines } from "../internal/Deadlines.ts"
import { DatabaseUnavailable, Overloaded } from "../ReportError.ts"
import type { Compartment } from "./Entry.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolCore } from "./PoolCore.ts"
import * as Report from "./PoolReport.ts"
import type { AcquireError, Ticket } from "./Waiters.ts"

export class Waiting<S extends Poolable> {
  private readonly core: PoolCore<S>
  private readonly deadlines = new Deadlines<Ticket<S>>()
  private order = 0

  constructor(core: PoolCore<S>) {
    this.core = core
  }

  /** Queues a caller, or refuses it. The answer comes through `ticket.resume`, before this returns if it can. */
  enqueue(ticket: Ticket<S>): void {
    const now = this.core.now()
    const { home, queue } = ticket.lane
    const asked = typeof ticket.asked === "number" ? ticket.asked : ticket.asked()
    ticket.deadline = Math.min(asked, now + this.core.settings.acquireTimeout)
    ticket.since = now
    const refusal = this.refusal(ticket, now)
    if (refusal !== undefined) return ticket.resume!(Effect.fail(refusal))
    ticket.order = this.order++
    queue.push(ticket)
    home.waiting++
    this.deadlines.add(ticket)
    this.core.pump(home, now)
    if (ticket.bucket !== undefined) this.core.alarm.set(ticket.deadline)
    this.core.flush()
  }

  private refusal(ticket: Ticket<S>, now: number): AcquireError | undefined {
    const { home, maxWaiting, name, queue } = ticket.lane
    if (this.core.state === "closing" || this.core.state === "closed") return this.closedError()
    if (ticket.deadline <= now) return this.timedOut(ticket, now)
    const laneFull = queue.size >= maxWaiting
    if (laneFull || home.waiting >= this.core.settings.maxWaiting) {
      this.core.counters.overloaded++
      this.core.emit({ _tag: "Overloaded", lane: name, waiting: home.waiting })
      return new Overloaded({
        policy: "pool",
        key: laneFull ? `${this.core.options.name} lane ${name}` : this.core.options.name,
        limit: laneFull ? maxWaiting : this.core.settings.maxWaiting,
        waiting: laneFull ? queue.size : home.waiting,
        sessions: Report.account(this.core, home, ticket.fiber)
      })
    }
    if (home.live === 0 && this.core.connector.refuses(now, ticket.deadline)) {
      this.core.counters.unavailable++
      return this.core.connector.unavailable(now)
    }
    return undefined
  }

  private closedError(): DatabaseUnavailable {
    this.core.counters.unavailable++
    return new DatabaseUnavailable({ pool: this.core.options.name, reason: "closed" })
  }

  private timedOut(ticket: Ticket<S>, now: number): AcquireError {
    const error = Report.acquireTimeout(this.core, ticket, now)
    this.core.counters.acquireTimeouts++
    this.core.emit({
      _tag: "AcquireTimedOut",
      lane: ticket.lane.name,
      reason: error.reason,
      waitedMillis: error.waitedMillis,
      ...(error.heldByCaller === undefined ? {} : { heldByCaller: error.heldByCaller })
    })
    return error
  }

  leave(ticket: Ticket<S>): void {
    ticket.lane.queue.remove(ticket)
    ticket.lane.home.waiting--
    this.deadlines.remove(ticket)
  }

  answer(ticket: Ticket<S>, outcome: Effect.Effect<S, AcquireError>): void {
    this.leave(ticket)
    ticket.outcome = outcome
    this.core.outbox.resume(ticket)
  }

  /** Tells everybody who waits in `home`. */
  failAll(home: Compartment<S>, error: () => AcquireError): void {
    for (const lane of home.lanes) {
      for (let ticket = lane.queue.head; ticket !== undefined; ticket = lane.queue.head) {
        this.core.counters.unavailable++
        this.answer(ticket, Effect.fail(error()))
      }
    }
  }

  /** Tells those whose deadline has come. Gives the next deadline. */
  tellLate(now: number): number {
    for (let ticket = this.deadlines.due(now); ticket !== undefined; ticket = this.deadlines.due(now)) {
      this.answer(ticket, Effect.fail(this.timedOut(ticket, now)))
    }
    return this.deadlines.next
  }
}
