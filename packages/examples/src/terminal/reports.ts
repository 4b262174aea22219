/** Runs the reports of the fleet and prints what a fleet manager reads, each under what it declares. */
import { type Report } from "@sluice/sdk"
import type { ReportResult } from "@sluice/sdk"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { distance, idle, latest, overspeed, stoppage, stoppageSummary, trips } from "../fleet/reports/index.ts"
import { fromKilometresPerHour, fromMilesPerHour, sumDurations, sumMetres } from "../fleet/units.ts"
import { declaration, type Heading } from "./semantics.ts"
import { type Column, count, presentation, type Reader, table } from "./table.ts"

export interface Period {
  readonly from: DateTime.Utc
  readonly to: DateTime.Utc
}

interface Section<Row> extends Heading {
  readonly columns: ReadonlyArray<Column<Row>>
  /** Rows to print, 8 unless told. */
  readonly shown?: number | undefined
  /** Other than the order of the report. */
  readonly select?: ((rows: ReadonlyArray<Row>) => ReadonlyArray<Row>) | undefined
  /** A line of totals below the table; of rows that were cut there is no total. */
  readonly sum?: ((rows: ReadonlyArray<Row>) => string) | undefined
}

/** The declaration, the first rows, and where they came from. */
const print = <Row, E, R>(
  report: Report.Any,
  run: Effect.Effect<ReportResult<Row>, E, R>,
  { columns, select = (rows) => rows, shown = 8, sum, ...heading }: Section<Row>
) =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    const { attempts, node, rows, source, truncated } = yield* run
    const took = (yield* Clock.currentTimeMillis) - began
    const first = select(rows).slice(0, shown)
    yield* Console.log(`\n${declaration(report, heading)}\n`)
    if (first.length > 0) yield* Console.log(table(first, columns))
    const rest = rows.length - first.length
    yield* Console.log(
      [
        `  ${count(rows.length)} ${rows.length === 1 ? "row" : "rows"}${rest > 0 ? `, ${count(first.length)} shown` : ""}${truncated ? ", more were cut off: no totals" : ""}`,
        sum === undefined || rows.length === 0 || truncated ? undefined : sum(rows),
        `${source} from ${node ?? "no node"} in ${count(took)} ms, ${attempts} attempt${attempts === 1 ? "" : "s"}`
      ]
        .filter((part) => part !== undefined)
        .join("; ")
    )
  })

/** The rows in turn from each group, and within it from each group of the next key: the first few show all there is. */
export const varied = <Row>(
  rows: ReadonlyArray<Row>,
  keys: (row: Row) => readonly [string, ...ReadonlyArray<string>],
  depth = 0
): ReadonlyArray<Row> => {
  const groups = Object.values(Arr.groupBy(rows, (row) => keys(row)[depth] ?? ""))
  if (rows.length === 0 || depth >= keys(rows[0]!).length) return rows
  const each = groups.map((group): ReadonlyArray<Row> => varied(group, keys, depth + 1))
  const longest = Math.max(...each.map((group) => group.length))
  return Array.from({ length: longest }, (_, turn) => each.flatMap((group) => group.slice(turn, turn + 1))).flat()
}

/** Whether times need their year: a period of several years, or of another one than this. */
const needsYear = ({ from, to }: Period): boolean => {
  const years = [from, to].map((time) => DateTime.toDateUtc(time).getUTCFullYear())
  return years[0] !== years[1] || years[0] !== new Date().getUTCFullYear()
}

/** Where the vehicles stood. */
export const printStoppage = (period: Period, reader: Reader, shown?: number) => {
  const { duration, time } = presentation(reader, needsYear(period))
  return print(stoppage, stoppage.runWithInfo(period), {
    order: "newest first",
    timeZone: reader.timeZone,
    shown,
    columns: [
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: "zone", cell: (row) => row.zone ?? "(no zone)" },
      { title: "from", cell: (row) => (row.openStart ? `before ${time(row.start)}` : time(row.start)) },
      { title: "to", cell: (row) => (row.openEnd ? "still there" : time(row.end)) },
      { title: "stood", cell: (row) => duration(row.duration), right: true },
      { title: "engine on", cell: (row) => (row.engineOn === null ? "?" : duration(row.engineOn)), right: true },
      { title: "class", cell: (row) => row.class }
    ]
  })
}

export const printStoppageSummary = (
  by: "depot" | "region" | "zone",
  period: Period,
  reader: Reader,
  shown?: number
) => {
  const { duration } = presentation(reader, needsYear(period))
  return print(stoppageSummary, stoppageSummary.runWithInfo({ by, ...period }), {
    order: "most time in all first",
    shown,
    columns: [
      { title: by, cell: (row) => row.place ?? "(none)" },
      { title: "vehicles", cell: (row) => count(row.vehicles), right: true },
      { title: "stops", cell: (row) => count(row.stops), right: true },
      { title: "over 30 min", cell: (row) => count(row.long), right: true },
      { title: "over 2 h", cell: (row) => count(row.veryLong), right: true },
      { title: "in all", cell: (row) => duration(row.total), right: true },
      { title: "average", cell: (row) => duration(row.average), right: true },
      { title: "longest", cell: (row) => duration(row.longest), right: true }
    ],
    sum: (rows) => `${count(rows.reduce((stops, row) => stops + row.stops, 0))} stops`
  })
}

