/**
 * Looks after a pool at regular rounds: lifetimes, idle times, keepalive, leaks, and whether the process itself stood still.
 */
import type { Compartment, Entry } from "./Entry.ts"
import type { Poolable } from "./Poolable.ts"
import { type PoolCore, provenMillis } from "./PoolCore.ts"
import { listenLane } from "./PoolOptions.ts"
import * as Report from "./PoolReport.ts"

export class Housekeeper<S extends Poolable> {
  private readonly core: PoolCore<S>
  private lastRound: number
  private lastWall: number
  /** The first ring is the pool's own, before anything is there. */
  private nextRound = -Infinity

  constructor(core: PoolCore<S>) {
    this.core = core
    this.lastRound = core.now()
    this.lastWall = core.clock.currentTimeMillisUnsafe()
  }

  /** Called whenever the alarm rings; does its work when a round is due. */
  ring(now: number): void {
    const { core } = this
    if (now >= this.nextRound) {
      this.watchClock(now)
      this.lastRound = now
      this.nextRound = now + core.settings.housekeepingInterval
      for (const home of [core.control, core.main]) {
        this.endLifetimes(home, now)
        this.endIdle(home, now)
        this.keepAlive(home, now)
      }
      this.findLeaks(now)
      if (core.connector.unproven && this.proven(now)) core.nodeAnswers(now)
    }
    core.alarm.set(this.nextRound)
  }

  /**
   * A process that stood still (a paused machine, a blocked event loop) knows nothing about its sockets: ask before use.
   * Monotonic time may stand still with the machine; the wall clock does not.
   */
  private watchClock(now: number): void {
    const { core } = this
    const interval = core.settings.housekeepingInterval
    const wall = core.clock.currentTimeMillisUnsafe()
    const elapsed = Math.max(now - this.lastRound, wall - this.lastWall)
    this.lastWall = wall
    if (elapsed <= 1.5 * interval) return
    core.counters.stalls++
    core.emit({ _tag: "Stalled", lateMillis: elapsed - interval })
    // What is leased or away shows that it lives before it is idle again.
    for (const entry of core.sessions) entry.aliveAt = -Infinity
  }

  /** One a round, so that sessions opened together are not missing together; all that reach `maxLifetime` itself. */
  private endLifetimes(home: Compartment<S>, now: number): void {
    const { core } = this
    let ended = false
    for (const entry of home.idle.slice()) {
      if (now < entry.expiresAt || (ended && now - entry.openedAt < core.settings.maxLifetime)) continue
      core.care.retire(entry, "lifetime")
      ended = true
    }
  }

  private endIdle(home: Compartment<S>, now: number): void {
    const { core } = this
    for (const entry of home.idle.slice()) {
      if (home.live <= home.min) return
      if (now - entry.idleSince >= core.settings.idleTimeout) core.care.retire(entry, "idle")
    }
  }

  private keepAlive(home: Compartment<S>, now: number): void {
    const { core } = this
    if (core.settings.keepalive === Infinity) return
    for (const entry of home.idle.slice()) {
      if (now - entry.aliveAt >= core.settings.keepalive) core.care.validate(entry)
    }
  }

  private proven(now: number): boolean {
    for (const entry of this.core.sessions) if (now - entry.openedAt >= provenMillis) return true
    return false
  }

  private findLeaks(now: number): void {
    for (const entry of this.core.sessions) if (this.isLeak(entry, now)) this.reportLeak(entry, now)
  }

  private isLeak(entry: Entry<S>, now: number): boolean {
    if (entry.ticket === undefined || entry.leakReported || entry.ticket.lane.name === listenLane) return false
    return now - entry.leasedAt >= this.core.settings.leakThreshold
  }

  private reportLeak(entry: Entry<S>, now: number): void {
    const { core } = this
    entry.leakReported = true
    core.counters.leaksSuspected++
    const holder = Report.leakHolder(entry, entry.ticket!.lane, now)
    core.emit({ _tag: "LeakSuspected", session: entry.session.id, holder })
  }
}
