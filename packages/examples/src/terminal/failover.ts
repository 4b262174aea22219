/** The primary is killed while reports run, the replica is promoted, and what the callers saw is printed. */
import type { PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as SqlClient from "effect/sql/SqlClient"
import { latest, record, recorded, trips } from "../fleet/reports/index.ts"
import { Latitude, Longitude, Metres, MetresPerSecond } from "../fleet/units.ts"
import type { Period } from "./reports.ts"
import { declaration } from "./semantics.ts"
import { count, table } from "./table.ts"

/** What the callers of one kind saw; times in milliseconds. */
interface Account {
  readonly kind: string
  calls: number
  answered: number
  /** Of the answers: those that took more than one attempt. */
  repeated: number
  readonly failed: Map<string, number>
  slowest: number
  lastAnswer: number
  longestGap: number
}

/** Runs one call and books what came of it. */
const booked = <A extends { readonly attempts: number }, E extends { readonly _tag: string }, R>(
  account: Account,
  call: Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    const exit = yield* Effect.exit(call)
    const now = yield* Clock.currentTimeMillis
    account.calls += 1
    account.slowest = Math.max(account.slowest, now - began)
    if (Exit.isSuccess(exit)) {
      account.answered += 1
      if (exit.value.attempts > 1) account.repeated += 1
      account.longestGap = Math.max(account.longestGap, now - account.lastAnswer)
      account.lastAnswer = now
    } else {
      // What is not a declared failure is a mistake of ours, and ends the program.
      const failure = exit.cause.reasons.find(Cause.isFailReason)
      if (failure === undefined) return yield* Effect.failCause(exit.cause as Cause.Cause<never>)
      account.failed.set(failure.error._tag, (account.failed.get(failure.error._tag) ?? 0) + 1)
    }
    return exit
  })

const eventually = <E, R>(self: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.delay(self, "10 millis"), { until: (yes) => yes }).pipe(Effect.timeout("10 seconds"))

/** A commit is acknowledged when the replica has it, too: what was acknowledged cannot be lost with the primary. */
const synchronous = Effect.fnUntraced(function* ({ primary }: PgCluster.Cluster) {
  yield* primary.query("alter system set synchronous_standby_names = '*'")
  yield* primary.query("select pg_reload_conf()")
  const inStep = Effect.map(
    primary.query("select 1 from pg_stat_replication where sync_state = 'sync'"),
    (rows) => rows.length > 0
  )
  yield* eventually(inStep)
})

interface Written {
  readonly vehicle: string
  readonly time: DateTime.Utc
  readonly odometer: Metres
  readonly acknowledged: boolean
}

/** Compares what was written with what is there, row by row. */
const checked = Effect.fnUntraced(function* (written: ReadonlyArray<Written>, since: DateTime.Utc) {
  const sql = yield* SqlClient.SqlClient
  const there = yield* sql<{ readonly vehicle: string; readonly time: Date; readonly odometer: number }>`
    select v.registration as vehicle, p.time, p.odometer_m as odometer
    from fleet.positions p
    join fleet.vehicles v on v.id = p.vehicle_id
    where p.time >= ${DateTime.toDateUtc(since)}::timestamptz`
  const key = (vehicle: string, millis: number, odometer: number) => `${vehicle} ${millis} ${odometer}`
  const found = new Map<string, number>()
  for (const row of there) {
    const own = key(row.vehicle, row.time.getTime(), row.odometer)
    found.set(own, (found.get(own) ?? 0) + 1)
  }
  const times = (row: Written) => found.get(key(row.vehicle, DateTime.toEpochMillis(row.time), row.odometer)) ?? 0
  const acknowledged = written.filter((row) => row.acknowledged)
  const open = written.filter((row) => !row.acknowledged)
  const applied = open.filter((row) => times(row) > 0).length
  return {
    acknowledged: acknowledged.length,
    lost: acknowledged.filter((row) => times(row) === 0).length,
    doubled: written.filter((row) => times(row) > 1).length,
    /** Rows that nobody wrote. */
    foreign: there.length - written.reduce((sum, row) => sum + times(row), 0),
    open: open.length,
    applied
  }
})

const callersOf = { latest: 2, trips: 2, recorded: 3, record: 3 }

