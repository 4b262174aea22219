/** Stretches faster than a limit. */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { episodes, millis } from "../sql.ts"
import { Latitude, Longitude, Metres, MetresPerSecond } from "../units.ts"

export const overspeed = Report.make("overspeed", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: Schema.Struct({
    vehicle: params.vehicle,
    ...params.period,
    /** Overspeed is faster than this. Default 25 m/s, which is 90 km/h. */
    limit: params.metresPerSecond(25),
    minDuration: params.duration("0 seconds"),
    /** A silence longer than this ends a stretch. */
    maxGap: params.duration("5 minutes")
  }).check(params.endsAfterItBegins),
  row: {
    ...rows.owner,
    ...rows.interval,
    limit: MetresPerSecond,
    maxSpeed: MetresPerSecond,
    distance: Metres,
    /** Where the stretch began. */
    latitude: Latitude,
    longitude: Longitude
  },
  query: (sql, p) => sql`
    with ${episodes(sql, sql`p.speed_mps > ${p.limit}::float8`, p)}
    select
      v.registration as vehicle, d.name as depot, d.region,
      e.start_time as start, e.end_time as "end", ${millis(sql, sql`e.end_time - e.start_time`)} as duration,
      e.from_first as "openStart", e.to_last as "openEnd",
      ${p.limit}::float8 as limit, e.max_speed_mps as "maxSpeed", e.distance_m as distance,
      e.latitude_deg as latitude, e.longitude_deg as longitude
    from episodes e
    join fleet.vehicles v on v.id = e.vehicle_id
    left join fleet.depots d on d.id = v.depot_id
    order by e.start_time desc, v.registration`,
  maxRows: 10_000
})
  .annotate(Report.Title, "Overspeed")
  .annotate(Report.Description, "Stretches faster than a limit")
