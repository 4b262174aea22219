/**
 * How a pool connects, fails to, and gives up, to the attempt and the millisecond: each was once a mutant that nobody
 * noticed.
 *
 * The clock does not begin at nought here, so that an instant is not mistaken for an age.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { FakeServer } from "./FakeSession.ts"
import { hold, start, told } from "./fixture.ts"

const begin = TestClock.adjust("1000 seconds")

describe("a connect that fails", () => {
  it.effect("by interrupting itself is a failed connect like any other, not a loop without a pause", () =>
    Effect.gen(function* () {
      yield* begin
      const server = new FakeServer()
      let attempts = 0
      // Bounded, for without a pause this test would never end.
      const connect = Effect.suspend(() => (++attempts < 1_000 ? Effect.interrupt : server.connect))
      const { events, pool } = yield* told(server, { max: 1, connect })
      yield* start(Effect.exit(hold(pool, 0)))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(attempts > 1 && attempts < 60, `${attempts} attempts`)
      assert.isTrue(events.some(({ _tag }) => _tag === "Down"))
    })
  )
})
