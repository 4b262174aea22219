/** One fault, one subject: load, fault, its end, a while after it, and the account. */
import { FaultProxy, type PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import type { Fault, Scene } from "./Fault.ts"
import { type DrillResult, makeLoad, summarize } from "./harness.ts"
import type { Subject } from "./Subject.ts"
import type { Panel } from "./timeline.ts"

export interface Ground {
  readonly cluster: PgCluster.Cluster
  readonly database: PgCluster.PgDatabase
  readonly user: string
  readonly password: string
}

export interface Settings {
  readonly workers: number
  readonly pool: number
  readonly deadline: number
  /** Milliseconds of load before the fault, and after it. */
  readonly before: number
  readonly after: number
  readonly random: () => number
}

/** The database of a drill: items to read, a table for the tokens, a role that is no superuser. */
export const prepare = Effect.fnUntraced(function* (cluster: PgCluster.Cluster) {
  const database = yield* cluster.createDatabase("drill")
  const run = (sql: string) => cluster.primary.query(sql, [], { database: database.name })
  const [user, password] = ["drill", "through the weir"]
  yield* run(`create role ${user} login password '${password}'`)
  yield* run("create table items (id int primary key, name text not null)")
  yield* run("insert into items select g, 'item ' || g from generate_series(1, 1000) g")
  yield* run("create table writes (token text not null)")
  yield* run(`grant select on items to ${user}`)
  yield* run(`grant select, insert on writes to ${user}`)
  const ground: Ground = { cluster, database, user, password }
  return ground
})

const within = <A>(promise: Promise<A>, millis: number): Promise<A | undefined> => {
  let timer: ReturnType<typeof setTimeout> | undefined
  const limit = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), millis)))
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

/** Looks again until it is zero, for at most so long; gives the last figure. */
const untilZero = Effect.fnUntraced(function* <E>(look: Effect.Effect<number, E>, millis: number) {
  const end = performance.now() + millis
  for (;;) {
    const count = yield* look
    if (count === 0 || performance.now() > end) return count
    yield* Effect.sleep(50)
  }
})

let serial = 0

export const drill = Effect.fnUntraced(function* (ground: Ground, fault: Fault, subject: Subject, settings: Settings) {
  const { cluster, database } = ground
  const applicationName = `drill-${subject.name}-${++serial}`
  const proxy = yield* FaultProxy.make({ target: cluster.primary })
  const scene: Scene = { cluster, proxy, user: ground.user, password: ground.password, applicationName }
  const query = (sql: string, params: ReadonlyArray<unknown> = []) =>
    cluster.primary.query(sql, params, { database: database.name })

  const opened = yield* Effect.promise(() =>
    subject.open({
      host: proxy.host,
      port: proxy.port,
      database: database.name,
      user: ground.user,
      password: ground.password,
      applicationName,
      pool: settings.pool,
      deadline: settings.deadline
    })
  )
  const strays: Array<string> = []
  const stray = (error: unknown) => strays.push(String(error))
  process.on("uncaughtException", stray).on("unhandledRejection", stray)

  const load = makeLoad(opened, {
    workers: settings.workers,
    deadline: settings.deadline,
    patience: 8_000,
    random: settings.random,
    tag: applicationName
  })
  yield* Effect.sleep(settings.before)
  if (fault.while === "idle") {
    yield* Effect.promise(load.pause)
    yield* Effect.sleep(200)
  }
  if (!load.calls.some((call) => call.kind === "ok")) {
    yield* Effect.promise(load.stop)
    return yield* Effect.die(
      new Error(`${subject.name} answered no call before ${fault.name}: ${load.calls[0]?.error}`)
    )
  }
  const began = load.at()
  yield* fault.begin(scene)
  if (fault.while === "idle") load.resume()
  yield* Effect.sleep(fault.lasts)
  yield* fault.end(scene)
  const healed = load.at()
  yield* Effect.sleep(settings.after)
  yield* Effect.promise(load.stop)

  const notes: Array<string> = []
  const held = yield* untilZero(Effect.promise(opened.held), 2_000)
  if (held > 0) notes.push(`${held} permits held`)
  const closed = yield* Effect.promise(() =>
    within(
      opened.close().then(
        () => true,
        () => true
      ),
      10_000
    )
  )
  if (closed !== true) notes.push("close did not return in 10 s")
  const sessions = yield* untilZero(
    Effect.map(
      query("select count(*)::int as count from pg_stat_activity where application_name = $1", [applicationName]),
      ([row]) => Number(row?.count)
    ),
    3_000
  )
  if (sessions > 0) notes.push(`${sessions} sessions left on the server`)
  process.off("uncaughtException", stray).off("unhandledRejection", stray)

  const stored = new Map(
    (yield* query("select token, count(*)::int as count from writes where token like $1 group by token", [
      `${applicationName}-%`
    ])).map((row) => [String(row.token), Number(row.count)])
  )
  const account = load.account(stored)
  if (account.unknown > 0) notes.push(`${account.appliedUnknown} of ${account.unknown} unknown writes applied`)
  if (load.longestAbsence() > 100) notes.push(`this process was away for up to ${Math.round(load.longestAbsence())} ms`)
  if (strays.length > 0) notes.push(`uncaught: ${strays[0]}`)
  const leaked = held + sessions + (closed === true ? 0 : 1)
  const result = summarize(subject.name, load.calls, account, leaked, { name: fault.name, began, healed }, notes)
  const panel: Panel = { subject: subject.name, calls: load.calls, began, healed }
  return {
    result: { ...result, failedOtherwise: result.failedOtherwise + strays.length } satisfies DrillResult as DrillResult,
    panel
  }
}, Effect.scoped)
