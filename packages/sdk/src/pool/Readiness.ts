/**
 * Waits for a pool to be filled: at boot, and for those who ask later.
 */
import * as Effect from "effect/Effect"
import { DatabaseUnavailable } from "../ReportError.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolCore } from "./PoolCore.ts"

interface Watcher {
  readonly sessions: number
  readonly firstAnswer: boolean
  readonly resume: (effect: Effect.Effect<void, DatabaseUnavailable>) => void
}

export class Readiness<S extends Poolable> {
  private readonly core: PoolCore<S>
  private readonly watchers = new Set<Watcher>()

  constructor(core: PoolCore<S>) {
    this.core = core
  }

  /** Until so many sessions are there, or a connect fails: then with its error. */
  firstAnswer(sessions: number): Effect.Effect<void, DatabaseUnavailable> {
    return this.watch(sessions, true)
  }

  /** Until so many sessions are there, through whatever fails meanwhile. */
  within(sessions: number, timeout: number): Effect.Effect<void, DatabaseUnavailable> {
    return Effect.timeoutOrElse(this.watch(sessions, false), {
      duration: timeout,
      orElse: () => Effect.suspend(() => Effect.fail(this.core.connector.unavailable(this.core.now())))
    })
  }

  changed(change: "connected" | "failed" | "ended"): void {
    const { core } = this
    for (const watcher of this.watchers) {
      if (core.main.live >= watcher.sessions) this.answer(watcher, Effect.void)
      else if (core.state === "closing" || core.state === "closed") {
        this.answer(watcher, Effect.fail(new DatabaseUnavailable({ pool: core.options.name, reason: "closed" })))
      } else if (change === "failed" && watcher.firstAnswer) {
        this.answer(watcher, Effect.fail(core.connector.unavailable(core.now())))
      }
    }
  }

  private answer(watcher: Watcher, effect: Effect.Effect<void, DatabaseUnavailable>): void {
    this.watchers.delete(watcher)
    this.core.wanted = this.most()
    this.core.outbox.defer(() => watcher.resume(effect))
  }

  private most(): number {
    let sessions = 0
    for (const watcher of this.watchers) sessions = Math.max(sessions, watcher.sessions)
    return sessions
  }

  private want(): void {
    this.core.want(this.most())
  }

  private watch(sessions: number, firstAnswer: boolean): Effect.Effect<void, DatabaseUnavailable> {
    return Effect.callback((resume) => {
      const { core } = this
      if (core.main.live >= sessions) return resume(Effect.void)
      if (core.state === "closing" || core.state === "closed") {
        return resume(Effect.fail(new DatabaseUnavailable({ pool: core.options.name, reason: "closed" })))
      }
      const watcher: Watcher = { sessions, firstAnswer, resume }
      this.watchers.add(watcher)
      this.want()
      return Effect.sync(() => {
        this.watchers.delete(watcher)
        this.want()
      })
    })
  }
}
