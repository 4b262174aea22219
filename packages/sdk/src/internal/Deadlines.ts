/**
 * Whoever has a deadline, the nearest on top.
 *
 * The heap knows each one's place in it: what was served or taken back leaves at once, and is not kept until its time would
 * have come. (Kept, it grows old; and V8 then makes the next ones old from the beginning, with all that they lead to.)
 */
export interface Dated {
  readonly deadline: number
  /** Its place, or -1. The heap's own. */
  heapIndex: number
}

export class Deadlines<A extends Dated> {
  private readonly heap: Array<A> = []

  get size(): number {
    return this.heap.length
  }

  /** `Infinity`: nobody has any. */
  get next(): number {
    return this.heap[0]?.deadline ?? Infinity
  }

  add(one: A): void {
    this.heap.push(one)
    this.up(this.heap.length - 1, one)
  }

  remove(one: A): void {
    const index = one.heapIndex
    if (index < 0) return
    one.heapIndex = -1
    const last = this.heap.pop()!
    if (last === one) return
    if (index > 0 && this.heap[(index - 1) >> 1]!.deadline > last.deadline) this.up(index, last)
    else this.down(index, last)
  }

  /** The one with the nearest deadline, if that has come. */
  due(now: number): A | undefined {
    const first = this.heap[0]
    return first !== undefined && first.deadline <= now ? first : undefined
  }

  private up(from: number, one: A): void {
    let index = from
    while (index > 0) {
      const parentIndex = (index - 1) >> 1
      const parent = this.heap[parentIndex]!
      if (parent.deadline <= one.deadline) break
      this.place(index, parent)
      index = parentIndex
    }
    this.place(index, one)
  }

  private down(from: number, one: A): void {
    const heap = this.heap
    let index = from
    for (;;) {
      let childIndex = 2 * index + 1
      if (childIndex >= heap.length) break
      if (childIndex + 1 < heap.length && heap[childIndex + 1]!.deadline < heap[childIndex]!.deadline) childIndex++
      const child = heap[childIndex]!
      if (child.deadline >= one.deadline) break
      this.place(index, child)
      index = childIndex
    }
    this.place(index, one)
  }

  private place(index: number, one: A): void {
    this.heap[index] = one
    one.heapIndex = index
  }
}
