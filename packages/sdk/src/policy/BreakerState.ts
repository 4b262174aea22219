/**
 * The state machine of one key of a breaker: plain and synchronous, with time as an argument.
 *
 * ```
 *            trips                    open time over
 *   closed ---------> open --------------------------> half-open
 *     ^                ^                                   |
 *     |                +-------- one probe fails ----------+
 *     +------------------ enough probes succeed -----------+
 * ```
 *
 * Nothing here waits for a timer: that the open time is over is seen by whoever asks next. A probe holds a lease; one that
 * never comes back gives its place to another when the lease ends, so a hung probe cannot keep a breaker half-open.
 * A result is heard only by the state that admitted its call: late results of an older state change nothing.
 */
import type { Window } from "./BreakerWindow.ts"

export type Signal = "failure" | "ignored" | "success"
export type State = "closed" | "open" | "half-open"
/** `auto`: the state machine decides. The others are an operator's. */
export type Mode = "auto" | "forced-open" | "disabled"

export interface Rules {
  /** Share of failures that trips, in (0, 1]. */
  readonly failureRate: number | undefined
  /** Share of slow calls that trips, in (0, 1]. */
  readonly slowRate: number | undefined
  /** Rates mean nothing below this many calls in the window. */
  readonly minimumCalls: number
  /** This many failures without a success between them trip, whatever the rates. */
  readonly consecutiveFailures: number | undefined
  /** Probes at a time. */
  readonly probes: number
  /** Successful probes that close. */
  readonly successes: number
  /** How long a probe keeps its place. */
  readonly leaseMillis: number
}

/** The permission for one call: 0 or less is the generation of a closed state, more is a probe's lease. */
export type Ticket = number

export const refused: Ticket = NaN

export class Circuit {
  readonly rules: Rules
  readonly window: Window
  state: State = "closed"
  mode: Mode = "auto"
  /** The first instant at which a probe is let through. */
  openUntil = 0
  /** How often in a row it opened without closing: the open time grows with it. */
  openings = 0
  consecutive = 0
  succeeded = 0
  readonly leases = new Map<number, number>()
  private generation = 0
  private nextLease = 1

  /** Why it opened the last time, in words. */
  why = ""

  constructor(rules: Rules, window: Window) {
    this.rules = rules
    this.window = window
  }

  /** Lets a call through, or not. */
  admit(now: number): Ticket {
    if (this.mode !== "auto") return this.mode === "disabled" ? this.generation : refused
    if (this.state === "closed") return this.generation
    if (this.state === "open") {
      if (now < this.openUntil) return refused
      this.become("half-open")
    }
    for (const [lease, until] of this.leases) if (until <= now) this.leases.delete(lease)
    // Probes that are under way count towards closing: more than needed would only add load.
    if (this.leases.size >= Math.min(this.rules.probes, this.rules.successes - this.succeeded)) return refused
    const lease = this.nextLease++
    this.leases.set(lease, now + this.rules.leaseMillis)
    return lease
  }

  /** Hears the end of a call. `true`: it tripped, and `openUntil` has to be set. */
  record(ticket: Ticket, signal: Signal, slow: boolean, now: number): boolean {
    if (this.mode !== "auto") {
      this.leases.delete(ticket)
      return false
    }
    if (ticket > 0) {
      if (!this.leases.delete(ticket) || this.state !== "half-open" || signal === "ignored") return false
      if (signal === "failure" || (slow && this.rules.slowRate !== undefined)) return this.trip("its probe failed")
      if (++this.succeeded >= this.rules.successes) this.close()
      return false
    }
    if (ticket !== this.generation || this.state !== "closed" || signal === "ignored") return false
    const failed = signal === "failure"
    this.window.record(failed, slow, now)
    this.consecutive = failed ? this.consecutive + 1 : 0
    const why = failed || slow ? this.tripped() : undefined
    return why === undefined ? false : this.trip(why)
  }

  /** Milliseconds until a call may be let through. */
  retryAfter(now: number): number {
    if (this.mode === "forced-open") return Infinity
    if (this.state === "open") return Math.max(0, this.openUntil - now)
    let earliest = Infinity
    for (const until of this.leases.values()) earliest = Math.min(earliest, until)
    return earliest === Infinity ? 0 : Math.max(0, earliest - now)
  }

  private tripped(): string | undefined {
    const { consecutiveFailures, failureRate, minimumCalls, slowRate } = this.rules
    if (consecutiveFailures !== undefined && this.consecutive >= consecutiveFailures) {
      return `${this.consecutive} failures in a row`
    }
    const { calls, failures, slow } = this.window.counts
    if (calls < minimumCalls) return undefined
    if (failureRate !== undefined && failures >= failureRate * calls) return `${failures} of ${calls} calls failed`
    return slowRate !== undefined && slow >= slowRate * calls ? `${slow} of ${calls} calls were slow` : undefined
  }

  trip(why: string): true {
    this.why = why
    this.openings++
    this.become("open")
    return true
  }

  close(): void {
    this.openings = 0
    this.become("closed")
  }

  private become(state: State): void {
    this.state = state
    this.generation--
    this.leases.clear()
    this.succeeded = 0
    this.consecutive = 0
    this.window.reset()
  }
}
