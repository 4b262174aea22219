/** Shares of a pool and the queues in front of it: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { Deadlines } from "../../../packages/sdk/src/internal/Deadlines.ts"
import { Ticket, WaitQueue } from "../../../packages/sdk/src/pool/Waiters.ts"
import { FakeServer, lost } from "./FakeSession.ts"
import { failure, hold, request, start, timed, told } from "./fixture.ts"

/** So many callers of a lane, who hold for a minute once they are served. */
const callers = (pool: Effect.Success<ReturnType<typeof told>>["pool"], lane: string, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => start(Effect.exit(hold(pool, 60_000, { lane }))))

describe("sessions are opened for those who may use them, and for no others", () => {
  const slow = () => Object.assign(new FakeServer(), { connectMillis: 100 })

  it.effect("within the cap of their lane", () =>
    Effect.gen(function* () {
      const server = slow()
      const { pool } = yield* told(server, { max: 5, connectConcurrency: 9, lanes: { batch: { cap: 2 } } })
      yield* callers(pool, "batch", 4)
      assert.strictEqual(server.connecting, 2)
    })
  )

  it.effect("beside what is kept for other lanes, also while their own reserve is used in part", () =>
    Effect.gen(function* () {
      const server = slow()
      const { pool } = yield* told(server, {
        max: 5,
        connectConcurrency: 9,
        lanes: { batch: { reserved: 2 }, interactive: { reserved: 2 } }
      })
      yield* callers(pool, "batch", 1)
      yield* TestClock.adjust(100)
      yield* callers(pool, "batch", 4)
      assert.strictEqual(server.connecting, 2)
    })
  )

  it.effect("within max, however many lanes wait", () =>
    Effect.gen(function* () {
      const server = slow()
      const { pool } = yield* told(server, { max: 2, connectConcurrency: 9 })
      for (const lane of ["a", "b", "c"]) yield* callers(pool, lane, 2)
      assert.strictEqual(server.connecting, 2)
    })
  )

  it.effect("also when another lane holds more than its share, after the pool was made smaller", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { max: 4, lanes: { batch: {}, interactive: { reserved: 2 } } })
      yield* callers(pool, "batch", 3)
      yield* pool.resize({ max: 3 })
      assert.strictEqual((yield* timed(hold(pool, 0, { lane: "interactive" }))).millis, 0)
      assert.deepInclude((yield* pool.stats).lanes["batch"], { leased: 2, waiting: 1 })
    })
  )

  it.effect("not for those whom a session that is being put right will serve", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.resetMillis = 50
      const { pool } = yield* told(server, { max: 2 })
      yield* pool.use(request, (session) => Effect.sync(() => (session.clean = false)))
      const waiter = yield* start(timed(hold(pool, 0)))
      assert.strictEqual(server.connectAttempts, 1)
      yield* TestClock.adjust(50)
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 50)
    })
  )
})

describe("a lane", () => {
  it.effect("has its reserve also while others leave sessions behind that have to be drained", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      server.drainMillis = 1_000
      const { pool } = yield* told(server, {
        min: 2,
        max: 2,
        drainBudget: 0,
        lanes: { batch: {}, interactive: { reserved: 1 } }
      })
      const [left] = yield* callers(pool, "batch", 1)
      yield* Fiber.interrupt(left!)
      const again = yield* start(timed(hold(pool, 0, { lane: "batch" })))
      assert.strictEqual((yield* timed(hold(pool, 0, { lane: "interactive" }))).millis, 0)
      assert.isUndefined(again.pollUnsafe())
      yield* TestClock.adjust(1_000)
      // The drained session holds the place that it comes back to.
      assert.strictEqual((yield* Fiber.join(again)).millis, 1_000)
      yield* TestClock.adjust(1)
      assert.deepInclude(yield* pool.stats, { idle: 2, draining: 0 })
      assert.lengthOf(server.sessions, 2)
    })
  )

  it.effect("of the control statements has all of its own sessions, whatever is declared for it", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), {
        max: 1,
        control: 2,
        lanes: { control: { reserved: 1, cap: 1 } }
      })
      yield* callers(pool, "control", 2)
      const stats = yield* pool.stats
      assert.strictEqual(stats.control.leased, 2)
      assert.deepStrictEqual(stats.lanes["control"], { leased: 2, waiting: 0, reserved: 0, cap: 2 })
    })
  )
})

describe("a caller who waits", () => {
  it.effect("is asked for its deadline then, and only then", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1000 seconds")
      const { pool } = yield* told(new FakeServer(), { max: 1, housekeepingInterval: "1 hour" })
      let asked = 0
      const now = yield* Clock.currentTimeMillis
      const deadline = () => {
        asked++
        return now + 100
      }
      yield* hold(pool, 0)
      yield* hold(pool, 0, { deadline })
      assert.strictEqual(asked, 0)
      yield* callers(pool, "report", 1)
      const waiter = yield* start(timed(failure(hold(pool, 0, { deadline }))))
      yield* TestClock.adjust(99)
      assert.isUndefined(waiter.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(waiter)).millis, 100)
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("one too many is told whether the lane or the whole pool is full, and of how many", () =>
    Effect.gen(function* () {
      const { pool } = yield* told(new FakeServer(), { max: 1, maxWaiting: 3, lanes: { batch: { maxWaiting: 1 } } })
      yield* callers(pool, "report", 2)
      yield* callers(pool, "batch", 1)
      const key = pool.name
      assert.deepInclude(yield* failure(hold(pool, 0, { lane: "batch" })), {
        _tag: "Overloaded",
        key: `${key} lane batch`,
        limit: 1,
        waiting: 1
      })
      yield* callers(pool, "report", 1)
      assert.deepInclude(yield* failure(hold(pool, 0)), { _tag: "Overloaded", key, limit: 3, waiting: 3 })
    })
  )

  it.effect("for a node that fails for good is told, and counted", () =>
    Effect.gen(function* () {
      const server = Object.assign(new FakeServer(), { connectMillis: 100, down: lost("no such database", "3D000") })
      const { pool } = yield* told(server, { max: 1 })
      const waiters = yield* Effect.forEach([1, 2, 3], () => start(failure(hold(pool, 0))))
      yield* TestClock.adjust(100)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.deepInclude((yield* pool.stats).counters, { unavailable: 3 })
    })
  )
})

describe("what waits no more", () => {
  const ticket = () => new Ticket<any>(undefined as never, "t", 0, 0, undefined as never, undefined)

  it("is not missed in its queue", () => {
    const queue = new WaitQueue<any>()
    const [first, second, stranger] = [ticket(), ticket(), ticket()]
    queue.push(first)
    queue.push(second)
    queue.remove(first)
    queue.remove(first)
    queue.remove(stranger)
    assert.strictEqual(queue.size, 1)
    assert.strictEqual(queue.head, second)
  })

  it("is not missed among the deadlines", () => {
    const deadlines = new Deadlines<any>()
    for (const deadline of [1, 2, 3]) deadlines.add(Object.assign(ticket(), { deadline }))
    deadlines.remove(ticket())
    assert.strictEqual(deadlines.size, 3)
  })
})
