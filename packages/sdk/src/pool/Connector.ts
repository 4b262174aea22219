/**
 * Opens sessions, for one node, for nobody in particular.
 *
 * Callers wait on the pool, never on a connect: whatever becomes free first serves them. At most `connectConcurrency`
 * attempts run at a time, and one while the node is failing. All share one backoff. A connect begun before a session was
 * found dead is given up, and one that takes long does not keep a fresh one from being tried.
 *
 * **When callers are refused at once.** A node is *failing* from the first failed connect to the next one that succeeds. As
 * long as any session is left, callers wait as usual. With none left,
 * - a permanent failure (wrong password, no such database) is told to everybody who waits, and to all who come until the
 *   next attempt, a second later at first and up to `permanentPause`;
 * - a caller whose deadline lies before the next attempt is refused, for nothing can serve it;
 * - after `failFastAfter` every new caller is refused until an attempt succeeds. Those who came before wait on, up to their
 *   deadlines: a short outage costs them time, not an error. They are told, too, where the node has never answered: then
 *   its address is wrong. When an attempt is due and none runs, the next caller is let in to cause it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Semaphore from "effect/Semaphore"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { remember } from "../internal/originals.ts"
import { DatabaseUnavailable, type LastError } from "../ReportError.ts"
import type { Backoff } from "./Backoff.ts"
import type { Compartment } from "./Entry.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolOptions, Settings } from "./PoolOptions.ts"

export interface Attempt<S extends Poolable> {
  readonly home: Compartment<S>
  readonly startedAt: number
  readonly generation: number
  readonly epoch: number
  /** `running` holds a place; `overdue` and `cancelled` are counted with the draining. */
  state: "running" | "overdue" | "cancelled"
  session: S | undefined
  fiber: Fiber.Fiber<void> | undefined
}

/** What the connector needs of the pool around it. */
export interface ConnectorPort<S extends Poolable> {
  readonly now: () => number
  readonly generation: () => number
  readonly epoch: () => number
  readonly defer: (action: () => void) => void
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly wakeAt: (at: number) => void
  readonly connected: (attempt: Attempt<S>, session: S) => void
  readonly failed: (kind: "transient" | "permanent", error: SqlError) => void
  /** A given-up attempt has ended: its place is free. */
  readonly ended: () => void
}

const sqlErrorOf = (cause: Cause.Cause<SqlError>): SqlError => {
  const failure = cause.reasons.find(Cause.isFailReason)
  return failure === undefined
    ? new SqlError({ reason: new UnknownError({ cause: Cause.squash(cause), message: "connect died" }) })
    : failure.error
}

const sqlStateOf = (error: SqlError): string | undefined => {
  const code = (error.reason.cause as { readonly code?: unknown } | undefined)?.code
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined
}

export const describeSqlError = (error: SqlError): LastError => {
  const sqlState = sqlStateOf(error)
  return {
    tag: error.reason._tag,
    // The server's message may hold anything: who knows better gives `describeError`.
    message: error.reason._tag,
    ...(sqlState === undefined ? {} : { sqlState })
  }
}

const firstPermanentPause = 1_000

export class Connector<S extends Poolable> {
  readonly attempts = new Set<Attempt<S>>()
  /** In a row, the last one included. */
  private permanentFailures = 0
  failures = 0
  downSince: number | undefined
  nextAttemptAt = 0
  /** Sessions died right after their start: connecting is no proof that the node is back, one that lives on is. */
  unproven = false
  lastError: LastError | undefined
  reason: DatabaseUnavailable["reason"] = "unreachable"
  private running = 0
  private overdue = 0
  private succeededAt = -Infinity
  private passwordEpoch = 0
  private readonly refreshing = Semaphore.makeUnsafe(1)
  private readonly options: PoolOptions<S>
  private readonly settings: Settings
  private readonly backoff: Backoff
  private readonly port: ConnectorPort<S>

  constructor(options: PoolOptions<S>, settings: Settings, backoff: Backoff, port: ConnectorPort<S>) {
    this.options = options
    this.settings = settings
    this.backoff = backoff
    this.port = port
  }

