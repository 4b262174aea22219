/**
 * What a transition of the pool wants done outside of it: callers resumed, fibers forked, events told.
 *
 * It is done by `flush`, when the state is consistent again. Whatever that causes (a caller that is resumed may release,
 * fail and ask again, all before it yields) is done in the same loop, never in a deeper call.
 */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Poolable } from "./Poolable.ts"
import type { Ticket } from "./Waiters.ts"

type Fork = <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>

export class Outbox<S extends Poolable> {
  /** Those who are answered, by the links of the queue that they have left. */
  private first: Ticket<S> | undefined = undefined
  private last: Ticket<S> | undefined = undefined
  private readonly actions: Array<() => void> = []
  private readonly fibers = new Set<Fiber.Fiber<unknown, unknown>>()
  private readonly forkIn: Fork
  private flushing = false

  constructor(fork: Fork) {
    this.forkIn = fork
  }

  /** The ticket has its outcome: its caller goes on. */
  resume(ticket: Ticket<S>): void {
    if (this.last === undefined) this.first = ticket
    else this.last.next = ticket
    this.last = ticket
  }

  defer(action: () => void): void {
    this.actions.push(action)
  }

  /** Forks now, in the pool's own context. The fiber ends with the pool. */
  fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    const fiber = this.forkIn(effect)
    this.fibers.add(fiber)
    // At once, if it has ended already.
    fiber.addObserver(() => this.fibers.delete(fiber))
    return fiber
  }

  interruptFibers(): void {
    for (const fiber of this.fibers) fiber.interruptUnsafe()
  }

  flush(): void {
    if (this.flushing) return
    this.flushing = true
    try {
      do {
        for (let ticket = this.shift(); ticket !== undefined; ticket = this.shift()) ticket.resume!(ticket.outcome!)
        for (let index = 0; index < this.actions.length; index++) this.actions[index]!()
        // Setting a length costs more than all the rest in here, even if it changes nothing.
        if (this.actions.length > 0) this.actions.length = 0
      } while (this.first !== undefined)
    } finally {
      this.flushing = false
    }
  }

  private shift(): Ticket<S> | undefined {
    const ticket = this.first
    if (ticket === undefined) return undefined
    this.first = ticket.next
    ticket.next = undefined
    if (this.first === undefined) this.last = undefined
    return ticket
  }
}
