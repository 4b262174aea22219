/**
 * One PostgreSQL session: a socket, a backend, a transaction status, prepared statements.
 *
 * The bytes of the protocol are the driver's (`PgProtocol`, `PgAuth`, `PgTypes`); the state machine is written here,
 * because over the driver's `PgConnection` a value that cannot be decoded costs the session, a caller cannot leave
 * before the server lets it, and the SQLSTATE of a fatal error is lost.
 *
 * What a session promises:
 * - a caller that is interrupted leaves in the same tick, whatever the server does; the session is then `busy` until
 *   `drain` has brought it to rest, or has destroyed it;
 * - every wait of the session's own (login, transaction control, drain, reset, validation, close) has a bound;
 * - an error belongs to its statement alone, unless the session itself is lost;
 * - a failure says whether its statement was sent, and whether its outcome is known (`factsOf`).
 *
 * What it does not do: retry (except for a prepared statement the server has forgotten), pool, or choose a server.
 */
import * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Poolable } from "./Poolable.ts"
import * as Cancel from "./session/Cancel.ts"
import { resolve, type SessionConfig } from "./session/Config.ts"
import { connect } from "./session/Connect.ts"
import { connectionError, statementError } from "./session/Facts.ts"
import { listen, type Notification } from "./session/Listen.ts"
import * as Rows from "./session/Rows.ts"
import { everything, undo } from "./session/SessionState.ts"
import { afterSilence } from "./session/Silence.ts"
import { StatementOperation, type StatementOptions, type StatementResult } from "./session/StatementOperation.ts"
import { beginFrame } from "./session/Transaction.ts"
import type { Address } from "./session/Transport.ts"
import type { TransactionStatus, Wire } from "./session/Wire.ts"

export { typeNameOf } from "./session/Columns.ts"
export type { SessionConfig, SslMode, TypeCodec } from "./session/Config.ts"
export { factsOf, type SessionBound, type SessionFacts } from "./session/Facts.ts"
export type { Notification } from "./session/Listen.ts"
export type { StatementOptions, StatementResult } from "./session/StatementOperation.ts"

/**
 * Takes a caller away from a wait before it has ended, by calling back with the error to leave with. Gives what takes that
 * back. So a wait can end on time without a fiber that watches it.
 */
export type Limit<out E> = (leave: (error: E) => void) => () => void

const noParams: ReadonlyArray<unknown> = []
const ownSetting: StatementOptions = { noRows: true, ours: true, operation: "set" }
const readOnlyBegin = /\bread\s+only\b/i
let ids = 0

export class Session implements Poolable {
  readonly id: number = ++ids
  readonly #wire: Wire
  #drains: Array<(ok: boolean) => void> | undefined
  #kept = false

  constructor(wire: Wire) {
    this.#wire = wire
  }

  /** One attempt, bounded by `connectTimeout`. Interrupting it destroys the socket. */
  static connect(config: SessionConfig): Effect.Effect<Session, SqlError> {
    return Effect.suspend(() => connect(resolve(config), (wire) => new Session(wire)))
  }

  get dead(): SqlError | undefined {
    return this.#wire.dead
  }

  onDeath(callback: (cause: SqlError) => void): void {
    this.#wire.onDeath(callback)
  }

  /** The server process behind this session. */
  get processId(): number {
    return this.#wire.started.processId
  }

  /** Where the session really is, after name lookup. */
  get address(): Address {
    return this.#wire.started.channel.address
  }

  get encrypted(): boolean {
    return this.#wire.started.channel.encrypted
  }

  /** What the server reports of its settings: `server_version`, `in_hot_standby`, `default_transaction_read_only`, ... */
  get parameters(): ReadonlyMap<string, string> {
    return this.#wire.parameters
  }

  /** As the server said at its last rest. */
  get status(): TransactionStatus {
    return this.#wire.status
  }

  /** Statements on the wire or about to be. */
  get load(): number {
    return this.#wire.depth + this.#wire.waiting
  }

  /** What a server said of it, or what is set on it, forbids that anybody uses it again. */
  get unfit(): boolean {
    return this.#wire.unfit
  }

  get clean(): boolean {
    const wire = this.#wire
    return (
      wire.dead === undefined &&
      !wire.mustReset &&
      wire.status === "idle" &&
      wire.begin === undefined &&
      this.load === 0
    )
  }

  get busy(): boolean {
    return this.#drains !== undefined || this.#wire.busy
  }

