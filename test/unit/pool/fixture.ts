import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as SessionPool from "../../../packages/sdk/src/pool/SessionPool.ts"
import type { FakeServer, FakeSession } from "./FakeSession.ts"

export const request = { lane: "report", name: "stoppage" }

/** A pool over a server in memory. Its scope's end destroys at once, for virtual time stands still by then. */
export const makePool = (server: FakeServer, options: Partial<SessionPool.PoolOptions<FakeSession>> = {}) =>
  SessionPool.make<FakeSession>({
    name: "fleet/primary@127.0.0.1:5432",
    connect: server.connect,
    classifyConnect: (error) => {
      const code = (error.reason.cause as { code?: string }).code
      return code === "28P01" ? "password" : code === "3D000" ? "permanent" : "transient"
    },
    // The messages of these tests are their own, and hold no secret.
    describeError: ({ reason }) => {
      const code = (reason.cause as { code?: string }).code
      return { tag: reason._tag, message: reason.message ?? "", ...(code === undefined ? {} : { sqlState: code }) }
    },
    min: 0,
    closeGraceful: 0,
    closeHard: 0,
    ...options
  })

export type FakePool = SessionPool.SessionPool<FakeSession>

/** Starts now, up to its first wait. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Holds a session for so long. */
export const hold = (pool: FakePool, millis: number, more: Partial<SessionPool.PoolRequest> = {}) =>
  pool.use({ ...request, ...more }, (session) => session.query(millis))

/** The virtual time an effect takes, with what became of it. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const from = yield* Clock.currentTimeMillis
    const result = yield* Effect.result(effect)
    return { result, millis: (yield* Clock.currentTimeMillis) - from }
  })

/** Everything that the pool tells from now on. */
export const collect = (pool: FakePool) =>
  Effect.gen(function* () {
    const events: Array<SessionPool.PoolEvent> = []
    const fiber = yield* start(Stream.runForEach(pool.events, (event) => Effect.sync(() => events.push(event))))
    return { events, tags: () => events.map((event) => event._tag), stop: Fiber.interrupt(fiber) }
  })

/** A pool with everything that it says, told at once. Lifetimes have no jitter, unless asked for. */
export const told = (server: FakeServer, options: Partial<SessionPool.PoolOptions<FakeSession>> = {}) =>
  Effect.gen(function* () {
    const events: Array<SessionPool.PoolEvent> = []
    const leases: Array<readonly [what: string, lane: string, millis: number]> = []
    const pool = yield* makePool(server, {
      lifetimeJitter: 0,
      ...options,
      listener: {
        onEvent: (event) => void events.push(event),
        onAcquire: (lane, millis) => void leases.push(["acquire", lane, millis]),
        onRelease: (lane, millis) => void leases.push(["release", lane, millis])
      }
    })
    // A test that fails while a pool is closing would never end: time stands still by then.
    yield* Effect.addFinalizer(() => TestClock.adjust("1 minute"))
    return { events, leases, pool, tags: () => events.map(({ _tag }) => _tag) }
  })

/** Why sessions were closed so far, in their order, and how old they were. */
export const closings = (events: ReadonlyArray<SessionPool.PoolEvent>) =>
  events.flatMap((event) => (event._tag === "SessionClosed" ? [[event.reason, event.ageMillis] as const] : []))

/** Chance that always comes out the same, so that pauses and lifetimes are known to the millisecond. */
export const fixedChance = (value: number): Random.Random => ({
  nextDoubleUnsafe: () => value,
  nextIntUnsafe: () => value
})

export const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)
