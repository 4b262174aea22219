/** The one timer of the policies: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { after } from "../../../packages/sdk/src/policy/Time.ts"

describe("a timer by another clock", () => {
  it.effect("calls back once at its time, and not at all once it was taken back", () =>
    Effect.gen(function* () {
      let calls = 0
      yield* Effect.withFiber((fiber) => {
        after(fiber, 1_000, () => calls++)
        after(fiber, 500, () => (calls += 100))()
        return Effect.void
      })
      yield* TestClock.adjust(999)
      assert.strictEqual(calls, 0)
      yield* TestClock.adjust(10_000)
      assert.strictEqual(calls, 1)
    })
  )

  it.effect("of a time that is no number never calls back", () =>
    Effect.gen(function* () {
      let calls = 0
      yield* Effect.withFiber((fiber) => Effect.sync(() => after(fiber, Number.NaN, () => calls++)))
      yield* TestClock.adjust("1 day")
      assert.strictEqual(calls, 0)
    })
  )
})