  /**
   * Runs one statement.
   *
   * Interrupting it, or a `limit` that comes, returns at once. `rows` are objects by column name, or arrays with
   * `{ values: true }`.
   */
  query<E = never>(
    sql: string,
    params: ReadonlyArray<unknown> = noParams,
    options?: StatementOptions,
    limit?: Limit<E>
  ): Effect.Effect<StatementResult, SqlError | E> {
    return Effect.callback<StatementResult, SqlError | E>((resume) => {
      const wire = this.#wire
      if (wire.limit !== null || options?.timeout !== undefined) this.#limit(options?.timeout)
      if (wire.guarded !== false || options?.readOnly === true) this.#guard(options?.readOnly === true)
      const operation = new StatementOperation(wire, sql, params, options, (result) => {
        stay?.()
        resume(Result.isSuccess(result) ? Effect.succeed(result.success) : Effect.fail(result.failure))
      })
      const leave = (): void => {
        wire.abandon(operation)
        if (this.#kept) this.#forsake()
      }
      const stay = limit?.((error) => {
        leave()
        resume(Effect.fail(error))
      })
      wire.send(operation)
      return Effect.sync(() => {
        stay?.()
        leave()
      })
    })
  }

  /**
   * Rows in chunks, with backpressure down to the socket. For a session of one's own: what is submitted behind it is
   * answered after its last row, so from then on the rows are read into memory without waiting for their consumer. Leaving it early returns at once; the session is then `busy`.
   */
  stream(
    sql: string,
    params: ReadonlyArray<unknown> = noParams,
    options?: StatementOptions
  ): Stream.Stream<any, SqlError> {
    return Stream.suspend(() => {
      this.#limit(options?.timeout)
      this.#guard(options?.readOnly === true)
      return Rows.stream(this.#wire, sql, params, options, () => {
        if (this.#kept) this.#forsake()
      })
    })
  }

  /**
   * For a transaction one of whose statements was left on the wire: it is cancelled, and whether or not that came in time, the
   * transaction can only be rolled back, all of it or to a savepoint. Its caller was told that it failed.
   */
  #forsake(): void {
    const wire = this.#wire
    if (!wire.busy || wire.dead !== undefined) return
    // No such savepoint: an error of the server fails the transaction, as a cancellation in time would have done.
    const failing = new StatementOperation(wire, "ROLLBACK TO SAVEPOINT sluice_left", noParams, ownSetting, () => {})
    this.drainUnsafe(() => {})
    wire.submit(failing)
  }

