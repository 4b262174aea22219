/** A role's way from server to server, in the cases that are rare: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { begin, call, conflict, errorOf, routeOver, shutDown, tagged } from "./routes.ts"
import { lost, primary, replica } from "./support.ts"

const nameOf = (exit: Exit.Exit<{ readonly name: string }, unknown>) =>
  Exit.isSuccess(exit) ? exit.value.name : errorOf(exit)

describe("when no server is known to fit", () => {
  it.effect("one that was down and has answered serves, before it has proved itself: it is better than none", () =>
    Effect.gen(function* () {
      const { route, see, topology, unseen, world } = yield* routeOver({ names: ["a", "b"] })
      for (const name of ["a", "b"]) for (let n = 0; n < 2; n++) unseen(name)
      world.look = () => see("b", replica)
      const found = yield* begin(route.next(call()))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(topology.get("b")?.state.phase, "returning")
      assert.strictEqual(nameOf(yield* Fiber.join(found)), "b")
      // Another that is up comes before it.
      for (let n = 0; n < 2; n++) see("a", replica)
      assert.strictEqual((yield* route.next(call())).name, "a")
    })
  )

  it.effect("what a look finds is taken at once", () =>
    Effect.gen(function* () {
      const { now, route, see, world } = yield* routeOver({ names: ["a"] })
      // The look changes what is known before anybody waits for changes.
      world.look = () => see("a", replica)
      yield* TestClock.adjust("1 minute")
      const from = now()
      assert.strictEqual(nameOf(yield* Effect.exit(route.next(call(), from + 5_000))), "a")
      assert.strictEqual(now(), from)
    })
  )

  it.effect("a change that helps nobody does not end the wait", () =>
    Effect.gen(function* () {
      const { route, see } = yield* routeOver({ names: ["a", "b", "c"], want: { role: "primary" } })
      const waiting = yield* begin(route.next(call()))
      yield* TestClock.adjust("1 second")
      see("b", replica)
      yield* TestClock.adjust("500 millis")
      assert.isUndefined(waiting.pollUnsafe())
      see("c", primary)
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(nameOf(yield* Fiber.join(waiting)), "c")
    })
  )

  it.effect("waits for two seconds by default, and not beyond its deadline, whatever the clock says", () =>
    Effect.gen(function* () {
      const { now, route, world } = yield* routeOver({ names: ["a"] })
      yield* TestClock.adjust("1 hour")
      const waited = (deadline?: number) =>
        Effect.gen(function* () {
          const from = now()
          const waiting = yield* begin(Effect.exit(route.next(call(), deadline)).pipe(Effect.map(now)))
          yield* TestClock.adjust("10 seconds")
          const ended = yield* Fiber.join(waiting)
          return Exit.isSuccess(ended) ? ended.value - from : ended
        })
      world.lookMillis = 20_000
      assert.strictEqual(yield* waited(now() + 300), 300)
      world.lookMillis = 0
      const fresh = yield* routeOver({ names: ["a"] })
      const from = now()
      const waiting = yield* begin(Effect.exit(fresh.route.next(call())).pipe(Effect.map(now)))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* Fiber.join(waiting), Exit.succeed(from + 2_000))
    })
  )

  it.effect("fails at once only while what every single one said is less than a second old", () =>
    Effect.gen(function* () {
      const { route, unseen, world } = yield* routeOver({ names: ["a", "b"], patience: "1 milli" })
      const asksAgain = Effect.gen(function* () {
        const before = world.looks
        const waiting = yield* begin(route.next(call()))
        yield* TestClock.adjust(1)
        yield* Fiber.join(waiting)
        return world.looks > before
      })
      assert.isTrue(yield* asksAgain, "nobody has said anything")
      unseen("a")
      assert.isTrue(yield* asksAgain, "one of them has said nothing")
      unseen("a")
      unseen("b")
      assert.isFalse(yield* asksAgain)
      yield* TestClock.adjust(998)
      assert.isFalse(yield* asksAgain, "999 milliseconds")
      assert.isTrue(yield* asksAgain, "1,000 milliseconds")
    })
  )

  it.effect("says the last that went wrong, on whichever server", () =>
    Effect.gen(function* () {
      const problems = (...steps: ReadonlyArray<readonly [name: string, message: string]>) =>
        Effect.gen(function* () {
          const { route, unseen } = yield* routeOver({ names: ["a", "b", "c"], patience: "1 milli" })
          for (const [name, message] of steps) {
            yield* TestClock.adjust(5)
            unseen(name, { ...lost, message })
          }
          const waiting = yield* begin(route.next(call()))
          yield* TestClock.adjust(10)
          return errorOf(yield* Fiber.join(waiting)).lastError?.message
        })
      assert.isUndefined(yield* problems())
      assert.strictEqual(yield* problems(["b", "only"]), "only")
      assert.strictEqual(yield* problems(["a", "first"], ["b", "second"]), "second")
      assert.strictEqual(yield* problems(["b", "first"], ["a", "second"]), "second")
      assert.strictEqual(yield* problems(["c", "first"], ["b", "second"], ["a", "third"]), "third")
    })
  )

  it.effect("of two problems at the same time, the one of the first server", () =>
    Effect.gen(function* () {
      const { route, unseen } = yield* routeOver({ names: ["a", "b"], patience: "1 milli" })
      for (const name of ["b", "a"]) unseen(name, { ...lost, message: `of ${name}` })
      const waiting = yield* begin(route.next(call()))
      yield* TestClock.adjust(10)
      assert.strictEqual(errorOf(yield* Fiber.join(waiting)).lastError?.message, "of a")
    })
  )

  it.effect("its guard is put around the wait, and around nothing that does not wait", () =>
    Effect.gen(function* () {
      const { route, see } = yield* routeOver({ names: ["a"] })
      let guarded = 0
      const guard: NonNullable<ReturnType<typeof call>["guard"]> = (self) => {
        guarded++
        return self
      }
      const waiting = yield* begin(route.next(call({ guard })))
      see("a", replica)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([nameOf(yield* Fiber.join(waiting)), guarded], ["a", 1])
      yield* route.next(call({ guard }))
      assert.strictEqual(guarded, 1)
    })
  )

  it.effect("once it is closing, callers are told so and nobody is asked", () =>
    Effect.gen(function* () {
      const { route, see, world } = yield* routeOver({ names: ["a"] })
      world.closing = true
      const error = errorOf(yield* Effect.exit(route.next(call())))
      assert.deepInclude(error, { _tag: "DatabaseUnavailable", pool: "fleet/replica", reason: "closed" })
      assert.strictEqual(world.looks, 0)
      see("a", replica)
      assert.deepStrictEqual(route.source.ask(), { serves: false })
    })
  )
})

describe("within one attempt", () => {
  it.effect("nobody is asked twice when nobody else can be", () =>
    Effect.gen(function* () {
      const { route, see, unseen } = yield* routeOver({ names: ["a", "b"] })
      see("a", replica)
      for (let n = 0; n < 2; n++) unseen("b")
      let runs = 0
      const exit = yield* Effect.exit(
        route.attempt(call(), () => {
          runs++
          return tagged("CircuitOpen")
        })
      )
      assert.deepStrictEqual([errorOf(exit)._tag, runs], ["CircuitOpen", 1])
    })
  )

  it.effect("another is looked for when the only one turns out not to fit any more", () =>
    Effect.gen(function* () {
      const { route, see, unseen, world } = yield* routeOver({ names: ["a", "b"] })
      see("a", replica)
      world.look = () => see("b", replica)
      const one = call()
      const attempt = yield* begin(
        route.attempt(one, (member) => {
          if (member.name === "b") return Effect.succeed("from b")
          unseen("a")
          return tagged("DatabaseUnavailable")
        })
      )
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(attempt), Exit.succeed("from b"))
      assert.deepStrictEqual(one.tried, ["a", "b"])
    })
  )

  it.effect("there are no more tries than servers, though each look finds one again", () =>
    Effect.gen(function* () {
      const { route, see, unseen, world } = yield* routeOver({ names: ["a", "b"] })
      for (const name of ["a", "b"]) see(name, replica)
      world.look = () => {
        for (const name of ["a", "b"]) see(name, replica)
      }
      let runs = 0
      const attempt = yield* begin(
        route.attempt(call(), (member) => {
          unseen(member.name)
          return ++runs > 50 ? Effect.die("endless") : tagged("DatabaseUnavailable")
        })
      )
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(errorOf(yield* Fiber.join(attempt))?._tag, "DatabaseUnavailable")
      assert.strictEqual(runs, 2)
    })
  )

  it.effect("a call without a deadline gives nobody one; one with a deadline splits it between those that fit", () =>
    Effect.gen(function* () {
      const { now, route, see, unseen } = yield* routeOver({ names: ["a", "b", "c"] })
      yield* TestClock.adjust("1 minute")
      for (const name of ["a", "b"]) see(name, replica)
      for (let n = 0; n < 2; n++) unseen("c")
      const told = (left?: () => number | undefined) =>
        Effect.gen(function* () {
          const untils: Array<number | undefined> = []
          yield* Effect.exit(
            route.attempt(call({ left }), (_, until) => {
              untils.push(until === undefined ? undefined : until - now())
              return tagged("AcquireTimeout")
            })
          )
          return untils
        })
      const none = [undefined, undefined]
      assert.deepStrictEqual(yield* told(), none)
      assert.deepStrictEqual(yield* told(() => undefined), none)
      assert.deepStrictEqual(yield* told(() => Infinity), none)
      assert.deepStrictEqual(yield* told(() => 8_000), [4_000, 8_000])
    })
  )

  it.effect("where it has been to is kept in order, and a server that is warm is not warmed again", () =>
    Effect.gen(function* () {
      const { members, route, see } = yield* routeOver({ names: ["a", "b"] })
      for (const name of ["a", "b"]) see(name, replica)
      const one = call({ tried: ["x"] })
      yield* Effect.exit(route.attempt(one, () => tagged("AcquireTimeout")))
      assert.deepStrictEqual(one.tried, ["x", "a", "b"])
      yield* route.attempt(call(), () => Effect.void)
      assert.strictEqual(members.get("a")!.warmed, 1)
      const alone = yield* routeOver({ names: ["a"], watched: false })
      const other = call({ tried: ["x"] })
      yield* alone.route.attempt(other, () => Effect.void)
      assert.deepStrictEqual(other.tried, ["x", "a"])
    })
  )

  it.effect("leaving soon proves nothing, at any hour of the clock", () =>
    Effect.gen(function* () {
      const { members, route, see } = yield* routeOver({ names: ["a"] })
      yield* TestClock.adjust("1 hour")
      see("a", replica)
      const attempt = yield* begin(route.attempt(call(), () => Effect.never))
      yield* TestClock.adjust(499)
      yield* Fiber.interrupt(attempt)
      assert.strictEqual(members.get("a")!.triggered, 0)
    })
  )

  it.effect("a server that nobody looks at is tried like any other", () =>
    Effect.gen(function* () {
      const { route, see } = yield* routeOver({ names: ["a"], probes: false })
      see("a", replica)
      assert.strictEqual(
        errorOf(yield* Effect.exit(route.attempt(call(), () => tagged("CircuitOpen"))))._tag,
        "CircuitOpen"
      )
      const attempt = yield* begin(route.attempt(call(), () => Effect.never))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(attempt)
      const left = yield* Fiber.await(attempt)
      assert.isTrue(Exit.hasInterrupts(left) && !Exit.hasDies(left))
    })
  )
})

describe("conflicts with recovery", () => {
  const failing = (error: unknown) => () => Effect.fail(error)

  it.effect("send a call to the primary, wherever it stands in the list", () =>
    Effect.gen(function* () {
      const { route, see } = yield* routeOver({ names: ["r", "p"], want: { role: "replica", fallback: "primary" } })
      see("p", primary)
      see("r", replica)
      const one = call({ conflicts: 1 })
      yield* Effect.exit(route.attempt(one, failing(conflict)))
      one.tried.length = 0
      assert.strictEqual((yield* route.next(one)).name, "p")
    })
  )

  it.effect("are counted where the primary may serve, and nothing else is", () =>
    Effect.gen(function* () {
      const conflictsAfter = (error: unknown, fallback?: "primary") =>
        Effect.gen(function* () {
          const { route, see } = yield* routeOver({ names: ["r"], want: { role: "replica", fallback } })
          see("r", replica)
          const one = call()
          for (let n = 0; n < 3; n++) yield* Effect.exit(route.attempt(one, failing(error)))
          return [one.conflicts, one.primary]
        })
      assert.deepStrictEqual(yield* conflictsAfter(conflict), [undefined, undefined])
      assert.deepStrictEqual(yield* conflictsAfter(shutDown, "primary"), [undefined, undefined])
    })
  )
})

describe("for health", () => {
  it.effect("shows its servers, each with its pool", () =>
    Effect.gen(function* () {
      const { route, see } = yield* routeOver({ names: ["a", "b"] })
      see("a", replica)
      const nodes = route.source.nodes()
      assert.deepStrictEqual(
        nodes.map(({ name, role, state }) => [name, role, state]),
        [
          ["a", "replica", "up"],
          ["b", "unknown", "unknown"]
        ]
      )
      assert.deepInclude(nodes[0]?.pool, { idle: 1, leased: 2, waiting: 4 })
    })
  )

  it.effect("a role that has no server yet has none of its own either", () =>
    Effect.gen(function* () {
      const { route } = yield* routeOver({ names: [], watched: false })
      assert.isUndefined(route.only)
      assert.deepStrictEqual(route.source.ask(), { serves: false })
    })
  )
})
