/** Permits that are held and the pace at which they come back: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import { errorOf } from "./support.ts"

const begin = (bulkhead: Bulkhead.Bulkhead, millis: number) =>
  Effect.forkChild(Effect.exit(bulkhead.withPermit(Effect.sleep(millis))), { startImmediately: true })

/** When a call that is refused now is told to come back. */
const comeBack = (bulkhead: Bulkhead.Bulkhead) =>
  Effect.map(Effect.exit(bulkhead.withPermit(Effect.void)), (exit) => {
    const error = errorOf(exit)
    assert.strictEqual(error?._tag, "Overloaded")
    return error?.retryAfterMillis
  })

describe("who is refused is told when to come back", () => {
  it.effect("at the pace at which permits came back while all were in use, after those who wait", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const bulkhead = Bulkhead.make({ key: "b", permits: 1, queue: 1 })
      const work = (millis: number) =>
        Effect.gen(function* () {
          yield* begin(bulkhead, millis)
          yield* TestClock.adjust(millis)
        })
      yield* work(100)
      yield* begin(bulkhead, 100)
      yield* begin(bulkhead, 201)
      assert.isUndefined(yield* comeBack(bulkhead), "of one permit no pace is known")
      yield* TestClock.adjust(100)
      yield* begin(bulkhead, 1_000)
      assert.strictEqual(yield* comeBack(bulkhead), 2 * 100, "one waits")
      yield* TestClock.adjust(201)
      // Whatever was last changes it a little.
      yield* begin(bulkhead, 1_000)
      assert.strictEqual(yield* comeBack(bulkhead), Math.ceil(2 * (100 + 0.2 * (201 - 100))))
    })
  )

  it.effect("a time in which permits were free says nothing of the pace", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "b", permits: 2 })
      yield* begin(bulkhead, 100)
      yield* begin(bulkhead, 5_000)
      yield* TestClock.adjust(5_000)
      yield* begin(bulkhead, 100)
      yield* begin(bulkhead, 1_000)
      yield* TestClock.adjust(100)
      yield* begin(bulkhead, 1_000)
      assert.isUndefined(yield* comeBack(bulkhead))
    })
  )
})

describe("a permit that work behind its caller holds", () => {
  /** A call that gives its holder away, and ends when it is told to. */
  const call = (bulkhead: Bulkhead.Bulkhead) =>
    Effect.gen(function* () {
      let holder: Background.Holder | undefined
      const fiber = yield* Effect.forkChild(
        bulkhead.withPermit(
          Effect.withFiber((own) => {
            holder = own.getRef(Background.CurrentHolder)
            return Effect.never
          })
        ),
        { startImmediately: true }
      )
      return { holder: holder!, end: Fiber.interrupt(fiber) }
    })
  const use = (bulkhead: Bulkhead.Bulkhead) => {
    const { draining, inUse } = bulkhead.stats()
    return { draining, inUse }
  }

  it.effect("comes back when the last of it has ended, once", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "b", permits: 2 })
      const { end, holder } = yield* call(bulkhead)
      const [first, second] = [holder.hold(), holder.hold()]
      yield* end
      assert.deepStrictEqual(use(bulkhead), { draining: 1, inUse: 1 })
      first()
      first()
      assert.deepStrictEqual(use(bulkhead), { draining: 1, inUse: 1 })
      second()
      assert.deepStrictEqual(use(bulkhead), { draining: 0, inUse: 0 })
      second()
      assert.deepStrictEqual(use(bulkhead), { draining: 0, inUse: 0 })
    })
  )

  it.effect("stays with the caller when that work ends before it", () =>
    Effect.gen(function* () {
      const bulkhead = Bulkhead.make({ key: "b", permits: 2 })
      const { end, holder } = yield* call(bulkhead)
      holder.hold()()
      assert.deepStrictEqual(use(bulkhead), { draining: 0, inUse: 1 })
      yield* end
      assert.deepStrictEqual(use(bulkhead), { draining: 0, inUse: 0 })
    })
  )
})
