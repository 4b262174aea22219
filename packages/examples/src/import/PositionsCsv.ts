/**
 * The edge of the import: from the lines of a CSV file to positions in the units of the store, or to a reason.
 *
 * Columns by name, in any order: `vehicle_id`, `timestamp` (ISO 8601 with an offset), `speed`, `latitude`, `longitude`.
 * Others are left alone. A record is one line: no field of a position holds a line break. So a broken quote costs its own
 * line, and not the lines behind it.
 */
import { parse } from "csv-parse/sync"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Stream from "effect/Stream"
import { fromKilometresPerHour, fromMilesPerHour, MetresPerSecond } from "../fleet/units.ts"
import { longestLine, type TextLine, textLines } from "./TextLines.ts"

/** The file as a whole cannot be read as positions. Nothing was imported. `field` says where: the file, a column, a line. */
export class NotAPositionsFile extends Schema.TaggedError<NotAPositionsFile>("@sluice/examples/NotAPositionsFile")(
  "NotAPositionsFile",
  { file: Schema.String, field: Schema.String, problem: Schema.String },
  { httpApiStatus: 422 }
) {
  override get message(): string {
    return `${this.file}: ${this.field}: ${this.problem}`
  }
}

/** A line that was not taken, and why. Lines count from 1, the header is one. */
export interface RejectedLine {
  readonly line: number
  readonly field: string
  readonly reason: string
  /** What the field holds: its first 40 characters, without those that cannot be printed. */
  readonly value: string
}

/** A value for people: short, on one line, and without what would move the cursor of a terminal. */
export const shown = (value: string): string => {
  const printable = value.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\u00b7")
  return printable.length > 40 ? `${printable.slice(0, 39)}\u2026` : printable
}

export type Line = Data.TaggedEnum<{
  Good: { readonly line: number; readonly position: Position }
  Bad: RejectedLine
}>
export const Line = Data.taggedEnum<Line>()

/** The unit of the column `speed`. It is said, never guessed. */
export const SpeedUnit = Schema.Literals(["m/s", "km/h", "mph"])
export type SpeedUnit = typeof SpeedUnit.Type

const columns = ["vehicle_id", "timestamp", "speed", "latitude", "longitude"] as const

// `Number("")` is 0 and `Number("0x10")` is 16: neither is what a receiver means.
const isDecimal = (text: string): boolean => /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)
const Decimal = Schema.String.check(Schema.makeFilter((text) => isDecimal(text) || "is not a number"))
const numeric = SchemaTransformation.transform({ decode: Number, encode: String })

const between = (minimum: number, maximum: number, what: string) =>
  Schema.makeFilter<number>((value) => (value >= minimum && value <= maximum) || `is not ${what}`)

const degrees = (most: number) => Schema.Finite.check(between(-most, most, `from -${most} to ${most} degrees`))

/** 360 km/h: beyond that a receiver is wrong, not a vehicle fast. */
const fastest = MetresPerSecond.make(100)

const toMetresPerSecond: Record<SpeedUnit, (speed: number) => number> = {
  "m/s": (speed) => speed,
  "km/h": fromKilometresPerHour,
  mph: fromMilesPerHour
}
const fromMetresPerSecond: Record<SpeedUnit, (speed: number) => number> = {
  "m/s": (speed) => speed,
  "km/h": (speed) => speed / fromKilometresPerHour(1),
  mph: (speed) => speed / fromMilesPerHour(1)
}

// PostgreSQL writes `+00` where the offset has no minutes, others `+0000`.
const iso = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?:(Z)|([+-]\d{2})(?::?(\d{2}))?)$/i

/** The instant in milliseconds; `NaN` if the text is none. */
const instantOf = (text: string): number => {
  const parts = iso.exec(text)
  if (parts === null) return Number.NaN
  const [, year, month, day, time, utc, hours, minutes = "00"] = parts
  // `Date` takes the 30th of February for the 1st of March.
  if (Number(day) > new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate()) return Number.NaN
  return Date.parse(`${year}-${month}-${day}T${time}${utc === undefined ? `${hours}:${minutes}` : "Z"}`)
}

