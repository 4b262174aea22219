/**
 * A pool's metrics under OpenTelemetry's names: histograms as leases happen, gauges from a snapshot a second.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Poolable } from "../pool/Poolable.ts"
import type { PoolListener, SessionPool } from "../pool/SessionPool.ts"
import * as Telemetry from "../Telemetry.ts"

/** Called on the hot path: it updates two histograms, and only where telemetry is enabled when the pool is made. */
export const listener = (pool: string, context: Context.Context<never>): PoolListener => {
  const named = { [Telemetry.attributes.pool]: pool }
  const wait = Telemetry.duration("db.client.connection.wait_time", named)
  const use = Telemetry.duration("db.client.connection.use_time", named)
  const create = Telemetry.duration("db.client.connection.create_time", named)
  const timeouts = Telemetry.counter("db.client.connection.timeouts", named)
  const leaks = Telemetry.counter("sluice.connection.leaks", named)
  return {
    onAcquire: (_lane, waitMillis) => wait.updateUnsafe(waitMillis / 1000, context),
    onRelease: (_lane, heldMillis) => use.updateUnsafe(heldMillis / 1000, context),
    onEvent: (event) => {
      switch (event._tag) {
        case "SessionOpened":
          return create.updateUnsafe(event.connectMillis / 1000, context)
        case "AcquireTimedOut":
          return timeouts.updateUnsafe(1, context)
        case "LeakSuspected":
          return leaks.updateUnsafe(1, context)
        case "SessionClosed":
          return Telemetry.counter("sluice.connection.closed", {
            ...named,
            [Telemetry.attributes.reason]: event.reason
          }).updateUnsafe(1, context)
      }
    }
  }
}

/** Ends the series that have this attribute with the scope. Ask before what it names is made: that tells of its own end, too. */
export const endWithScope = (attribute: "pool" | "node", value: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) =>
    Effect.addFinalizer(() => Effect.sync(() => Telemetry.forget(context, Telemetry.attributes[attribute], value)))
  )

/** Sets the gauges of a pool once a second for as long as the scope lives. */
export const sample = <S extends Poolable>(pool: SessionPool<S>): Effect.Effect<void, never, Scope.Scope> => {
  const named = { [Telemetry.attributes.pool]: pool.name }
  const state = (name: string) => ({ ...named, [Telemetry.attributes.state]: name })
  const idle = Telemetry.gauge("db.client.connection.count", state("idle"))
  const used = Telemetry.gauge("db.client.connection.count", state("used"))
  const connecting = Telemetry.gauge("sluice.connection.count", state("connecting"))
  const draining = Telemetry.gauge("sluice.connection.count", state("draining"))
  const max = Telemetry.gauge("db.client.connection.max", named)
  const pending = Telemetry.gauge("db.client.connection.pending_requests", named)
  const once = Effect.flatMap(pool.stats, (stats) =>
    Effect.all(
      [
        Metric.update(idle, stats.idle),
        Metric.update(used, stats.leased),
        Metric.update(connecting, stats.connecting),
        Metric.update(draining, stats.draining),
        Metric.update(max, stats.max),
        Metric.update(pending, stats.waiting)
      ],
      { discard: true }
    )
  )
  return Effect.gen(function* () {
    yield* Effect.forkScoped(Effect.repeat(once, Schedule.spaced("1 second")))
  })
}