  /** Begins an attempt, if one may begin now. Else sees to it that the pool wakes up when one may. */
  start(home: Compartment<S>, now: number): boolean {
    if (now < this.nextAttemptAt) {
      this.port.wakeAt(this.nextAttemptAt)
      return false
    }
    if (this.running >= (this.failures > 0 ? 1 : this.settings.connectConcurrency)) return false
    const attempt: Attempt<S> = {
      home,
      startedAt: now,
      generation: this.port.generation(),
      epoch: this.port.epoch(),
      state: "running",
      session: undefined,
      fiber: undefined
    }
    this.attempts.add(attempt)
    this.running++
    home.connecting++
    this.port.defer(() => {
      if (attempt.state === "cancelled") {
        this.end(attempt)
        return this.port.ended()
      }
      attempt.fiber = this.port.fork(this.run(attempt))
    })
    return true
  }

  /** For those who wait: attempts that have run for longer than `connectPatience` make room for fresh ones. They may still succeed. */
  giveWay(home: Compartment<S>, now: number): void {
    for (const attempt of this.attempts) {
      if (attempt.state !== "running" || attempt.home !== home) continue
      const patience = attempt.startedAt + this.settings.connectPatience
      if (patience > now) this.port.wakeAt(patience)
      else if (this.overdue < this.settings.connectConcurrency && home.away < home.drainBudget) {
        this.leavePlace(attempt, "overdue")
      }
    }
  }

  /** Gives up the newest attempt of `home`, because a session came back that nobody counted on. */
  cancelNewest(home: Compartment<S>): boolean {
    let newest: Attempt<S> | undefined
    for (const attempt of this.attempts) if (attempt.home === home && attempt.state === "running") newest = attempt
    if (newest !== undefined) this.cancel(newest)
    return newest !== undefined
  }

  /** Gives up what was begun before the pool knew what it knows now. */
  cancelAll(): void {
    for (const attempt of this.attempts) this.cancel(attempt)
  }

  private cancel(attempt: Attempt<S>): void {
    if (attempt.state === "cancelled") return
    this.leavePlace(attempt, "cancelled")
    this.port.defer(() => attempt.fiber?.interruptUnsafe())
  }

  private leavePlace(attempt: Attempt<S>, state: "overdue" | "cancelled"): void {
    if (attempt.state === "running") {
      this.running--
      attempt.home.connecting--
      attempt.home.away++
    } else this.overdue--
    attempt.state = state
    if (state === "overdue") this.overdue++
  }

  /** Takes an ended attempt out of all counts. */
  private end(attempt: Attempt<S>): void {
    if (!this.attempts.delete(attempt)) return
    if (attempt.state === "running") {
      this.running--
      attempt.home.connecting--
    } else {
      attempt.home.away--
      if (attempt.state === "overdue") this.overdue--
    }
  }

