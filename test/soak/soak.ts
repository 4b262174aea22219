/** One soak: load and weather for so long, then calm, and the account of what was promised and what was left behind. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { generator } from "../drill/seeded.ts"
import { Account } from "./Account.ts"
import {
  applicationName,
  open,
  permits,
  primary,
  replica,
  reports,
  type Runtime,
  type Servers,
  servers
} from "./ground.ts"
import * as Leaks from "./Leaks.ts"
import { makeLoad } from "./Load.ts"
import { makeWeather } from "./Weather.ts"

/** What `--json` writes. */
export interface SoakResult {
  readonly minutes: number
  readonly seed: number
  readonly calls: number
  readonly writes: number
  readonly lost: number
  readonly doubled: number
  readonly wrong: number
  readonly late: number
  /** Bytes after a collection: when everything had happened once, and at the end. */
  readonly heapStart: number
  readonly heapEnd: number
  readonly leaked: {
    readonly sessions: number
    readonly permits: number
    readonly timers: number
    readonly listeners: number
  }
}

/** More than this between its two measurements is a leak, however long the soak. */
export const heapGrowth = 8 * 2 ** 20

export interface Options {
  readonly minutes: number
  readonly seed: number
  readonly workers: number
  readonly pool: number
  /** Called every ten seconds, and at turns. */
  readonly tell: (line: string) => void
}

