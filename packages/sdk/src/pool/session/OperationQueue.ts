/**
 * Operations in the order in which their turn comes. Each is in one queue at most, and its own link to the next: a
 * statement's way through the wire allocates nothing for that.
 */
import type { Operation } from "./Wire.ts"

export class OperationQueue {
  first: Operation | undefined = undefined
  #last: Operation | undefined = undefined
  size = 0

  push(operation: Operation): void {
    operation.next = undefined
    if (this.#last === undefined) this.first = operation
    else this.#last.next = operation
    this.#last = operation
    this.size++
  }

  unshift(operation: Operation): void {
    operation.next = this.first
    this.first = operation
    if (this.#last === undefined) this.#last = operation
    this.size++
  }

  shift(): Operation | undefined {
    const operation = this.first
    if (operation === undefined) return undefined
    this.first = operation.next
    operation.next = undefined
    if (this.first === undefined) this.#last = undefined
    this.size--
    return operation
  }

  /** All of them, taken out: whatever they do from here on, the queue is empty. */
  takeAll(): ReadonlyArray<Operation> {
    const all: Array<Operation> = []
    for (let operation = this.shift(); operation !== undefined; operation = this.shift()) all.push(operation)
    return all
  }
}
