/** Names whose resolver is slow, wrong or undecided. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { nameOf, type Place } from "../../../packages/sdk/src/DatabaseOptions.ts"
import * as Names from "../../../packages/sdk/src/topology/Names.ts"

const place: Place = { host: "db.test", port: 5432 } as Place
const server = (address: string): string => nameOf({ ...place, address })

/** Servers that take `draining` milliseconds to go. */
const makeNames = (lookup: () => Effect.Effect<any, unknown>, draining = 10_000) =>
  Effect.gen(function* () {
    const servers = new Map<string, "present" | "draining">()
    const scope = yield* Effect.scope
    const names = yield* Names.make({
      resolver: { lookup },
      schedule: Schedule.spaced("15 seconds"),
      scheduleUnwell: Schedule.spaced("1 second"),
      isWell: () => true,
      has: (name) => servers.get(name) ?? "absent",
      // Some time passes until it is there.
      add: (each) =>
        Effect.andThen(
          Effect.sleep(1),
          Effect.sync(() => void servers.set(nameOf(each), "present"))
        ),
      look: () => Effect.void,
      remove: (name) =>
        Effect.suspend(() => {
          if (servers.get(name) !== "present") return Effect.void
          servers.set(name, "draining")
          const gone = Effect.andThen(
            Effect.sleep(draining),
            Effect.sync(() => void servers.delete(name))
          )
          return Effect.asVoid(Effect.forkIn(gone, scope))
        }),
      onLookup: () => {}
    })
    const present = () => [...servers].flatMap(([name, state]) => (state === "present" ? [name] : [])).sort()
    return { names, present, servers }
  })

/** Follows the name, while a little time passes. */
const followed = (names: Names.Names) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(names.follow(place), { startImmediately: true })
    yield* TestClock.adjust(10)
    return fiber
  })

describe("the servers of a name", () => {
  it.effect("one that comes back while it is being drained: the one in its place serves until it is there", () =>
    Effect.gen(function* () {
      let found = ["10.0.0.1"]
      const { names, present } = yield* makeNames(() => Effect.sync(() => found))
      yield* followed(names)
      assert.deepStrictEqual(present(), [server("10.0.0.1")])
      found = ["10.0.0.2"]
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(present(), [server("10.0.0.2")])
      found = ["10.0.0.1"]
      for (let second = 0; second < 25; second++) {
        yield* TestClock.adjust("1 second")
        names.trigger()
        assert.isNotEmpty(present(), `after ${second} seconds`)
      }
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(present(), [server("10.0.0.1")])
    })
  )

  it.effect("an answer that flips every time leaves no servers behind", () =>
    Effect.gen(function* () {
      let asked = 0
      const { names, present, servers } = yield* makeNames(
        () => Effect.sync(() => [`10.0.0.${(asked++ % 3) + 1}`]),
        2_000
      )
      yield* followed(names)
      for (let turn = 0; turn < 300; turn++) {
        names.trigger()
        yield* TestClock.adjust("500 millis")
        assert.isNotEmpty(present())
        assert.isAtMost(servers.size, 3)
      }
    })
  )

  for (const [what, lookup] of [
    [
      "throws",
      () => {
        throw new Error("no")
      }
    ],
    ["never answers", () => Effect.never],
    ["never answers, and cannot be interrupted", () => Effect.uninterruptible(Effect.never)],
    ["dies", () => Effect.die("no")],
    ["gives nothing", () => Effect.succeed([])],
    ["gives no list", () => Effect.succeed(undefined)],
    ["gives a list of nothing", () => Effect.succeed([undefined, null, "", 4])]
  ] as ReadonlyArray<readonly [string, () => Effect.Effect<any, unknown>]>) {
    it.effect(`a resolver that ${what}: the name itself is the server, and is looked up again`, () =>
      Effect.gen(function* () {
        let now = lookup
        const { names, present } = yield* makeNames(() => now())
        const following = yield* followed(names)
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(following.pollUnsafe()?._tag, "Success")
        assert.deepStrictEqual(present(), [nameOf(place)])
        now = () => Effect.succeed(["10.0.0.1", "10.0.0.1", "10.0.0.2"])
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(present(), [server("10.0.0.1"), server("10.0.0.2")])
      })
    )
  }

  it.effect("a name that is forgotten while its answer is being put into effect has no servers", () =>
    Effect.gen(function* () {
      const { names, present } = yield* makeNames(() => Effect.succeed(["10.0.0.1", "10.0.0.2"]))
      const following = yield* Effect.forkChild(names.follow(place), { startImmediately: true })
      const forgetting = yield* Effect.forkChild(names.forget(nameOf(place)), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      assert.isDefined(following.pollUnsafe())
      assert.isDefined(forgetting.pollUnsafe())
      assert.deepStrictEqual(present(), [])
    })
  )
})
