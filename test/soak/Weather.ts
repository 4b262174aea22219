/** Faults at random, one after another, on the primary or the replica, out of the drill's repertoire. */
import * as Effect from "effect/Effect"
import { applicationName, password, type Servers, user } from "./ground.ts"

/** One server and what stands before it. */
interface Place {
  readonly name: string
  readonly server: Servers["cluster"]["primary"]
  readonly primary: Servers["cluster"]["primary"]
  readonly proxy: Servers["proxies"][number]
  readonly isReplica: boolean
}

interface Fault {
  readonly name: string
  readonly only?: "primary" | "replica"
  readonly begin: (place: Place) => Effect.Effect<unknown, unknown>
  /** Milliseconds, at least and at most. */
  readonly lasts: readonly [number, number]
  readonly end?: (place: Place) => Effect.Effect<unknown, unknown>
}

const terminate = ({ server }: Place) =>
  server.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [applicationName])

const killOne = ({ server }: Place) =>
  Effect.flatMap(
    server.query("select pid from pg_stat_activity where application_name = $1 order by state_change desc limit 1", [
      applicationName
    ]),
    ([row]) => (row === undefined ? Effect.void : server.killBackend(Number(row.pid)))
  )

const heal = ({ proxy }: Place) => proxy.heal
const start = ({ server }: Place) => server.start

/** Nobody in this process runs for so long. */
const block = (millis: number) =>
  Effect.sync(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
  })

const faults: ReadonlyArray<Fault> = [
  { name: "sessions ended", begin: terminate, lasts: [0, 500] },
  { name: "backend killed", begin: killOne, lasts: [500, 1_000] },
  { name: "restart fast", begin: ({ server }) => server.stop("fast"), lasts: [0, 1_000], end: start },
  { name: "restart immediate", begin: ({ server }) => server.stop("immediate"), lasts: [0, 1_000], end: start },
  { name: "server killed", begin: ({ server }) => server.kill, lasts: [0, 1_500], end: start },
  { name: "frozen", begin: ({ server }) => server.freeze, lasts: [500, 4_000], end: ({ server }) => server.thaw },
  { name: "cut", begin: ({ proxy }) => proxy.cut, lasts: [0, 500] },
  { name: "reset", begin: ({ proxy }) => proxy.reset, lasts: [0, 500] },
  {
    name: "refused",
    begin: ({ proxy }) => Effect.andThen(proxy.refuse(), proxy.reset),
    lasts: [500, 3_000],
    end: heal
  },
  {
    name: "black hole",
    begin: ({ proxy }) => Effect.andThen(proxy.blackHole, proxy.reset),
    lasts: [500, 4_000],
    end: heal
  },
  { name: "stall", begin: ({ proxy }) => proxy.stall(), lasts: [500, 4_000], end: heal },
  { name: "half open", begin: ({ proxy }) => proxy.halfOpen("server"), lasts: [0, 1_000] },
  {
    name: "answers lost",
    begin: ({ proxy }) => proxy.stall({ direction: "server->client" }),
    lasts: [50, 500],
    end: ({ proxy }) => Effect.andThen(proxy.reset, proxy.heal)
  },
  {
    name: "latency",
    begin: ({ proxy }) => proxy.latency({ millis: 20, jitterMillis: 30 }),
    lasts: [1_000, 4_000],
    end: heal
  },
  {
    name: "too many connections",
    only: "primary",
    begin: (place) => Effect.andThen(place.primary.query(`alter role ${user} connection limit 2`), terminate(place)),
    lasts: [500, 2_500],
    end: ({ primary }) => primary.query(`alter role ${user} connection limit -1`)
  },
  {
    name: "wrong password",
    only: "primary",
    begin: (place) => Effect.andThen(place.primary.query(`alter role ${user} password 'another'`), terminate(place)),
    lasts: [500, 2_000],
    end: ({ primary }) => primary.query(`alter role ${user} password '${password}'`)
  },
  {
    name: "replay paused",
    only: "replica",
    begin: ({ server }) => server.query("select pg_wal_replay_pause()"),
    lasts: [1_000, 7_000],
    end: ({ server }) => server.query("select pg_wal_replay_resume()")
  },
  { name: "event loop blocked", begin: () => block(700), lasts: [0, 200] }
]

export const makeWeather = ({ cluster, proxies }: Servers, random: () => number) => {
  const places = cluster.servers.map((server, index): Place => ({
    name: server.name,
    server,
    primary: cluster.primary,
    proxy: proxies[index]!,
    isReplica: index > 0
  }))
  const pick = <A>(among: ReadonlyArray<A>): A => among[Math.floor(random() * among.length)]!
  const state = { now: "fair", faults: 0, missed: 0, counts: new Map<string, number>() }

  const one = Effect.gen(function* () {
    const fault = pick(faults)
    const place = fault.only === undefined ? pick(places) : places[fault.only === "replica" ? 1 : 0]!
    const [least, most] = fault.lasts
    const millis = least + random() * (most - least)
    state.now = `${fault.name} (${place.name})`
    state.faults++
    state.counts.set(fault.name, (state.counts.get(fault.name) ?? 0) + 1)
    // The backend may have left by itself just before it was to be killed.
    const missed = yield* Effect.isFailure(fault.begin(place))
    if (missed) state.missed++
    yield* Effect.sleep(millis)
    yield* fault.end?.(place) ?? Effect.void
    state.now = "fair"
  })

  return {
    state,
    /** For ever, with fair weather of half a second to three in between. */
    changing: Effect.forever(
      Effect.andThen(
        one,
        Effect.suspend(() => Effect.sleep(500 + random() * 2_500))
      )
    ),
    /** Whatever was going on is over, and the replica has caught up. */
    fair: Effect.gen(function* () {
      state.now = "fair"
      for (const { proxy, server } of places) {
        yield* proxy.heal
        yield* server.thaw
        yield* server.start
      }
      yield* cluster.primary.query(`alter role ${user} connection limit -1 password '${password}'`)
      yield* cluster.replica.query("select pg_wal_replay_resume()")
      yield* cluster.replica.waitForReplay(cluster.primary)
    })
  }
}