/** Looks again until it is zero, for at most so long; gives the last figure. */
const untilZero = async (look: () => number | Promise<number>, millis: number): Promise<number> => {
  const end = performance.now() + millis
  for (;;) {
    const count = await look()
    if (count <= 0 || performance.now() > end) return Math.max(0, count)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const poolsOf = (runtime: Runtime) =>
  Effect.gen(function* () {
    const nodes = new Map([...(yield* primary).nodes, ...(yield* replica).nodes].map((node) => [node.pool, node]))
    return yield* Effect.forEach([...nodes.keys()], (pool) => pool.stats)
  }).pipe((effect) => runtime.runPromise(effect))

/** Sessions on the servers and in the proxies. */
const sessionsOf = ({ cluster, proxies }: Servers) =>
  Effect.gen(function* () {
    let count = 0
    for (const server of cluster.servers) {
      const [row] = yield* server.query("select count(*)::int as n from pg_stat_activity where application_name = $1", [
        applicationName
      ])
      count += Number(row?.n)
    }
    let open = 0
    for (const proxy of proxies) open += (yield* proxy.counters).open
    return { onServers: count, inProxies: open }
  })

/** Every number that is in a table. */
const storedWrites = Effect.fnUntraced(function* ({ cluster, database }: Servers, writes: number) {
  const times = new Uint8Array(writes)
  const first = new Uint8Array(writes)
  const second = new Uint8Array(writes)
  const step = 50_000
  for (let from = 0; from < writes; from += step) {
    const rows = yield* cluster.primary.query(
      `select n, 0 as part from writes where n >= $1 and n < $2
       union all select n, 0 from keyed where n >= $1 and n < $2
       union all select n, part from ledger where n >= $1 and n < $2`,
      [from, from + step],
      { database }
    )
    for (const { n, part } of rows) {
      const counts = part === 0 ? times : part === 1 ? first : second
      counts[Number(n)]!++
    }
  }
  return (write: number) => ({
    times: times[write]! + Math.max(first[write]!, second[write]!),
    torn: first[write] !== second[write]
  })
})

export const soak = Effect.fnUntraced(function* ({ minutes, pool, seed, tell, workers }: Options) {
  const ground = yield* servers
  const account = new Account()
  const weather = makeWeather(ground, generator(seed))
  const timers = yield* Effect.acquireRelease(
    Effect.sync(() => Leaks.watchTimers()),
    ({ restore }) => Effect.sync(restore)
  )
  const warnings = yield* Effect.acquireRelease(
    Effect.sync(() => Leaks.watchWarnings()),
    ({ stop }) => Effect.sync(stop)
  )
  const strays: Array<string> = []
  const stray = (error: unknown) => void strays.push(String(error))
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("uncaughtException", stray).on("unhandledRejection", stray)),
    () => Effect.sync(() => process.off("uncaughtException", stray).off("unhandledRejection", stray))
  )
  const timersBefore = timers.count()
  const listenersBefore = Leaks.listeners()

  const runtime = yield* Effect.acquireRelease(
    Effect.sync(() => open(ground, pool)),
    (runtime) => Effect.promise(() => runtime.dispose())
  )
  const load = yield* Effect.acquireRelease(
    Effect.sync(() => makeLoad(runtime, account, { workers, seed })),
    ({ stop }) => Effect.promise(stop)
  )
  const began = performance.now()
  const progress = () => {
    const seconds = Math.round((performance.now() - began) / 1_000)
    const heap = Math.round(process.memoryUsage().heapUsed / 2 ** 20)
    tell(
      `${seconds} s: ${account.calls} calls, ${account.writes} writes, ${account.late} late, ${account.wrong} wrong, ` +
        `${weather.state.faults} faults, now ${weather.state.now}; heap ${heap} MiB`
    )
  }
  const telling = yield* Effect.forkChild(
    Effect.forever(Effect.andThen(Effect.sleep("10 seconds"), Effect.sync(progress)))
  )

  const stormy = (millis: number) =>
    Effect.gen(function* () {
      const blowing = yield* Effect.forkChild(weather.changing)
      yield* Effect.raceFirst(Effect.sleep(millis), Fiber.join(blowing))
      yield* Fiber.interrupt(blowing)
      yield* weather.fair
    })
  /** Nobody calls, everything has come to rest. */
  const heapAtRest = Effect.promise(async () => {
    await load.pause()
    await untilZero(async () => {
      const all = await poolsOf(runtime)
      return all.reduce((sum, stats) => sum + stats.leased + stats.waiting + stats.draining, 0)
    }, 10_000)
    return Leaks.heapUsed()
  })

  const total = minutes * 60_000
  // Until everything has happened once: code that is compiled, caches that are filled.
  const warmUp = Math.min(total / 4, 90_000)
  yield* stormy(warmUp)
  const heapStart = yield* heapAtRest
  const socketStart = Leaks.listeners().socket
  load.resume()
  yield* stormy(total - warmUp)
  yield* Effect.sleep("2 seconds")
  const heapEnd = yield* heapAtRest
  const socketEnd = Leaks.listeners().socket
  yield* Fiber.interrupt(telling)
  progress()

  // What the servers see is what the pools say they have.
  const strayed = yield* Effect.promise(() =>
    untilZero(async () => {
      const { onServers } = await Effect.runPromise(sessionsOf(ground))
      const known = (await poolsOf(runtime)).map(({ control, ...users }) =>
        [users, control].map(({ connecting, draining, idle, leased }) => connecting + draining + idle + leased)
      )
      return onServers - known.flat().reduce((sum, count) => sum + count, 0)
    }, 5_000)
  )
  if (strayed > 0) account.problem(`${strayed} sessions on the servers that no pool knows of`)

  // As many long reads as there are permits, at once: each that is refused again and again misses one.
  const held = (yield* Effect.promise(() => poolsOf(runtime))).reduce(
    (sum, { leased, waiting }) => sum + leased + waiting,
    0
  )
  const refused = yield* Effect.promise(() =>
    untilZero(async () => {
      const calls = Array.from({ length: permits }, () => runtime.runPromiseExit(reports.long.run({ id: 1 })))
      return (await Promise.all(calls)).filter(Exit.isFailure).length
    }, 5_000)
  )
  if (refused > 0) account.problem(`at the end ${refused} of ${permits} long reads fail`)

  yield* Effect.promise(load.stop)
  timers.trace()
  yield* Effect.promise(() => runtime.dispose())
  const sessions = yield* Effect.promise(() =>
    untilZero(async () => {
      const { inProxies, onServers } = await Effect.runPromise(sessionsOf(ground))
      return Math.max(inProxies, onServers)
    }, 5_000)
  )
  const timersLeft = yield* Effect.promise(() => untilZero(() => timers.count() - timersBefore, 5_000))
  for (const place of timersLeft > 0 ? timers.places() : []) account.problem(`a timer is left${place}`)
  const listenersLeft = Math.max(0, Leaks.listeners().process - listenersBefore.process)
  const onSockets = Math.max(0, socketEnd - socketStart)
  if (onSockets > 0) account.problem(`${socketEnd} listeners on a socket, ${socketStart} at the beginning`)

  yield* weather.fair
  account.settle(yield* storedWrites(ground, account.writes))
  for (const error of strays) {
    account.wrong++
    account.problem(`uncaught: ${error}`)
  }
  const { calls, doubled, late, lost, writes, wrong } = account
  const result: SoakResult = {
    minutes,
    seed,
    calls,
    writes,
    lost,
    doubled,
    wrong,
    late,
    heapStart,
    heapEnd,
    leaked: {
      sessions: sessions + strayed,
      permits: held + refused,
      timers: timersLeft,
      listeners: listenersLeft + onSockets + warnings.count()
    }
  }
  return {
    result,
    account,
    faults: weather.state.counts,
    missed: weather.state.missed,
    longestAbsence: load.longestAbsence()
  }
}, Effect.scoped)

/** What is not as promised, in words. */
export const broken = (result: SoakResult): ReadonlyArray<string> => {
  const counts = {
    ...result.leaked,
    lost: result.lost,
    doubled: result.doubled,
    wrong: result.wrong,
    late: result.late
  }
  const found = Object.entries(counts).flatMap(([name, count]) => (count === 0 ? [] : [`${name} ${count}`]))
  const grown = result.heapEnd - result.heapStart
  return grown > heapGrowth ? [...found, `the heap grew by ${(grown / 2 ** 20).toFixed(1)} MiB`] : found
}
