/**
 * Trips by the same rule as the stops: together the two tile the time from a vehicle's last position before the period to its
 * last one in it, so that periods laid end to end join (see `motion.ts`).
 */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import { intervals } from "../motion.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { millis, zoneAround } from "../sql.ts"
import { Metres, MetresPerSecond } from "../units.ts"

export const trips = Report.make("trips", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: Schema.Struct({ vehicle: params.vehicle, ...params.period, ...params.confirmedRuns }).check(
    params.endsAfterItBegins
  ),
  row: {
    rule: Schema.Literal("confirmed-runs"),
    ...rows.owner,
    ...rows.interval,
    fromZone: Schema.NullOr(Schema.String),
    toZone: Schema.NullOr(Schema.String),
    distance: Metres,
    /** Distance over duration, red lights included. */
    averageSpeed: MetresPerSecond,
    maxSpeed: MetresPerSecond,
    startOdometer: Metres,
    endOdometer: Metres
  },
  query: (sql, p) => sql`
    with recursive ${intervals(sql, p, { engine: false })}
    select
      ${p.rule}::text as rule, v.registration as vehicle, d.name as depot, d.region,
      i.start_time as start, i.end_time as "end", ${millis(sql, sql`i.end_time - i.start_time`)} as duration,
      i.open_start as "openStart", i.open_end as "openEnd",
      origin.name as "fromZone", destination.name as "toZone",
      i.distance_m as distance,
      i.distance_m / extract(epoch from i.end_time - i.start_time)::float8 as "averageSpeed",
      fastest.speed_mps as "maxSpeed",
      i.start_odometer_m as "startOdometer", i.end_odometer_m as "endOdometer"
    from intervals i
    join fleet.vehicles v on v.id = i.vehicle_id
    left join fleet.depots d on d.id = v.depot_id
    left join ${zoneAround(sql, sql`i.start_latitude_deg`, sql`i.start_longitude_deg`)} origin on true
    left join ${zoneAround(sql, sql`i.end_latitude_deg`, sql`i.end_longitude_deg`)} destination on true
    cross join lateral (
      select max(p.speed_mps) as speed_mps
      from fleet.positions p
      where p.vehicle_id = i.vehicle_id and p.time between i.start_time and i.end_time
    ) fastest
    where i.moving
    order by i.start_time desc, v.registration`,
  maxRows: 10_000
})
  .annotate(Report.Title, "Trips")
  .annotate(Report.Description, "Trips with distance and speed, by the rule of confirmed runs")
