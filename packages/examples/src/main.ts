/** `npm start`: a fleet is made, and every report of it is read through Sluice. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { distance, forKnownVehicle, overspeed, stoppage } from "./fleet/reports/index.ts"
import * as Simulation from "./fleet/simulate.ts"
import { MetresPerSecond, TimeZoneParameter } from "./fleet/units.ts"
import { plainLog } from "./terminal/log.ts"
import { outcome } from "./terminal/outcome.ts"
import { progress } from "./terminal/progress.ts"
import { printFailover } from "./terminal/failover.ts"
import * as print from "./terminal/reports.ts"
import { usualErrors } from "./terminal/semantics.ts"
import * as Server from "./terminal/server.ts"
import { count, type Reader } from "./terminal/table.ts"

const from1To = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 1, maximum }))

const flags = {
  databaseUrl: Flag.Redacted("database-url").pipe(
    Flag.withDescription(
      'Use the PostgreSQL server at this URL instead of starting one. A schema "fleet" is made there and dropped at the end; nothing else is touched'
    ),
    Flag.optional
  ),
  vehicles: Flag.Int("vehicles").pipe(
    Flag.withSchema(from1To(2000)),
    Flag.withDescription(`Vehicles of the fleet (default ${Simulation.defaults.vehicles})`),
    Flag.withDefault(Simulation.defaults.vehicles)
  ),
  days: Flag.Int("days").pipe(
    Flag.withSchema(from1To(366)),
    Flag.withDescription(`Days of positions, from Monday, 2 March 2026 on (default ${Simulation.defaults.days})`),
    Flag.withDefault(Simulation.defaults.days)
  ),
  seed: Flag.Int("seed").pipe(
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_147_483_647 }))),
    Flag.withDescription(`The same seed makes the same fleet (default ${Simulation.defaults.seed})`),
    Flag.withDefault(Simulation.defaults.seed)
  ),
  dirty: Flag.Boolean("dirty").pipe(
    Flag.withDescription("Let positions arrive shuffled, and some of them twice: the reports are the same"),
    Flag.withDefault(false)
  ),
  timeZone: Flag.String("time-zone").pipe(
    Flag.withSchema(TimeZoneParameter),
    Flag.withDescription("The reader's time zone: where a day begins (default Europe/Berlin)"),
    Flag.withDefault("Europe/Berlin")
  ),
  units: Flag.Literals("units", ["metric", "imperial"]).pipe(
    Flag.withDescription("The reader's units; the store is metric (default metric)"),
    Flag.withDefault("metric" as const)
  )
}

const makeFleet = Effect.fnUntraced(function* (simulation: Simulation.Simulation) {
  const { caughtUp } = yield* Server.Server
  yield* Server.ownSchema
  const bar = progress("Simulating")
  const positions = yield* Simulation.simulate(simulation, ({ done, positions, total }) =>
    bar.at(done, total, `${count(positions)} positions`)
  ).pipe(Effect.ensuring(bar.end))
  yield* caughtUp
  yield* Console.log(
    `A fleet of ${count(simulation.vehicles)} vehicles, ${count(simulation.days)} days, ${count(positions)} positions (seed ${simulation.seed})`
  )
})

/** What a caller is told who asks for nonsense: a typed error that names the field. */
const printRefusals = Effect.fnUntraced(function* (period: print.Period) {
  yield* Console.log("\nBad input is a typed error that names the field; none of these is an empty report:\n")
  const refused = <A, E extends { readonly _tag: string; readonly message: string }, R>(call: Effect.Effect<A, E, R>) =>
    Effect.matchEffect(call, {
      onSuccess: () => Effect.die("this call should have been refused"),
      onFailure: (error) => Console.log(`  ${error._tag}: ${error.message}`)
    })
  yield* refused(forKnownVehicle(stoppage, { ...period, vehicle: "B-XX 1" }))
  yield* refused(stoppage.run({ from: period.to, to: period.from }))
  yield* refused(overspeed.run({ ...period, limit: MetresPerSecond.make(-1) }))
  yield* refused(distance.run({ ...period, timeZone: "Berlin" }))
})

const start = Command.make("sluice-fleet", flags, ({ databaseUrl, days, dirty, seed, timeZone, units, vehicles }) =>
  Effect.gen(function* () {
    const { cluster, description } = yield* Server.Server
    yield* Console.log(`Using ${description}`)
    const { start } = Simulation.defaults
    yield* makeFleet({ seed, vehicles, days, start, arrival: dirty ? "dirty" : "clean" })
    const period = {
      from: DateTime.fromDateUnsafe(start),
      to: DateTime.fromDateUnsafe(new Date(start.getTime() + days * 86_400_000))
    }
    const reader: Reader = { timeZone, units }
    yield* Console.log(`\n${usualErrors}`)
    yield* print.printStoppage(period, reader)
    yield* print.printStoppageSummary("region", period, reader)
    yield* print.printStoppageSummary("zone", period, reader, 5)
    yield* print.printTrips(period, reader)
    yield* print.printLatest(reader)
    yield* print.printDistance(period, reader)
    yield* print.printOverspeed(period, reader)
    yield* print.printIdle(period, reader)
    yield* printRefusals(period)
    if (cluster === undefined) {
      return yield* Console.log("\nNo server is killed and none promoted here: the one at --database-url is not ours.")
    }
    yield* printFailover(cluster, period)
    // The same report, from the server that is the primary now: some vehicles have moved on.
    yield* print.printLatest(reader)
  }).pipe(Effect.scoped, Effect.provide(Server.layer(databaseUrl)))
).pipe(
  Command.withDescription(
    "Makes a fleet of vehicles in PostgreSQL and reads stops, trips, positions, distances, overspeed and idling through Sluice. " +
      "Without --database-url a primary and a replica are started on this machine and thrown away; the primary is killed while reports run."
  ),
  Command.withExamples([
    { command: "npm start", description: "60 vehicles, a week" },
    {
      command: "npm start -- --vehicles 10 --days 2 --units imperial --time-zone America/Chicago",
      description: "A small fleet for a reader in Chicago"
    },
    { command: "npm start -- --database-url postgres://me@localhost/scratch", description: "On a server that is there" }
  ])
)

Command.run(start, { version: "0.1.0" }).pipe(
  outcome,
  Effect.provide(Layer.merge(plainLog, NodeServices.layer)),
  (main) => NodeRuntime.runMain(main, { disableErrorReporting: true })
)
