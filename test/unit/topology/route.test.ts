/** A role's way from server to server, over servers in memory: which one serves an attempt, for how long, and what comes next. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Route from "../../../packages/sdk/src/topology/Route.ts"
import { begin, call, conflict, errorOf, routeOver, shutDown, tagged } from "./routes.ts"
import { lost, primary, replica } from "./support.ts"

describe("a role with one server that nobody watches", () => {
  it.effect("goes to it, without a limit of its own and without looking", () =>
    Effect.gen(function* () {
      const { members, noted, route, world } = yield* routeOver({ names: ["a"], watched: false })
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
      const { members, now, route, see } = yield* routeOver({ names: ["a", "b", "c"] })
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
      const { members, noted, now, route, see } = yield* routeOver({ names: ["a", "b"] })
      see("a", replica)
      see("b", replica)
      yield* TestClock.adjust(100)
      for (const error of [shutDown, { _tag: "RowDecodeError" }, { _tag: "AttemptTimeout" }, "text", null]) {
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
      const { members, route, see } = yield* routeOver({ names: ["a"] })
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
      const { route, see } = yield* routeOver({ names: ["p", "r"], want: { role: "replica", fallback: "primary" } })
      see("p", primary)
      see("r", replica)
      const one = call()
      const went: Array<string> = []
      for (let attempt = 0; attempt < 3; attempt++) {
        yield* Effect.exit(
          route.attempt(one, (member) => {
            went.push(member.name)
            one.tried.length = 0
            return Effect.fail(conflict)
          })
        )
      }
      assert.deepStrictEqual(went, ["r", "r", "p"])
      assert.isTrue(one.primary)
    })
  )

  it.effect("while nobody is known to fit it looks, and waits for a failover as long as its patience", () =>
    Effect.gen(function* () {
      const { now, route, see, unseen, world } = yield* routeOver({ names: ["p", "r"], want: { role: "primary" } })
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
      const { now, route, world } = yield* routeOver({ names: ["a"] })
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
      const { now, route, see, world } = yield* routeOver({ names: ["r"] })
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
      const { route, see } = yield* routeOver({
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
      const { route, see, topology } = yield* routeOver({ names: ["a", "b"] })
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
      const { route, see, topology } = yield* routeOver({
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
