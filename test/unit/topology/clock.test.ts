/** A wall clock that is set back stops neither the looks nor what they prove. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Probe from "../../../packages/sdk/src/topology/Probe.ts"
import * as Topology from "../../../packages/sdk/src/topology/Topology.ts"
import { forwardMillis } from "../../../packages/sdk/src/internal/Forward.ts"

const hour = 3_600_000

/** The test's clock with a wall clock that can be moved. */
const movable = Effect.map(Clock.Clock, (clock) => {
  const wall = { moved: 0 }
  const moved: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + wall.moved
  })
  return { wall, provide: Effect.provideService(Clock.Clock, moved), moved }
})

describe("a wall clock that is set back by an hour", () => {
  it.effect("does not keep a probe from looking", () =>
    Effect.gen(function* () {
      const { provide, wall } = yield* movable
      let looks = 0
      yield* provide(
        Probe.make({
          look: Effect.sync(() => ++looks),
          schedule: Schedule.spaced("1 second"),
          onResult: () => {}
        })
      )
      yield* TestClock.adjust("3 seconds")
      wall.moved = -hour
      const before = looks
      yield* TestClock.adjust("5 seconds")
      assert.isAtLeast(looks - before, 4)
    })
  )

  it.effect("does not make old evidence win over new", () =>
    Effect.gen(function* () {
      const { moved, provide, wall } = yield* movable
      const topology = yield* provide(Topology.make())
      const now = () => forwardMillis(moved)
      topology.add({ name: "a", outstanding: () => 0, canServeNow: () => true })
      topology.observed("a", { at: now(), inRecovery: false, readOnly: false })
      assert.strictEqual(topology.primary?.name, "a")
      wall.moved = -hour
      yield* TestClock.adjust("1 second")
      topology.observed("a", { at: now(), inRecovery: true, readOnly: true })
      assert.isUndefined(topology.primary)
      yield* TestClock.adjust("11 seconds")
      assert.isFalse(topology.serves({ role: "replica" }), "what nobody has renewed for 11 seconds counts no more")
    })
  )
})
