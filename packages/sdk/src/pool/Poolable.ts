/**
 * What the pool asks of a session, and nothing more.
 *
 * `Session` is the one implementation that talks to a server; the pool's own tests implement it in memory, so that the
 * pool is proved under a virtual clock. Everything here is either synchronous or bounded by the session's own timers.
 */
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"

export interface Poolable {
  /** Unique in the process. */
  readonly id: number
  /** Why the session can no longer be used, set in the same tick as the socket's end or a fatal server message. */
  readonly dead: SqlError | undefined
  /** Calls back once, synchronously, when the session dies. At once if it is dead already. */
  onDeath(callback: (cause: SqlError) => void): void
  /** It must not be lent again, whatever it says of its state. */
  readonly unfit: boolean
  /** No transaction open, no setting changed, nothing on the wire: may be handed on as it is. */
  readonly clean: boolean
  /** A statement is on the wire whose caller has left. */
  readonly busy: boolean
  /** Asks the server to stop what runs for a caller who is still there, and gets its answer. Bounded, never fails. */
  readonly cancel: Effect.Effect<void>
  /** Cancels what was left on the wire and waits for the server's confirmation. `true`: the session is at rest and usable. Bounded, never fails. */
  readonly drain: Effect.Effect<boolean>
  /** Brings a session that is not `clean` back to its first state. Bounded. */
  readonly reset: Effect.Effect<void, SqlError>
  /** Asks the server for a sign of life. Bounded by the session's validation timeout. */
  readonly validate: Effect.Effect<void, SqlError>
  /** Says goodbye, then destroys the socket under a timer of its own. Bounded, never fails. */
  readonly close: Effect.Effect<void>
  /** Destroys the socket now. */
  destroy(): void
}
