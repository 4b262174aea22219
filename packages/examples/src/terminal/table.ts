/** Plain text tables, and the reader's side of the units: here, and only here, is rounded. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import {
  kilometres,
  kilometresPerHour,
  type Metres,
  type MetresPerSecond,
  miles,
  milesPerHour,
  type UnitSystem
} from "../fleet/units.ts"

/** One column: its title, what it shows of a row, and whether it lines up on the right as numbers do. */
export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  readonly right?: boolean | undefined
}

/** The rows as lines of text under their titles. */
export const table = <Row>(rows: ReadonlyArray<Row>, columns: ReadonlyArray<Column<Row>>): string => {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)))
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => line[index]!.length))
  )
  const line = (texts: ReadonlyArray<string>) =>
    `  ${texts
      .map((text, index) =>
        columns[index]!.right === true ? text.padStart(widths[index]!) : text.padEnd(widths[index]!)
      )
      .join("  ")
      .trimEnd()}`
  return [
    line(columns.map((column) => column.title)),
    line(widths.map((width) => "-".repeat(width))),
    ...cells.map(line)
  ].join("\n")
}

const grouped = (value: number, digits: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

export const count = (value: number): string => grouped(value, 0)

/** What a reader wants to see: which units, and which clock. */
export interface Reader {
  readonly units: UnitSystem
  readonly timeZone: string
}

const clockOf = (timeZone: string, year: boolean) =>
  new Intl.DateTimeFormat("en-GB", {
    timeZone,
    weekday: "short",
    day: "2-digit",
    month: "short",
    ...(year && { year: "numeric" }),
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23"
  })

/** `+01:00`, as the clocks of the zone are set at that instant. */
const offsetOf = (zone: Intl.DateTimeFormat, at: number): string => {
  const name = zone.formatToParts(at).find(({ type }) => type === "timeZoneName")?.value ?? ""
  return name === "GMT" ? "+00:00" : name.replace("GMT", "")
}

const hour = 3_600_000

/** `years`: the period that is told of spans more than one, or is of another year than this one. */
export const presentation = ({ timeZone, units }: Reader, years = false) => {
  const clock = clockOf(timeZone, years)
  const zone = new Intl.DateTimeFormat("en-GB", { timeZone, timeZoneName: "longOffset" })
  const told = (at: number): string => clock.format(at).replaceAll(",", "")
  /** Where clocks are set back an hour comes twice: then the offset says which. */
  const isTwice = (at: number): boolean => {
    const own = offsetOf(zone, at)
    return [at - hour, at + hour, at - hour / 2, at + hour / 2].some(
      (other) => offsetOf(zone, other) !== own && told(other) === told(at)
    )
  }
  return {
    lengthUnit: units === "metric" ? "km" : "mi",
    speedUnit: units === "metric" ? "km/h" : "mph",
    length: (length: Metres): string => grouped(units === "metric" ? kilometres(length) : miles(length), 1),
    speed: (speed: MetresPerSecond): string =>
      grouped(units === "metric" ? kilometresPerHour(speed) : milesPerHour(speed), 0),
    /** `Tue 03 Mar 07:15`, `Tue 03 Mar 2020 07:15`; `Sun 25 Oct 02:30 +01:00` where the clocks show that twice. */
    time: (time: DateTime.Utc): string => {
      const at = DateTime.toDateUtc(time).getTime()
      return isTwice(at) ? `${told(at)} ${offsetOf(zone, at)}` : told(at)
    },
    /** `26:05` hours and minutes; seconds below one hour. */
    duration: (duration: Duration.Duration): string => {
      const seconds = Math.round(Duration.toSeconds(duration))
      const two = (value: number) => String(value).padStart(2, "0")
      const minutes = Math.floor(seconds / 60)
      return seconds < 3600
        ? `${minutes} min ${two(seconds % 60)} s`
        : `${count(Math.floor(minutes / 60))} h ${two(minutes % 60)} min`
    }
  }
}

export type Presentation = ReturnType<typeof presentation>
