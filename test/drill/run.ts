/** One fault, one subject: load, fault, its end, a while after it, and the account. */
import { FaultProxy, type PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { movable } from "../support/clock.ts"
import type { Fault, Prepared, Scene } from "./Fault.ts"
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

/** Whoever holds this advisory lock keeps transactions in their COMMIT. */
export const gate = 4711

/** The database of a drill: items to read, a table for the tokens, a role that is no superuser. */
export const prepare = Effect.fnUntraced(function* (cluster: PgCluster.Cluster) {
  const database = yield* cluster.createDatabase("drill")
  const run = (sql: string) => cluster.primary.query(sql, [], { database: database.name })
  const [user, password] = ["drill", "through the weir"]
  yield* run(`create role ${user} login password '${password}'`)
  yield* run("create table items (id int primary key, name text not null)")
  yield* run("insert into items select g, 'item ' || g from generate_series(1, 1000) g")
  yield* run("create table writes (token text not null)")
  // Of a transaction: both parts or none. Its COMMIT takes a moment, and waits while somebody holds the gate.
  yield* run("create table ledger (token text not null, part int not null)")
  yield* run(
    `create function at_commit() returns trigger language plpgsql as $$
     begin perform pg_advisory_xact_lock_shared(${gate}); perform pg_sleep(0.01); return null; end $$`
  )
  yield* run(
    "create constraint trigger at_commit after insert on ledger deferrable initially deferred for each row when (new.part = 2) execute function at_commit()"
  )
  yield* run(`grant select on items to ${user}`)
  yield* run(`grant select, insert on writes, ledger to ${user}`)
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
  const { clock, jump } = movable()
  const { password, user } = ground
  const scene: Scene = { cluster, proxy, user, password, applicationName, database: database.name, jump }
  const prepared: Prepared = yield* fault.prepare?.(scene) ?? Effect.succeed({})
  const query = (sql: string, params: ReadonlyArray<unknown> = []) =>
    cluster.primary.query(sql, params, { database: database.name })

  const opened = yield* Effect.promise(() =>
    subject.open({
      host: proxy.host,
      port: proxy.port,
      database: database.name,
      user,
      password,
      applicationName,
      pool: settings.pool,
      deadline: settings.deadline,
      pooler: prepared.pooler,
      clock
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
    tag: applicationName,
    writes: fault.writes
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
  const { accepted } = yield* proxy.counters
  yield* fault.begin(scene)
  if (fault.while === "idle") load.resume()
  yield* Effect.sleep(fault.lasts)
  yield* fault.end(scene)
  const healed = load.at()
  yield* Effect.sleep(settings.after)
  yield* Effect.promise(load.stop)

  const notes: Array<string> = prepared.note === undefined ? [] : [prepared.note]
  const replaced = (yield* proxy.counters).accepted - accepted
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
  yield* prepared.afterClose ?? Effect.void
  const sessions = yield* untilZero(
    Effect.gen(function* () {
      const [row] = yield* query("select count(*)::int as count from pg_stat_activity where application_name = $1", [
        applicationName
      ])
      return Math.max(Number(row?.count), (yield* proxy.counters).open)
    }),
    3_000
  )
  if (sessions > 0) notes.push(`${sessions} sessions left behind`)
  process.off("uncaughtException", stray).off("unhandledRejection", stray)

  const rows = yield* query(
    `select token, count(*)::int as first, count(*)::int as second from writes where token like $1 group by token
     union all
     select token, (count(*) filter (where part = 1))::int, (count(*) filter (where part = 2))::int
     from ledger where token like $1 group by token`,
    [`${applicationName}-%`]
  )
  const stored = new Map(rows.map((row) => [String(row.token), Math.max(Number(row.first), Number(row.second))]))
  const torn = rows.filter(({ first, second }) => first !== second).length
  if (torn > 0) notes.push(`${torn} transactions applied in part`)
  const account = load.account(stored)
  if (account.unknown > 0) notes.push(`${account.appliedUnknown} of ${account.unknown} unknown writes applied`)
  if (load.longestAbsence() > 100) notes.push(`this process was away for up to ${Math.round(load.longestAbsence())} ms`)
  if (strays.length > 0) notes.push(`uncaught: ${strays[0]}`)
  const leaked = held + sessions + (closed === true ? 0 : 1)
  const failed = load.calls.filter((call) => call.kind !== "ok").length
  if (fault.unnoticed === true && failed + replaced > 0) {
    notes.push(`noticed: ${failed} calls failed, ${replaced} sessions were opened`)
  }
  const result = summarize(subject.name, load.calls, account, leaked, { name: fault.name, began, healed }, notes)
  const noticed = fault.unnoticed === true ? failed + replaced : 0
  const panel: Panel = { subject: subject.name, calls: load.calls, began, healed }
  return {
    result: {
      ...result,
      failedOtherwise: result.failedOtherwise + strays.length,
      wrong: result.wrong + torn + noticed
    } satisfies DrillResult as DrillResult,
    panel
  }
}, Effect.scoped)
