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
import { migrate } from "./fleet/migrations.ts"
import { TimeZoneParameter } from "./fleet/units.ts"
import { importPositions, type ImportSummary } from "./import/importPositions.ts"
import { outcome } from "./terminal/outcome.ts"
import * as print from "./terminal/reports.ts"
import { usualErrors } from "./terminal/semantics.ts"
import * as Server from "./terminal/server.ts"
import { count, table } from "./terminal/table.ts"

const flags = {
  file: Argument.String("file").pipe(
    Argument.withDescription(
      "CSV with the columns vehicle_id, timestamp (ISO 8601 with an offset), speed, latitude, longitude"
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

const printSummary = Effect.fnUntraced(function* (summary: ImportSummary) {
  const lines: ReadonlyArray<readonly [number, string]> = [
    [summary.lines, "lines below the header"],
    [
      summary.imported,
      `imported, of ${count(summary.vehicles)} vehicles (${count(summary.vehiclesCreated)} of them new)`
    ],
    [summary.outOfOrder, "of these older than the line before them of the same vehicle (harmless)"],
    [summary.repeated, "repeat an earlier line (harmless)"],
    [summary.contradicting, "contradict an earlier line of the same instant, which holds"],
    [summary.alreadyThere, "were there before"],
    [summary.rejected, "rejected"]
  ]
  yield* Console.log(lines.map(([number, what]) => `  ${count(number).padStart(9)}  ${what}`).join("\n"))
  if (summary.rejected === 0) return
  yield* Console.log(
    `\n${table(summary.reasons, [
      { title: "rejected", cell: (row) => count(row.lines), right: true },
      { title: "field", cell: (row) => row.field },
      { title: "reason", cell: (row) => row.reason }
    ])}\n\n${table(summary.rejectedLines.slice(0, 20), [
      { title: "line", cell: (row) => String(row.line), right: true },
      { title: "field", cell: (row) => row.field },
      { title: "reason", cell: (row) => row.reason }
    ])}`
  )
  const rest = summary.rejected - Math.min(20, summary.rejectedLines.length)
  if (rest > 0) yield* Console.log(`  and ${count(rest)} more`)
  if (summary.reasons.some(({ reason }) => reason === "is unknown")) {
    yield* Console.log("  --create-vehicles adds the vehicles that are unknown")
  }
})

const importFile = Command.make(
  "sluice-import",
  flags,
  ({ createVehicles, databaseUrl, file, speedUnit, strict, timeZone, units }) =>
    Effect.gen(function* () {
      const { caughtUp, description } = yield* Server.Server
      yield* Console.log(`Importing ${file} into ${description}`)
      yield* migrate
      const summary = yield* importPositions(file, {
        speedUnit,
        strict,
        createVehicles: createVehicles || Option.isNone(databaseUrl)
      })
      yield* printSummary(summary)
      yield* caughtUp
      if (summary.from === null || summary.to === null) return
      const period = {
        from: DateTime.fromDateUnsafe(summary.from),
        to: DateTime.fromDateUnsafe(new Date(summary.to.getTime() + 1))
      }
      yield* Console.log(`\n${usualErrors}`)
      yield* print.printStoppage(period, { timeZone, units }, 12)
      yield* print.printOverspeed(period, { timeZone, units })
    }).pipe(Effect.provide(Server.layer(databaseUrl)))
).pipe(
  Command.withDescription(
    "Imports positions from a CSV file: all of its good lines, or none if the file is not one. Lines that are rejected are listed with number and reason."
  ),
  Command.withExamples([
    { command: "npm run import -- positions.csv", description: "Try a file" },
    {
      command: "npm run import -- positions.csv --create-vehicles --database-url postgres://me@localhost/fleet",
      description: "Import it"
    }
  ])
)

Command.run(importFile, { version: "0.1.0" }).pipe(outcome, Effect.provide(NodeServices.layer), (main) =>
  NodeRuntime.runMain(main, { disableErrorReporting: true })
)
