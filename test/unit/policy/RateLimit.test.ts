import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import { Overloaded } from "../../../packages/sdk/src/ReportError.ts"
import { random, recorder, seeds } from "./support.ts"

const errorOf = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert(Exit.isFailure(exit))
  const error = Cause.findErrorOption(exit.cause)
  assert(error._tag === "Some")
  return error.value
}

describe("RateLimit", () => {
  it.effect("lets a burst through, then one each interval, and says when to come back", () =>
    Effect.gen(function* () {
      const limit = RateLimit.make({ key: "k", limit: 4, window: 1000, burst: 2 })
      const { listen, named } = recorder()
      yield* limit.run(Effect.void)
      yield* limit.run(Effect.void)
      const error = errorOf(yield* Effect.exit(listen(limit.run(Effect.void))))
      assert.instanceOf(error, Overloaded)
      assert.deepInclude(error, { policy: "rate-limit", key: "k", limit: 4, retryAfterMillis: 250 })
      assert.strictEqual(named("refused").length, 1)
      yield* TestClock.adjust(250)
      yield* limit.run(Effect.void)
      assert.instanceOf(errorOf(yield* Effect.exit(limit.run(Effect.void))), Overloaded)
    })
  )

  it.effect("tenants do not use up each other's tokens", () =>
    Effect.gen(function* () {
      const limit = RateLimit.make({ key: "k", limit: 1, window: "1 minute", perTenant: true })
      const as = (tenant: string) => Effect.provideService(limit.run(Effect.void), Caller.Current, { tenant })
      yield* as("a")
      yield* as("b")
      assert.instanceOf(errorOf(yield* Effect.exit(as("a"))), Overloaded)
    })
  )

  it.effect("waits in turn for as long as declared, never beyond the deadline; who leaves gives the token back", () =>
    Effect.gen(function* () {
      const limit = RateLimit.make({ key: "k", limit: 1, window: 100, maxWait: 250 })
      const call = limit.run(Clock.currentTimeMillis)
      assert.strictEqual(yield* call, 0)
      const hurried = Deadline.within(call, { key: "d", duration: 50 })
      assert.instanceOf(errorOf(yield* Effect.exit(hurried)), Overloaded)
      const first = yield* Effect.forkChild(call)
      const second = yield* Effect.forkChild(call)
      yield* TestClock.adjust(1)
      assert.instanceOf(errorOf(yield* Effect.exit(call)), Overloaded)
      yield* Fiber.interrupt(first)
      const third = yield* Effect.forkChild(call)
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(second), 200)
      assert.isAtMost(yield* Fiber.join(third), 300)
    })
  )

  it.effect("a burst is exactly a burst, late in the life of a process and at awkward rates too", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust(123_456_789)
      for (const burst of [1, 2, 3, 7, 10]) {
        for (const limit of [1, 3, 7, 11, 97]) {
          const policy = RateLimit.make({ key: "k", limit, window: 1000, burst })
          let begun = 0
          for (let index = 0; index < 20; index++) yield* Effect.exit(policy.run(Effect.sync(() => begun++)))
          assert.strictEqual(begun, burst, `burst ${burst}, limit ${limit}`)
        }
      }
    })
  )

  it.effect("property: in no window do more calls begin than its rate and one burst", () =>
    Effect.gen(function* () {
      for (const seed of seeds(50)) {
        const { int, next } = random(seed)
        const options = { key: "k", limit: 1 + int(20), window: 1000, burst: 1 + int(10) }
        const limit = RateLimit.make(options)
        const begun: Array<number> = []
        const call = limit.run(Effect.map(Clock.currentTimeMillis, (at) => begun.push(at)))
        for (let step = 0; step < 100; step++) {
          yield* Effect.exit(call)
          if (next() < 0.3) yield* TestClock.adjust(int(200))
        }
        for (const from of begun) {
          for (const length of [100, 1000]) {
            const inside = begun.filter((at) => at >= from && at < from + length).length
            const allowed = options.burst + Math.ceil((options.limit * length) / 1000)
            if (inside > allowed) assert.fail(`seed ${seed}: ${inside} of ${allowed} in ${length} ms`)
          }
        }
        assert.isAbove(begun.length, 1)
      }
    })
  )

  it.effect("forgets tenants whose bucket is full again", () =>
    Effect.gen(function* () {
      const limit = RateLimit.make({ key: "k", limit: 1, window: 10, perTenant: true })
      for (let tenant = 0; tenant < 5000; tenant++) {
        yield* Effect.provideService(limit.run(Effect.void), Caller.Current, { tenant: String(tenant) })
        yield* TestClock.adjust(1)
      }
      assert.strictEqual(limit.describe.windowMillis, 10)
      assert.isAtMost(limit.tenants(), 1100)
    })
  )
})
