/** A role's way from server to server, over servers in memory: which one serves an attempt, for how long, and what comes next. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as TestClock from "effect/testing/TestClock"
import type * as PgFailure from "../../../packages/sdk/src/PgFailure.ts"
import type { Cluster, Member } from "../../../packages/sdk/src/topology/Cluster.ts"
import type * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Route from "../../../packages/sdk/src/topology/Route.ts"
import type * as Router from "../../../packages/sdk/src/topology/Router.ts"
import * as Topology from "../../../packages/sdk/src/topology/Topology.ts"
import { lost, primary, replica } from "./support.ts"

interface FakeMember {
  readonly name: string
  warmed: number
  triggered: number
  serving: boolean
  busy: number
}

/** `look` is what a refresh finds; it takes `lookMillis`. */
const setUp = (options: {
  readonly names: ReadonlyArray<string>
  readonly want?: Router.Want
  readonly watched?: boolean
  readonly overrides?: PgFailure.Overrides
  readonly patience?: string
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
        probe: { trigger: () => void fake.triggered++ }
      } as unknown as Member)
    }
    const noted: Array<readonly [name: string, failure: string, at: number]> = []
    const world = { looks: 0, lookMillis: 0, look: (): void => {} }
    const cluster = {
      name: "fleet",
      topology,
      watched: options.watched ?? true,
      closing: () => false,
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
    const route = Route.make("fleet/replica", cluster, want, options.overrides ?? new Map(), {
      patience: (options.patience ?? "2 seconds") as "2 seconds"
    })
    const see = (
      name: string,
      of: (at: number, more?: Partial<NodeState.Observation>) => NodeState.Observation,
      more?: Partial<NodeState.Observation>
    ) => topology.observed(name, of(now(), { instance: name, ...more }))
    const unseen = (name: string) => topology.failed(name, { at: now(), error: lost })
    return { cluster, members, noted, now, route, see, topology, unseen, world }
  })

const call = (more: Partial<Route.Call> = {}): Route.Call => ({ key: "trips", tried: [], ...more })
const tagged = (tag: string) => Effect.fail({ _tag: tag } as const)
const errorOf = (exit: Exit.Exit<unknown, unknown>): any => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" ? error.value : undefined
}
const begin = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkChild(Effect.exit(effect), { startImmediately: true })

describe("a role with one server that nobody watches", () => {
  it.effect("goes to it, without a limit of its own and without looking", () =>
    Effect.gen(function* () {
      const { members, noted, route, world } = yield* setUp({ names: ["a"], watched: false })
      const one = call({ left: () => 5_000 })
      const told: Array<unknown> = []
      const exit = yield* Effect.exit(
        route.attempt(one, (member, until) => {
          told.push([member.name, until])
          return tagged("AcquireTimeout")
        })
      )
      assert.strictEqual(errorOf(exit)._tag, "AcquireTimeout")
      assert.deepStrictEqual(told, [["a", undefined]])
      assert.deepStrictEqual(one.tried, ["a"])
      assert.deepStrictEqual([noted.length, world.looks, members.get("a")!.triggered], [0, 0, 0])
      assert.strictEqual(route.only?.name, "a")
      assert.deepStrictEqual(route.source.ask(), { serves: true })
      members.get("a")!.serving = false
      assert.deepStrictEqual(route.source.ask(), { serves: false })
      members.get("a")!.busy = 1
      assert.deepStrictEqual(route.source.ask(), { serves: true })
    })
  )
})

