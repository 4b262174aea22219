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
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import type { Poolable } from "./Poolable.ts"
import * as Cancel from "./session/Cancel.ts"
import { type ResolvedConfig, resolve, type SessionConfig } from "./session/Config.ts"
import { authenticationError, connectionError, factsOf } from "./session/Facts.ts"
import { undo } from "./session/SessionState.ts"
import * as Startup from "./session/Startup.ts"
import { StatementOperation, type StatementOptions, type StatementResult } from "./session/StatementOperation.ts"
import { type Address, attemptsOf, open, type Security } from "./session/Transport.ts"
import { type TransactionStatus, Wire } from "./session/Wire.ts"

export type { SessionConfig, SslMode, TypeCodec } from "./session/Config.ts"
export { factsOf, type SessionBound, type SessionFacts } from "./session/Facts.ts"
export type { StatementOptions, StatementResult } from "./session/StatementOperation.ts"

const noParams: ReadonlyArray<unknown> = []
let ids = 0

export class Session implements Poolable {
  readonly id: number = ++ids
  readonly #wire: Wire
  #drains: Array<(ok: boolean) => void> | undefined

  constructor(wire: Wire) {
    this.#wire = wire
  }

  /** One attempt, bounded by `connectTimeout`. Interrupting it destroys the socket. */
  static connect(config: SessionConfig): Effect.Effect<Session, SqlError> {
    return Effect.suspend(() => connect(resolve(config)))
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

  get clean(): boolean {
    const wire = this.#wire
    return (
      wire.dead === undefined &&
      wire.dirty === 0 &&
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
   * Interrupting it returns at once. `rows` are objects by column name, or arrays with `{ values: true }`.
   */
  query(
    sql: string,
    params: ReadonlyArray<unknown> = noParams,
    options?: StatementOptions
  ): Effect.Effect<StatementResult, SqlError> {
    return Effect.callback<StatementResult, SqlError>((resume) => {
      const wire = this.#wire
      const operation = new StatementOperation(wire, sql, params, options, (result) => {
        resume(Result.isSuccess(result) ? Effect.succeed(result.success) : Effect.fail(result.failure))
      })
      wire.submit(operation)
      return Effect.sync(() => wire.abandon(operation))
    })
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
    const statements: Array<string> = wire.status === "idle" ? [] : ["ROLLBACK"]
    if (!wire.config.pooler) statements.push(...undo(wire.dirty))
    if (statements.length === 0) {
      wire.dirty = 0
      return Effect.void
    }
    // One write, one round trip; each in a cycle of its own, because some refuse to run together.
    return Effect.andThen(
      this.#control(statements, "reset"),
      Effect.sync(() => {
        wire.dirty = 0
        wire.limit = null
      })
    )
  })

  readonly validate: Effect.Effect<void, SqlError> = Effect.callback<void, SqlError>((resume) => {
    const wire = this.#wire
    const limit = setTimeout(
      () =>
        wire.die(
          connectionError(undefined, `No sign of life within ${wire.config.validationTimeout} ms`, "validate", {
            bound: "validate"
          })
        ),
      wire.config.validationTimeout
    )
    const question = new Cancel.SignOfLife(false, (error) => {
      clearTimeout(limit)
      resume(error === undefined ? Effect.void : Effect.fail(error))
    })
    wire.submit(question)
    return Effect.sync(() => {
      clearTimeout(limit)
      wire.abandon(question)
    })
  })

  /** Asks the server to stop whatever this session runs. Its caller gets 57014 with `cancelledBy: "us"`. Bounded, never fails. */
  readonly cancel: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.dead !== undefined || this.#wire.depth === 0) return resume(Effect.void)
    return Effect.sync(Cancel.cancel(this.#wire, () => resume(Effect.void)))
  })

  readonly close: Effect.Effect<void> = Effect.callback<void>((resume) => {
    const wire = this.#wire
    const limit = setTimeout(() => wire.destroySocket(), wire.config.closeTimeout)
    wire.retire(connectionError(undefined, "The session is closed", "close"), () => {
      clearTimeout(limit)
      resume(Effect.void)
    })
  })

  destroy(): void {
    this.#wire.die(connectionError(undefined, "The session was destroyed", "close"))
  }

  /** Statements without rows, in one write, under one bound. Leaving before their answers costs the session. */
  #control(
    statements: ReadonlyArray<string>,
    operation: string
  ): Effect.Effect<ReadonlyArray<StatementResult>, SqlError> {
    return Effect.callback<ReadonlyArray<StatementResult>, SqlError>((resume) => {
      const wire = this.#wire
      const bound = wire.config.controlTimeout
      const results: Array<StatementResult> = []
      let finished = false
      const lose = (why: string): void =>
        wire.die(connectionError(undefined, why, operation, { bound: operation === "reset" ? "reset" : "control" }))
      const limit = setTimeout(() => lose(`${operation} was not answered within ${bound} ms`), bound)
      const finish = (exit: Effect.Effect<ReadonlyArray<StatementResult>, SqlError>): void => {
        if (finished) return
        finished = true
        clearTimeout(limit)
        resume(exit)
      }
      for (const sql of statements) {
        wire.submit(
          new StatementOperation(wire, sql, noParams, { noRows: !sql.startsWith("SELECT"), operation }, (result) => {
            if (Result.isFailure(result)) return finish(Effect.fail(result.failure))
            results.push(result.success)
            if (results.length === statements.length) finish(Effect.succeed(results))
          })
        )
      }
      return Effect.sync(() => {
        finished = true
        clearTimeout(limit)
        lose(`The caller left during ${operation}`)
      })
    })
  }
}

const connectTimedOut = (config: ResolvedConfig): SqlError =>
  connectionError(undefined, `No session within ${config.connectTimeout} ms`, "connect", { bound: "connect" })

/** Bounds what a password provider takes. In real time: it is about a real socket, whatever clock the program runs under. */
const passwordOf = (config: ResolvedConfig): Effect.Effect<string | undefined, SqlError> => {
  const { password } = config
  if (password === undefined) return Effect.succeed(undefined)
  if (!Effect.isEffect(password)) return Effect.succeed(Redacted.value(password))
  return Effect.raceFirst(
    Effect.catchCause(Effect.map(password, Redacted.value), () =>
      // The cause may hold what the provider wanted to keep: it stays out.
      Effect.fail(authenticationError(undefined, "The password could not be obtained"))
    ),
    Effect.callback<never, SqlError>((resume) => {
      const limit = setTimeout(() => resume(Effect.fail(connectTimedOut(config))), config.connectTimeout)
      return Effect.sync(() => clearTimeout(limit))
    })
  )
}

const connect = (config: ResolvedConfig): Effect.Effect<Session, SqlError> => {
  const deadline = performance.now() + config.connectTimeout
  return Effect.flatMap(passwordOf(config), (password) => {
    const [first, second] = attemptsOf(config.sslmode)
    const once = attempt(config, password, first!, deadline)
    if (second === undefined) return Effect.mapError(once, (failure) => failure.error)
    return Effect.catch(once, (failure) =>
      failure.tryOther
        ? Effect.mapError(attempt(config, password, second, deadline), (other) => other.error)
        : Effect.fail(failure.error)
    )
  })
}

interface AttemptFailure {
  readonly error: SqlError
  /** The server was there and did not want this kind of channel. */
  readonly tryOther: boolean
}

/** One callback and no fiber of its own, so that no session can be lost between its making and its receiver. */
const attempt = (
  config: ResolvedConfig,
  password: string | undefined,
  security: Security,
  deadline: number
): Effect.Effect<Session, AttemptFailure> =>
  Effect.callback<Session, AttemptFailure>((resume) => {
    let giveUp: () => void = () => {}
    const finish = (exit: Effect.Effect<Session, AttemptFailure>): void => {
      clearTimeout(limit)
      resume(exit)
    }
    const limit = setTimeout(
      () => {
        giveUp()
        finish(Effect.fail({ error: connectTimedOut(config), tryOther: false }))
      },
      Math.max(1, deadline - performance.now())
    )
    giveUp = open(config, security, undefined, (channel) => {
      if (Result.isFailure(channel)) {
        const { error, negotiation } = channel.failure
        return finish(Effect.fail({ error, tryOther: negotiation }))
      }
      giveUp = Startup.start(config, channel.success, password, (started) => {
        if (Result.isFailure(started)) {
          const error = started.failure
          return finish(Effect.fail({ error, tryOther: factsOf(error)?.sqlState === "28000" }))
        }
        // In the tick of the last message, so that the wire listens before the next one arrives.
        finish(Effect.succeed(new Session(new Wire(config, started.success))))
      })
    })
    return Effect.sync(() => {
      clearTimeout(limit)
      giveUp()
    })
  })
