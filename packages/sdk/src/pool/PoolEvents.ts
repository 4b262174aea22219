/**
 * What a pool tells the world: a snapshot, events, and a listener for metrics.
 */
import type { Holder, LastError, PoolCounts } from "../ReportError.ts"

/** Why a session left the pool. */
export type ClosedReason =
  | "died"
  | "validation-failed"
  | "lifetime"
  | "idle"
  | "evicted"
  | "surplus"
  | "unfit"
  | "refused"
  | "drain-failed"
  | "drain-overflow"
  | "reset-failed"
  | "closing"

export type PoolEvent =
  | { readonly _tag: "SessionOpened"; readonly session: number; readonly connectMillis: number }
  | {
      readonly _tag: "SessionClosed"
      readonly session: number
      readonly reason: ClosedReason
      readonly ageMillis: number
      readonly error?: LastError
    }
  | {
      readonly _tag: "ConnectFailed"
      readonly failures: number
      readonly kind: "transient" | "permanent"
      readonly retryInMillis: number
      readonly error: LastError
    }
  | { readonly _tag: "Down"; readonly error: LastError }
  | { readonly _tag: "Up"; readonly downMillis: number }
  | { readonly _tag: "GenerationMoved"; readonly generation: number; readonly reason: "corpse" | "evicted" }
  | {
      readonly _tag: "AcquireTimedOut"
      readonly lane: string
      readonly reason: string
      readonly waitedMillis: number
      /** Sessions that the caller held itself, if any. */
      readonly heldByCaller?: number
    }
  | { readonly _tag: "Overloaded"; readonly lane: string; readonly waiting: number }
  | { readonly _tag: "DrainStarted"; readonly session: number }
  | { readonly _tag: "LeakSuspected"; readonly session: number; readonly holder: LeakHolder }
  | { readonly _tag: "LeakReturned"; readonly session: number; readonly holder: LeakHolder }
  | { readonly _tag: "Stalled"; readonly lateMillis: number }
  | { readonly _tag: "Suspended" }
  | { readonly _tag: "Resumed" }
  | { readonly _tag: "Resized"; readonly min: number; readonly max: number }
  | { readonly _tag: "Closing" }
  | { readonly _tag: "Closed" }

/** A holder that is thought lost: its span, and the stack of its lease where one was taken. */
export interface LeakHolder extends Holder {
  readonly span?: { readonly traceId: string; readonly spanId: string; readonly name?: string }
  readonly stack?: string
}

/**
 * Called synchronously, for metrics. `onAcquire` and `onRelease` are on the hot path: no work, no throwing.
 * A listener that throws is ignored.
 */
export interface PoolListener {
  readonly onAcquire?: (lane: string, waitMillis: number) => void
  readonly onRelease?: (lane: string, heldMillis: number) => void
  readonly onEvent?: (event: PoolEvent) => void
}

/** What happened since the pool was made. */
export interface PoolCounters {
  acquired: number
  waited: number
  acquireTimeouts: number
  overloaded: number
  unavailable: number
  abandonedWaits: number
  connects: number
  connectFailures: number
  closed: Record<ClosedReason, number>
  drained: number
  resets: number
  validations: number
  leaksSuspected: number
  leaksReturned: number
  stalls: number
}

export const makeCounters = (): PoolCounters => ({
  acquired: 0,
  waited: 0,
  acquireTimeouts: 0,
  overloaded: 0,
  unavailable: 0,
  abandonedWaits: 0,
  connects: 0,
  connectFailures: 0,
  closed: {
    died: 0,
    "validation-failed": 0,
    lifetime: 0,
    idle: 0,
    evicted: 0,
    surplus: 0,
    unfit: 0,
    refused: 0,
    "drain-failed": 0,
    "drain-overflow": 0,
    "reset-failed": 0,
    closing: 0
  },
  drained: 0,
  resets: 0,
  validations: 0,
  leaksSuspected: 0,
  leaksReturned: 0,
  stalls: 0
})

export interface LaneStats {
  readonly leased: number
  readonly waiting: number
  readonly reserved: number
  readonly cap: number
}

/** A pool at one instant. The counts are those of the users' sessions; `control` has the control lane's own. */
export interface PoolStats extends PoolCounts {
  readonly name: string
  readonly state: "open" | "suspended" | "closing" | "closed"
  readonly min: number
  /** Sessions being validated or reset, on behalf of the next caller. They hold a place in `max`. */
  readonly preparing: number
  /** The most sessions the server can ever see from this pool. */
  readonly limit: number
  readonly control: PoolCounts
  readonly lanes: Readonly<Record<string, LaneStats>>
  readonly generation: number
  readonly connectFailures: number
  readonly downSinceMillis?: number
  readonly lastError?: LastError
  readonly longestHolder?: Holder
  readonly counters: PoolCounters
}