export const printTrips = (period: Period, reader: Reader) => {
  const { duration, length, lengthUnit, speed, speedUnit, time } = presentation(reader, needsYear(period))
  return print(trips, trips.runWithInfo(period), {
    order: "newest first",
    timeZone: reader.timeZone,
    columns: [
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: "left", cell: (row) => time(row.start) },
      { title: "from", cell: (row) => row.fromZone ?? "(no zone)" },
      { title: "to", cell: (row) => row.toZone ?? "(no zone)" },
      { title: "took", cell: (row) => duration(row.duration), right: true },
      { title: lengthUnit, cell: (row) => length(row.distance), right: true },
      { title: `average ${speedUnit}`, cell: (row) => speed(row.averageSpeed), right: true },
      { title: `top ${speedUnit}`, cell: (row) => speed(row.maxSpeed), right: true }
    ],
    sum: (rows) => `${length(sumMetres(rows.map((row) => row.distance)))} ${lengthUnit} in all`
  })
}

export const printLatest = (reader: Reader) => {
  const { length, lengthUnit, speed, speedUnit, time } = presentation(reader, true)
  return print(latest, latest.runWithInfo({}), {
    order: "some of each state and depot",
    timeZone: reader.timeZone,
    select: (rows) => varied(rows, (row) => [row.state, row.depot ?? ""]),
    columns: [
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: "depot", cell: (row) => row.depot ?? "" },
      { title: "seen", cell: (row) => (row.time === null ? "never" : time(row.time)) },
      { title: "state", cell: (row) => row.state },
      { title: speedUnit, cell: (row) => (row.speed === null ? "" : speed(row.speed)), right: true },
      { title: "latitude", cell: (row) => row.latitude?.toFixed(4) ?? "", right: true },
      { title: "longitude", cell: (row) => row.longitude?.toFixed(4) ?? "", right: true },
      {
        title: `odometer ${lengthUnit}`,
        cell: (row) => (row.odometer === null ? "" : length(row.odometer)),
        right: true
      }
    ],
    sum: (rows) =>
      ["moving", "idle", "parked", "unknown", "unseen"]
        .map((state) => [rows.filter((row) => row.state === state).length, state] as const)
        .filter(([vehicles]) => vehicles > 0)
        .map(([vehicles, state]) => `${count(vehicles)} ${state}`)
        .join(", ")
  })
}

export const printDistance = (period: Period, reader: Reader) => {
  const { length, lengthUnit } = presentation(reader, needsYear(period))
  return print(distance, distance.runWithInfo({ ...period, timeZone: reader.timeZone }), {
    order: "by day and vehicle",
    columns: [
      { title: "day", cell: (row) => row.day },
      { title: "time zone", cell: (row) => row.timeZone },
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: lengthUnit, cell: (row) => length(row.distance), right: true },
      { title: `odometer ${lengthUnit}`, cell: (row) => length(row.odometer), right: true },
      { title: "positions", cell: (row) => count(row.positions), right: true }
    ],
    // The sum of the metres, rounded once: not a sum of rounded kilometres.
    sum: (rows) => `${length(sumMetres(rows.map((row) => row.distance)))} ${lengthUnit} in all`
  })
}

export const printOverspeed = (period: Period, reader: Reader) => {
  const { duration, length, lengthUnit, speed, speedUnit, time } = presentation(reader, needsYear(period))
  const limit = reader.units === "metric" ? fromKilometresPerHour(90) : fromMilesPerHour(55)
  return print(overspeed, overspeed.runWithInfo({ ...period, limit, minDuration: Duration.seconds(60) }), {
    order: "fastest first",
    timeZone: reader.timeZone,
    select: (rows) => rows.toSorted((a, b) => b.maxSpeed - a.maxSpeed),
    columns: [
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: "at", cell: (row) => time(row.start) },
      { title: "for", cell: (row) => duration(row.duration), right: true },
      { title: lengthUnit, cell: (row) => length(row.distance), right: true },
      { title: `limit ${speedUnit}`, cell: (row) => speed(row.limit), right: true },
      { title: `top ${speedUnit}`, cell: (row) => speed(row.maxSpeed), right: true }
    ],
    sum: (rows) => `${count(new Set(rows.map((row) => row.vehicle)).size)} vehicles were faster`
  })
}

export const printIdle = (period: Period, reader: Reader) => {
  const { duration, time } = presentation(reader, needsYear(period))
  return print(idle, idle.runWithInfo(period), {
    order: "longest first",
    timeZone: reader.timeZone,
    select: (rows) => rows.toSorted((a, b) => Duration.toMillis(b.duration) - Duration.toMillis(a.duration)),
    columns: [
      { title: "vehicle", cell: (row) => row.vehicle },
      { title: "depot", cell: (row) => row.depot ?? "" },
      { title: "zone", cell: (row) => row.zone ?? "(no zone)" },
      { title: "from", cell: (row) => time(row.start) },
      { title: "idled", cell: (row) => duration(row.duration), right: true }
    ],
    sum: (rows) => `${duration(sumDurations(rows.map((row) => row.duration)))} of engine time`
  })
}