  private run(attempt: Attempt<S>): Effect.Effect<void> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.exit(restore(this.open(attempt))), (exit) => {
        if (attempt.state === "cancelled") {
          attempt.session?.destroy()
          this.end(attempt)
          this.port.ended()
          return Effect.void
        }
        if (Exit.isFailure(exit)) {
          attempt.session?.destroy()
          // Also one that interrupted itself: the pool interrupts only what it has cancelled.
          return this.fail(attempt, sqlErrorOf(exit.cause))
        }
        const dead = exit.value.dead
        if (dead !== undefined) return this.fail(attempt, dead)
        this.end(attempt)
        this.port.connected(attempt, exit.value)
        return Effect.void
      })
    )
  }

  private fail(attempt: Attempt<S>, error: SqlError): Effect.Effect<void> {
    return Effect.map(this.backoff.next(this.port.now(), error), (pause) => {
      // What a fresher attempt found out counts for more.
      const stale = attempt.state === "cancelled" || attempt.startedAt < this.succeededAt
      this.end(attempt)
      if (stale) return this.port.ended()
      this.noteFailure(error, attempt.startedAt, pause)
    })
  }

  /** A session that dies before it ever served anybody is a failed connect too: without this, a loop without a pause. */
  stillborn(error: SqlError, startedAt: number): void {
    this.unproven = true
    this.nextAttemptAt = Math.max(this.nextAttemptAt, this.port.now() + 1)
    this.port.defer(() => {
      this.port.fork(
        Effect.map(this.backoff.next(this.port.now(), error), (pause) => this.noteFailure(error, startedAt, pause))
      )
    })
  }

  /** Doubles from a second: what was put right is found soon, and an account is not locked out by one that was not. */
  private permanentPause(): number {
    return Math.min(this.settings.permanentPause, firstPermanentPause * 2 ** (this.permanentFailures - 1))
  }

  private noteFailure(error: SqlError, startedAt: number, pause: number): void {
    const kind = this.options.classifyConnect(error)
    const now = this.port.now()
    this.failures++
    this.downSince ??= startedAt
    this.permanentFailures = kind === "transient" ? 0 : this.permanentFailures + 1
    this.nextAttemptAt = now + (kind === "transient" ? pause : this.permanentPause())
    this.lastError = (this.options.describeError ?? describeSqlError)(error)
    this.reason =
      kind === "password" || kind === "login"
        ? "authentication"
        : kind === "permanent"
          ? "configuration"
          : this.lastError.sqlState === undefined
            ? "unreachable"
            : "refused"
    this.port.failed(kind === "transient" ? "transient" : "permanent", error)
  }

  /** The node answers. Gives the milliseconds that it was down. */
  succeeded(now: number): number | undefined {
    const downMillis = this.downSince === undefined ? undefined : now - this.downSince
    this.succeededAt = now
    this.unproven = false
    this.failures = 0
    this.permanentFailures = 0
    this.downSince = undefined
    this.nextAttemptAt = 0
    this.backoff.reset()
    return downMillis
  }

  /** Forgets the pause: something has changed (a resume, a rotation), so trying again is worth it. */
  hurry(): void {
    this.nextAttemptAt = 0
  }

  /** Whether a caller with this deadline is refused at once. The rule is at the top of this file. */
  refuses(now: number, deadline: number): boolean {
    if (this.downSince === undefined) return false
    const pausing = now < this.nextAttemptAt
    if (!pausing && this.attempts.size === 0) return false
    if (this.permanentFailures > 0 || (pausing && deadline <= this.nextAttemptAt)) return true
    return now - this.downSince >= this.settings.failFastAfter
  }

  /** Whether those who wait are told that an attempt has failed. */
  tells(kind: "transient" | "permanent", now: number): boolean {
    if (kind === "permanent") return true
    // A server that is starting answers, by an error.
    if (this.succeededAt !== -Infinity || this.reason !== "unreachable") return false
    return this.downSince !== undefined && now - this.downSince >= this.settings.failFastAfter
  }

  unavailable(now: number): DatabaseUnavailable {
    const told = new DatabaseUnavailable({
      pool: this.options.name,
      reason: this.reason,
      retryAfterMillis: Math.max(this.nextAttemptAt - now, 0),
      ...(this.lastError === undefined ? {} : { lastError: this.lastError })
    })
    return remember(told, this.lastError)
  }

  private open(attempt: Attempt<S>): Effect.Effect<S, SqlError> {
    const { classifyConnect, connect, hooks, refreshPassword } = this.options
    // The session is noted before anything can interrupt, so that a cancelled attempt leaves no socket behind.
    const once = Effect.map(connect, (session) => (attempt.session = session))
    const opened =
      refreshPassword === undefined
        ? once
        : Effect.suspend(() => {
            const epoch = this.passwordEpoch
            return Effect.catch(once, (error) =>
              classifyConnect(error) === "password"
                ? Effect.andThen(this.refresh(epoch, refreshPassword), once)
                : Effect.fail(error)
            )
          })
    const afterConnect = hooks?.afterConnect
    return afterConnect === undefined
      ? opened
      : Effect.flatMap(opened, (session) => Effect.as(afterConnect(session), session))
  }

  /** Attempts that failed with the same password refresh it once between them. */
  private refresh(epoch: number, refreshPassword: Effect.Effect<void, SqlError>): Effect.Effect<void, SqlError> {
    return this.refreshing.withPermits(1)(
      Effect.suspend(() =>
        this.passwordEpoch === epoch
          ? Effect.map(refreshPassword, () => {
              this.passwordEpoch++
            })
          : Effect.void
      )
    )
  }
}
