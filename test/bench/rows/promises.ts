/** What the document of the origin system promised, as rows: held or not, on this machine. */
import { Report } from "@sluice/sdk"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as pg from "pg"
import { Fleet } from "../../../packages/examples/src/fleet/Fleet.ts"
import {
  distance,
  idle,
  latest,
  overspeed,
  stoppage,
  stoppageSummary,
  trips
} from "../../../packages/examples/src/fleet/reports/index.ts"
import { fleet, type FleetRuntime, runtimeOf, scaled, scaledVehicles, simulated } from "../Fleets.ts"
import type { Contender, Context, Entrant, Row } from "../Row.ts"
import { type Asked, byKey, entrants, type Item, millis, perSecond, type Subject } from "../Subject.ts"
import { sluice, sluiceFull, sluiceLease } from "../subjects/effects.ts"
import { pgPerQuery, pgPool } from "../subjects/pg.ts"

const pool = 10

const reports = [sluice, sluiceFull, sluiceLease, pgPool]

/** Subjects over a pool of 10, all in one group. */
const pooled =
  (subjects: ReadonlyArray<Subject>, fibers: number, asked: Asked): Row["groups"] =>
  (context) => [{ contenders: entrants(context, subjects, { url: context.url, pool, fibers }, asked) }]

export const single: Row = {
  name: "promise-single",
  about: "one query by primary key over a warm pool, one caller: the time of a query",
  brief: "one select",
  unit: "ms",
  promised: { text: "a single pooled query in 0.21 ms", atMost: 0.21 },
  groups: pooled(reports, 1, { what: "select", value: millis })
}

export const five: Row = {
  name: "promise-five",
  about: "five queries by primary key at once over a warm pool: until the last has its row",
  brief: "five selects at once",
  unit: "ms",
  promised: { text: "5 parallel queries in 5 ms", atMost: 5 },
  groups: pooled(reports, 1, { what: "five", value: millis })
}

export const throughput: Row = {
  name: "promise-throughput",
  about: "queries by primary key a second with 20 callers: a pool of 10 against a connection per query, 10 at a time",
  brief: "20 callers",
  unit: "op/s",
  promised: { text: "5 times the throughput of a connection per query", times: 5, than: pgPerQuery.name },
  groups: pooled([...reports, pgPerQuery], 20, { what: "select", value: perSecond })
}

/** What a query costs beyond the same query on a connection that is held, both measured in the same round. */
const overhead = (url: string, subject: Subject): Entrant => ({
  subject: subject.name,
  beside: subject.beside,
  open: async (): Promise<Contender> => {
    const querying = await subject.open({ url, pool })
    const held = new pg.Client({ connectionString: url })
    await held.connect()
    const query = () => held.query<Item>({ name: "by_key", text: byKey, values: [7] })
    await query()
    return {
      subject: subject.name,
      round: async (time) => {
        const end = performance.now() + time
        const theirs = { millis: 0, count: 0 }
        const own = { millis: 0, count: 0 }
        // In turns of 20 ms, so that both see the same machine.
        do {
          const began = performance.now()
          do {
            await query()
            theirs.count++
          } while (performance.now() - began < 20)
          const since = performance.now()
          own.count += await querying.select(1, 20)
          own.millis += performance.now() - since
          theirs.millis += since - began
        } while (performance.now() < end)
        // Less than 10 microseconds cannot be told from noise.
        return Math.max(0.01, own.millis / own.count - theirs.millis / theirs.count)
      },
      close: async () => {
        await held.end()
        await querying.close()
      }
    }
  }
})

const lessOverhead: Row = {
  name: "promise-overhead",
  about:
    "time of a query beyond the same query on a connection of pg that is held, one caller (10 µs: as good as nothing)",
  brief: "beyond a held connection",
  unit: "ms",
  promised: { text: "90 % less overhead than a connection per query", times: 10, than: pgPerQuery.name },
  groups: ({ url }) => [{ contenders: [...reports, pgPerQuery].map((subject) => overhead(url, subject)) }]
}

const period = (from: Date) => ({
  from: DateTime.fromDateUnsafe(from),
  to: DateTime.fromDateUnsafe(new Date(from.getTime() + 86_400_000))
})

const managers = 20

const whichFleet = (context: Context) => {
  const { days, vehicles } = simulated(context)
  return `${vehicles} vehicles, ${days} ${days === 1 ? "day" : "days"} of positions`
}

/** The seven reports of a fleet, one after the other. Gives the number of rows. */
const allReports = (from: Date, vehicle: string | null) => {
  const of = { vehicle, ...period(from) }
  const count = (rows: ReadonlyArray<unknown>) => rows.length
  return Effect.all([
    Effect.map(latest.run({ vehicle }), count),
    Effect.map(stoppage.run(of), count),
    Effect.map(stoppageSummary.run({ by: "zone", ...of }), count),
    Effect.map(trips.run(of), count),
    Effect.map(distance.run({ timeZone: "Europe/Berlin", ...of }), count),
    Effect.map(overspeed.run(of), count),
    Effect.map(idle.run(of), count)
  ])
}

