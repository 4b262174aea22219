/** The pool's mutants that no test can notice, or that it would be wrong to notice, each with the reason. */
import type { Explained } from "./explained.ts"

const returned =
  "a short cut of the hot path: the long way asks every question again, and puts the session back as well"
const indeed = "a lock on a door that is shut: what is idle is of this generation and lives, or it was taken out"
const equalDeadlines = "waiters with the same deadline are told together, in any order"

export const explainedPool: ReadonlyArray<Explained> = [
  {
    file: "pool/PoolCore.ts",
    original: 'this.state === "closing"',
    replacement: "true",
    reason: "who is told that something has ended looks whether the pool is closing"
  },
  {
    file: "pool/PoolCore.ts",
    original: "entry.generation === this.generation && entry.session.dead === undefined",
    replacement: "(entry.generation === this.generation) || (entry.session.dead === undefined)",
    reason: indeed
  },
  {
    file: "pool/PoolCore.ts",
    original: "this.settings.stackEvery > 0",
    replacement: "this.settings.stackEvery >= 0",
    reason: "a number divided by none leaves no rest that is nought"
  },
  {
    file: "pool/PoolCore.ts",
    original: "this.leases++",
    replacement: "this.leases--",
    reason: "counts down: every so many is every so many"
  },
  {
    file: "pool/PoolCore.ts",
    original:
      'home.waiting === 0 && this.state === "open" && session.dead === undefined && session.clean && !session.busy && entry.generation === this.generation && entry.epoch === this.epoch && now < entry.expiresAt && home.free >= 0 && this.options.hooks?.afterRelease === undefined',
    replacement: "false",
    reason: returned
  },
  {
    file: "pool/PoolCore.ts",
    original: "session.dead === undefined",
    replacement: "session.dead !== undefined",
    reason: `${returned}; a death moves the generation, so a dead one goes the long way`
  },
  {
    file: "pool/PoolCore.ts",
    original: "!session.busy",
    replacement: "session.busy",
    reason: `${returned}; a session with a statement on the wire is not clean`
  },
  {
    file: "pool/PoolCore.ts",
    original: "entry.epoch === this.epoch",
    replacement: "entry.epoch !== this.epoch",
    reason: `${returned}; an eviction moves the generation too, so an evicted one goes the long way`
  },
  {
    file: "pool/PoolCore.ts",
    original: "home.free >= 0",
    replacement: "home.free > 0",
    reason: returned
  },
  {
    file: "pool/PoolCore.ts",
    original: '{ home.enter(entry, "idle") return }',
    replacement: "{}",
    reason: returned
  },
  {
    file: "pool/PoolCore.ts",
    original: "home.waiting > 0",
    replacement: "home.waiting >= 0",
    reason: "a short cut: nobody waits, so there is nobody to serve and nothing to begin"
  },
  {
    file: "pool/Lanes.ts",
    original: "home.lanes.push(this)",
    reason: "the turn is decided by priority and order of coming, not by the order of lanes"
  },
  {
    file: "pool/Lanes.ts",
    original: "this.leased < this.reserved",
    replacement: "this.leased <= this.reserved",
    reason: "the difference is nought"
  },
  {
    file: "pool/Lanes.ts",
    original: "room < shared",
    replacement: "room <= shared",
    reason: "the same number"
  },
  {
    file: "pool/Lanes.ts",
    original: "home.waiting === 0",
    replacement: "false",
    reason: "a short cut: empty queues have no head and want nothing"
  },
  {
    file: "pool/Lanes.ts",
    original: "head.order < first.order",
    replacement: "head.order <= first.order",
    reason: "no two waiters have the same order"
  },
  {
    file: "pool/Lanes.ts",
    original: "room > 0",
    replacement: "room >= 0",
    reason: "no room adds nothing"
  },
  {
    file: "pool/Lanes.ts",
    original: "lane.queue.size < room",
    replacement: "lane.queue.size <= room",
    reason: "the same number"
  },
  {
    file: "pool/Waiters.ts",
    original: "bucket.priority === priority",
    replacement: "false",
    reason: "a list for each waiter instead of each priority, in the same order: only slower"
  },
  {
    file: "pool/Waiters.ts",
    original: "bucket.priority < priority",
    replacement: "bucket.priority <= priority",
    reason: "the same priority was found before"
  },
  {
    file: "internal/Deadlines.ts",
    original: "this.heap[(index - 1) >> 1]!.deadline > last.deadline",
    replacement: "this.heap[(index - 1) >> 1]!.deadline >= last.deadline",
    reason: equalDeadlines
  },
  {
    file: "internal/Deadlines.ts",
    original: "parent.deadline <= one.deadline",
    replacement: "parent.deadline < one.deadline",
    reason: equalDeadlines
  },
  {
    file: "internal/Deadlines.ts",
    original: "heap[childIndex + 1]!.deadline < heap[childIndex]!.deadline",
    replacement: "heap[childIndex + 1]!.deadline <= heap[childIndex]!.deadline",
    reason: equalDeadlines
  },
  {
    file: "internal/Deadlines.ts",
    original: "child.deadline >= one.deadline",
    replacement: "child.deadline > one.deadline",
    reason: equalDeadlines
  },
  {
    file: "pool/Waiting.ts",
    original: "ticket.bucket !== undefined",
    replacement: "true",
    reason: "sets the alarm for somebody who was served at once: it rings once for nothing"
  },
  {
    file: "pool/Connector.ts",
    original: "this.downSince === undefined",
    replacement: "false",
    reason: "without it there is no pause, and nothing computed with undefined is longer than a limit"
  },
  {
    file: "pool/Connector.ts",
    original: "this.passwordEpoch++",
    replacement: "this.passwordEpoch--",
    reason: "a mark that only has to become another"
  },
  {
    file: "pool/Entry.ts",
    original: "this.away > this.drainBudget",
    replacement: "this.away >= this.drainBudget",
    reason: "the difference is nought"
  },
  {
    file: "pool/Entry.ts",
    original: "idle.length === 0",
    replacement: "false",
    reason: "a short cut: there is nothing under the name -1 either"
  },
  {
    file: "pool/Entry.ts",
    original: "this.freshest === entry",
    replacement: "false",
    reason: "a short cut: the search finds the last one as well"
  },
  {
    file: "pool/PoolCore.ts",
    original: "home.idle.length > 0",
    replacement: "home.idle.length >= 0",
    inLine: "while (home.idle.length > 0) {",
    reason: "a short cut: where nothing is idle, nothing is the freshest"
  },
  {
    file: "pool/Outbox.ts",
    original: "this.actions.length > 0",
    reason: "setting a length that it has already changes nothing; it only costs"
  }
]
