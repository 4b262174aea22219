/** Mutants that no test can notice, or that it would be wrong to notice, each with the reason. */
export interface Explained {
  readonly file: string
  readonly original: string
  /** Absent: any. */
  readonly replacement?: string
  readonly reason: string
}

export const explained: ReadonlyArray<Explained> = [
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
  }
]
