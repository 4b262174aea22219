/**
 * A small model of what a pool promises, checked against the real one while random things happen to both.
 *
 * The model knows requests, not sessions: who waits since when, who holds. It is told by the callers themselves, so that
 * it shares nothing with the pool's bookkeeping.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import * as SessionPool from "../../../packages/sdk/src/pool/SessionPool.ts"
import { mulberry32 } from "../../support/random.ts"
import { FakeServer, type FakeSession, lost } from "./FakeSession.ts"

export const generator = (seed: number) => {
  const next = mulberry32(seed)
  const below = (n: number): number => Math.floor(next() * n)
  return {
    below,
    chance: (p: number): boolean => next() < p,
    pick: <A>(items: ReadonlyArray<A>): A => items[below(items.length)]!
  }
}

interface Request {
  readonly id: number
  readonly lane: string
  readonly priority: number
  readonly order: number
  readonly deadline: number
  readonly latch: Deferred.Deferred<void>
  state: "waiting" | "holding" | "ended"
  /** What it was given. When that dies, its place is for others: its holder counts no more. */
  session: FakeSession | undefined
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

interface LaneLimits {
  readonly reserved: number
  readonly cap: number
}

const acquireTimeout = 5_000

/** One run: random options, random operations. Gives the number of operations, or dies with what went wrong. */
export const run = Effect.fnUntraced(function* (seed: number) {
  const random = generator(seed)
  const trace: Array<string> = []
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe()
  const server = new FakeServer()
  server.connectMillis = random.pick([0, 0, 5, 50])
  server.validateTimeoutMillis = 500
  server.closeMillis = random.pick([0, 3, 400])

  let max = 1 + random.below(5)
  let min = random.below(max + 1)
  const control = random.below(2)
  const drainBudget = random.below(4)
  const lanes: Record<string, LaneLimits> = { report: { reserved: 0, cap: Infinity } }
  if (random.chance(0.7)) lanes.batch = { reserved: 0, cap: 1 + random.below(max) }
  if (random.chance(0.5)) lanes.interactive = { reserved: random.below(max), cap: Infinity }
  const reserved = Object.values(lanes).reduce((sum, lane) => sum + lane.reserved, 0)
  const laneNames = [...Object.keys(lanes), ...(control > 0 ? ["control"] : [])]

  const requests: Array<Request> = []
  const problems: Array<string> = []
  let order = 0
  let suspended = false
  let closed = false
  let sabotaged = false
  let lastUsed = 0
  /** Leases that were told and whose end was not. */
  let told = 0
  const waiting = () => requests.filter((r) => r.state === "waiting")
  const keeping = () => requests.filter((r) => r.state === "holding")
  const holding = () => keeping().filter((r) => r.session!.dead === undefined)
  const heldBy = (lane: string) => holding().filter((r) => r.lane === lane).length
  const inMain = (r: { lane: string }) => r.lane !== "control"
  const limit = () => max + drainBudget + 2 * control
  // After a shrink the old limit holds until what is too much has gone.
  let ceiling = limit()

  /** Whether the lane may hold one more, were all sessions there. */
  const hasRoom = (lane: string): boolean => {
    if (lane === "control") return heldBy("control") < control
    const limits = lanes[lane]!
    let kept = 0
    for (const [name, other] of Object.entries(lanes)) {
      if (name !== lane) kept += Math.max(0, other.reserved - heldBy(name))
    }
    return heldBy(lane) < limits.cap && holding().filter(inMain).length + kept < max
  }

  const pool = yield* SessionPool.make<FakeSession>({
    name: "model",
    connect: Effect.suspend(() => {
      if (server.sockets + 1 > ceiling) problems.push(`a connect makes ${server.sockets + 1} sockets, limit ${ceiling}`)
      if (closed) problems.push("a connect after close")
      return server.connect
    }),
    classifyConnect: (error) => {
      const code = (error.reason.cause as { code?: string }).code
      return code === "28P01" ? "password" : code === "3D000" ? "permanent" : "transient"
    },
    min,
    max,
    control,
    drainBudget,
    lanes,
    acquireTimeout,
    maxWaiting: 30,
    permanentPause: 3_000,
    idleTimeout: random.pick([2_000, 0]),
    maxLifetime: random.pick([4_000, 60_000, 0]),
    validateAfterIdle: random.pick([0, 300, 1_000]),
    drainOverflow: random.pick(["hold", "hold", "destroy"] as const),
    housekeepingInterval: 2_000,
    listener: { onAcquire: () => void told++, onRelease: () => void told-- },
    // Here virtual time stands still when a run fails.
    closeGraceful: 0,
    closeHard: 0
  }).pipe(
    Effect.provideService(Random.Random, {
      nextDoubleUnsafe: () => random.below(1_000_000) / 1_000_000,
      nextIntUnsafe: () => random.below(1_000_000)
    })
  )

  const granted = (request: Request, session: FakeSession): void => {
    if (request.state !== "waiting") problems.push(`${request.id} was served in state ${request.state}`)
    if (session.holder !== undefined) problems.push(`session ${session.id} is leased twice`)
    if (session.dead !== undefined) problems.push(`${request.id} got dead session ${session.id}`)
    if (!session.clean || session.busy) problems.push(`${request.id} got session ${session.id} that is not at rest`)
    if (suspended && inMain(request)) problems.push(`${request.id} was served while the pool is suspended`)
    if (!hasRoom(request.lane)) problems.push(`${request.id} exceeds the share of lane ${request.lane}`)
    // Too many draining sessions take places away, and a lease that ended before its holder knew took one for a moment:
    // of both the model knows nothing. Within a lane the order must hold all the same.
    const crowded = sabotaged || Effect.runSync(pool.stats).draining > drainBudget
    for (const other of waiting()) {
      if (other === request || inMain(other) !== inMain(request)) continue
      const before =
        other.priority > request.priority || (other.priority === request.priority && other.order < request.order)
      if (before && (other.lane === request.lane || (!crowded && hasRoom(other.lane)))) {
        problems.push(`${request.id} was served before ${other.id} (${other.lane})`)
      }
    }
    request.state = "holding"
    request.session = session
    session.holder = request
  }

  const gaveBack = (request: Request, session: FakeSession): void => {
    if (session.holder !== request) problems.push(`session ${session.id} was taken from ${request.id}`)
    session.holder = undefined
    request.state = "ended"
  }

  const hold = (request: Request, session: FakeSession, mode: string): Effect.Effect<void> => {
    granted(request, session)
    if (mode === "saboteur") {
      // Others may have been handed a session in the same breath, and not know it yet.
      sabotaged = true
      for (const other of waiting()) if (random.chance(0.5)) other.fiber?.interruptUnsafe()
    }
    if (mode === "unclean") session.clean = false
    if (mode === "kill") {
      // Its place is free in the same breath.
      sabotaged = true
      session.die(lost("killed by its holder"))
    }
    const work = mode === "query" ? session.query(random.pick([1, 5, 700])) : Deferred.await(request.latch)
    return Effect.ensuring(
      Effect.asVoid(work),
      Effect.sync(() => gaveBack(request, session))
    )
  }

  const acquire = (): Effect.Effect<void> => {
    const lane = random.pick(laneNames)
    const priority = random.pick([0, 0, 0, 5])
    const own = random.chance(0.4) ? now() + random.pick([-1, 0, 1, 40, 600, 9_000]) : undefined
    const request: Request = {
      id: requests.length,
      lane,
      priority,
      order: order++,
      deadline: Math.min(own ?? Infinity, now() + acquireTimeout),
      latch: Deferred.makeUnsafe<void>(),
      state: "waiting",
      session: undefined,
      fiber: undefined
    }
    requests.push(request)
    const mode = random.pick(["latch", "latch", "query", "query", "unclean", "saboteur", "kill"])
    trace.push(`${now()} acquire ${request.id} ${lane} ${priority} ${request.deadline} ${mode}`)
    const asked = { lane, priority, name: `r${request.id}`, deadline: own }
    const call = random.chance(0.7)
      ? pool.use(asked, (session) => hold(request, session, mode))
      : Effect.scoped(Effect.flatMap(pool.acquire(asked), (session) => hold(request, session, mode)))
    const watched = Effect.onExit(call, (exit) =>
      Effect.sync(() => {
        if (request.state === "holding") problems.push(`${request.id} ended while it held`)
        request.state = "ended"
        if (Exit.isFailure(exit)) {
          for (const reason of exit.cause.reasons) {
            if (reason._tag === "Die") problems.push(`${request.id} died: ${String(reason.defect)}`)
            if (reason._tag === "Fail" && reason.error._tag === "AcquireTimeout" && now() < request.deadline) {
              problems.push(`${request.id} timed out ${request.deadline - now()} ms early`)
            }
          }
        }
      })
    )
    return Effect.map(Effect.forkDetach(watched, { startImmediately: true }), (fiber) => {
      request.fiber = fiber
    })
  }

  const advance = (millis: number) => {
    trace.push(`${now()} advance ${millis}`)
    return TestClock.adjust(millis)
  }

  const operations: ReadonlyArray<readonly [weight: number, operation: () => Effect.Effect<void>]> = [
    [30, acquire],
    [
      18,
      () => {
        const request = keeping().length > 0 ? random.pick(keeping()) : undefined
        trace.push(`${now()} release ${request?.id}`)
        return request === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(request.latch, undefined))
      }
    ],
    [
      8,
      () => {
        const alive = requests.filter((r) => r.state !== "ended")
        const request = alive.length > 0 ? random.pick(alive) : undefined
        trace.push(`${now()} interrupt ${request?.id} ${request?.state}`)
        return Effect.sync(() => request?.fiber?.interruptUnsafe())
      }
    ],
    [20, () => advance(random.pick([0, 1, 5, 40, 400, 1_100, 2_500]))],
    [
      4,
      () =>
        Effect.sync(() => {
          const session = server.open.length > 0 ? random.pick(server.open) : undefined
          trace.push(`${now()} kill ${session?.id}`)
          session?.die(lost("killed", "57P01"))
        })
    ],
    [
      2,
      () =>
        Effect.sync(() => {
          trace.push(`${now()} silence`)
          for (const session of server.open) session.silent = true
        })
    ],
    [1, () => Effect.sync(() => server.restart())],
    [
      3,
      () =>
        Effect.sync(() => {
          const state = random.pick(["up", "down", "hole", "password"])
          trace.push(`${now()} server ${state}`)
          server.down =
            state === "down" ? lost("refused") : state === "password" ? lost("password", "28P01") : undefined
          server.blackHole = state === "hole"
          server.connectMillis = random.pick([0, 5, 50, 1_500])
        })
    ],
    [
      2,
      () => {
        max = Math.max(1, reserved, max + random.pick([-2, -1, 1, 2]))
        min = Math.min(min, max)
        ceiling = Math.max(ceiling, limit())
        lastUsed = Infinity
        trace.push(`${now()} resize ${max}`)
        return Effect.orDie(pool.resize({ max, min }))
      }
    ],
    [
      2,
      () => {
        suspended = true
        trace.push(`${now()} suspend`)
        return pool.suspend
      }
    ],
    [
      4,
      () => {
        suspended = false
        trace.push(`${now()} resume`)
        return pool.resume
      }
    ],
    [
      1,
      () => {
        trace.push(`${now()} evictAll`)
        return pool.evictAll
      }
    ]
  ]
  const total = operations.reduce((sum, [weight]) => sum + weight, 0)

  const check = Effect.fnUntraced(function* () {
    const stats = yield* pool.stats
    if (told !== stats.leased + stats.control.leased) problems.push(`${told} leases were told, ${stats.leased} are`)
    for (const request of waiting()) {
      if (request.deadline <= now()) problems.push(`${request.id} waits past its deadline ${request.deadline}`)
    }
    const used =
      stats.idle + stats.leased + stats.preparing + stats.connecting + Math.max(0, stats.draining - drainBudget)
    // After a shrink what is leased may stay; nothing may be added.
    if (used > max && used > lastUsed) problems.push(`${used} places are in use, max ${max}`)
    lastUsed = used
    if (stats.idle > server.open.length) problems.push(`${stats.idle} idle, but ${server.open.length} open`)
    const users = stats.idle + stats.leased + stats.preparing + stats.connecting + stats.draining
    if (users <= max + drainBudget) ceiling = limit()
    const mainWaiting = waiting().filter(inMain)
    if (stats.waiting !== mainWaiting.length) problems.push(`${stats.waiting} waiting, but ${mainWaiting.length} wait`)
    if (stats.leased !== holding().filter(inMain).length)
      problems.push(`${stats.leased} leased, but ${holding().length} hold`)
    const sockets =
      stats.idle +
      stats.leased +
      stats.preparing +
      stats.connecting +
      stats.draining +
      stats.control.idle +
      stats.control.leased +
      stats.control.connecting +
      stats.control.draining
    // The control lane's preparing sessions are not in the snapshot.
    if (server.sockets > sockets + control) problems.push(`${server.sockets} sockets, the pool knows ${sockets}`)
    const room = mainWaiting.some((request) => hasRoom(request.lane)) && stats.draining <= drainBudget
    if (room && !suspended && stats.preparing + stats.connecting === 0) {
      const free = stats.max - stats.idle - stats.leased
      if (stats.idle > 0) problems.push(`an eligible caller waits beside ${stats.idle} idle sessions`)
      else if (free > 0 && stats.connectFailures === 0)
        problems.push("an eligible caller waits, and nothing is under way")
    }
    if (problems.length > 0) {
      return yield* Effect.die(new Error(`seed ${seed}: ${problems.join("; ")}\n${trace.slice(-40).join("\n")}`))
    }
  })

  const steps = 20 + random.below(40)
  for (let step = 0; step < steps; step++) {
    let at = random.below(total)
    sabotaged = false
    for (const [weight, operation] of operations) {
      if ((at -= weight) < 0) {
        yield* operation()
        break
      }
    }
    yield* check()
  }

  // The end of all trouble: whoever still waits is served or told, and every session comes home.
  trace.push(`${now()} heal`)
  server.down = undefined
  server.blackHole = false
  server.connectMillis = 0
  suspended = false
  yield* pool.resume
  for (let round = 0; round < 40 && requests.some((r) => r.state !== "ended"); round++) {
    sabotaged = false
    for (const request of keeping()) yield* Deferred.succeed(request.latch, undefined)
    yield* advance(500)
    yield* check()
  }
  const forgotten = requests.filter((r) => r.state !== "ended")
  if (forgotten.length > 0) problems.push(`forgotten: ${forgotten.map((r) => `${r.id} ${r.state}`).join(", ")}`)
  yield* advance(8_000)
  yield* check()
  const stats = yield* pool.stats
  if (stats.leased + stats.control.leased + stats.waiting > 0) problems.push("somebody is left behind")
  const ready = stats.idle + stats.preparing + stats.connecting + stats.draining
  if (ready < min) problems.push(`${ready} sessions, min ${min}`)

  // Some runs close under load.
  if (random.chance(0.5)) yield* acquire()
  if (random.chance(0.5)) yield* acquire()
  const closing = yield* Effect.forkDetach(pool.close({ graceful: 100, hard: 100 }), { startImmediately: true })
  yield* advance(1_000)
  yield* Fiber.join(closing)
  closed = true
  if (server.sockets > 0) problems.push(`${server.sockets} sockets are open when close returns`)
  for (const request of requests) if (request.state !== "ended") request.fiber?.interruptUnsafe()
  yield* advance(10_000)
  if (server.sockets > 0) problems.push(`${server.sockets} sockets are open after close`)
  if (waiting().length > 0) problems.push("somebody waits after close")
  if (told !== 0) problems.push(`the ends of ${told} leases were not told`)
  if (problems.length > 0) {
    return yield* Effect.die(new Error(`seed ${seed}: ${problems.join("; ")}\n${trace.slice(-40).join("\n")}`))
  }
  return steps
}, Effect.scoped)