const isInstant = (text: string): boolean => !Number.isNaN(instantOf(text))

const earliest = Date.UTC(1990, 0, 1)

/** One line. `now` bounds the future: a receiver whose clock runs ahead by more than a day is wrong. */
const position = (unit: SpeedUnit, now: number) =>
  Schema.Struct({
    vehicle_id: Schema.Trim.check(
      Schema.makeFilter((text) => /^[\p{L}\p{N}][\p{L}\p{N} ._/-]{0,39}$/u.test(text) || "is not a registration")
    ),
    timestamp: Schema.String.check(
      Schema.makeFilter((text) => isInstant(text) || "is not a time with an offset, such as 2016-01-17T14:05:58-06:00"),
      Schema.makeFilter((text) => !isInstant(text) || instantOf(text) >= earliest || "is before 1990"),
      Schema.makeFilter((text) => !isInstant(text) || instantOf(text) <= now + 86_400_000 || "is in the future")
    ).pipe(
      Schema.decodeTo(
        Schema.Date,
        SchemaTransformation.transform({
          decode: (text) => new Date(instantOf(text)),
          encode: (date) => date.toISOString()
        })
      )
    ),
    speed: Decimal.pipe(
      Schema.decodeTo(
        MetresPerSecond.check(between(0, fastest, `from 0 to ${fastest} m/s`)),
        SchemaTransformation.transform({
          decode: (text) => toMetresPerSecond[unit](Number(text)),
          encode: (speed) => String(fromMetresPerSecond[unit](speed))
        })
      )
    ),
    latitude: Decimal.pipe(Schema.decodeTo(degrees(90).pipe(Schema.brand("Latitude")), numeric)),
    longitude: Decimal.pipe(Schema.decodeTo(degrees(180).pipe(Schema.brand("Longitude")), numeric))
  }).check(
    Schema.makeFilter(
      // What a receiver without a fix reports.
      (p) => !(p.latitude === 0 && p.longitude === 0) || { path: ["latitude"], issue: "0, 0 is no position" }
    )
  )

export type Position = ReturnType<typeof position>["Type"]

interface Options {
  readonly speedUnit: SpeedUnit
  readonly now: number
  /** Called at each line of the file, with the bytes of it that were read. */
  readonly onLine?: ((line: number, bytes: number) => void) | undefined
}

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

const refuse = (file: string, field: string, problem: string) => new NotAPositionsFile({ file, field, problem })

/** Where each column is, from the first line. */
const readHeader = (file: string, cells: ReadonlyArray<string>): ReadonlyArray<number> => {
  if (cells.some((cell) => cell.includes("\ufffd"))) throw refuse(file, "file", "is not text in UTF-8")
  const header = cells.map((cell) => cell.trim().toLowerCase())
  const missing = columns.filter((column) => !header.includes(column))
  if (missing.length > 0) {
    const there = header.join(", ")
    throw refuse(
      file,
      missing.join(", "),
      `no such column; the first line has ${there.length > 120 ? `${there.slice(0, 120)}...` : there}`
    )
  }
  const twice = columns.find((column) => header.indexOf(column) !== header.lastIndexOf(column))
  if (twice !== undefined) throw refuse(file, twice, "the column is there twice")
  return columns.map((column) => header.indexOf(column))
}

/** The fields of a line, or what is wrong with it as CSV. */
const fieldsOf = (text: string): ReadonlyArray<string> | string => {
  if (!text.includes('"')) return text.split(",")
  try {
    return (parse(text, { relax_column_count: true }) as ReadonlyArray<ReadonlyArray<string>>)[0] ?? []
  } catch (error) {
    return quoteProblems[(error as { readonly code?: string }).code ?? ""] ?? "is not CSV"
  }
}

const quoteProblems: Record<string, string> = {
  CSV_QUOTE_NOT_CLOSED: "has a quote that is opened and never closed",
  INVALID_OPENING_QUOTE: "has a quote in the middle of a field",
  CSV_INVALID_CLOSING_QUOTE: "has text after a closing quote"
}

