/**
 * The pool's record of one session, and the compartment that it lives in.
 *
 * A compartment is a number of places and the sessions that fill them: one for users, one for the control lane.
 */
import type { Lane } from "./Lanes.ts"
import type { Poolable } from "./Poolable.ts"
import type { Ticket } from "./Waiters.ts"

/**
 * - `idle`: may be handed out
 * - `leased`: in a caller's hands
 * - `preparing`: being validated or reset; holds its place
 * - `away`: draining or closing; holds a place only beyond the drain budget
 * - `gone`: no longer counted
 */
export type EntryState = "idle" | "leased" | "preparing" | "away" | "gone"

export class Entry<S extends Poolable> {
  readonly session: S
  readonly home: Compartment<S>
  readonly openedAt: number
  /** Not used beyond this: `maxLifetime` less the jitter. */
  readonly expiresAt: number
  state: EntryState = "gone"
  /** The generation in which the session last proved alive. */
  generation: number
  /** Sessions opened before the pool's eviction mark are closed. */
  readonly epoch: number
  ticket: Ticket<S> | undefined = undefined
  leasedAt = 0
  idleSince = 0
  /** When the server last gave a sign of life, as far as the pool knows. */
  aliveAt = 0
  uses = 0
  /** Who had it last. */
  holder = ""
  leakReported = false
  stack: string | undefined = undefined
  span: { readonly traceId: string; readonly spanId: string; readonly name?: string } | undefined = undefined

  constructor(
    session: S,
    home: Compartment<S>,
    openedAt: number,
    expiresAt: number,
    generation: number,
    epoch: number
  ) {
    this.session = session
    this.home = home
    this.openedAt = openedAt
    this.expiresAt = expiresAt
    this.generation = generation
    this.epoch = epoch
    this.aliveAt = openedAt
    this.idleSince = openedAt
  }
}

export class Compartment<S extends Poolable> {
  min: number
  max: number
  readonly drainBudget: number
  readonly lanes: Array<Lane<S>> = []
  /** Last in, first out: what is not needed stays at the bottom and grows old. */
  readonly idle: Array<Entry<S>> = []
  leased = 0
  preparing = 0
  connecting = 0
  away = 0
  waiting = 0
  /** Places that are kept for lanes that do not use their reserve. */
  shortfall = 0

  constructor(min: number, max: number, drainBudget: number) {
    this.min = min
    this.max = max
    this.drainBudget = drainBudget
  }

  /** The idle session that was used last. (An index of -1 is no element but a name, and slow to miss.) */
  get freshest(): Entry<S> | undefined {
    const { idle } = this
    return idle.length === 0 ? undefined : idle[idle.length - 1]
  }

  /** Places that sessions at rest may not use, because too many others are draining. */
  get overflow(): number {
    return this.away > this.drainBudget ? this.away - this.drainBudget : 0
  }

  /** Sessions that serve or may serve callers. */
  get live(): number {
    return this.idle.length + this.leased + this.preparing
  }

  /** Places without a session; negative after the pool was made smaller. */
  get free(): number {
    return this.max - this.live - this.connecting - this.overflow
  }

  enter(entry: Entry<S>, state: EntryState): void {
    switch (entry.state) {
      case "idle":
        this.removeIdle(entry)
        break
      case "leased":
        this.leased--
        break
      case "preparing":
        this.preparing--
        break
      case "away":
        this.away--
        break
    }
    entry.state = state
    switch (state) {
      case "idle":
        this.idle.push(entry)
        break
      case "leased":
        this.leased++
        break
      case "preparing":
        this.preparing++
        break
      case "away":
        this.away++
        break
    }
  }

  private removeIdle(entry: Entry<S>): void {
    const idle = this.idle
    if (this.freshest === entry) idle.pop()
    else idle.splice(idle.indexOf(entry), 1)
  }
}
