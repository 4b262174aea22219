/**
 * Whether the process works, whether it can serve, and what is known of each node.
 *
 * - **Liveness** is about the process alone: a database that is down is no reason to restart a service.
 * - **Readiness**: each required role can serve. It falls after `unreadyAfter` of "cannot" and rises after `readyAfter` of
 *   "can", so that one lost probe neither takes a service out of rotation nor a lucky one puts it back. At start nothing is
 *   held against it for `startGrace`: it is `starting` until every required role could serve once.
 * - **Status**: `up`; `degraded` when something is wrong and something still works: some roles down, only stale answers, a
 *   node or an optional check down; `down` when no role can serve.
 *
 * @example
 * ```ts
 * const live = Health.layer({ checks: { billing: Health.check(pingBilling) } })
 *
 * const program = Effect.gen(function* () {
 *   const health = yield* Health.Health
 *   const { ready, status } = yield* health.readiness
 *   yield* health.changes.pipe(Stream.runForEach((change) => Effect.logWarning(Health.format(change))), Effect.forkScoped)
 * })
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { LastError, PoolCounts } from "../ReportError.ts"
import { monotonicMillis, wallMillis } from "../internal/Monotonic.ts"
import { readOf, refuse, tableOf } from "../options/Field.ts"
import * as Fields from "../options/topology.ts"
import * as Telemetry from "../Telemetry.ts"
import * as Hysteresis from "./Hysteresis.ts"

/** What is known of a node. */
export interface NodeDetail {
  readonly name: string
  readonly state: "unknown" | "up" | "suspect" | "down" | "returning" | "fenced" | "draining"
  readonly role: "primary" | "replica" | "readonly" | "unknown"
  /** Why it is fenced, if it is. */
  readonly fenced?: string | undefined
  readonly lagMillis?: number | undefined
  readonly timeline?: number | undefined
  readonly serverVersion?: number | undefined
  readonly pool?: PoolCounts | undefined
  readonly lastError?: LastError | undefined
  /** Since when it is in this state, in milliseconds of the wall clock. */
  readonly since: number
}

/** Whether a role can serve at this moment, without memory: {@link Health} adds the thresholds. */
export interface RoleAnswer {
  readonly serves: boolean
  /** It serves less than was declared: by its fallback, or from what was kept. */
  readonly degraded?: string | undefined
}

/** A declared role, as Health sees it. */
export interface RoleSource {
  /** `database/role`. */
  readonly name: string
  /** Whether readiness depends on it. Default: as {@link Options} says. */
  readonly required?: boolean | undefined
  readonly ask: () => RoleAnswer
  readonly nodes: () => ReadonlyArray<NodeDetail>
  /** Tells when asking again is worth it. Gives back how to stop. */
  readonly onChange?: ((listener: () => void) => () => void) | undefined
}

/** A check of yours. */
export interface Check {
  readonly run: Effect.Effect<unknown, unknown>
  readonly interval: Duration.Input
  readonly timeout: Duration.Input
  readonly affects: "status" | "readiness" | "liveness"
}

const checkFields = tableOf<{
  readonly interval?: Check["interval"] | undefined
  readonly timeout?: Check["timeout"] | undefined
  readonly affects?: Check["affects"] | undefined
}>()(Fields.healthCheck)

/** A check: it passes if the effect succeeds within `timeout` (default 1 second), asked every `interval` (default 5 seconds). */
export const check = (
  run: Effect.Effect<unknown, unknown>,
  options?: {
    readonly interval?: Duration.Input | undefined
    readonly timeout?: Duration.Input | undefined
    /** What its failure means. Default `status`: degraded, and nothing more. */
    readonly affects?: Check["affects"] | undefined
  }
): Check => {
  refuse("Health.check", { run: Fields.run }, { run })
  refuse("Health.check", checkFields, options ?? {})
  return {
    run,
    interval: options?.interval ?? "5 seconds",
    timeout: options?.timeout ?? "1 second",
    affects: options?.affects ?? "status"
  }
}

export interface Options {
  /** Roles that readiness depends on, as `database/role`. Default: all that are declared. */
  readonly required?: ReadonlyArray<string> | undefined
  /** How long "cannot" holds until readiness falls. Default 2 seconds. */
  readonly unreadyAfter?: Duration.Input | undefined
  /** How long "can" holds until readiness rises again. Default 1 second. */
  readonly readyAfter?: Duration.Input | undefined
  /** How long the process may take to be ready for the first time. Default 30 seconds. */
  readonly startGrace?: Duration.Input | undefined
  /** How often everything is asked, besides at every change. Default 250 milliseconds. */
  readonly interval?: Duration.Input | undefined
  readonly checks?: Readonly<Record<string, Check>> | undefined
}