interface Header {
  readonly width: number
  readonly places: ReadonlyArray<number>
}

const headerOf = (file: string, { number, text }: TextLine): Header => {
  // A zero byte means an archive, a spreadsheet, or text in another encoding than UTF-8.
  if (text === undefined) throw refuse(file, "file", "is not lines of text")
  if (text.includes("\0")) throw refuse(file, "file", "is not text in UTF-8")
  const fields = fieldsOf(number === 1 ? text.replace(/^\ufeff/, "") : text)
  if (typeof fields === "string") throw refuse(file, `line ${number}`, fields)
  return { width: fields.length, places: readHeader(file, fields) }
}

type Decode = (value: unknown) => Result.Result<Position, SchemaIssue.Issue>

const readLine = ({ places, width }: Header, decode: Decode, { number: line, text }: TextLine): Line => {
  const bad = (field: string, reason: string, value: string) => Line.Bad({ line, field, reason, value: shown(value) })
  if (text === undefined) return bad("line", `is longer than ${longestLine / 1024} KiB`, "")
  if (text.includes("\0")) return bad("line", "holds a NUL character", text)
  const record = fieldsOf(text)
  if (typeof record === "string") return bad("line", record, text)
  if (record.length !== width) {
    const columns = record.length === 1 ? "1 column" : `${record.length} columns`
    return bad("line", `has ${columns} instead of ${width}`, text)
  }
  const decoded = decode(Object.fromEntries(columns.map((column, index) => [column, record[places[index]!]])))
  if (Result.isSuccess(decoded)) return Line.Good({ line, position: decoded.success })
  const [first] = formatIssues(decoded.failure).issues
  const field = String(first?.path?.[0] ?? "line")
  const place = columns.indexOf(field as (typeof columns)[number])
  return bad(field, first?.message ?? "is not a position", place < 0 ? text : record[places[place]!]!)
}

/** The lines of a file in its order. Closes the file whichever way the reading ends. */
async function* read(file: string, { now, onLine, speedUnit }: Options): AsyncGenerator<Line> {
  const decode = SchemaParser.decodeUnknownResult(position(speedUnit, now))
  let header: Header | undefined
  for await (const line of textLines(file)) {
    onLine?.(line.number, line.bytes)
    if (line.text?.trim() === "") continue
    if (header === undefined) header = headerOf(file, line)
    else yield readLine(header, decode, line)
  }
  if (header === undefined) throw refuse(file, "file", "is empty")
}

const toNotAPositionsFile = (file: string, error: unknown): NotAPositionsFile => {
  if (error instanceof NotAPositionsFile) return error
  const { code, message } = error as { code?: string; message?: string }
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return refuse(file, "file", "does not exist")
    case "EISDIR":
      return refuse(file, "file", "is a directory")
    case "EACCES":
      return refuse(file, "file", "may not be read")
    case "Z_BUF_ERROR":
      return refuse(file, "file", "is a gzip file that ends too early")
    case "Z_DATA_ERROR":
      return refuse(file, "file", "is a damaged gzip file")
    default:
      return refuse(file, "file", message ?? String(error))
  }
}

/** The lines of a file (gzip too, or `-` for standard input), read as they are consumed. A line that is no position is `Bad`. */
export const lines = (file: string, options: Options): Stream.Stream<Line, NotAPositionsFile> =>
  Stream.suspend(() => Stream.fromAsyncIterable(read(file, options), (error) => toNotAPositionsFile(file, error)))

/** Looks at the first line of a file: whoever starts a server for it wants to know before. Standard input is not touched. */
export const look = (file: string): Effect.Effect<void, NotAPositionsFile> =>
  file === "-"
    ? Effect.void
    : Effect.tryPromise({
        try: async () => {
          for await (const line of textLines(file)) {
            if (line.text?.trim() === "") continue
            headerOf(file, line)
            return
          }
          throw refuse(file, "file", "is empty")
        },
        catch: (error) => toNotAPositionsFile(file, error)
      })
