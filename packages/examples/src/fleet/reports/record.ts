/** Positions as vehicles report them: written to the primary, and read back from there. */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import { interactive } from "../interactive.ts"
import * as rows from "../rows.ts"
import { vehicleId } from "../sql.ts"
import { Latitude, Longitude, Metres, MetresPerSecond } from "../units.ts"

/**
 * Records a position. A vehicle is in one place at a time, so (vehicle, time) makes a repeated position the same row, and
 * the write may be sent again when its answer was lost. No row: no such vehicle. The first position of a month makes room for
 * the month. Of a vehicle whose odometer is computed from its positions the odometer that is given is not used.
 */
export const record = Report.make("record-position", {
  ...interactive,
  database: Fleet.role("primary"),
  writes: "idempotent",
  params: {
    vehicle: Schema.NonEmptyString,
    time: Schema.DateTimeUtc,
    latitude: Latitude,
    longitude: Longitude,
    speed: MetresPerSecond,
    odometer: Metres
  },
  row: { time: rows.Instant },
  query: (sql, p) => sql`
    select fleet.record_position(
      ${p.vehicle}::text, ${p.time}::timestamptz, ${p.latitude}::float8, ${p.longitude}::float8, ${p.speed}::float8,
      ${p.odometer}::float8
    ) as time`,
  maxRows: 1
})
  .annotate(Report.Title, "Record a position")
  .annotate(Report.Description, "Writes what a vehicle reports of itself")

/** What was recorded of a vehicle since a time, as the primary has it: every position that was acknowledged is there. */
export const recorded = Report.make("recorded-positions", {
  ...interactive,
  database: Fleet.role("primary"),
  params: { vehicle: Schema.NonEmptyString, since: Schema.DateTimeUtc },
  row: { time: rows.Instant, odometer: Metres },
  query: (sql, p) => sql`
    select p.time, p.odometer_m as odometer
    from fleet.positions p
    where p.vehicle_id = ${vehicleId(sql, p.vehicle)} and p.time >= ${p.since}::timestamptz
    order by p.time desc`,
  maxRows: 100_000
})
  .annotate(Report.Title, "Recorded positions")
  .annotate(Report.Description, "What a vehicle reported since a time, from the primary")
