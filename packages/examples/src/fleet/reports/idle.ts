/** The engine runs and the vehicle does not. A silence is not idling. */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { episodes, millis, zoneAround } from "../sql.ts"
import { Latitude, Longitude } from "../units.ts"

export const idle = Report.make("idle", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: Schema.Struct({
    vehicle: params.vehicle,
    ...params.period,
    /** At rest is not faster than this. */
    motionThreshold: params.metresPerSecond(0.5),
    minDuration: params.duration("3 minutes"),
    /** A silence longer than this ends an idle. */
    maxGap: params.duration("5 minutes")
  }).check(params.endsAfterItBegins),
  row: {
    ...rows.owner,
    ...rows.interval,
    zone: Schema.NullOr(Schema.String),
    latitude: Latitude,
    longitude: Longitude
  },
  query: (sql, p) => sql`
    with ${episodes(sql, sql`p.ignition and p.speed_mps <= ${p.motionThreshold}::float8`, p)}
    select
      v.registration as vehicle, d.name as depot, d.region,
      e.start_time as start, e.end_time as "end", ${millis(sql, sql`e.end_time - e.start_time`)} as duration,
      e.from_first as "openStart", e.to_last as "openEnd",
      z.name as zone, e.latitude_deg as latitude, e.longitude_deg as longitude
    from episodes e
    join fleet.vehicles v on v.id = e.vehicle_id
    left join fleet.depots d on d.id = v.depot_id
    left join ${zoneAround(sql, sql`e.latitude_deg`, sql`e.longitude_deg`)} z on true
    order by e.start_time desc, v.registration`,
  maxRows: 10_000
})
  .annotate(Report.Title, "Idle with engine on")
  .annotate(Report.Description, "Stretches with the ignition on and no movement")
