/** `npm run import -- FILE`: positions from a CSV file, and the stoppage report of what was in it. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { statSync } from "node:fs"
import { migrate } from "./fleet/migrations.ts"
import { TimeZoneParameter } from "./fleet/units.ts"
import { importPositions, type ImportSummary } from "./import/importPositions.ts"
import { look } from "./import/PositionsCsv.ts"
import { outcome, tellError } from "./terminal/outcome.ts"
import { progress } from "./terminal/progress.ts"
import * as print from "./terminal/reports.ts"
import { usualErrors } from "./terminal/semantics.ts"
import * as Server from "./terminal/server.ts"
import { count, type Reader, table } from "./terminal/table.ts"

const flags = {
  file: Argument.String("file").pipe(
    Argument.withDescription(
      "CSV with the columns vehicle_id, timestamp (ISO 8601 with an offset), speed, latitude, longitude; gzip too, or - for standard input"
    )
  ),
  databaseUrl: Flag.Redacted("database-url").pipe(
    Flag.withDescription(
      'Import into the schema "fleet" at this URL, which is made if it is not there, and kept. Without it the positions go into a server that is started for the occasion and thrown away'
    ),
    Flag.optional
  ),
  createVehicles: Flag.Boolean("create-vehicles").pipe(
    Flag.withDescription(
      "Add vehicles that the fleet does not know, instead of rejecting their lines. A server of the occasion always does"
    ),
    Flag.withDefault(false)
  ),
  speedUnit: Flag.Literals("speed-unit", ["m/s", "km/h", "mph"]).pipe(
    Flag.withDescription("The unit of the column speed; it is never guessed (default m/s)"),
    Flag.withDefault("m/s" as const)
  ),
  replace: Flag.Boolean("replace").pipe(
    Flag.withDescription(
      "Let a line replace what is stored of the same vehicle and instant. Without it the stored position holds"
    ),
    Flag.withDefault(false)
  ),
  strict: Flag.Boolean("strict").pipe(
    Flag.withDescription("Import nothing if a single line is rejected"),
    Flag.withDefault(false)
  ),
  timeZone: Flag.String("time-zone").pipe(
    Flag.withSchema(TimeZoneParameter),
    Flag.withDescription("The reader's time zone (default UTC)"),
    Flag.withDefault("UTC")
  ),
  units: Flag.Literals("units", ["metric", "imperial"]).pipe(
    Flag.withDescription("The reader's units (default metric)"),
    Flag.withDefault("metric" as const)
  )
}

const several = (number: number, one: string, many: string) => (number === 1 ? one : many)

const printSummary = Effect.fnUntraced(function* (summary: ImportSummary) {
  const { alreadyThere, contradicting, corrected, differing, outOfOrder, repeated, vehicles } = summary
  const lines: ReadonlyArray<readonly [number, string]> = [
    [summary.lines, several(summary.lines, "line below the header", "lines below the header")],
    [
      summary.imported,
      `imported, of ${count(vehicles)} ${several(vehicles, "vehicle", "vehicles")} (${count(summary.vehiclesCreated)} of them new)`
    ],
    [corrected, `of these ${several(corrected, "replaces a stored position", "replace stored positions")}`],
    [outOfOrder, "of these older than the line before them of the same vehicle (harmless)"],
    [repeated, `${several(repeated, "repeats", "repeat")} an earlier line (harmless)`],
    [
      contradicting,
      `${several(contradicting, "contradicts", "contradict")} an earlier line of the same instant, which holds`
    ],
    [alreadyThere, `${several(alreadyThere, "was", "were")} stored before (harmless)`],
    [
      differing,
      `${several(differing, "differs from the position", "differ from the positions")} stored of the same instant, which ${several(differing, "holds", "hold")}; --replace takes ${several(differing, "the line", "the lines")}`
    ],
    [summary.rejected, "rejected"]
  ]
  const told = lines.filter(([number], index) => number > 0 || index < 2)
  yield* Console.log(told.map(([number, what]) => `  ${count(number).padStart(9)}  ${what}`).join("\n"))
  if (summary.rejected === 0) return
  yield* Console.log(
    `\n${table(summary.reasons, [
      { title: "rejected", cell: (row) => count(row.lines), right: true },
      { title: "field", cell: (row) => row.field },
      { title: "reason", cell: (row) => row.reason }
    ])}\n\n${table(summary.rejectedLines.slice(0, 20), [
      { title: "line", cell: (row) => String(row.line), right: true },
      { title: "field", cell: (row) => row.field },
      { title: "value", cell: (row) => row.value },
      { title: "reason", cell: (row) => row.reason }
    ])}`
  )
  const rest = summary.rejected - Math.min(20, summary.rejectedLines.length)
  if (rest > 0) yield* Console.log(`  and ${count(rest)} more`)
  if (summary.reasons.some(({ reason }) => reason === "is unknown")) {
    yield* Console.log("  --create-vehicles adds the vehicles that are unknown")
  }
})

/** Every line was rejected. An import that took nothing is no success. */
export class NothingImported extends Schema.TaggedError<NothingImported>("@sluice/examples/NothingImported")(
  "NothingImported",
  { file: Schema.String, rejected: Schema.Int },
  { httpApiStatus: 422 }
) {
  override get message(): string {
    const lines = this.rejected === 1 ? "its only line is rejected" : `all ${count(this.rejected)} lines are rejected`
    return `${this.file}: ${lines}; nothing was imported`
  }
}

