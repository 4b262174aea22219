import { explainedRouter } from "./explained-router.ts"
import { explainedPool } from "./explained-pool.ts"

/** Mutants that no test can notice, or that it would be wrong to notice, each with the reason. */
export interface Explained {
  readonly file: string
  readonly original: string
  /** Absent: any. */
  readonly replacement?: string
  /** A part of the line it is in, where other places read the same. */
  readonly inLine?: string
  readonly reason: string
}

export const explained: ReadonlyArray<Explained> = [
  ...explainedRouter,
  ...explainedPool,
  {
    file: "PgFailure.ts",
    original: "overrides.size > 0",
    reason: "a short cut: an empty map has no change either"
  },
  {
    file: "PgFailure.ts",
    original: "change !== undefined",
    replacement: "true",
    reason: "spreading nothing changes nothing"
  },
  {
    file: "policy/Breaker.ts",
    original: "watchers.size === 0",
    replacement: "false",
    reason: "a short cut: a loop over nobody tells nobody"
  },
  {
    file: "policy/Breaker.ts",
    original: "success && !measured && timed === undefined && ticket <= 0",
    replacement: "false",
    reason: "a short cut that spares a look at the clock: the long way counts the same"
  },
  {
    file: "policy/Breaker.ts",
    original: "ticket <= 0",
    replacement: "ticket < 0",
    reason: "the same short cut, not taken in the first closed state"
  },
  {
    file: "policy/Breaker.ts",
    original: '{ circuit.record(ticket, "success", false, 0) return undefined }',
    reason: "the same short cut"
  },
  {
    file: "policy/Breaker.ts",
    original: "measured",
    replacement: "true",
    reason: "a short cut: a time that nothing depends on"
  },
  {
    file: "policy/Breaker.ts",
    original: 'circuit.state === "closed" && circuit.mode === "auto"',
    replacement: "false",
    reason: "a short cut: `admit` lets a closed circuit's calls through as well, a closure later"
  },
  {
    file: "policy/Breaker.ts",
    original:
      "{ if (self === work) start() const ticket = circuit.admit(0) return Effect.onExitPrimitive(self, (exit) => ended(fiber, entry, ticket, begin, exit)) }",
    reason: "the same short cut"
  },
  {
    file: "policy/Breaker.ts",
    original: "tripped",
    replacement: "true",
    reason: "sets an open time that only an open circuit reads, and that is set anew when it opens"
  },
  {
    file: "policy/Breaker.ts",
    original: "void watchers.delete(watcher)",
    reason: "a closure that stays behind a reader who has left; nobody can ask for it"
  },
  {
    file: "policy/BreakerWindow.ts",
    original: "piece > current",
    reason: "time does not run backwards, and the loop is empty in the current piece"
  },
  {
    file: "policy/BreakerWindow.ts",
    original: "piece - pieces + 1",
    replacement: "piece - pieces - 1",
    reason: "clears a slot twice when all of them are cleared"
  },
  {
    file: "policy/Deadline.ts",
    original: "exit !== undefined",
    replacement: "false",
    reason: "a short cut: work that has ended is observed at once"
  },
  {
    file: "policy/FairQueue.ts",
    original: "line.size >= most.size",
    replacement: "line.size > most.size",
    reason: "of tenants with as many waiters each, any may lose its last"
  },
  {
    file: "policy/RateLimit.ts",
    original: "known === undefined && fullAt.size >= sweepAt",
    replacement: "true",
    reason: "sweeps more often; what it forgets says nothing any more"
  },
  {
    file: "policy/RateLimit.ts",
    original: "known === undefined && fullAt.size >= sweepAt",
    replacement: "(known === undefined) || (fullAt.size >= sweepAt)",
    reason: "sweeps more often; what it forgets says nothing any more"
  },
  {
    file: "policy/RateLimit.ts",
    original: "wait < 1e-6",
    replacement: "wait <= 1e-6",
    reason: "a millionth of a millisecond"
  },
  {
    file: "policy/Retry.ts",
    original: "delay === 0",
    replacement: "false",
    reason: "a sleep of zero"
  },
  {
    file: "policy/RetryBudget.ts",
    original: "Math.floor(at / width)",
    replacement: "Math.ceil(at / width)",
    reason: "the pieces of the window begin elsewhere; no promise depends on where"
  },
  {
    file: "policy/RetryBudget.ts",
    original: "bucket <= current",
    replacement: "false",
    reason: "in the current piece nothing is to be cleared, and time does not run backwards"
  },
  {
    file: "policy/RetryBudget.ts",
    original: "bucket <= current",
    replacement: "bucket < current",
    reason: "in the current piece nothing is to be cleared"
  },
  {
    file: "policy/RetryBudget.ts",
    original: "bucket - current >= size",
    reason: "a short cut: the loop clears every slot as well"
  },
  {
    file: "policy/Shed.ts",
    original: "-1",
    replacement: "1",
    reason: "the first pieces of the life of a process"
  },
  {
    file: "policy/Shed.ts",
    original: "piece - pieces + 1",
    replacement: "piece - pieces - 1",
    reason: "clears a slot twice when all of them are cleared"
  },
  {
    file: "policy/Shed.ts",
    original: "wanted === 0",
    replacement: "false",
    reason: "a short cut: nothing wanted is nothing refused"
  },
  {
    file: "policy/Shed.ts",
    original: "own === 0",
    replacement: "false",
    reason: "a short cut: nobody of this priority has been counted, and the division gives no chance below one"
  },
  {
    file: "policy/Shed.ts",
    original: "deadlines === undefined",
    replacement: "false",
    reason: "comparing with undefined is false as well"
  },
  {
    file: "policy/Shed.ts",
    original: "left === Infinity",
    replacement: "false",
    reason: "nothing is longer than no deadline"
  },
  {
    file: "policy/Shed.ts",
    original: "chance > 0",
    replacement: "chance >= 0",
    reason: "no chance is below zero"
  },
  {
    file: "policy/Shed.ts",
    original: "fiber.getRef(Random.Random).nextDoubleUnsafe() < chance",
    replacement: "fiber.getRef(Random.Random).nextDoubleUnsafe() <= chance",
    reason: "a random number that is exactly the chance"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "phase !== undefined",
    replacement: "true",
    reason: "without a deadline there is no phase to enter"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "shared.maxWait !== undefined && Deadline.remainingOf(fiber) > shared.maxWait",
    replacement: "(shared.maxWait !== undefined) || (Deadline.remainingOf(fiber) > shared.maxWait)",
    reason: "a timer beside a deadline that comes first"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "Deadline.remainingOf(fiber) > shared.maxWait",
    replacement: "Deadline.remainingOf(fiber) >= shared.maxWait",
    reason: "both come in the same millisecond"
  },
  {
    file: "policy/Hedge.ts",
    original: "candidate === 0 || failed === undefined",
    replacement: "(candidate === 0) && (failed === undefined)",
    reason: "the first attempt ends before all have failed, and it is its error that is kept"
  },
  {
    file: "policy/Hedge.ts",
    original: "!over",
    replacement: "true",
    reason: "arming looks at it again"
  },
  {
    file: "policy/Hedge.ts",
    original: "limit < 1",
    replacement: "false",
    reason: "a short cut: with one candidate the race has one runner"
  },
  {
    file: "policy/Hedge.ts",
    original: 'exit !== undefined && (exit._tag === "Success" || isFatal(exit.cause))',
    replacement: "false",
    reason: "a short cut: the race sees the end of the first attempt as well"
  },
  {
    file: "policy/AdaptiveLimit.ts",
    original: "long > short * 2",
    replacement: "long >= short * 2",
    reason: "of averages that are exactly one twice the other, either may be forgotten"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "this.shared.adaptive !== undefined",
    replacement: "true",
    reason: "a short cut that spares a look at the clock: nothing else reads when the work began"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "shared.maxWait !== undefined && Deadline.remainingOf(fiber) > shared.maxWait",
    replacement: "true",
    reason: "a timer beside a deadline that comes first"
  },
  {
    file: "policy/Hedge.ts",
    original: '{ if (exit._tag === "Success") latency.record(nowOf(caller) - begin) return resume(exit) }',
    reason: "the same short cut"
  },
  {
    file: "policy/Hedge.ts",
    original: "!over && started <= limit",
    replacement: "true",
    reason: "a timer that finds nothing to do: `next` asks the same"
  },
  {
    file: "policy/Hedge.ts",
    original: "!over && started <= limit",
    replacement: "(!over) || (started <= limit)",
    reason: "a timer that finds nothing to do: `next` asks the same"
  },
  {
    file: "policy/Jitter.ts",
    original: "delay <= cap",
    replacement: "delay < cap",
    reason: "of two that are equal, either is the answer"
  },
  {
    file: "policy/PolicyEvents.ts",
    original: "listener === undefined",
    replacement: "false",
    reason: "a short cut: what a listener throws is swallowed, and so is that there is none"
  },
  {
    file: "policy/PolicyEvents.ts",
    original: "outer === undefined",
    replacement: "false",
    reason: "a short cut: what a listener throws is swallowed, and so is that there is none"
  },
  {
    file: "policy/Time.ts",
    original: "at < Infinity",
    replacement: "at <= Infinity",
    reason: "a short cut: a sleep that never ends"
  },
  {
    file: "policy/Deadline.ts",
    original: "{ deadline.watch.live = false return resume(exit) }",
    reason: "the same short cut"
  },
  {
    file: "policy/Deadline.ts",
    original: "{ live: true }",
    inLine: "  watch: { live: true },",
    reason: "nobody asks who watches a carried deadline: what is inside of it keeps it by itself"
  },
  {
    file: "policy/Deadline.ts",
    original: "true",
    replacement: "false",
    inLine: "  watch: { live: true },",
    reason: "nobody asks who watches a carried deadline: what is inside of it keeps it by itself"
  },
  {
    file: "policy/Time.ts",
    original: "clock === live",
    replacement: "false",
    reason: "the live clock keeps the same times by a fiber that sleeps, for twice the price"
  },
  {
    file: "policy/Deadline.ts",
    original: "outer.at <= at",
    replacement: "outer.at < at",
    inLine: "const isInner",
    reason: "of two that come together either may be told"
  },
  {
    file: "policy/Timers.ts",
    original: "-1",
    reason: "the heap gives it its place before anybody asks"
  },
  {
    file: "policy/Deadline.ts",
    original: "Math.ceil(at - begin)",
    replacement: "Math.floor(at - begin)",
    reason: "a fraction of a millisecond, in an error's text"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "lease.take()",
    replacement: "false",
    reason: "a short cut: who is about to wait asks again"
  },
  {
    file: "policy/Bulkhead.ts",
    original: "this.take()",
    replacement: "false",
    reason: "a permit is free here only if the scheduler gave others a turn between two steps"
  },
  {
    file: "policy/Breaker.ts",
    original: "Effect.succeed(entry.lastOpenMillis)",
    reason: "where a schedule ends, the time before holds already"
  },
  {
    file: "policy/Deadline.ts",
    original: "isInner",
    replacement: "true",
    inLine: "carried: isInner",
    reason: "the same number, but for a fraction that only the live clock has"
  }
]
