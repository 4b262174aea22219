/**
 * Lanes: named shares of a compartment, with a reserve that nobody else may use and a cap that they may not exceed.
 *
 * All questions are answered from counters, in the number of lanes at most, never in the number of waiters.
 */
import type { Compartment } from "./Entry.ts"
import type { Poolable } from "./Poolable.ts"
import { type Ticket, WaitQueue } from "./Waiters.ts"

export class Lane<S extends Poolable> {
  readonly name: string
  readonly home: Compartment<S>
  readonly reserved: number
  readonly cap: number
  readonly maxWaiting: number
  readonly priority: number
  readonly queue = new WaitQueue<S>()
  leased = 0

  constructor(
    name: string,
    home: Compartment<S>,
    limits: {
      readonly reserved: number
      readonly cap: number
      readonly maxWaiting: number
      readonly priority: number
    }
  ) {
    this.name = name
    this.home = home
    this.reserved = limits.reserved
    this.cap = limits.cap
    this.maxWaiting = limits.maxWaiting
    this.priority = limits.priority
    home.lanes.push(this)
    home.shortfall += this.reserved
  }

  /** How many more sessions this lane may hold now, were they there. */
  get room(): number {
    const home = this.home
    const own = this.leased < this.reserved ? this.reserved - this.leased : 0
    const shared = home.max - home.overflow - home.leased - (home.shortfall - own)
    const room = this.cap - this.leased
    return room < shared ? room : shared
  }

  took(): void {
    if (this.leased++ < this.reserved) this.home.shortfall--
  }

  gave(): void {
    if (--this.leased < this.reserved) this.home.shortfall++
  }
}

/** Whose turn it is: the highest priority, then the longest wait, among the lanes that may hold one more. */
export const nextInTurn = <S extends Poolable>(home: Compartment<S>): Ticket<S> | undefined => {
  if (home.waiting === 0) return undefined
  let first: Ticket<S> | undefined = undefined
  for (const lane of home.lanes) {
    const head = lane.queue.head
    if (head === undefined || lane.room <= 0) continue
    if (
      first === undefined ||
      head.priority > first.priority ||
      (head.priority === first.priority && head.order < first.order)
    ) {
      first = head
    }
  }
  return first
}

/** How many sessions the waiting lanes may have now, were they there: each by itself, so the places left bound it as well. */
export const demand = <S extends Poolable>(home: Compartment<S>): number => {
  if (home.waiting === 0) return 0
  let wanted = 0
  for (const lane of home.lanes) {
    const room = lane.room
    if (room > 0) wanted += lane.queue.size < room ? lane.queue.size : room
  }
  return wanted
}