type Asking = Effect.Effect<unknown, unknown, Effect.Services<ReturnType<typeof allReports>>>

/** Managers who all ask at once, on a pool of 20: until the slowest has his answer. */
const atNine = (
  context: Context,
  asking: (runtime: FleetRuntime, from: Date) => Promise<(manager: number) => Asking>
): Entrant => ({
  subject: "sluice",
  open: async () => {
    const { from, url } = await fleet(context)
    const runtime = runtimeOf(url)
    return {
      subject: "sluice",
      round: async () => {
        const ask = await asking(runtime, from)
        const times = await runtime.runPromise(
          Effect.forEach(
            Array.from({ length: managers }, (_, manager) => manager),
            (manager) => Effect.map(Effect.timed(ask(manager)), ([time]) => Duration.toMillis(time)),
            { concurrency: "unbounded" }
          )
        )
        return Math.max(...times)
      },
      close: () => runtime.dispose()
    }
  }
})

/** Registrations of the simulated fleet, for managers 0 to 19. */
const vehiclesOf = (runtime: FleetRuntime) =>
  runtime.runPromise(Effect.map(latest.run({}), (rows) => rows.map(({ vehicle }) => vehicle)))

export const peak: Row = {
  name: "promise-peak",
  about:
    "20 managers at once, each of whom runs the seven reports of one of his vehicles for a day, one after the other (a pool of 20): the slowest manager's time for all seven",
  brief: "seven reports of one vehicle and day each, all seven",
  unit: "ms",
  promised: { text: "20 managers at the 9 AM peak, each under 1 s", atMost: 1_000 },
  note: whichFleet,
  groups: (context) => [
    {
      contenders: [
        atNine(context, async (runtime, from) => {
          const vehicles = await vehiclesOf(runtime)
          return (manager) => allReports(from, vehicles[manager % vehicles.length]!)
        })
      ]
    }
  ]
}

const peakFleet: Row = {
  name: "promise-peak-fleet",
  about:
    "20 managers at once, each of whom asks for the stoppage of the whole fleet for a day (a pool of 20, no cache): the slowest answer",
  brief: "stoppage of the whole fleet for a day, no cache",
  unit: "ms",
  promised: { text: "20 managers at the 9 AM peak, each under 1 s", atMost: 1_000 },
  note: whichFleet,
  groups: (context) => [
    {
      contenders: [atNine(context, async (_, from) => () => stoppage.run(period(from)))]
    }
  ]
}

/** The same statement with the time of a nightly job: what is slower than the report allows has a figure, too. */
const patient = Report.make("stoppage-patient", {
  ...Report.presets.batch,
  database: Fleet.role("replica"),
  params: stoppage.params,
  row: stoppage.row,
  query: stoppage.declared.query,
  maxRows: 10_000
})

type Period = ReturnType<typeof period>

const atScale = (
  context: Context,
  ask: (day: Period) => Effect.Effect<ReadonlyArray<unknown>, unknown, any>
): Entrant => ({
  subject: "sluice",
  open: async () => {
    const { from, url } = await scaled(context)
    const runtime = runtimeOf(url)
    return {
      subject: "sluice",
      round: async () => {
        const began = performance.now()
        const rows = await runtime.runPromise(ask(period(from)) as Effect.Effect<ReadonlyArray<unknown>>)
        if (rows.length === 0) throw new Error("no rows")
        return performance.now() - began
      },
      close: () => runtime.dispose()
    }
  }
})

const howMany = (context: Context) =>
  `${context.scale.toLocaleString("en")} positions of ${scaledVehicles(context).toLocaleString("en")} vehicles, one a minute (--scale)`

const scaleTracking: Row = {
  name: "scale-tracking",
  about: "the report `latest-position`: where every vehicle of the fleet is and what it is doing, in --scale positions",
  brief: "latest position of every vehicle",
  unit: "ms",
  promised: { text: "the vehicle-tracking query over 42 million positions in 620 ms", atMost: 620 },
  note: howMany,
  groups: (context) => [{ contenders: [atScale(context, () => latest.run({}))] }]
}

const scaleStoppage: Row = {
  name: "scale-stoppage",
  about: "the report `stoppage`: every stop of every vehicle of the fleet in the last day, in --scale positions",
  brief: "every stop of the last day",
  unit: "ms",
  rounds: 3,
  promised: { text: "the comprehensive stoppage report in 8 s (5 to 8 s)", atMost: 8_000 },
  note: howMany,
  groups: (context) => [{ contenders: [atScale(context, (day) => patient.run(day))] }]
}

export const promises: ReadonlyArray<Row> = [
  single,
  five,
  throughput,
  lessOverhead,
  peak,
  peakFleet,
  scaleTracking,
  scaleStoppage
]
