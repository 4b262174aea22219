/** A caller that goes without a session while it holds one itself is told so, and nobody else is. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as SharedLane from "../../../packages/sdk/src/pool/SharedLane.ts"
import * as Surrounding from "../../../packages/sdk/src/pool/Surrounding.ts"
import { FakeServer } from "./FakeSession.ts"
import { failure, type FakePool, hold, makePool, request, start, told } from "./fixture.ts"

/** What one more caller is told. */
const refused = (pool: FakePool) =>
  Effect.map(failure(hold(pool, 1)), (error) => {
    assert.isTrue(error._tag === "AcquireTimeout")
    return error._tag === "AcquireTimeout" ? error : undefined
  })

const short = { max: 2, acquireTimeout: "1 second" } as const

describe("a caller that waits", () => {
  const holding: Readonly<Record<string, (pool: FakePool) => Effect.Effect<number | undefined>>> = {
    "in the fiber that holds one": (pool) =>
      Effect.orDie(pool.use(request, () => Effect.map(refused(pool), (error) => error?.heldByCaller))),
    "in the scope of one": (pool) =>
      Effect.orDie(Effect.scoped(Effect.andThen(pool.acquire(request), refused(pool)))).pipe(
        Effect.map((error) => error?.heldByCaller)
      ),
    "in a fiber that was forked in the scope of one, and detached": (pool) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* pool.acquire(request)
          const fiber = yield* Effect.forkDetach(refused(pool))
          return (yield* Fiber.join(fiber))?.heldByCaller
        })
      ).pipe(Effect.orDie),
    "inside of a transaction, in a fiber of its own": (pool) =>
      Effect.gen(function* () {
        // As a client does it: the lease has a scope of its own, and the context says what was leased.
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(pool.acquire(request), scope)
        const around = { session } as unknown as Surrounding.Transaction
        const inside = yield* Effect.forkDetach(Effect.provideService(refused(pool), Surrounding.Current, around))
        const error = yield* Fiber.join(inside)
        yield* Scope.close(scope, Fiber.await(inside) as never)
        return error?.heldByCaller
      }).pipe(Effect.orDie)
  }
  for (const [where, told] of Object.entries(holding)) {
    it.effect(where, () =>
      Effect.gen(function* () {
        const pool = yield* makePool(new FakeServer(), short)
        yield* start(hold(pool, 60_000, { name: "another" }))
        const fiber = yield* start(told(pool))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(fiber), 1)
      })
    )
  }

  it.effect("says it in the error's text, and the pool says it in its event", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), { ...short, max: 1 })
      const fiber = yield* start(pool.use(request, () => refused(pool)))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(fiber)
      assert.include(error!.message, "; 1 held by the caller itself while it waits")
      assert.deepInclude(
        events.find(({ _tag }) => _tag === "AcquireTimedOut"),
        { heldByCaller: 1 }
      )
    })
  )

  it.effect("is told nothing of what others hold: another fiber, another scope, another pool, one given back", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), { ...short, max: 1 })
      const elsewhere = yield* makePool(new FakeServer())
      yield* pool.use(request, () => Effect.void)
      yield* Effect.scoped(pool.acquire(request))
      yield* start(Effect.scoped(Effect.andThen(pool.acquire(request), Effect.never)))
      const fiber = yield* start(
        Effect.scoped(
          Effect.andThen(
            elsewhere.acquire(request),
            elsewhere.use(request, () => refused(pool))
          )
        )
      )
      const alone = yield* start(Effect.scoped(Effect.andThen(elsewhere.acquire(request), refused(pool))))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(alone)
      assert.isUndefined(error!.heldByCaller)
      assert.notInclude(error!.message, "caller itself")
      assert.notProperty(
        events.find(({ _tag }) => _tag === "AcquireTimedOut"),
        "heldByCaller"
      )
      yield* Fiber.interrupt(fiber)
    })
  )
})

describe("a refusal at a full queue", () => {
  it.effect("tells what the pool's sessions are doing, and who holds them", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 2, maxWaiting: 1, lanes: { batch: { cap: 1 } } })
      yield* start(hold(pool, 60_000, { lane: "batch", name: "export" }))
      yield* TestClock.adjust("3 seconds")
      yield* start(hold(pool, 60_000, { lane: "batch", name: "import" }))
      const error = yield* failure(hold(pool, 1, { lane: "batch" }))
      assert.isTrue(error._tag === "Overloaded")
      assert.deepStrictEqual(error._tag === "Overloaded" ? error.sessions : undefined, {
        pool: pool.name,
        counts: { idle: 0, leased: 1, connecting: 0, draining: 0, waiting: 1, max: 2 },
        holders: [{ name: "export", lane: "batch", heldMillis: 3_000 }]
      })
    })
  )

  it.effect("of a shared lane does so too, and so does its AcquireTimeout", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer(), { max: 1 })
      const use = yield* SharedLane.make(pool as any, {
        lane: "short",
        sessions: 1,
        statements: 4,
        silence: 100,
        slow: 20,
        hold: 1_000,
        maxWaiting: 1
      })
      const asking = { lane: "short", name: "r", deadline: 2_000 }
      const holder = yield* start(
        pool.use({ ...request, name: "export" }, () => Effect.flip(use(asking, () => Effect.void)))
      )
      yield* TestClock.adjust("1 second")
      const full = yield* Effect.flip(use(asking, () => Effect.void))
      assert.isTrue(full._tag === "Overloaded")
      assert.deepStrictEqual(full._tag === "Overloaded" ? full.sessions?.holders : undefined, [
        { name: "export", lane: "report", heldMillis: 1_000 }
      ])
      yield* TestClock.adjust("1 second")
      const late = yield* Fiber.join(holder)
      assert.deepInclude(late, { _tag: "AcquireTimeout", heldByCaller: 1 })
      assert.deepStrictEqual(late._tag === "AcquireTimeout" ? late.holders : undefined, [
        { name: "export", lane: "report", heldMillis: 2_000 }
      ])
    })
  )
})
