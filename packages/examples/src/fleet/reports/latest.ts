/** Where every vehicle was last seen, and what it was doing. */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import { interactive } from "../interactive.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { Heading, Latitude, Longitude, Metres, MetresPerSecond } from "../units.ts"

export const latest = Report.make("latest-position", {
  ...interactive,
  database: Fleet.role("replica"),
  params: { vehicle: params.vehicle, motionThreshold: params.metresPerSecond(0.5) },
  row: {
    ...rows.owner,
    /** `unseen`: no position yet, and every field below is null. `unknown`: at rest, and nobody tells of the ignition. */
    state: Schema.Literals(["moving", "idle", "parked", "unknown", "unseen"]),
    time: Schema.NullOr(rows.Instant),
    latitude: Schema.NullOr(Latitude),
    longitude: Schema.NullOr(Longitude),
    speed: Schema.NullOr(MetresPerSecond),
    heading: Schema.NullOr(Heading),
    odometer: Schema.NullOr(Metres)
  },
  // A lateral step into the index for each vehicle; DISTINCT ON would read and sort every position there is.
  query: (sql, p) => sql`
    select
      v.registration as vehicle, d.name as depot, d.region,
      case when l.time is null then 'unseen' when l.speed_mps > ${p.motionThreshold}::float8 then 'moving'
        when l.ignition then 'idle' when not l.ignition then 'parked' else 'unknown' end as state,
      l.time, l.latitude_deg as latitude, l.longitude_deg as longitude, l.speed_mps as speed, l.heading_deg as heading,
      l.odometer_m as odometer
    from fleet.vehicles v
    left join fleet.depots d on d.id = v.depot_id
    left join lateral (
      select * from fleet.positions p where p.vehicle_id = v.id order by p.time desc limit 1
    ) l on true
    ${p.vehicle === null ? sql`` : sql`where v.registration = ${p.vehicle}::text`}
    order by v.registration`,
  maxRows: 10_000
})
  .annotate(Report.Title, "Latest position")
  .annotate(Report.Description, "Where every vehicle was last seen, and what it was doing")
