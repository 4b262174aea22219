/** What the pool tells and counts, and the words of its failures: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as TestClock from "effect/testing/TestClock"
import * as Connector from "../../../packages/sdk/src/pool/Connector.ts"
import type { PoolEvent } from "../../../packages/sdk/src/pool/PoolEvents.ts"
import { Deadlines } from "../../../packages/sdk/src/internal/Deadlines.ts"
import { Ticket } from "../../../packages/sdk/src/pool/Waiters.ts"
import { FakeServer, lost } from "./FakeSession.ts"
import { failure, hold, request, start, told } from "./fixture.ts"

describe("what a pool tells", () => {
  it.effect("of its sessions: opened, moved on, suspended, resized, resumed", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.connectMillis = 40
      yield* TestClock.adjust(1_000)
      const { events, pool } = yield* told(server, { max: 2 })
      const fiber = yield* start(hold(pool, 100))
      yield* TestClock.adjust(200)
      yield* Fiber.join(fiber)
      yield* pool.evictAll
      yield* pool.suspend
      yield* pool.suspend
      yield* pool.resize({ min: 0, max: 4 })
      yield* pool.resume
      yield* pool.resume
      const seen = events.filter(({ _tag }) => _tag !== "SessionClosed")
      assert.deepStrictEqual(seen, [
        { _tag: "SessionOpened", session: 1, connectMillis: 40 },
        { _tag: "GenerationMoved", generation: 1, reason: "evicted" },
        { _tag: "Suspended" },
        { _tag: "Resized", min: 0, max: 4 },
        { _tag: "Resumed" }
      ] as ReadonlyArray<PoolEvent>)
    })
  )

  it.effect(
    "of a server that is down and comes back: each failure, the pause until the next, and how long it took",
    () =>
      Effect.gen(function* () {
        const server = new FakeServer()
        server.down = lost("refused", "ECONNREFUSED")
        yield* TestClock.adjust(5_000)
        const { events, pool } = yield* told(server, { max: 1 })
        const waiting = yield* start(Effect.exit(hold(pool, 0, { deadline: 60_000 })))
        yield* TestClock.adjust(300)
        const failed = events.filter((event) => event._tag === "ConnectFailed")
        assert.isAtLeast(failed.length, 1)
        failed.forEach((event, index) => {
          assert.deepInclude(event, {
            failures: index + 1,
            kind: "transient",
            error: { tag: "ConnectionError", message: "refused", sqlState: "ECONNREFUSED" }
          })
          assert.isTrue(event.retryInMillis > 0 && event.retryInMillis < 10_000, `${event.retryInMillis} ms`)
        })
        assert.lengthOf(
          events.filter(({ _tag }) => _tag === "Down"),
          1
        )
        server.down = undefined
        yield* TestClock.adjust(30_000)
        yield* Fiber.join(waiting)
        const up = events.find((event) => event._tag === "Up")
        assert.isTrue(up?._tag === "Up" && up.downMillis > 0 && up.downMillis <= 30_300)
        assert.deepInclude((yield* pool.stats).counters, { connects: 1, connectFailures: failed.length })
      })
  )

  it.effect("of leases: how long they were waited for and held", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust(7_000)
      const { leases, pool } = yield* told(new FakeServer(), { max: 1, lanes: { batch: {} } })
      const first = yield* start(hold(pool, 100))
      const second = yield* start(hold(pool, 50, { lane: "batch" }))
      yield* TestClock.adjust(1_000)
      yield* Effect.all([Fiber.join(first), Fiber.join(second)])
      yield* hold(pool, 0)
      assert.deepStrictEqual(leases, [
        ["acquire", "report", 0],
        ["release", "report", 100],
        ["acquire", "batch", 100],
        ["release", "batch", 50],
        ["acquire", "report", 0],
        ["release", "report", 0]
      ])
      assert.deepInclude((yield* pool.stats).counters, { acquired: 3, waited: 2, abandonedWaits: 0, connects: 1 })
    })
  )

  it.effect("of those that were not served: late, one too many, gone", () =>
    Effect.gen(function* () {
      const { events, pool } = yield* told(new FakeServer(), {
        max: 1,
        maxWaiting: 2,
        lanes: { batch: { maxWaiting: 1 } }
      })
      yield* start(hold(pool, 10_000))
      const late = yield* start(failure(hold(pool, 0, { lane: "batch", deadline: 100 })))
      const full = yield* failure(hold(pool, 0, { lane: "batch" }))
      assert.deepInclude(full, { _tag: "Overloaded", limit: 1 })
      const gone = yield* start(hold(pool, 0))
      const more = yield* failure(hold(pool, 0))
      assert.deepInclude(more, { _tag: "Overloaded", limit: 2 })
      yield* Fiber.interrupt(gone)
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* Fiber.join(late))._tag, "AcquireTimeout")
      const refusals = events.filter(({ _tag }) => _tag === "Overloaded" || _tag === "AcquireTimedOut")
      assert.deepStrictEqual(refusals, [
        { _tag: "Overloaded", lane: "batch", waiting: 1 },
        { _tag: "Overloaded", lane: "report", waiting: 2 },
        { _tag: "AcquireTimedOut", lane: "batch", reason: "all-leased", waitedMillis: 100 }
      ] as ReadonlyArray<PoolEvent>)
      assert.deepInclude((yield* pool.stats).counters, { overloaded: 2, acquireTimeouts: 1, abandonedWaits: 1 })
    })
  )

  it.effect("stacks of leases as often as declared, and none by default", () =>
    Effect.gen(function* () {
      const stacks = (stackEvery: number | undefined) =>
        Effect.gen(function* () {
          const leakDetection = { threshold: "1 second", ...(stackEvery === undefined ? {} : { stackEvery }) } as const
          const { events, pool } = yield* told(new FakeServer(), { max: 9, leakDetection })
          for (let n = 0; n < 4; n++) yield* start(pool.use(request, () => Effect.sleep("1 minute")))
          yield* TestClock.adjust("10 seconds")
          return events.flatMap((event) => (event._tag === "LeakSuspected" ? [event.holder.stack !== undefined] : []))
        })
      assert.deepStrictEqual(yield* stacks(undefined), [false, false, false, false])
      assert.deepStrictEqual(yield* stacks(1), [true, true, true, true])
      assert.deepStrictEqual(yield* stacks(3), [true, false, false, true])
    })
  )
})

describe("an error of a connect in words", () => {
  const of = (cause: unknown) => new SqlError({ reason: new ConnectionError({ cause, message: "hunter2" }) })

  it("is its tag and its SQLSTATE, and no message of the server's", () => {
    assert.deepStrictEqual(Connector.describeSqlError(of({ code: "28P01" })), {
      tag: "ConnectionError",
      message: "ConnectionError",
      sqlState: "28P01"
    })
    for (const cause of [
      undefined,
      {},
      { code: 28_001 },
      { code: "ECONNREFUSED" },
      { code: "28p01" },
      new Error("x")
    ]) {
      assert.deepStrictEqual(Connector.describeSqlError(of(cause)), {
        tag: "ConnectionError",
        message: "ConnectionError"
      })
    }
  })
})

describe("the heap of deadlines", () => {
  it("gives the nearest first, whoever came and went before", () => {
    for (let seed = 1; seed <= 200; seed++) {
      let state = seed
      const below = (n: number): number => (state = (state * 48_271) % 2_147_483_647) % n
      const heap = new Deadlines<any>()
      const model: Array<Ticket<any>> = []
      for (let step = 0; step < 60; step++) {
        if (below(3) > 0 || model.length === 0) {
          const ticket = new Ticket<any>(undefined as never, "t", 0, 0, undefined as never, undefined)
          ticket.deadline = below(20)
          heap.add(ticket)
          model.push(ticket)
        } else {
          const [ticket] = model.splice(below(model.length), 1)
          heap.remove(ticket!)
          heap.remove(ticket!)
        }
        assert.strictEqual(heap.size, model.length)
        const nearest = Math.min(...model.map(({ deadline }) => deadline))
        assert.strictEqual(heap.next, nearest, `seed ${seed}`)
        assert.strictEqual(heap.due(nearest)?.deadline, model.length === 0 ? undefined : nearest)
        assert.isUndefined(heap.due(nearest - 1))
      }
      const order: Array<number> = []
      for (let ticket = heap.due(Infinity); ticket !== undefined; ticket = heap.due(Infinity)) {
        order.push(ticket.deadline)
        heap.remove(ticket)
      }
      assert.deepStrictEqual(
        order,
        model.map(({ deadline }) => deadline).sort((a, b) => a - b),
        `seed ${seed}`
      )
    }
  })
})
