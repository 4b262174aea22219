/**
 * Faults of a cluster: a primary and two replicas behind a proxy each, reads on the replicas, writes on the primary.
 *
 * Only Sluice is drilled: neither the bare driver nor `pg` takes a list of servers. Replication to the first replica is
 * synchronous until it is promoted, so that a write that was acknowledged and is gone is our fault and not that of an
 * asynchronous failover.
 */
import { Database, Health, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { makeLoad, summarize, type DrillResult } from "./harness.ts"
import { prepare, type Settings } from "./run.ts"
import type { Opened } from "./Subject.ts"
import { answerOf } from "./subjects.ts"
import type { Panel } from "./timeline.ts"

interface Scene {
  readonly cluster: PgCluster.Cluster
  /** In front of the primary, the first and the second replica. */
  readonly proxies: ReadonlyArray<FaultProxy.FaultProxy>
}

export interface TopologyFault {
  readonly name: string
  readonly about: string
  /** Before anybody connects. */
  readonly before?: (scene: Scene) => Effect.Effect<unknown, unknown>
  readonly begin: (scene: Scene) => Effect.Effect<unknown, unknown>
  /** Milliseconds. */
  readonly lasts: number
  readonly end: (scene: Scene) => Effect.Effect<unknown, unknown>
  /** After the drill has been healed for a while, while the load still runs. */
  readonly later?: (scene: Scene) => Effect.Effect<unknown, unknown>
  /** Reads may not fail at all, not even as declared. */
  readonly readsNeverFail?: boolean
  /** Where the states of a subject are others than those of every start. */
  readonly transitions?: Transitions
  /** The second replica comes back while the load runs, with a growing share of it. */
  readonly ramps?: boolean
}

/** What `Health` tells of each subject, from the start to the end: its states in order, with a space between. */
type Transitions = Readonly<Record<string, RegExp>>

/** What is told at every start, and nothing after it. */
const undisturbed: Transitions = {
  "node primary": /^up\/primary$/,
  "node replica-1": /^up\/replica$/,
  "node replica-2": /^up\/replica$/,
  "role drill/primary": /^ok$/,
  "role drill/replica": /^(served-by-the-primary )?ok$/,
  ready: /^true$/,
  live: /^$/
}

/** Lost, and back: as often as it says no while it comes back. */
const lostAndBack = (role: string): RegExp =>
  new RegExp(
    `^up/${role} (suspect/unknown )?down/unknown( returning/${role} down/unknown)* returning/${role} up/${role}$`
  )

/** What was told otherwise than expected, in words. `status` follows from the others. */
const unexpected = (told: ReadonlyArray<Health.Change>, fault: TopologyFault): ReadonlyArray<string> => {
  const expected: Transitions = { ...undisturbed, ...fault.transitions }
  const seen = new Map<string, Array<string>>(Object.keys(expected).map((subject) => [subject, []]))
  for (const { name, subject, to } of told) {
    if (subject === "status") continue
    const key = name === "" ? subject : `${subject} ${name}`
    seen.set(key, [...(seen.get(key) ?? []), to.replaceAll(" ", "-")])
  }
  return [...seen].flatMap(([subject, states]) => {
    const line = states.join(" ")
    return expected[subject]?.test(line) === true ? [] : [`${subject}: ${line === "" ? "nothing" : line}`]
  })
}

/** The second replica follows the first one, as whoever promotes sees to. */
const follow = ({ primary, replicas }: PgCluster.Cluster) =>
  Effect.gen(function* () {
    const [promoted, other] = replicas
    const [row] = yield* other!.query("show primary_conninfo")
    const upstream = String(row?.primary_conninfo).replace(String(primary.port), String(promoted!.port))
    yield* other!.query(`alter system set primary_conninfo = '${upstream.replaceAll("'", "''")}'`)
    yield* other!.query("select pg_reload_conf()")
  })

const nothing = () => Effect.void

export const topologyFaults: ReadonlyArray<TopologyFault> = [
  {
    name: "cluster-failover",
    about:
      "primary killed with -9, a replica promoted 500 ms later, the other follows it; the old primary comes back with its old timeline",
    begin: ({ cluster }) => cluster.primary.kill,
    lasts: 500,
    end: ({ cluster }) => Effect.andThen(cluster.replica.promote, follow(cluster)),
    later: ({ cluster }) => cluster.primary.start,
    readsNeverFail: true,
    transitions: {
      "node primary": /^up\/primary (suspect\/unknown )?down\/unknown fenced\/primary$/,
      "node replica-1": /^up\/replica up\/primary$/,
      // Two seconds without one are tolerated; a busy machine may take longer to promote.
      "role drill/primary": /^ok( failing ok)?$/,
      ready: /^true( false true)?$/
    }
  },
  {
    name: "cluster-replica-frozen",
    about: "a replica frozen (SIGSTOP) for 4 s",
    begin: ({ cluster }) => cluster.replicas[1]!.freeze,
    lasts: 4_000,
    end: ({ cluster }) => cluster.replicas[1]!.thaw,
    readsNeverFail: true,
    transitions: { "node replica-2": lostAndBack("replica") },
    ramps: true
  },
  {
    name: "cluster-replica-stalled",
    about: "nothing passes to or from a replica for 4 s, and nobody is told",
    begin: ({ proxies }) => proxies[2]!.stall(),
    lasts: 4_000,
    end: ({ proxies }) => proxies[2]!.heal,
    readsNeverFail: true,
    transitions: { "node replica-2": lostAndBack("replica") },
    ramps: true
  },
  {
    name: "cluster-replay-paused",
    about: "a replica stops replaying for 4 s: beyond a lag of 1 s it does not serve",
    begin: ({ cluster }) => cluster.replicas[1]!.query("select pg_wal_replay_pause()"),
    lasts: 4_000,
    end: ({ cluster }) => cluster.replicas[1]!.query("select pg_wal_replay_resume()"),
    readsNeverFail: true
  },
  {
    name: "cluster-all-killed",
    about: "all three servers killed with -9, away for 1 s, started",
    begin: ({ cluster }) => Effect.forEach(cluster.servers, (server) => server.kill, { concurrency: "unbounded" }),
    lasts: 1_000,
    end: ({ cluster }) => Effect.forEach(cluster.servers, (server) => server.start, { concurrency: "unbounded" }),
    transitions: {
      "node primary": lostAndBack("primary"),
      "node replica-1": lostAndBack("replica"),
      "node replica-2": lostAndBack("replica"),
      "role drill/primary": /^ok( failing ok)?$/,
      "role drill/replica": /^(served-by-the-primary )?ok( failing)?( served-by-the-primary)?( ok)?$/,
      ready: /^true( false true)?$/
    }
  },
  {
    name: "cluster-black-hole-at-boot",
    about: "one of three hosts accepts connections and is silent, from before the start until the end",
    before: ({ proxies }) => proxies[2]!.blackHole,
    begin: nothing,
    lasts: 1_000,
    end: nothing,
    readsNeverFail: true,
    transitions: { "node replica-2": /^(suspect\/unknown )?down\/unknown$/ }
  }
]

class Drill extends Database.Service<Drill>()("drill", { roles: ["primary", "replica"] }) {}

const open = async (
  scene: Scene,
  database: string,
  user: string,
  password: string,
  applicationName: string,
  settings: Settings
) => {
  const { deadline } = settings
  const read = Report.make("read", {
    database: Drill.role("replica"),
    params: { id: Schema.Int },
    row: { name: Schema.String },
    query: (sql, { id }) => sql`select name from items, pg_sleep(0.02) where id = ${id}`,
    deadline,
    attemptTimeout: deadline / 3,
    retry: { schedule: Schedule.exponential("50 millis"), retries: 3, budget: { ratio: 0.5 } }
  })
  const write = Report.make("write", {
    database: Drill.role("primary"),
    params: { token: Schema.String },
    row: { token: Schema.String },
    query: (sql, { token }) =>
      sql`insert into writes (token) select ${token}::text from pg_sleep(0.02) returning token`,
    deadline,
    writes: "once"
  })
  const runtime = ManagedRuntime.make(
    Drill.layerServers({
      servers: scene.proxies.map(({ host, port }) => `${host}:${port}`),
      name: database,
      user,
      password: Redacted.make(password),
      sslmode: "disable",
      applicationName,
      maxConnections: settings.pool,
      roles: { replica: { maxLag: "1 second", fallback: "primary" } }
    }).pipe(Layer.provideMerge(Health.layer()), Layer.provide(Logger.layer([])))
  )
  const transitions: Array<Health.Change> = []
  /** Where reads were served, by the clock of `performance.now`. */
  const served: Array<{ readonly at: number; readonly node: string | undefined }> = []
  const health = await runtime.runPromise(Health.Health)
  const names = new Map(
    scene.proxies.map(({ host, port }, index) => [`${host}:${port}`, scene.cluster.servers[index]!.name])
  )
  const listening = runtime.runFork(
    Stream.runForEach(health.changes, (change) =>
      Effect.sync(() =>
        transitions.push({ ...change, at: performance.now(), name: names.get(change.name) ?? change.name })
      )
    )
  )
  const { nodes } = await runtime.runPromise(Drill.role("replica"))
  const opened: Opened = {
    read: (id) =>
      runtime
        .runPromiseExit(
          Effect.map(read.runWithInfo({ id }), ({ node, rows }) => {
            served.push({ at: performance.now(), node: node === undefined ? undefined : names.get(node) })
            return rows[0]?.name ?? "nothing"
          })
        )
        .then(answerOf(read)),
    write: (token) =>
      runtime
        .runPromiseExit(Effect.map(write.run({ token }), (rows) => rows[0]?.token ?? "nothing"))
        .then(answerOf(write)),
    held: () =>
      Effect.runPromise(
        Effect.map(
          Effect.forEach(nodes, (node) => node.pool.stats),
          (all) => all.reduce((sum, stats) => sum + stats.leased + stats.waiting, 0)
        )
      ),
    close: async () => {
      await Effect.runPromise(Fiber.interrupt(listening))
      await runtime.dispose()
    }
  }
  return { opened, transitions, served }
}

/** The share of a server in what was served just after it came back, and whether it grows. */
const ramp = (
  transitions: ReadonlyArray<Health.Change>,
  served: ReadonlyArray<{ readonly at: number; readonly node: string | undefined }>,
  name: string
) => {
  const back = transitions.findLast((change) => change.name === name && change.to === "up/replica")?.at ?? Infinity
  const last = served.at(-1)?.at ?? 0
  const share = (from: number, to: number) => {
    const reads = served.filter(({ at }) => at >= from && at < to)
    return reads.length === 0 ? 0 : reads.filter(({ node }) => node === name).length / reads.length
  }
  const [first, later] = [share(back, back + 1_000), share(last - 1_000, last)]
  // It has no more than a tenth of its half in the first second, and a third of it at the end; chance takes its part.
  return {
    note: `share after its return ${Math.round(first * 100)} %, ${Math.round(later * 100)} % at the end`,
    ok: first < 0.3 && later > 0 && back < Infinity
  }
}

/** The longest time in which no read was answered, after the fault began. */
const longestGap = (served: ReadonlyArray<{ readonly at: number }>, since: number): number => {
  let [gap, last] = [0, since]
  for (const { at } of served) {
    if (at < since) continue
    gap = Math.max(gap, at - last)
    last = at
  }
  return gap
}

/** One fault on a cluster of its own. */
export const drillTopology = Effect.fnUntraced(function* (fault: TopologyFault, settings: Settings) {
  const cluster = yield* PgCluster.make({ auth: "scram-sha-256", replicas: 2 })
  const ground = yield* prepare(cluster)
  const { primary, replica } = cluster
  yield* primary.query(`alter system set synchronous_standby_names = '"${replica.name}"'`)
  yield* primary.query("select pg_reload_conf()")
  const proxies = yield* Effect.forEach(cluster.servers, (target) => FaultProxy.make({ target }))
  const scene: Scene = { cluster, proxies }
  yield* fault.before?.(scene) ?? Effect.void
  const applicationName = "drill-cluster"
  const { opened, served, transitions } = yield* Effect.promise(() =>
    open(scene, ground.database.name, ground.user, ground.password, applicationName, settings)
  )
  let failedReads = 0
  const counting: Opened = {
    ...opened,
    read: (id) =>
      opened.read(id).then((answer) => {
        if (answer.kind !== "ok") failedReads++
        return answer
      })
  }
  const load = makeLoad(counting, {
    workers: settings.workers,
    deadline: settings.deadline,
    patience: 8_000,
    random: settings.random,
    tag: applicationName
  })
  yield* Effect.sleep(settings.before)
  const began = load.at()
  const since = performance.now()
  yield* fault.begin(scene)
  yield* Effect.sleep(fault.lasts)
  yield* fault.end(scene)
  const healed = load.at()
  yield* Effect.sleep(settings.after / 2)
  const query = (server: typeof primary, sql: string) => server.query(sql, [], { database: ground.database.name })
  const rowsOn = (server: typeof primary) =>
    Effect.map(query(server, "select count(*)::int as n from writes"), ([row]) => Number(row?.n))
  let writtenToOld = 0
  if (fault.later !== undefined) {
    yield* fault.later(scene)
    const before = yield* rowsOn(primary)
    yield* Effect.sleep(settings.after)
    writtenToOld = (yield* rowsOn(primary)) - before
  }
  yield* Effect.sleep(settings.after / 2)
  yield* Effect.promise(load.stop)
  const held = yield* Effect.promise(opened.held)
  const closed = yield* Effect.exit(Effect.timeout(Effect.promise(opened.close), "10 seconds"))
  yield* Effect.forEach(proxies, (proxy) => proxy.heal)
  const current = fault.later === undefined ? primary : replica
  const stored = new Map(
    (yield* query(current, "select token, count(*)::int as n from writes group by token")).map((row) => [
      String(row.token),
      Number(row.n)
    ])
  )
  const account = load.account(stored)
  const surprises = unexpected(transitions, fault)
  const ramped = fault.ramps === true ? ramp(transitions, served, cluster.replicas[1]!.name) : undefined
  const notes = [
    ...surprises.map((line) => `UNEXPECTED ${line}`),
    `reads failed: ${failedReads}`,
    `no read answered for at most ${Math.round(longestGap(served, since))} ms`,
    ...(ramped === undefined ? [] : [`${ramped.ok ? "" : "NOT RAMPED "}${ramped.note}`]),
    ...(fault.later === undefined ? [] : [`written to the old primary: ${writtenToOld}`]),
    `health: ${transitions.map(Health.format).join(", ")}`
  ]
  const summary = summarize(
    "sluice",
    load.calls,
    account,
    held + (Exit.isSuccess(closed) ? 0 : 1),
    { name: fault.name, began, healed },
    notes
  )
  const wrong =
    summary.wrong +
    writtenToOld +
    (fault.readsNeverFail === true ? failedReads : 0) +
    surprises.length +
    (ramped?.ok === false ? 1 : 0)
  const result: DrillResult = { ...summary, wrong }
  const panel: Panel = { subject: "sluice", calls: load.calls, began, healed }
  return { result, panel }
}, Effect.scoped)
