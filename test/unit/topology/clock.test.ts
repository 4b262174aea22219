/** A wall clock that is set, by hours, while servers are watched: nobody is taken for dead, and nobody is trusted for longer. */
import { assert, describe, it } from "@effect/vitest"
import type { Session } from "@sluice/sdk/pool/Session"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Health from "../../../packages/sdk/src/topology/Health.ts"
import * as Look from "../../../packages/sdk/src/topology/Look.ts"
import * as Probe from "../../../packages/sdk/src/topology/Probe.ts"
import * as Topology from "../../../packages/sdk/src/topology/Topology.ts"
import { lost } from "./support.ts"

const hour = 3_600_000

/** The test's clock, whose wall time can be set. */
const movable = Effect.map(Clock.Clock, (clock) => {
  const state = { moved: 0 }
  const wall = () => clock.currentTimeMillisUnsafe() + state.moved
  const moving: Clock.Clock = { ...clock, currentTimeMillisUnsafe: wall, currentTimeMillis: Effect.sync(wall) }
  return { state, moving }
})

describe("a wall clock that is set", () => {
  for (const by of [-6 * hour, 6 * hour]) {
    it.effect(`by ${by / hour} hours neither stops the looks nor outdates what they say`, () =>
      Effect.gen(function* () {
        const { moving, state } = yield* movable
        let standby = true
        let dead = false
        let looks = 0
        const session = {
          query: () => Effect.suspend(() => (looks++, Effect.succeed({ rows: [{ in_recovery: standby }] })))
        } as unknown as Session
        yield* Effect.gen(function* () {
          const topology = yield* Topology.make<Topology.Member>()
          topology.add({ name: "a", outstanding: () => 0, canServeNow: () => true })
          const ask = Look.asker("everything")
          yield* Probe.make({
            look: Effect.suspend(() => (dead ? Effect.never : Effect.orDie(ask(session)))),
            timeout: "500 millis",
            schedule: Schedule.spaced("1 second"),
            onResult: (at, exit) =>
              Exit.isSuccess(exit) ? topology.observed("a", exit.value) : topology.failed("a", { at, error: lost })
          })
          yield* TestClock.adjust("5 seconds")
          assert.isDefined(topology.pick({ role: "replica" }))
          const before = looks
          state.moved = by
          assert.isDefined(topology.pick({ role: "replica" }), "what was seen a moment ago still holds")
          standby = false
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(looks, before + 5)
          assert.strictEqual(topology.primary?.name, "a")
          const events: Array<number> = []
          topology.onChange(({ at }) => void events.push(at))
          dead = true
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(topology.get("a")?.state.phase, "down")
          // What people are shown is the time of their clock.
          assert.isNotEmpty(events)
          for (const at of events) assert.isBelow(Math.abs(at - moving.currentTimeMillisUnsafe()), 60_000)
        }).pipe(Effect.provideService(Clock.Clock, moving))
      })
    )

    it.effect(`by ${by / hour} hours makes nobody ready or unready sooner or later`, () =>
      Effect.gen(function* () {
        const { moving, state } = yield* movable
        let serves = true
        yield* Effect.gen(function* () {
          const health = yield* Health.make({ unreadyAfter: "2 seconds", readyAfter: "1 second" })
          yield* health.register({ name: "fleet/primary", ask: () => ({ serves }), nodes: () => [] })
          yield* TestClock.adjust("1 minute")
          assert.isTrue((yield* health.readiness).ready)
          serves = false
          yield* TestClock.adjust("500 millis")
          state.moved = by
          yield* TestClock.adjust("1 second")
          assert.isTrue((yield* health.readiness).ready)
          yield* TestClock.adjust("1 second")
          const { ready, since } = yield* health.readiness
          assert.isFalse(ready)
          assert.isBelow(Math.abs(since - moving.currentTimeMillisUnsafe()), 5_000)
        }).pipe(Effect.provideService(Clock.Clock, moving))
      })
    )
  }
})
