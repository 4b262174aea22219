/**
 * The end of a pool, in three steps and two deadlines: let finish, cancel, destroy.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { DatabaseUnavailable } from "../ReportError.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolCore } from "./PoolCore.ts"

export class Closing<S extends Poolable> {
  private readonly core: PoolCore<S>
  private readonly empty: Deferred.Deferred<void>
  private readonly done: Deferred.Deferred<void>

  constructor(core: PoolCore<S>, empty: Deferred.Deferred<void>, done: Deferred.Deferred<void>) {
    this.core = core
    this.empty = empty
    this.done = done
  }

  run(gracefulMillis: number, hardMillis: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.core.state === "closing" || this.core.state === "closed") return Deferred.await(this.done)
      return Effect.uninterruptible(this.steps(gracefulMillis, hardMillis))
    })
  }

  /** Called after every transition that may have been the last one. */
  changed(): void {
    const { core } = this
    if (core.state !== "closing") return
    this.retireIdle()
    if (core.main.waiting + core.control.waiting === 0) core.connector.cancelAll()
    if (core.sessions.size === 0 && core.connector.attempts.size === 0) Deferred.doneUnsafe(this.empty, Effect.void)
    // A caller that leaves its queue does nothing else.
    core.flush()
  }

  private steps(gracefulMillis: number, hardMillis: number): Effect.Effect<void> {
    const { core, empty } = this
    const emptyWithin = (millis: number) =>
      Effect.timeoutOrElse(Deferred.await(empty), { duration: millis, orElse: () => Effect.void })
    return Effect.gen({ self: this }, function* () {
      core.state = "closing"
      core.emit({ _tag: "Closing" })
      // Those who waited while the pool was suspended.
      core.pumpAll()
      core.onChange("ended")
      core.flush()
      yield* emptyWithin(gracefulMillis)
      this.cancel()
      core.flush()
      yield* emptyWithin(hardMillis)
      this.destroy()
      core.flush()
      yield* Deferred.succeed(this.done, undefined)
    })
  }

  private retireIdle(): void {
    const { core } = this
    for (const home of [core.control, core.main]) {
      if (home.waiting === 0) for (const entry of home.idle.slice()) core.care.retire(entry, "closing")
    }
  }

  /** Waiters are told, and statements are cancelled: their callers get the server's answer and give the session back. */
  private cancel(): void {
    const { core } = this
    for (const home of [core.control, core.main]) {
      core.waiting.failAll(home, () => new DatabaseUnavailable({ pool: core.options.name, reason: "closed" }))
    }
    for (const entry of core.sessions) {
      if (entry.state === "leased") core.outbox.defer(() => void core.outbox.fork(entry.session.cancel))
    }
    core.onChange("ended")
  }

  private destroy(): void {
    const { core } = this
    for (const entry of core.sessions) core.care.discard(entry, "closing")
    core.connector.cancelAll()
    core.state = "closed"
    core.emit({ _tag: "Closed" })
    core.alarm.stop()
    core.outbox.interruptFibers()
  }
}