  /** The server's limit for the statements to come, changed only where it differs, in the same write as the next statement. */
  #limit(millis: number | undefined): void {
    const wire = this.#wire
    const wanted = millis === undefined ? null : Math.max(1, Math.round(millis))
    if (wire.limit === wanted || wire.config.pooler || wire.status === "failed" || wire.dead !== undefined) return
    wire.limit = wanted
    const value = wanted === null ? "TO DEFAULT" : `= ${wanted}`
    wire.submit(
      new StatementOperation(wire, `SET statement_timeout ${value}`, noParams, ownSetting, (result) => {
        if (Result.isFailure(result)) wire.limit = undefined
      })
    )
  }

  /** Whether the server refuses writes from here on: as `#limit`, and never inside of a transaction, which it would not change. */
  #guard(wanted: boolean): void {
    const wire = this.#wire
    if (wire.guarded === wanted || wire.config.pooler || wire.status !== "idle" || wire.dead !== undefined) return
    wire.guarded = wanted
    const value = wanted ? "= on" : "TO DEFAULT"
    wire.submit(
      new StatementOperation(wire, `SET default_transaction_read_only ${value}`, noParams, ownSetting, (result) => {
        if (Result.isFailure(result)) wire.guarded = undefined
      })
    )
  }

  /** Begins a transaction with the next statement, in the same round trip. */
  begin(statement = "BEGIN"): Effect.Effect<void, SqlError> {
    return Effect.suspend(() => {
      const wire = this.#wire
      if (wire.dead !== undefined) return Effect.fail(wire.dead)
      if (wire.status !== "idle" || wire.begin !== undefined || this.load > 0) {
        return Effect.fail(statementError(undefined, "The session is in use; a transaction cannot begin", "begin"))
      }
      // Inside of the transaction it would come too late.
      if (wire.guarded !== false) this.#guard(false)
      wire.readsOnly = readOnlyBegin.test(statement)
      wire.begin = beginFrame(statement)
      return Effect.void
    })
  }

  /** A lost answer is a failure whose facts say `commit: true`. A COMMIT that the server turned into a ROLLBACK is one, too. */
  readonly commit: Effect.Effect<void, SqlError> = Effect.suspend(() => {
    if (this.#unbegun()) return Effect.void
    // It may run deferred triggers: the limit of the last statement is not its own.
    if (this.#wire.limit !== null) this.#limit(undefined)
    return Effect.flatMap(this.control(["COMMIT"], "commit"), ([result]) =>
      result!.command === "ROLLBACK"
        ? Effect.fail(
            statementError(undefined, "COMMIT rolled back: a statement in the transaction had failed", "commit", {
              sent: true,
              sqlState: "25P02",
              severity: "ERROR"
            })
          )
        : Effect.void
    )
  })

  /**
   * Never fails: a session that cannot be rolled back is destroyed, which rolls back too. Begun at once, also by a fiber
   * that is being interrupted; such a fiber does not wait for the answer.
   */
  readonly rollback: Effect.Effect<void> = Effect.suspend(() => {
    // With a statement of somebody who has left still on the wire, whoever gives the session back drains and resets it.
    if (this.#unbegun() || this.dead !== undefined || this.busy) return Effect.void
    if (this.status === "idle" && this.load === 0) return Effect.void
    return this.#begun(["ROLLBACK"], "rollback")
  })

  savepoint(name: string): Effect.Effect<void, SqlError> {
    return Effect.asVoid(this.control([`SAVEPOINT ${name}`], "savepoint"))
  }

  /** Travels with the next statement; nobody waits for it. */
  releaseSavepoint(name: string): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.#wire.begin === undefined) this.#start([`RELEASE SAVEPOINT ${name}`], "savepoint", () => {})
    })
  }

  /**
   * Never fails, and is begun at once, as `rollback`. A statement that was left on the wire is cancelled first, in the
   * background; what is submitted from here on waits behind both.
   */
  rollbackTo(name: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      // A BEGIN that still waits has no savepoint behind it, and stays due.
      if (this.#wire.begin !== undefined || this.dead !== undefined) return Effect.void
      if (this.busy) this.drainUnsafe(() => {})
      return this.#begun([`ROLLBACK TO SAVEPOINT ${name}`], "rollback")
    })
  }

  #begun(statements: ReadonlyArray<string>, operation: string): Effect.Effect<void> {
    let done = false
    let onDone: (() => void) | undefined
    this.#start(statements, operation, (result) => {
      if (Result.isFailure(result)) this.destroy()
      done = true
      onDone?.()
    })
    const answered = Effect.callback<void>((resume) => {
      if (done) return resume(Effect.void)
      onDone = () => resume(Effect.void)
    })
    return Effect.catchCause(Effect.interruptible(answered), () => Effect.void)
  }

  /** Forgets a BEGIN that never left. */
  #unbegun(): boolean {
    if (this.#wire.begin === undefined) return false
    this.#wire.begin = undefined
    this.#wire.readsOnly = false
    return true
  }

  /**
   * Listens on a channel until the scope closes. The queue fails with the session's death. For a session of one's own,
   * not behind a pooler.
   */
  listen(channel: string): Effect.Effect<Queue.Dequeue<Notification, SqlError>, SqlError, Scope.Scope> {
    return listen(this, this.#wire, channel)
  }

  readonly drain: Effect.Effect<boolean> = Effect.callback<boolean>((resume) => {
    this.drainUnsafe((ok) => resume(Effect.succeed(ok)))
  })

  /** `drain` for callers outside of a fiber. Calls back once, perhaps in this tick. */
  drainUnsafe(onDone: (ok: boolean) => void): void {
    if (this.dead !== undefined) return onDone(false)
    if (this.#drains !== undefined) {
      this.#drains.push(onDone)
      return
    }
    if (!this.#wire.busy) return onDone(true)
    const waiting = [onDone]
    this.#drains = waiting
    Cancel.drain(this.#wire, (ok) => {
      this.#drains = undefined
      for (const callback of waiting) callback(ok)
    })
  }

  readonly reset: Effect.Effect<void, SqlError> = Effect.suspend(() => {
    const wire = this.#wire
    if (wire.dead !== undefined) return Effect.fail(wire.dead)
    wire.begin = undefined
    const statements: Array<string> = wire.status === "idle" && this.load === 0 ? [] : ["ROLLBACK"]
    if (!wire.config.pooler)
      statements.push(...undo(wire.config.reset === "always" ? wire.dirty | everything : wire.dirty & wire.undone))
    if (statements.length === 0) {
      wire.settle()
      return Effect.void
    }
    // One write, one round trip; each in a cycle of its own, because some refuse to run together.
    return Effect.andThen(
      this.control(statements, "reset"),
      Effect.sync(() => {
        wire.settle()
        wire.limit = null
        wire.guarded = undefined
      })
    )
  })

  readonly validate: Effect.Effect<void, SqlError> = Effect.callback<void, SqlError>((resume) => {
    const wire = this.#wire
    const heard = afterSilence(wire.config.validationTimeout, () =>
      wire.die(
        connectionError(undefined, `No sign of life within ${wire.config.validationTimeout} ms`, "validate", {
          bound: "validate"
        })
      )
    )
    const question = new Cancel.SignOfLife(false, (error) => {
      heard()
      resume(error === undefined ? Effect.void : Effect.fail(error))
    })
    wire.submit(question)
    return Effect.sync(() => {
      heard()
      wire.abandon(question)
    })
  })

  /**
   * For a session that several callers use at once: as soon as nothing is on the wire but what was left, it is cancelled
   * and drained without being asked; what is submitted meanwhile waits behind that. A server that is silent for `silence`
   * milliseconds with statements on the wire loses the session.
   */
  share(shared: boolean, silence?: number): void {
    this.#wire.onAlone = shared ? () => this.drainUnsafe(() => {}) : undefined
    this.#wire.silence = (shared ? silence : undefined) ?? this.#wire.config.silence
  }

  /**
   * For a session that one caller keeps for several statements: one that was left is cancelled at once, because its
   * caller's next one waits behind it. In a transaction the server then wants a ROLLBACK, to a savepoint or of it all.
   */
  keep(kept: boolean): void {
    this.#kept = kept
  }

  /** Asks the server to stop whatever this session runs. Its caller gets 57014 with `cancelledBy: "us"`. Bounded, never fails. */
  readonly cancel: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.dead !== undefined || this.#wire.depth === 0) return resume(Effect.void)
    return Effect.sync(Cancel.cancel(this.#wire, () => resume(Effect.void)))
  })

  readonly close: Effect.Effect<void> = Effect.callback<void>((resume) => {
    const wire = this.#wire
    const closed = afterSilence(wire.config.closeTimeout, () => wire.destroySocket())
    wire.retire(connectionError(undefined, "The session is closed", "close"), () => {
      closed()
      resume(Effect.void)
    })
  })

  destroy(): void {
    this.#wire.die(connectionError(undefined, "The session was destroyed", "close"))
  }

  /** Statements without rows, in one write, under a bound of the configuration. Leaving before their answers costs the session. */
  control(
    statements: ReadonlyArray<string>,
    operation: string
  ): Effect.Effect<ReadonlyArray<StatementResult>, SqlError> {
    return Effect.callback<ReadonlyArray<StatementResult>, SqlError>((resume) => {
      const leave = this.#start(statements, operation, (result) =>
        resume(Result.isSuccess(result) ? Effect.succeed(result.success) : Effect.fail(result.failure))
      )
      return Effect.sync(leave)
    })
  }

  /** Submits at once and calls back once; the returned function leaves. */
  #start(
    statements: ReadonlyArray<string>,
    operation: string,
    onDone: (result: Result.Result<ReadonlyArray<StatementResult>, SqlError>) => void
  ): () => void {
    const wire = this.#wire
    // What a transaction's owner waits for may take as long as a statement; what its end leaves behind may not.
    const bound =
      operation === "rollback" || operation === "reset" ? wire.config.controlTimeout : wire.config.commitTimeout
    const results: Array<StatementResult> = []
    let finished = false
    const lose = (why: string): void =>
      wire.die(connectionError(undefined, why, operation, { bound: operation === "reset" ? "reset" : "control" }))
    const heard = afterSilence(bound, () => lose(`${operation} was not answered within ${bound} ms`))
    const finish = (result: Result.Result<ReadonlyArray<StatementResult>, SqlError>): void => {
      if (finished) return
      finished = true
      heard()
      onDone(result)
    }
    for (const sql of statements) {
      wire.submit(
        new StatementOperation(wire, sql, noParams, { noRows: !sql.startsWith("SELECT"), operation }, (result) => {
          if (Result.isFailure(result)) return finish(Result.fail(result.failure))
          results.push(result.success)
          if (results.length === statements.length) finish(Result.succeed(results))
        })
      )
    }
    return () => {
      if (finished) return
      finished = true
      heard()
      lose(`The caller left during ${operation}`)
    }
  }
}
