/** Bugs as people write them, each seeded into a copy of the SDK, and the random test that has to catch it. */
export interface Bug {
  readonly part: "breaker" | "deadline" | "failure" | "pool" | "retry" | "router"
  /** Whose tests have to catch it. Default: the part's own. */
  readonly by?: "report"
  readonly bug: string
  /** From packages/sdk/src. */
  readonly file: string
  readonly from: string
  readonly to: string
}

/** The property tests of each part, by file (from test/unit) and by what their names hold. */
export const tests: Record<Bug["part"] | "report", { readonly files: ReadonlyArray<string>; readonly named: RegExp }> =
  {
    pool: { files: ["pool/SessionPool.model.test.ts"], named: /random histories/ },
    retry: { files: ["policy/Retry.test.ts"], named: /property/ },
    breaker: { files: ["policy/Breaker.test.ts"], named: /property/ },
    router: {
      files: ["topology/router.test.ts", "topology/state.test.ts", "topology/health.test.ts"],
      named: /at random|random/
    },
    deadline: { files: ["policy/Deadline.test.ts"], named: /property/ },
    failure: { files: ["PgFailure.test.ts"], named: /is total|every row/ },
    report: { files: ["report/properties.test.ts"], named: /keeps its declaration/ }
  }

export const bugs: ReadonlyArray<Bug> = [
  {
    part: "pool",
    bug: "a caller that leaves keeps what it was just handed",
    file: "pool/PoolCore.ts",
    from: "      this.release(ticket.lane, entry)\n",
    to: ""
  },
  {
    part: "pool",
    bug: "the last come is served first",
    file: "pool/Waiters.ts",
    from: "    else bucket.tail.next = ticket\n    bucket.tail = ticket",
    to: "    else { ticket.previous = undefined; ticket.next = bucket.head; bucket.head!.previous = ticket; bucket.head = ticket }\n    bucket.tail ??= ticket"
  },
  {
    part: "pool",
    bug: "a lane may hold one session more than its cap",
    file: "pool/Lanes.ts",
    from: "const room = this.cap - this.leased\n",
    to: "const room = this.cap - this.leased + 1\n"
  },
  {
    part: "pool",
    bug: "a session that comes back unclean goes to the next caller",
    file: "pool/PoolCore.ts",
    from: "      session.clean &&\n      !session.busy &&\n",
    to: ""
  },
  {
    part: "pool",
    bug: "a served waiter stays in the heap of deadlines",
    file: "internal/Deadlines.ts",
    from: "    if (index > 0 && this.heap[(index - 1) >> 1]!.deadline > last.deadline) this.up(index, last)\n    else this.down(index, last)",
    to: "    this.heap.push(last)"
  },
  {
    part: "retry",
    bug: "one retry more than declared",
    file: "policy/Retry.ts",
    from: "made >= retries",
    to: "made > retries"
  },
  {
    part: "retry",
    bug: "the budget is looked at and not drawn from",
    file: "policy/RetryBudget.ts",
    from: "      withdrawals[current % size]!++\n      withdrawn++\n",
    to: ""
  },
  {
    part: "retry",
    by: "report",
    bug: "a write that may have been applied is repeated",
    file: "report/Policies.ts",
    from: "const how = once ? failure.write : failure.retry",
    to: "const how = failure.retry"
  },
  {
    part: "retry",
    by: "report",
    bug: "a retry begins although the deadline comes before it",
    file: "policy/Deadline.ts",
    from: "return deadline === undefined ? Infinity : Math.max(0, deadline.at - nowOf(fiber))",
    to: "return Infinity"
  },
  {
    part: "breaker",
    bug: "an interrupted probe keeps its place",
    file: "policy/BreakerState.ts",
    from: "if (!this.leases.delete(ticket) || this.state",
    to: 'if (signal === "ignored") return false\n      if (!this.leases.delete(ticket) || this.state'
  },
  {
    part: "breaker",
    bug: "the result of an older closed state counts",
    file: "policy/BreakerState.ts",
    from: "if (ticket !== this.generation || this.state",
    to: "if (this.state"
  },
  {
    part: "breaker",
    bug: "a success does not end a row of failures",
    file: "policy/BreakerState.ts",
    from: "failed ? this.consecutive + 1 : 0",
    to: "failed ? this.consecutive + 1 : this.consecutive"
  },
  {
    part: "breaker",
    bug: "more probes at a time than declared",
    file: "policy/BreakerState.ts",
    from: "this.leases.size >= Math.min",
    to: "this.leases.size > Math.min"
  },
  {
    part: "router",
    bug: "a replica that is too old is good enough",
    file: "topology/Router.ts",
    from: 'if (lagMillis > want.maxLagMillis) return "too-stale"',
    to: ""
  },
  {
    part: "router",
    bug: "a fenced primary is used",
    file: "topology/Router.ts",
    from: 'if (fenced !== undefined) return "fenced"',
    to: ""
  },
  {
    part: "router",
    bug: "older evidence overwrites newer",
    file: "topology/NodeState.ts",
    from: "  if (observation.at < state.at) return state\n",
    to: ""
  },
  {
    part: "router",
    bug: "one good look brings a node back that was down",
    file: "topology/NodeState.ts",
    from: "successes >= thresholds.upAfter",
    to: "successes >= 1"
  },
  {
    part: "deadline",
    bug: "a deadline inside of a longer one does not hold",
    file: "policy/Deadline.ts",
    from: "      if (outer.at <= at) {",
    to: "      if (outer.at > 0) {"
  },
  {
    part: "deadline",
    bug: "the caller waits for the cleanup of its work",
    file: "policy/Deadline.ts",
    from: "      Background.abandon(caller, work)\n      resume(Effect.fail(error))",
    to: "      work.addObserver(() => resume(Effect.fail(error)))\n      work.interruptUnsafe()"
  },
  {
    part: "deadline",
    bug: "a deadline is a millisecond late",
    file: "policy/Deadline.ts",
    from: "callAt(caller, deadline.at, () =>",
    to: "callAt(caller, deadline.at + 1, () =>"
  },
  {
    part: "failure",
    bug: "a lost answer counts as not applied",
    file: "PgFailure.ts",
    from: 'return ended && input.commit !== false ? "unknown" : "not-applied"',
    to: 'return "not-applied"'
  },
  {
    part: "failure",
    bug: "what was answered is repeated",
    file: "PgFailure.ts",
    from: 'outcome === "applied" || aborted ? "never"',
    to: 'aborted ? "never"'
  },
  {
    part: "failure",
    bug: "a session that ended with FATAL goes back to the pool",
    file: "PgFailure.ts",
    from: 'if (isFatal(input.severity) || input.phase === "connect") return "drop"',
    to: 'if (input.phase === "connect") return "drop"'
  }
]
