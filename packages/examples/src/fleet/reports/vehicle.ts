/** Whether a registration belongs to the fleet, and the error that says it does not. */
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import { interactive } from "../interactive.ts"
import * as rows from "../rows.ts"

export const vehicle = Report.make("vehicle", {
  ...interactive,
  database: Fleet.role("replica"),
  params: { vehicle: Schema.NonEmptyString },
  row: rows.owner,
  query: (sql, p) => sql`
    select v.registration as vehicle, d.name as depot, d.region
    from fleet.vehicles v
    left join fleet.depots d on d.id = v.depot_id
    where v.registration = ${p.vehicle}::text`,
  maxRows: 1
})
  .annotate(Report.Title, "Vehicle")
  .annotate(Report.Description, "One vehicle by its registration")

/** No vehicle of the fleet has this registration. */
export class UnknownVehicle extends Schema.TaggedError<UnknownVehicle>("@sluice/examples/UnknownVehicle")(
  "UnknownVehicle",
  { report: Schema.String, field: Schema.Literal("vehicle"), vehicle: Schema.String },
  { httpApiStatus: 404 }
) {
  override get message(): string {
    return `${this.report}: ${this.field}: no vehicle has the registration "${this.vehicle}"`
  }
}

/**
 * Tells "no rows" from "no such vehicle". It asks only when there are no rows, so that the usual call stays one round
 * trip.
 *
 * ```ts
 * forKnownVehicle(stoppage, { vehicle: "HH-SL 104", from, to })
 * ```
 */
export const forKnownVehicle = <Params extends { readonly vehicle?: string | null | undefined }, Row, E, R>(
  report: { readonly name: string; run(params: Params): Effect.Effect<ReadonlyArray<Row>, E, R> },
  params: Params
) =>
  Effect.gen(function* () {
    const found = yield* report.run(params)
    const registration = params.vehicle
    if (found.length === 0 && registration !== undefined && registration !== null) {
      const known = yield* vehicle.run({ vehicle: registration })
      if (known.length === 0) {
        return yield* new UnknownVehicle({ report: report.name, field: "vehicle", vehicle: registration })
      }
    }
    return found
  })
