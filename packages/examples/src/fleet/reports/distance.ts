/**
 * How far each vehicle went on each day of the reader.
 *
 * A leg, from one position to the next, belongs to the day on which it ends; the position before the period is consulted,
 * so that days, and periods laid end to end, add up to the difference of the odometer. An odometer that falls (a device
 * was replaced) adds nothing. Distances come unrounded: sum first, round what is shown.
 */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { vehicleId, within } from "../sql.ts"
import { LocalDay, Metres, TimeZoneName, TimeZoneParameter } from "../units.ts"

export const distance = Report.make("distance", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: Schema.Struct({
    vehicle: params.vehicle,
    ...params.period,
    /** The reader's: where a day begins. */
    timeZone: TimeZoneParameter
  }).check(params.endsAfterItBegins),
  row: {
    ...rows.owner,
    day: LocalDay,
    timeZone: TimeZoneName,
    distance: Metres,
    /** At the last position of the day. */
    odometer: Metres,
    positions: Schema.Int
  },
  query: (sql, p) => sql`
    with path as (
      select p.vehicle_id, p.time, p.odometer_m from fleet.positions p where ${within(sql, "p", p)}
      union all
      select v.id, l.time, l.odometer_m
      from fleet.vehicles v
      cross join lateral (
        select p.time, p.odometer_m
        from fleet.positions p
        where p.vehicle_id = v.id and p.time < ${p.from}::timestamptz
        order by p.time desc
        limit 1
      ) l
      ${p.vehicle === null ? sql`` : sql`where v.id = ${vehicleId(sql, p.vehicle)}`}
    ),
    legs as (
      select
        vehicle_id, time, odometer_m, (time at time zone ${p.timeZone}::text)::date as day,
        greatest(0, odometer_m - lag(odometer_m, 1, odometer_m) over (partition by vehicle_id order by time)) as leg_m
      from path
    ),
    closed as (
      select *, lead(day) over (partition by vehicle_id order by time) is distinct from day as closes_day from legs
    ),
    days as (
      select
        vehicle_id, day, sum(leg_m) as distance_m,
        max(odometer_m) filter (where closes_day) as odometer_m, count(*)::int as positions
      from closed
      where time >= ${p.from}::timestamptz
      group by 1, 2
    )
    select
      v.registration as vehicle, d.name as depot, d.region,
      to_char(days.day, 'YYYY-MM-DD') as day, ${p.timeZone}::text as "timeZone",
      days.distance_m as distance, days.odometer_m as odometer, days.positions
    from days
    join fleet.vehicles v on v.id = days.vehicle_id
    left join fleet.depots d on d.id = v.depot_id
    order by days.day, v.registration`,
  maxRows: 50_000
})
  .annotate(Report.Title, "Distance per day")
  .annotate(Report.Description, "How far each vehicle went on each day, in the reader's time zone")
