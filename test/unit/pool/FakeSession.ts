/**
 * A session in memory and the server it believes to talk to. Time is the Clock's, so a test may make everything slow.
 */
import * as Effect from "effect/Effect"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { Poolable } from "../../../packages/sdk/src/pool/Poolable.ts"

export const lost = (message: string, code?: string): SqlError =>
  new SqlError({
    reason: new ConnectionError({ message, cause: code === undefined ? new Error(message) : { code } })
  })

export class FakeServer {
  /** Every session that was ever opened. */
  readonly sessions: Array<FakeSession> = []
  connectMillis = 0
  validateMillis = 0
  validateTimeoutMillis = 1_000
  drainMillis = 5
  drainTimeoutMillis = 2_000
  resetMillis = 1
  closeMillis = 0
  /** Set: connects fail with it. */
  down: SqlError | undefined
  /** Connects are never answered; sessions that exist do not answer either. */
  blackHole = false
  connectTimeoutMillis = 5_000
  connectAttempts = 0
  connecting = 0
  maxConnecting = 0
  attemptTimes: Array<number> = []
  private nextId = 1

  get open(): ReadonlyArray<FakeSession> {
    return this.sessions.filter((session) => !session.closed)
  }

  /** Sockets, those being opened included. */
  get sockets(): number {
    return this.open.length + this.connecting
  }

  readonly connect: Effect.Effect<FakeSession, SqlError> = Effect.suspend(() => {
    this.connectAttempts++
    this.connecting++
    this.maxConnecting = Math.max(this.maxConnecting, this.connecting)
    return Effect.ensuring(
      Effect.flatMap(
        Effect.clockWith((clock) => Effect.sync(() => this.attemptTimes.push(clock.currentTimeMillisUnsafe()))),
        () => this.answer
      ),
      Effect.sync(() => this.connecting--)
    )
  })

  private readonly answer: Effect.Effect<FakeSession, SqlError> = Effect.suspend(() => {
    if (this.blackHole) {
      return Effect.andThen(Effect.sleep(this.connectTimeoutMillis), Effect.fail(lost("connect timed out")))
    }
    const finish = Effect.suspend(() =>
      this.down === undefined ? Effect.sync(() => this.accept()) : Effect.fail(this.down)
    )
    return this.connectMillis === 0 ? finish : Effect.andThen(Effect.sleep(this.connectMillis), finish)
  })

  accept(): FakeSession {
    const session = new FakeSession(this, this.nextId++)
    this.sessions.push(session)
    return session
  }

  /** All sockets end at once. */
  restart(): void {
    for (const session of this.open) session.die(lost("terminating connection", "57P01"))
  }
}

export class FakeSession implements Poolable {
  readonly id: number
  readonly server: FakeServer
  dead: SqlError | undefined
  clean = true
  unfit = false
  busy = false
  closed = false
  /** The peer has gone without a word. */
  silent = false
  /** Set: draining takes this long and then succeeds or not. */
  drains = true
  resets = true
  holder: unknown
  validations = 0
  drainCalls = 0
  cancelCalls = 0
  resetCalls = 0
  uses = 0
  private callbacks: Array<(cause: SqlError) => void> = []

  constructor(server: FakeServer, id: number) {
    this.server = server
    this.id = id
  }

  onDeath(callback: (cause: SqlError) => void): void {
    if (this.dead !== undefined) callback(this.dead)
    else this.callbacks.push(callback)
  }

  die(cause: SqlError): void {
    if (this.dead !== undefined) return
    this.dead = cause
    this.closed = true
    const callbacks = this.callbacks
    this.callbacks = []
    for (const callback of callbacks) callback(cause)
  }

  private sleep(millis: number): Effect.Effect<void> {
    return millis === 0 ? Effect.void : Effect.sleep(millis)
  }

  private get reaches(): boolean {
    return !this.silent && !this.server.blackHole
  }

  readonly validate: Effect.Effect<void, SqlError> = Effect.suspend(() => {
    this.validations++
    if (this.dead !== undefined) return Effect.fail(this.dead)
    if (!this.reaches) {
      return Effect.andThen(Effect.sleep(this.server.validateTimeoutMillis), Effect.fail(lost("no sign of life")))
    }
    return Effect.andThen(
      this.sleep(this.server.validateMillis),
      Effect.suspend(() => (this.dead === undefined ? Effect.void : Effect.fail(this.dead)))
    )
  })

  readonly cancel: Effect.Effect<void> = Effect.sync(() => void this.cancelCalls++)

  readonly drain: Effect.Effect<boolean> = Effect.suspend(() => {
    this.drainCalls++
    if (this.dead !== undefined) return Effect.succeed(false)
    if (!this.reaches) return Effect.as(Effect.sleep(this.server.drainTimeoutMillis), false)
    return Effect.map(this.sleep(this.server.drainMillis), () => {
      if (this.dead !== undefined || !this.drains) return false
      this.busy = false
      return true
    })
  })

  readonly reset: Effect.Effect<void, SqlError> = Effect.suspend(() => {
    this.resetCalls++
    return Effect.flatMap(this.sleep(this.server.resetMillis), () => {
      if (this.dead !== undefined) return Effect.fail(this.dead)
      if (!this.resets || !this.reaches) return Effect.fail(lost("reset failed"))
      this.clean = true
      return Effect.void
    })
  })

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(this.sleep(this.server.closeMillis), () => this.destroy())
  )

  destroy(): void {
    this.closed = true
    this.die(lost("closed here"))
  }

  /** A statement in a transaction: takes time, and leaves the session busy and unclean when its caller leaves. */
  query(millis: number): Effect.Effect<number> {
    return Effect.suspend(() => {
      this.uses++
      this.busy = true
      this.clean = false
      return Effect.map(this.sleep(millis), () => {
        this.busy = false
        this.clean = true
        return this.id
      })
    })
  }
}
