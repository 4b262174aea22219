/** The one timer of the policies: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { live } from "../../../packages/sdk/src/internal/Monotonic.ts"
import { after } from "../../../packages/sdk/src/policy/Time.ts"

const longest = 2 ** 31 - 1

/** What `use` asks of Node's timers, none of which is started. */
const timersOf = (use: () => void) => {
  const { clearTimeout, setTimeout } = globalThis
  const set: Array<readonly [callback: unknown, millis: number | undefined]> = []
  const cleared: Array<unknown> = []
  globalThis.setTimeout = ((callback: unknown, millis?: number) => set.push([callback, millis])) as never
  globalThis.clearTimeout = ((timer: unknown) => cleared.push(timer)) as never
  try {
    use()
  } finally {
    Object.assign(globalThis, { clearTimeout, setTimeout })
  }
  return { set, cleared }
}

describe("a timer by the live clock", () => {
  const onLive = (use: (fiber: Fiber.Fiber<unknown, unknown>) => void) =>
    Effect.withFiber((fiber) => Effect.sync(() => use(fiber))).pipe(Effect.provideService(Clock.Clock, live))
  const callback = () => {}

  it.effect("is a plain one that never fires early, up to the longest that there is", () =>
    onLive((fiber) => {
      for (const [millis, asked] of [
        [0.4, 1],
        [7, 7],
        [-5, 0],
        [longest, longest]
      ] as const) {
        const { set } = timersOf(() => after(fiber, millis, callback))
        assert.deepStrictEqual(set, [[callback, asked]], `${millis} milliseconds`)
      }
    })
  )

  it.effect("does not ask for more than the longest: that would fire at once", () =>
    onLive((fiber) => {
      const { set } = timersOf(() => after(fiber, longest + 1, callback)())
      for (const [, millis] of set) assert.isAtMost(millis ?? 0, longest)
    })
  )

  it.effect("is taken back", () =>
    onLive((fiber) => {
      const { cleared } = timersOf(() => after(fiber, 1_000, callback)())
      assert.deepStrictEqual(cleared, [1])
    })
  )
})

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