const named = (file: string): string => (file === "-" ? "standard input" : file)

/** A bar by the bytes of a file; standard input has no end that is known, so its lines are counted. */
const readingProgress = (file: string) => {
  const size = file === "-" ? undefined : statSync(file).size
  const bar = progress(`Reading ${named(file)}`)
  const at = (lines: number, bytes: number) => {
    const told = `${count(lines)} ${several(lines, "line", "lines")}`
    return size === undefined ? bar.count(lines, told) : bar.at(Math.min(bytes, size), size, told)
  }
  return { at, end: bar.end }
}

/** What was in the file, as reports. The import is done by now: what fails here does not undo it, and is told as that. */
const printReports = (period: print.Period, reader: Reader) =>
  Effect.gen(function* () {
    yield* Console.log(`\n${usualErrors}`)
    yield* print.printStoppage(period, reader, 12)
    yield* print.printOverspeed(period, reader)
  }).pipe(Effect.catch((error) => Console.error(`The import is done. A report of it failed: ${tellError(error)}`)))

const importFile = Command.make(
  "sluice-import",
  flags,
  ({ createVehicles, databaseUrl, file, replace, speedUnit, strict, timeZone, units }) =>
    Effect.gen(function* () {
      const { caughtUp, description } = yield* Server.Server
      yield* Console.log(`Importing ${named(file)} into ${description}`)
      yield* migrate
      const reading = readingProgress(file)
      const summary = yield* importPositions(file, {
        speedUnit,
        replace,
        strict,
        createVehicles: createVehicles || Option.isNone(databaseUrl),
        onProgress: reading.at
      }).pipe(Effect.ensuring(reading.end))
      yield* printSummary(summary)
      if (summary.rejected > 0 && summary.rejected === summary.lines) {
        return yield* new NothingImported({ file: named(file), rejected: summary.rejected })
      }
      yield* caughtUp
      if (summary.from === null || summary.to === null) return
      const period = {
        from: DateTime.fromDateUnsafe(summary.from),
        to: DateTime.fromDateUnsafe(new Date(summary.to.getTime() + 1))
      }
      yield* printReports(period, { timeZone, units })
    }).pipe(
      Effect.provide(Server.layer(databaseUrl)),
      // A file that is not there is told before a server is started for it.
      (imported) => Effect.andThen(look(file), imported)
    )
).pipe(
  Command.withDescription(
    "Imports positions from a CSV file: all of its good lines, or none if the file is not one. Lines that are rejected are listed with number, value and reason. Exits with 1 if nothing could be imported."
  ),
  Command.withExamples([
    { command: "npm run import -- positions.csv", description: "Try a file" },
    { command: "zstdcat positions.csv.zst | npm run import -- -", description: "Try what another program prints" },
    {
      command: "npm run import -- positions.csv --create-vehicles --database-url postgres://me@localhost/fleet",
      description: "Import it"
    }
  ])
)

Command.run(importFile, { version: "0.1.0" }).pipe(outcome, Effect.provide(NodeServices.layer), (main) =>
  NodeRuntime.runMain(main, { disableErrorReporting: true })
)
