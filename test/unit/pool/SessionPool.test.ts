import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as SessionPool from "../../../packages/sdk/src/pool/SessionPool.ts"
import { FakeServer, type FakeSession } from "./FakeSession.ts"

const request = { lane: "report", name: "stoppage" }

const pool = (server: FakeServer, options: Partial<SessionPool.PoolOptions<FakeSession>> = {}) =>
  SessionPool.make<FakeSession>({
    name: "fleet/primary@127.0.0.1:5432",
    connect: server.connect,
    classifyConnect: (error) => {
      const code = (error.reason.cause as { code?: string }).code
      return code === "28P01" ? "password" : code === "3D000" ? "permanent" : "transient"
    },
    closeGraceful: 0,
    closeHard: 0,
    ...options
  })

describe("acquire", () => {
  it.effect("a session is reused, last in first out", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const sessions = yield* pool(server, { min: 0, max: 3 })
      const ids = yield* Effect.forEach([1, 2, 3], () => sessions.use(request, (s) => s.query(0)))
      assert.deepStrictEqual(ids, [1, 1, 1])
    })
  )
  it.effect("waiters are served in their order", () =>
    Effect.gen(function* () {
      const server = new FakeServer()
      const sessions = yield* pool(server, { min: 0, max: 1 })
      const order: Array<number> = []
      const fibers = yield* Effect.forEach([1, 2, 3, 4], (n) =>
        Effect.forkChild(
          sessions.use({ ...request, name: `r${n}` }, (s) =>
            Effect.andThen(
              Effect.sync(() => order.push(n)),
              s.query(10)
            )
          )
        )
      )
      yield* TestClock.adjust(100)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, [1, 2, 3, 4])
      assert.strictEqual(server.connectAttempts, 1)
    })
  )
})
