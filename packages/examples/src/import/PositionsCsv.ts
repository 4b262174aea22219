/**
 * The edge of the import: from the lines of a CSV file to positions in the units of the store, or to a reason.
 *
 * Columns by name, in any order: `vehicle_id`, `timestamp` (ISO 8601 with an offset), `speed`, `latitude`, `longitude`.
 * Others are left alone.
 */
import { type Info, parse } from "csv-parse"
import * as Data from "effect/Data"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Stream from "effect/Stream"
import { createReadStream } from "node:fs"
import { Readable } from "node:stream"
import { fromKilometresPerHour, fromMilesPerHour, MetresPerSecond } from "../fleet/units.ts"

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

const iso = /^(\d{4})-(\d{2})-(\d{2})[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})$/i

// `Date` takes the 30th of February for the 1st of March.
const isInstant = (text: string): boolean => {
  const parts = iso.exec(text)
  if (parts === null || Number.isNaN(Date.parse(text))) return false
  return Number(parts[3]) <= new Date(Date.UTC(Number(parts[1]), Number(parts[2]), 0)).getUTCDate()
}

const earliest = Date.UTC(1990, 0, 1)

/** One line. `now` bounds the future: a receiver whose clock runs ahead by more than a day is wrong. */
const position = (unit: SpeedUnit, now: number) =>
  Schema.Struct({
    vehicle_id: Schema.Trim.check(
      Schema.makeFilter((text) => /^[\p{L}\p{N}][\p{L}\p{N} ._/-]{0,39}$/u.test(text) || "is not a registration")
    ),
    timestamp: Schema.String.check(
      Schema.makeFilter((text) => isInstant(text) || "is not a time with an offset, such as 2016-01-17T14:05:58-06:00"),
      Schema.makeFilter((text) => !isInstant(text) || Date.parse(text) >= earliest || "is before 1990"),
      Schema.makeFilter((text) => !isInstant(text) || Date.parse(text) <= now + 86_400_000 || "is in the future")
    ).pipe(
      Schema.decodeTo(
        Schema.Date,
        SchemaTransformation.transform({ decode: (text) => new Date(text), encode: (date) => date.toISOString() })
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

type Options = { readonly speedUnit: SpeedUnit; readonly now: number }

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

/** Lets text through; a zero byte means an archive, a spreadsheet, or text in another encoding than UTF-8. */
async function* text(file: string, source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    if (chunk.includes(0)) throw refuse(file, "file", "is not text in UTF-8")
    yield chunk
  }
}

/** The lines of a file in its order. Closes the file whichever way the reading ends. */
async function* read(file: string, { now, speedUnit }: Options): AsyncGenerator<Line> {
  const decode = SchemaParser.decodeUnknownResult(position(speedUnit, now))
  const source = createReadStream(file)
  const parser = parse({
    bom: true,
    info: true,
    max_record_size: 65_536,
    relax_column_count: true,
    skip_empty_lines: true
  })
  const bytes = Readable.from(text(file, source))
  bytes.on("error", (error) => parser.destroy(error))
  let width = 0
  let places: ReadonlyArray<number> | undefined
  try {
    for await (const row of bytes.pipe(parser)) {
      const { info, record } = row as { readonly record: ReadonlyArray<string>; readonly info: Info }
      const line = info.lines
      if (places === undefined) {
        places = readHeader(file, record)
        width = record.length
        continue
      }
      if (record.length !== width) {
        yield Line.Bad({ line, field: "line", reason: `has ${record.length} columns instead of ${width}` })
        continue
      }
      const decoded = decode({
        vehicle_id: record[places[0]!],
        timestamp: record[places[1]!],
        speed: record[places[2]!],
        latitude: record[places[3]!],
        longitude: record[places[4]!]
      })
      if (Result.isSuccess(decoded)) {
        yield Line.Good({ line, position: decoded.success })
      } else {
        const [first] = formatIssues(decoded.failure).issues
        yield Line.Bad({
          line,
          field: String(first?.path?.[0] ?? "line"),
          reason: first?.message ?? "is not a position"
        })
      }
    }
    if (places === undefined) throw refuse(file, "file", "is empty")
  } finally {
    source.destroy()
  }
}

const toNotAPositionsFile = (file: string, error: unknown): NotAPositionsFile => {
  if (error instanceof NotAPositionsFile) return error
  const { code, lines, message } = error as { code?: string; lines?: number; message?: string }
  const field = lines === undefined ? "file" : `line ${lines}`
  switch (code) {
    case "ENOENT":
      return refuse(file, "file", "does not exist")
    case "EISDIR":
      return refuse(file, "file", "is a directory")
    case "EACCES":
      return refuse(file, "file", "may not be read")
    case "CSV_MAX_RECORD_SIZE":
      return refuse(file, "file", "is not lines of text")
    case "CSV_QUOTE_NOT_CLOSED":
      return refuse(file, field, "a quote is opened and never closed")
    case "INVALID_OPENING_QUOTE":
      return refuse(file, field, "a quote in the middle of a field")
    case "CSV_INVALID_CLOSING_QUOTE":
      return refuse(file, field, "text after a closing quote")
    default:
      return refuse(file, field, message ?? String(error))
  }
}

/**
 * The lines of a file, read as they are consumed. A line that is no position is `Bad`; a file that is no CSV (a broken
 * quote can swallow any number of lines) fails as a whole.
 */
export const lines = (file: string, options: Options): Stream.Stream<Line, NotAPositionsFile> =>
  Stream.suspend(() => Stream.fromAsyncIterable(read(file, options), (error) => toNotAPositionsFile(file, error)))