describe("a role with several servers", () => {
  it.effect("tries all that fit within one attempt, each with its part of what is left, when nothing was sent", () =>
    Effect.gen(function* () {
      const { members, now, route, see } = yield* setUp({ names: ["a", "b", "c"] })
      for (const name of ["a", "b", "c"]) see(name, replica)
      const told: Array<readonly [string, number | undefined]> = []
      const one = call({ left: () => 9_000 - now() })
      const exit = yield* Effect.exit(
        route.attempt(one, (member, until) => {
          told.push([member.name, until])
          return tagged(["AcquireTimeout", "CircuitOpen", "DatabaseUnavailable"][told.length - 1]!)
        })
      )
      assert.strictEqual(errorOf(exit)._tag, "DatabaseUnavailable")
      assert.sameMembers(one.tried, ["a", "b", "c"])
      assert.deepStrictEqual(
        told.map(([, until]) => until),
        [3_000, 4_500, 9_000]
      )
      for (const name of ["a", "b", "c"]) {
        assert.deepInclude(members.get(name), { warmed: 1, triggered: 1 }, name)
      }
    })
  )

  it.effect("tries nobody else once something may have been sent", () =>
    Effect.gen(function* () {
      const { members, noted, now, route, see } = yield* setUp({ names: ["a", "b"] })
      see("a", replica)
      see("b", replica)
      yield* TestClock.adjust(100)
      const cause = Object.assign(new Error("x"), { code: "57P01", severityUnlocalized: "FATAL" })
      const sqlError = new SqlError({ reason: new ConnectionError({ cause, operation: "query" }) })
      for (const error of [sqlError, { _tag: "RowDecodeError" }, { _tag: "AttemptTimeout" }, "text", null]) {
        let runs = 0
        const exit = yield* Effect.exit(
          route.attempt(call(), () =>
            Effect.andThen(
              Effect.sync(() => runs++),
              Effect.fail(error)
            )
          )
        )
        assert.deepStrictEqual([errorOf(exit), runs], [error, 1])
      }
      assert.deepStrictEqual(noted, [[noted[0]![0], "Shutdown", now()]])
      // A timeout is worth a look; what the server answered is not.
      assert.strictEqual(
        [...members.values()].reduce((sum, { triggered }) => sum + triggered, 0),
        1
      )
    })
  )

  it.effect("a caller that leaves after a while makes it look; one that leaves soon does not", () =>
    Effect.gen(function* () {
      const { members, route, see } = yield* setUp({ names: ["a"] })
      see("a", replica)
      const leave = (millis: number) =>
        Effect.gen(function* () {
          const fiber = yield* begin(route.attempt(call(), () => Effect.never))
          yield* TestClock.adjust(millis)
          yield* Fiber.interrupt(fiber)
          return members.get("a")!.triggered
        })
      assert.strictEqual(yield* leave(499), 0)
      assert.strictEqual(yield* leave(500), 1)
      assert.isTrue(Exit.isSuccess(yield* Effect.exit(route.attempt(call(), () => Effect.void))))
      assert.strictEqual(members.get("a")!.triggered, 1)
    })
  )

  it.effect("after as many conflicts as the failure says, only the primary will do", () =>
    Effect.gen(function* () {
      const { route, see } = yield* setUp({ names: ["p", "r"], want: { role: "replica", fallback: "primary" } })
      see("p", primary)
      see("r", replica)
      const cause = Object.assign(new Error("x"), { code: "40001", severityUnlocalized: "ERROR" })
      const conflict = Effect.fail(new SqlError({ reason: new ConnectionError({ cause, operation: "query" }) }))
      const one = call()
      const went: Array<string> = []
      for (let attempt = 0; attempt < 3; attempt++) {
        yield* Effect.exit(
          route.attempt(one, (member) => {
            went.push(member.name)
            one.tried.length = 0
            return conflict
          })
        )
      }
      assert.deepStrictEqual(went, ["r", "r", "p"])
      assert.isTrue(one.primary)
    })
  )

  it.effect("while nobody is known to fit it looks, and waits for a failover as long as its patience", () =>
    Effect.gen(function* () {
      const { now, route, see, unseen, world } = yield* setUp({ names: ["p", "r"], want: { role: "primary" } })
      see("p", primary)
      see("r", replica)
      assert.strictEqual((yield* route.next(call())).name, "p")
      for (let n = 0; n < 5; n++) unseen("p")
      const waiting = yield* begin(route.next(call()))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(world.looks, 1)
      see("r", primary, { timeline: 2 })
      yield* TestClock.adjust(0)
      const found = yield* Fiber.join(waiting)
      assert.strictEqual(Exit.isSuccess(found) ? found.value.name : undefined, "r")
      // Nobody again, and for longer than the patience.
      for (let n = 0; n < 5; n++) unseen("r")
      const from = now()
      const late = yield* begin(route.next(call()))
      yield* TestClock.adjust(1_999)
      assert.isUndefined(late.pollUnsafe())
      yield* TestClock.adjust(1)
      const told = errorOf(yield* Fiber.join(late))
      assert.deepInclude(told, { _tag: "DatabaseUnavailable", pool: "fleet/replica", reason: "unreachable" })
      assert.deepInclude(told.lastError, lost)
      assert.strictEqual(now() - from, 2_000)
      // From then on at once, while what everybody said is new.
      unseen("p")
      unseen("r")
      const looked = world.looks
      assert.strictEqual(errorOf(yield* Effect.exit(route.next(call())))._tag, "DatabaseUnavailable")
      assert.strictEqual(world.looks, looked)
      yield* TestClock.adjust(1_001)
      yield* begin(route.next(call()))
      yield* TestClock.adjust(0)
      assert.strictEqual(world.looks, looked + 1, "an old answer is asked for again")
    })
  )

  it.effect("the deadline comes before the patience, also during a look", () =>
    Effect.gen(function* () {
      const { now, route, world } = yield* setUp({ names: ["a"] })
      world.lookMillis = 10_000
      const from = now()
      const waiting = yield* begin(route.next(call(), from + 300))
      yield* TestClock.adjust(299)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(errorOf(yield* Fiber.join(waiting))._tag, "DatabaseUnavailable")
    })
  )

  it.effect("waits for a write to be replayed, by looking again and again, until the deadline", () =>
    Effect.gen(function* () {
      const { now, route, see, world } = yield* setUp({ names: ["r"] })
      see("r", replica, { lsn: 100n })
      let position = 100n
      world.look = () => see("r", replica, { lsn: position })
      const token = { lsn: 150n, timeline: 1 }
      const waiting = yield* begin(
        route
          .attempt(call({ left: () => 60_000 }), () => Effect.succeed("read"))
          .pipe(Effect.provideService(Route.ReadAfter, token))
      )
      yield* TestClock.adjust(5_000)
      assert.isUndefined(waiting.pollUnsafe())
      assert.isAbove(world.looks, 100)
      position = 150n
      yield* TestClock.adjust(20)
      assert.deepStrictEqual(yield* Fiber.join(waiting), Exit.succeed("read"))
      const never = yield* begin(route.next(call({ token: { lsn: 999n, timeline: 1 } }), now() + 1_000))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(errorOf(yield* Fiber.join(never))._tag, "DatabaseUnavailable")
    })
  )

  it.effect("says that replicas are too stale only to who declared how stale they may be", () =>
    Effect.gen(function* () {
      const { route, see } = yield* setUp({
        names: ["p", "r"],
        want: { role: "replica", maxLagMillis: 1_000 },
        patience: "1 milli"
      })
      const look = () => {
        see("p", primary, { lsn: 500n })
        see("r", replica, { lsn: 100n, delayMillis: 60_000 })
      }
      look()
      yield* TestClock.adjust(10)
      look()
      const error = (more: Partial<Route.Call>) =>
        Effect.gen(function* () {
          const fiber = yield* begin(route.next(call(more)))
          yield* TestClock.adjust(10)
          return errorOf(yield* Fiber.join(fiber))
        })
      assert.deepInclude(yield* error({ maxLagMillis: 1_000 }), {
        _tag: "ReplicaTooStale",
        key: "trips",
        maxLagMillis: 1_000
      })
      const other = yield* error({})
      assert.strictEqual(other._tag, "DatabaseUnavailable")
      assert.strictEqual(other.lastError.tag, "ReplicaTooStale")
    })
  )

  it.effect("inside of a snapshot every call goes to its server", () =>
    Effect.gen(function* () {
      const { route, see, topology } = yield* setUp({ names: ["a", "b"] })
      see("a", replica)
      see("b", replica)
      for (const name of ["a", "b"]) {
        const member = topology.get(name)!.member
        const went = route
          .attempt(call(), (one, until) => Effect.succeed([one.name, until]))
          .pipe(Effect.provideService(Route.Current, { route, member }))
        assert.deepStrictEqual(yield* went, [name, undefined])
      }
    })
  )

  it.effect("says whether it serves, and when only the primary does so in a replica's place", () =>
    Effect.gen(function* () {
      const { route, see, topology } = yield* setUp({
        names: ["p", "r"],
        want: { role: "replica", fallback: "primary" }
      })
      assert.deepStrictEqual(route.source.ask(), { serves: false })
      see("p", primary)
      assert.deepStrictEqual(route.source.ask(), { serves: true, degraded: "served by the primary" })
      see("r", replica)
      assert.deepStrictEqual(route.source.ask(), { serves: true, degraded: undefined })
      assert.deepStrictEqual(
        route.nodes().map(({ name }) => name),
        ["p", "r"]
      )
      let changes = 0
      const stop = route.source.onChange!(() => changes++)
      topology.drain("r")
      assert.strictEqual(changes, 1)
      stop()
      topology.drain("p")
      assert.strictEqual(changes, 1)
    })
  )
})
