/**
 * The account of a soak: every call ends under one heading, and every write is looked for in the table, one by one.
 *
 * A write is a number. What its caller was told is kept in a byte, outside of the heap, so that the account of an hour does
 * not look like a leak.
 */

const states = { none: 0, begun: 1, acknowledged: 2, refused: 3 } as const

/** How a call ended, as far as its caller can tell. */
export type Ending =
  | { readonly kind: "ok" }
  | { readonly kind: "declared"; readonly error: string; readonly mayBeApplied: boolean }
  /** A defect, an error that is not in the type, or the answer to another question. */
  | { readonly kind: "wrong"; readonly problem: string }
  | { readonly kind: "unanswered" }

export class Account {
  calls = 0
  writes = 0
  late = 0
  wrong = 0
  lost = 0
  doubled = 0
  /** Unknown to their callers, and found in the table. */
  appliedUnknown = 0
  unknown = 0
  /** How often calls ended in which way, by kind of work. */
  readonly endings = new Map<string, number>()
  /** The first of those that must not be. */
  readonly problems: Array<string> = []
  #told = new Uint8Array(1 << 16)

  problem(text: string): void {
    if (this.problems.length < 20) this.problems.push(text)
  }

  /** The number of a new write. */
  begin(): number {
    const number = this.writes++
    if (number >= this.#told.length) {
      const larger = new Uint8Array(this.#told.length * 2)
      larger.set(this.#told)
      this.#told = larger
    }
    this.#told[number] = states.begun
    return number
  }

  /** The caller knows that it is there, whatever else it is told. */
  acknowledge(write: number): void {
    this.#told[write] = states.acknowledged
  }

  /** A call has ended; `write` is its number, if it was one. */
  end(work: string, ending: Ending, late: number | undefined, write?: number): void {
    this.calls++
    const how = ending.kind === "declared" ? ending.error : ending.kind
    const key = `${work}: ${how}`
    this.endings.set(key, (this.endings.get(key) ?? 0) + 1)
    if (late !== undefined) {
      this.late++
      this.problem(`${work} was told ${Math.round(late)} ms after its deadline (${how})`)
    }
    if (ending.kind === "wrong") {
      this.wrong++
      this.problem(`${work}: ${ending.problem}`)
    }
    if (ending.kind === "unanswered") {
      this.lost++
      this.problem(`${work} was never answered`)
    }
    if (write === undefined) return
    if (ending.kind === "ok") this.acknowledge(write)
    const isRefused = ending.kind === "declared" && !ending.mayBeApplied
    if (isRefused && this.#told[write] !== states.acknowledged) this.#told[write] = states.refused
  }

  /** Looks for every write. `stored`: how often a number is there, and whether only in part. */
  settle(stored: (write: number) => { readonly times: number; readonly torn: boolean }): void {
    for (let write = 0; write < this.writes; write++) {
      const { times, torn } = stored(write)
      const told = this.#told[write]
      if (torn) {
        this.wrong++
        this.problem(`write ${write} was applied in part`)
      }
      if (times > 1) {
        this.doubled++
        this.problem(`write ${write} was applied ${times} times`)
      }
      if (told === states.acknowledged && times === 0) {
        this.lost++
        this.problem(`write ${write} was acknowledged and is not there`)
      }
      if (told === states.refused && times > 0) {
        this.wrong++
        this.problem(`write ${write} is there, and its caller was told that it is not`)
      }
      if (told === states.begun) {
        this.unknown++
        if (times > 0) this.appliedUnknown++
      }
    }
  }
}