const fields = tableOf<Options>()(Fields.health)

export interface Answer {
  /** Whether it can serve, with thresholds. */
  readonly ok: boolean
  readonly since: number
}

export interface RoleStatus extends Answer {
  readonly required: boolean
  readonly degraded: string | undefined
}

export interface CheckStatus extends Answer {
  readonly affects: Check["affects"]
}

export interface Readiness {
  readonly ready: boolean
  /** `starting` becomes `down` when the grace period is over. */
  readonly status: "starting" | "up" | "degraded" | "down"
  readonly since: number
}

export interface Status extends Readiness {
  readonly live: boolean
  readonly roles: Readonly<Record<string, RoleStatus>>
  readonly nodes: ReadonlyArray<NodeDetail>
  readonly checks: Readonly<Record<string, CheckStatus>>
}

/** Something went from one state to another. */
export interface Change {
  readonly at: number
  readonly subject: "status" | "ready" | "live" | "role" | "node" | "check"
  readonly name: string
  readonly from: string
  readonly to: string
}

/** `role fleet/replica: ok -> failing` */
export const format = (change: Change): string =>
  `${change.subject}${change.name === "" ? "" : ` ${change.name}`}: ${change.from} -> ${change.to}`

/** The service. */
export class Health extends Context.Service<
  Health,
  {
    /** Whether the process works. */
    readonly liveness: Effect.Effect<{ readonly live: boolean }>
    /** Whether it can serve. Costs nothing: it is what was found last. */
    readonly readiness: Effect.Effect<Readiness>
    /** Everything that is known. */
    readonly status: Effect.Effect<Status>
    /** What changes from now on. */
    readonly changes: Stream.Stream<Change>
    /** Adds a role for as long as the scope lasts. `Database` does it by itself. */
    readonly register: (source: RoleSource) => Effect.Effect<void, never, Scope.Scope>
  }
>()("@sluice/sdk/topology/Health") {}

const word = (ok: boolean): string => (ok ? "ok" : "failing")

