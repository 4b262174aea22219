/** Where vehicles stood, for how long, and whether the engine ran meanwhile; one by one, and summed up by place. */
import { Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import { Fleet } from "../Fleet.ts"
import { intervals, type MotionParams } from "../motion.ts"
import * as params from "../params.ts"
import * as rows from "../rows.ts"
import { millis, zoneAround } from "../sql.ts"
import { Latitude, Longitude, Metres } from "../units.ts"
import type * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

const stoppageParams = Schema.Struct({
  vehicle: params.vehicle,
  ...params.period,
  ...params.confirmedRuns,
  /** Stops longer than this are `long`. */
  long: params.duration("30 minutes"),
  /** Stops longer than this are `very-long`. */
  veryLong: params.duration("2 hours")
}).check(params.endsAfterItBegins)

/** How long a stop was, against the thresholds of the parameters. */
export const StopClass = Schema.Literals(["very-long", "long", "short"])
export type StopClass = typeof StopClass.Type

interface Classes {
  readonly long: Duration.Duration
  readonly veryLong: Duration.Duration
}

const stopClass = (sql: SqlClient.SqlClient, duration: Statement.Fragment, p: Classes): Statement.Fragment =>
  sql`case when ${duration} > ${p.veryLong}::interval then 'very-long'
    when ${duration} > ${p.long}::interval then 'long' else 'short' end`

/** The stops with their vehicle and place; ends in the table expression `stops`. */
const stops = (sql: SqlClient.SqlClient, p: MotionParams, of: { readonly engine: boolean }): Statement.Fragment => sql`
  ${intervals(sql, p, of)},
  stops as (
    select
      i.*, v.registration, d.name as depot, d.region, z.name as zone, z.kind as zone_kind
    from intervals i
    join fleet.vehicles v on v.id = i.vehicle_id
    left join fleet.depots d on d.id = v.depot_id
    left join ${zoneAround(sql, sql`i.start_latitude_deg`, sql`i.start_longitude_deg`)} z on true
    where not i.moving
  )`

export const stoppage = Report.make("stoppage", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: stoppageParams,
  row: {
    rule: Schema.Literal("confirmed-runs"),
    ...rows.owner,
    zone: Schema.NullOr(Schema.String),
    zoneKind: Schema.NullOr(Schema.String),
    ...rows.interval,
    class: StopClass,
    /** How long the engine ran during the stop; null if nothing told of the ignition. */
    engineOn: Schema.NullOr(rows.Lasting),
    latitude: Latitude,
    longitude: Longitude,
    odometer: Metres
  },
  query: (sql, p) => sql`
    with recursive ${stops(sql, p, { engine: true })}
    select
      ${p.rule}::text as rule, registration as vehicle, depot, region, zone, zone_kind as "zoneKind",
      start_time as start, end_time as "end", ${millis(sql, sql`end_time - start_time`)} as duration,
      open_start as "openStart", open_end as "openEnd", ${stopClass(sql, sql`end_time - start_time`, p)} as class,
      ${millis(sql, sql`running`)} as "engineOn",
      start_latitude_deg as latitude, start_longitude_deg as longitude, start_odometer_m as odometer
    from stops
    order by start_time desc, registration`,
  maxRows: 10_000
})
  .annotate(Report.Title, "Stoppage")
  .annotate(Report.Description, "Where vehicles stood and for how long, by the rule of confirmed runs")

export const stoppageSummary = Report.make("stoppage-summary", {
  ...Report.presets.report,
  database: Fleet.role("replica"),
  params: Schema.Struct({
    by: Schema.Literals(["depot", "region", "zone"]),
    ...stoppageParams.fields
  }).check(params.endsAfterItBegins),
  row: {
    rule: Schema.Literal("confirmed-runs"),
    by: Schema.Literals(["depot", "region", "zone"]),
    /** Null: vehicles without a depot, or stops outside every zone. */
    place: Schema.NullOr(Schema.String),
    vehicles: Schema.Int,
    stops: Schema.Int,
    long: Schema.Int,
    veryLong: Schema.Int,
    total: rows.Lasting,
    average: rows.Lasting,
    longest: rows.Lasting
  },
  query: (sql, p) => sql`
    with recursive ${stops(sql, p, { engine: false })},
    classed as (
      select
        ${p.by === "depot" ? sql`depot` : p.by === "region" ? sql`region` : sql`zone`} as place,
        vehicle_id, end_time - start_time as duration, ${stopClass(sql, sql`end_time - start_time`, p)} as class
      from stops
    )
    select
      ${p.rule}::text as rule, ${p.by}::text as by, place,
      count(distinct vehicle_id)::int as vehicles, count(*)::int as stops,
      (count(*) filter (where class = 'long'))::int as long,
      (count(*) filter (where class = 'very-long'))::int as "veryLong",
      ${millis(sql, sql`sum(duration)`)} as total,
      ${millis(sql, sql`avg(duration)`)} as average,
      ${millis(sql, sql`max(duration)`)} as longest
    from classed
    group by place
    order by sum(duration) desc, place`,
  maxRows: 1000
})
  .annotate(Report.Title, "Stoppage by place")
  .annotate(Report.Description, "Stops counted and summed by depot, region or zone")
