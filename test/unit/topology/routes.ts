/** A role's route over servers in memory, whose looks find what a test says. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type * as PgFailure from "../../../packages/sdk/src/PgFailure.ts"
import type { Cluster, Member } from "../../../packages/sdk/src/topology/Cluster.ts"
import type * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Route from "../../../packages/sdk/src/topology/Route.ts"
import type * as Router from "../../../packages/sdk/src/topology/Router.ts"
import * as Topology from "../../../packages/sdk/src/topology/Topology.ts"
import { lost } from "./support.ts"

interface FakeMember {
  readonly name: string
  warmed: number
  triggered: number
  serving: boolean
  busy: number
}

/** `look` is what a refresh finds; it takes `lookMillis`. */
export const routeOver = (options: {
  readonly names: ReadonlyArray<string>
  readonly want?: Router.Want
  readonly watched?: boolean
  readonly overrides?: PgFailure.Overrides
  /** Default: the route's own. */
  readonly patience?: Duration.Input
  /** Default: a probe each. */
  readonly probes?: boolean
}) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const now = () => clock.currentTimeMillisUnsafe()
    // The first of equals: no chance in what these tests say.
    const topology = yield* Topology.make<Member>({ random: () => 0.999 })
    const members = new Map<string, FakeMember>()
    for (const name of options.names) {
      const fake: FakeMember = { name, warmed: 0, triggered: 0, serving: true, busy: 0 }
      members.set(name, fake)
      topology.add({
        name,
        zone: undefined,
        outstanding: () => fake.busy,
        canServeNow: () => fake.serving,
        isWarm: () => fake.warmed > 0,
        warm: Effect.sync(() => void fake.warmed++),
        probe: options.probes === false ? undefined : { trigger: () => void fake.triggered++ },
        pool: { stats: Effect.succeed({ connecting: 0, draining: 0, idle: 1, leased: 2, max: 3, waiting: 4 }) }
      } as unknown as Member)
    }
    const noted: Array<readonly [name: string, failure: string, at: number]> = []
    const world = { looks: 0, lookMillis: 0, look: (): void => {}, closing: false }
    const cluster = {
      name: "fleet",
      topology,
      watched: options.watched ?? true,
      closing: () => world.closing,
      refresh: Effect.suspend(() => {
        world.looks++
        return Effect.andThen(
          Effect.sleep(world.lookMillis),
          Effect.sync(() => world.look())
        )
      }),
      noteFailure: (member: Member, failure: PgFailure.PgFailure, at: number) =>
        void noted.push([member.name, failure.class, at])
    } as unknown as Cluster
    const want: Router.Want = options.want ?? { role: "replica" }
    const patience = options.patience === undefined ? undefined : { patience: options.patience }
    const route = Route.make("fleet/replica", cluster, want, options.overrides ?? new Map(), patience)
    const see = (
      name: string,
      of: (at: number, more?: Partial<NodeState.Observation>) => NodeState.Observation,
      more?: Partial<NodeState.Observation>
    ) => topology.observed(name, of(now(), { instance: name, ...more }))
    const unseen = (name: string, error = lost) => topology.failed(name, { at: now(), error })
    return { cluster, members, noted, now, route, see, topology, unseen, world }
  })

export const call = (more: Partial<Route.Call> = {}): Route.Call => ({ key: "trips", tried: [], ...more })
export const tagged = (tag: string) => Effect.fail({ _tag: tag } as const)
export const errorOf = (exit: Exit.Exit<unknown, unknown>): any => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" ? error.value : undefined
}
export const begin = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.forkChild(Effect.exit(effect), { startImmediately: true })

const sqlError = (code: string, severityUnlocalized: string) => {
  const cause = Object.assign(new Error("x"), { code, severityUnlocalized })
  return new SqlError({ reason: new ConnectionError({ cause, operation: "query" }) })
}
/** A standby cancelled the statement for what it had to replay. */
export const conflict = sqlError("40001", "ERROR")
export const shutDown = sqlError("57P01", "FATAL")