export const make = (options: Options = {}): Effect.Effect<Health["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const { interval, readyAfter, startGrace, unreadyAfter } = readOf("Health.layer", fields, options)
    const clock = yield* Clock.Clock
    const now = () => monotonicMillis(clock)
    const wallTime = (at: number) => wallMillis(clock, at)
    const startedAt = now()
    const hold: Hysteresis.Hold = { riseMillis: readyAfter, fallMillis: unreadyAfter }
    const pubsub = yield* PubSub.sliding<Change>(1024)
    const sources = new Map<
      RoleSource,
      { state: Hysteresis.Hysteresis; served: boolean; degraded: string | undefined }
    >()
    const checks = new Map<string, { check: Check; answer: boolean | undefined; state: Hysteresis.Hysteresis }>()
    const nodes = new Map<string, { key: string; detail: NodeDetail }>()
    let told: Readiness & { readonly live: boolean } = {
      ready: false,
      status: "starting",
      since: startedAt,
      live: true
    }
    const context = yield* Effect.context<never>()
    // In the same step as what readiness says.
    const gauge = (name: string, attributes: Readonly<Record<string, string>>, value: number | boolean): void =>
      Telemetry.gauge(name, attributes).updateUnsafe(Number(value), context)

    const tell = (subject: Change["subject"], name: string, from: string, to: string): void => {
      if (from !== to) PubSub.publishUnsafe(pubsub, { at: wallTime(now()), subject, name, from, to })
    }
    const isRequired = (source: RoleSource): boolean =>
      source.required ?? options.required?.includes(source.name) ?? true

    const evaluate = (): void => {
      const at = now()
      const seen = new Set<string>()
      let starting = false
      let ready = true
      let serving = 0
      let wrong = false
      for (const [source, entry] of sources) {
        const answer = source.ask()
        const before = entry.state
        // The first time is told at once: there is nothing yet that could flap.
        entry.state =
          answer.serves && !entry.served
            ? Hysteresis.initial(true, at)
            : Hysteresis.step(before, answer.serves, at, hold)
        entry.served ||= answer.serves
        const label = (ok: boolean, degraded: string | undefined): string => (ok ? (degraded ?? "ok") : "failing")
        tell("role", source.name, label(before.value, entry.degraded), label(entry.state.value, answer.degraded))
        entry.degraded = answer.degraded
        if (entry.state.value) serving++
        if (!entry.state.value || answer.degraded !== undefined) wrong = true
        if (isRequired(source)) {
          ready &&= entry.state.value
          starting ||= !entry.served
        }
        gauge("sluice.role.up", { "sluice.role": source.name }, entry.state.value)
        for (const detail of source.nodes()) {
          if (seen.has(detail.name)) continue
          seen.add(detail.name)
          const key = `${detail.state}/${detail.role}`
          tell("node", detail.name, nodes.get(detail.name)?.key ?? "absent", key)
          nodes.set(detail.name, { key, detail })
          if (detail.state !== "up" && detail.state !== "draining") wrong = true
          gauge("sluice.node.up", { [Telemetry.attributes.node]: detail.name }, detail.state === "up")
          if (detail.lagMillis !== undefined) {
            gauge("sluice.node.lag", { [Telemetry.attributes.node]: detail.name }, detail.lagMillis / 1000)
          }
        }
      }
      for (const [name, { key }] of nodes) {
        if (seen.has(name)) continue
        nodes.delete(name)
        Telemetry.forget(context, Telemetry.attributes.node, name)
        tell("node", name, key, "absent")
      }
      let live = true
      for (const [name, entry] of checks) {
        if (entry.answer === undefined) {
          starting ||= entry.check.affects === "readiness"
          ready &&= entry.check.affects !== "readiness"
          continue
        }
        const before = entry.state
        entry.state = Hysteresis.step(before, entry.answer, at, hold)
        tell("check", name, word(before.value), word(entry.state.value))
        if (entry.state.value) continue
        wrong = true
        if (entry.check.affects === "readiness") ready = false
        if (entry.check.affects === "liveness") live = false
      }
      const grace = told.status === "starting" && starting && at - startedAt < startGrace
      const none = sources.size > 0 && serving === 0
      const status = grace ? "starting" : none ? "down" : wrong || !ready ? "degraded" : "up"
      tell("status", "", told.status, status)
      tell("ready", "", String(told.ready), String(ready))
      tell("live", "", word(told.live), word(live))
      told = {
        ready,
        live,
        status,
        since: status === told.status && ready === told.ready ? told.since : at
      }
      gauge("sluice.health.ready", {}, ready)
    }

    for (const [name, check] of Object.entries(options.checks ?? {})) {
      const entry: { check: Check; answer: boolean | undefined; state: Hysteresis.Hysteresis } = {
        check,
        answer: undefined,
        state: Hysteresis.initial(true, startedAt)
      }
      checks.set(name, entry)
      yield* check.run.pipe(
        Effect.timeout(check.timeout),
        Effect.exit,
        Effect.flatMap((exit) =>
          Effect.sync(() => {
            const first = entry.answer === undefined
            entry.answer = Exit.isSuccess(exit)
            if (first) entry.state = Hysteresis.initial(entry.answer, now())
            evaluate()
          })
        ),
        Effect.andThen(Effect.sleep(check.interval)),
        Effect.forever,
        Effect.forkScoped
      )
    }

    yield* Effect.sync(evaluate).pipe(Effect.andThen(Effect.sleep(interval)), Effect.forever, Effect.forkScoped)

    const register = (source: RoleSource): Effect.Effect<void, never, Scope.Scope> =>
      Effect.acquireRelease(
        Effect.sync(() => {
          sources.set(source, { state: Hysteresis.initial(false, now()), served: false, degraded: undefined })
          const stop = source.onChange?.(evaluate)
          evaluate()
          return stop
        }),
        (stop) =>
          Effect.sync(() => {
            stop?.()
            sources.delete(source)
          })
      )

    return Health.of({
      liveness: Effect.sync(() => ({ live: told.live })),
      readiness: Effect.sync(() => ({ ready: told.ready, status: told.status, since: wallTime(told.since) })),
      status: Effect.sync(() => ({
        ...told,
        since: wallTime(told.since),
        roles: Object.fromEntries(
          [...sources].map(([source, { degraded, state }]) => [
            source.name,
            { ok: state.value, since: wallTime(state.since), required: isRequired(source), degraded }
          ])
        ),
        nodes: [...nodes.values()].map(({ detail }) => detail),
        checks: Object.fromEntries(
          [...checks].map(([name, { check, state }]) => [
            name,
            { ok: state.value, since: wallTime(state.since), affects: check.affects }
          ])
        )
      })),
      changes: Stream.fromPubSub(pubsub),
      register
    })
  })

export const layer = (options?: Options): Layer.Layer<Health> => Layer.effect(Health, make(options))