/** Kill, promote, go on: a few seconds with ten callers. `period` is what was simulated. */
export const printFailover = Effect.fnUntraced(function* (cluster: PgCluster.Cluster, period: Period) {
  const { primary, replica } = cluster
  yield* Console.log(
    "\nThe primary dies - Ten callers go on while it is killed and the replica is promoted; Sluice is not told\n"
  )
  yield* Console.log(
    "  The role replica says fallback: primary, so that its reports go on where the only replica is promoted.\n" +
      "  The servers replicate synchronously: a position is acknowledged when both have it.\n"
  )
  for (const report of [recorded, record]) yield* Console.log(`${declaration(report)}\n`)
  const since = period.to
  const sql = yield* SqlClient.SqlClient
  const end = DateTime.add(since, { hours: 1 })
  yield* sql`select fleet.ensure_partitions(${DateTime.toDateUtc(since)}::timestamptz, ${DateTime.toDateUtc(end)}::timestamptz)::text`
  const fleet = yield* latest.run({})
  // Of different depots, where there are enough.
  const vehicleOf = (caller: number) => fleet[Math.floor((caller * fleet.length) / callersOf.record) % fleet.length]!
  yield* synchronous(cluster)

  const began = yield* Clock.currentTimeMillis
  const say = (what: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Console.log(`  ${((now - began) / 1000).toFixed(2).padStart(5)} s  ${what}`)
    )
  const account = (kind: string): Account => ({
    kind,
    calls: 0,
    answered: 0,
    repeated: 0,
    failed: new Map(),
    slowest: 0,
    lastAnswer: began,
    longestGap: 0
  })
  const accounts = {
    latest: account("latest position, replica"),
    trips: account("trips of a vehicle, replica"),
    recorded: account("recorded positions, primary"),
    record: account("record a position, primary")
  }
  const written: Array<Written> = []
  const load = { goesOn: true }

  const write = Effect.fnUntraced(function* (caller: number, turn: number) {
    const from = vehicleOf(caller)
    const seconds = turn * callersOf.record + caller
    // Northward from where it was. No two writes are the same row, even where callers share a vehicle.
    const position = {
      vehicle: from.vehicle,
      time: DateTime.add(since, { seconds }),
      latitude: Latitude.make((from.latitude ?? 50) + (seconds * 20) / 111_195),
      longitude: from.longitude ?? Longitude.make(10),
      speed: MetresPerSecond.make(20),
      odometer: Metres.make((from.odometer ?? 0) + seconds * 20)
    }
    const exit = yield* booked(accounts.record, record.runWithInfo(position))
    written.push({ ...position, acknowledged: Exit.isSuccess(exit) })
  })
  const day = { from: period.from, to: DateTime.min(period.to, DateTime.add(period.from, { days: 1 })) }
  const callers = <R>(number: number, call: (caller: number, turn: number) => Effect.Effect<unknown, never, R>) =>
    Array.from({ length: number }, (_, caller) =>
      Effect.gen(function* () {
        for (let turn = 0; load.goesOn; turn++) {
          yield* call(caller, turn)
          yield* Effect.sleep("10 millis")
        }
      })
    )
  const all = yield* Effect.forkChild(
    Effect.all(
      [
        ...callers(callersOf.latest, () => booked(accounts.latest, latest.runWithInfo({}))),
        ...callers(callersOf.trips, (caller) =>
          booked(accounts.trips, trips.runWithInfo({ ...day, vehicle: vehicleOf(caller).vehicle }))
        ),
        ...callers(callersOf.recorded, (caller) =>
          booked(accounts.recorded, recorded.runWithInfo({ vehicle: vehicleOf(caller).vehicle, since }))
        ),
        ...callers(callersOf.record, write)
      ],
      { concurrency: "unbounded", discard: true }
    )
  )
  yield* Effect.gen(function* () {
    yield* Effect.sleep("1 second")
    // So that the kill meets writes that were sent and have no answer: they are the ones that could be lost or doubled.
    const blocker = yield* primary.session()
    yield* blocker.query("begin")
    yield* blocker.query("lock table fleet.positions in exclusive mode")
    yield* eventually(
      Effect.map(
        blocker.query("select from pg_locks where relation = 'fleet.positions'::regclass and not granted"),
        (waiting) => waiting.length >= callersOf.record
      )
    )
    yield* say(
      `kill -9 of the primary (${primary.host}:${primary.port}), ${callersOf.record} writes held under way by a lock`
    )
    yield* primary.kill
    // As long as somebody, or Patroni, needs to decide it.
    yield* Effect.sleep("500 millis")
    yield* say(`the replica (${replica.host}:${replica.port}) is told to become the primary`)
    yield* replica.promote
    yield* say("it is one")
    const answered = accounts.record.answered
    yield* eventually(Effect.sync(() => accounts.record.answered > answered))
    yield* say("a position is recorded again")
    yield* Effect.sleep("1500 millis")
  }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => void (load.goesOn = false))))
  yield* Fiber.join(all)
  yield* say("the callers have ended")
  const ended = yield* Clock.currentTimeMillis

  const kinds = Object.values(accounts)
  for (const kind of kinds) kind.longestGap = Math.max(kind.longestGap, ended - kind.lastAnswer)
  yield* Console.log(
    `\n${table(kinds, [
      { title: "what the callers saw", cell: ({ kind }) => kind },
      { title: "calls", cell: ({ calls }) => count(calls), right: true },
      { title: "answered", cell: ({ answered }) => count(answered), right: true },
      { title: "by a repeat", cell: ({ repeated }) => count(repeated), right: true },
      {
        title: "failed with",
        cell: ({ failed }) =>
          failed.size === 0 ? "nothing" : [...failed].map(([tag, calls]) => `${tag} ${count(calls)}`).join(", ")
      },
      { title: "slowest", cell: ({ slowest }) => `${count(slowest)} ms`, right: true },
      { title: "longest without an answer", cell: ({ longestGap }) => `${count(longestGap)} ms`, right: true }
    ])}`
  )
  const rows = yield* checked(written, since)
  yield* Console.log(
    `  ${count(rows.acknowledged)} positions were acknowledged; ` +
      `looked for one by one: ${count(rows.lost)} lost, ${count(rows.doubled)} doubled, ${count(rows.foreign)} that nobody wrote`
  )
  if (rows.open > 0) {
    yield* Console.log(`  ${count(rows.open)} were answered with a failure: ${count(rows.applied)} of them are there`)
  }
  if (rows.lost + rows.doubled + rows.foreign > 0)
    return yield* Effect.die(new Error("the rows are not what was written"))
})
