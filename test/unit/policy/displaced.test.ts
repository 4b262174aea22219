/** A waiter that is displaced, and is back in the same step. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"

describe("a waiter that is displaced and comes back at once", () => {
  it.live("does not make the queue longer than it may be", () =>
    Effect.sync(() => {
      const bulkhead = Bulkhead.make({ key: "k", permits: 1, queue: 1 })
      const as = (priority: number) => Effect.provideService(Caller.Current, { priority })
      Effect.runFork(bulkhead.withPermit(Effect.never))
      const low = bulkhead.withPermit(Effect.never).pipe(as(1))
      Effect.runFork(Effect.catch(low, () => low))
      Effect.runFork(bulkhead.withPermit(Effect.never).pipe(as(5)))
      assert.isAtMost(bulkhead.stats().waiting, 1)
    })
  )
})
