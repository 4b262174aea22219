/**
 * Callers on their way to a session: a queue per lane and priority.
 *
 * Joining and leaving a queue are constant time wherever the waiter stands, so that a thousand waiters cost no more each
 * than one.
 */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { AcquireTimeout, DatabaseUnavailable, Overloaded } from "../ReportError.ts"
import type { Dated } from "../internal/Deadlines.ts"
import type { Entry } from "./Entry.ts"
import type { Lane } from "./Lanes.ts"
import type { Poolable } from "./Poolable.ts"

export type AcquireError = AcquireTimeout | Overloaded | DatabaseUnavailable

/** One call's way through the pool: waiting, then holding, then gone. Its fields are the links of the queue it stands in. */
export class Ticket<S extends Poolable> implements Dated {
  readonly lane: Lane<S>
  readonly name: string
  readonly priority: number
  /** When the caller must have an answer, in monotonic milliseconds: what it asked for, or found out when it has to wait. */
  readonly asked: number | (() => number)
  /** Who waits, and then holds, and until the end of which scope: read only to tell why somebody went without. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly scope: Scope.Scope | undefined
  deadline = Infinity
  since = 0
  order = 0
  /** The session that is held, or was just handed over. */
  entry: Entry<S> | undefined = undefined
  resume: ((effect: Effect.Effect<S, AcquireError>) => void) | undefined = undefined
  outcome: Effect.Effect<S, AcquireError> | undefined = undefined
  bucket: Bucket<S> | undefined = undefined
  previous: Ticket<S> | undefined = undefined
  next: Ticket<S> | undefined = undefined
  heapIndex = -1

  constructor(
    lane: Lane<S>,
    name: string,
    priority: number,
    asked: number | (() => number),
    fiber: Fiber.Fiber<unknown, unknown>,
    scope: Scope.Scope | undefined
  ) {
    this.lane = lane
    this.name = name
    this.priority = priority
    this.asked = asked
    this.fiber = fiber
    this.scope = scope
  }
}

/** The waiters of one lane that have the same priority, oldest first. */
export interface Bucket<S extends Poolable> {
  readonly priority: number
  head: Ticket<S> | undefined
  tail: Ticket<S> | undefined
}

/** The waiters of one lane: highest priority first, then first come, first served. */
export class WaitQueue<S extends Poolable> {
  size = 0
  // Few priorities are in use at once: a sorted array is found through faster than a tree.
  private readonly buckets: Array<Bucket<S>> = []

  get head(): Ticket<S> | undefined {
    return this.buckets[0]?.head
  }

  push(ticket: Ticket<S>): void {
    const bucket = this.bucketOf(ticket.priority)
    ticket.bucket = bucket
    ticket.previous = bucket.tail
    if (bucket.tail === undefined) bucket.head = ticket
    else bucket.tail.next = ticket
    bucket.tail = ticket
    this.size++
  }

  remove(ticket: Ticket<S>): void {
    const bucket = ticket.bucket
    if (bucket === undefined) return
    if (ticket.previous === undefined) bucket.head = ticket.next
    else ticket.previous.next = ticket.next
    if (ticket.next === undefined) bucket.tail = ticket.previous
    else ticket.next.previous = ticket.previous
    ticket.bucket = ticket.previous = ticket.next = undefined
    this.size--
    if (bucket.head === undefined) this.buckets.splice(this.buckets.indexOf(bucket), 1)
  }

  private bucketOf(priority: number): Bucket<S> {
    const buckets = this.buckets
    let index = 0
    while (index < buckets.length) {
      const bucket = buckets[index]!
      if (bucket.priority === priority) return bucket
      if (bucket.priority < priority) break
      index++
    }
    const bucket: Bucket<S> = { priority, head: undefined, tail: undefined }
    buckets.splice(index, 0, bucket)
    return bucket
  }
}
