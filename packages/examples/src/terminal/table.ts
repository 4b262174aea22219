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

export const presentation = ({ timeZone, units }: Reader) => {
  const clock = new Intl.DateTimeFormat("en-GB", {
    timeZone,
    weekday: "short",
    day: "2-digit",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23"
  })
  return {
    lengthUnit: units === "metric" ? "km" : "mi",
    speedUnit: units === "metric" ? "km/h" : "mph",
    length: (length: Metres): string => grouped(units === "metric" ? kilometres(length) : miles(length), 1),
    speed: (speed: MetresPerSecond): string =>
      grouped(units === "metric" ? kilometresPerHour(speed) : milesPerHour(speed), 0),
    /** `Tue 03 Mar 07:15`. */
    time: (time: DateTime.Utc): string => clock.format(DateTime.toDateUtc(time)).replaceAll(",", ""),
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
