/** Pieces of SQL that several reports share. */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

/** The positions that a report looks at: a half-open period, one vehicle or all. */
export interface Window {
  readonly vehicle: string | null
  readonly from: DateTime.Utc
  readonly to: DateTime.Utc
}

/** For after `where`, on a table of positions. Two statements rather than `$1 is null or`, which would keep a plan from the index. */
export const within = (sql: SqlClient.SqlClient, positions: string, p: Window): Statement.Fragment => {
  const column = (name: string) => sql(`${positions}.${name}`)
  const period = sql`${column("time")} >= ${p.from}::timestamptz and ${column("time")} < ${p.to}::timestamptz`
  return p.vehicle === null ? period : sql`${period} and ${column("vehicle_id")} = ${vehicleId(sql, p.vehicle)}`
}

/** The id of a vehicle by its registration; null if there is none. */
export const vehicleId = (sql: SqlClient.SqlClient, registration: string): Statement.Fragment =>
  sql`(select id from fleet.vehicles where registration = ${registration}::text)`

/** The milliseconds of an interval, as a float. */
export const millis = (sql: SqlClient.SqlClient, interval: Statement.Fragment): Statement.Fragment =>
  sql`(1000 * extract(epoch from ${interval}))::float8`

/** A lateral subquery with the smallest zone around a place: `name`, `kind`, `region`. */
export const zoneAround = (
  sql: SqlClient.SqlClient,
  latitude: Statement.Fragment,
  longitude: Statement.Fragment
): Statement.Fragment => sql`
  lateral (
    select z.name, z.kind, z.region
    from fleet.zones z
    -- a degree of latitude is never shorter than 110 km: this spares most great circles
    where z.latitude_deg between ${latitude} - z.radius_m / 110000 and ${latitude} + z.radius_m / 110000
      and fleet.distance_m(z.latitude_deg, z.longitude_deg, ${latitude}, ${longitude}) <= z.radius_m
    order by z.radius_m, z.id
    limit 1
  )`

/** An interval of the period's positions in which a condition held. */
export interface Episodes extends Window {
  /** A silence longer than this ends an episode. */
  readonly maxGap: Duration.Duration
  /** Shorter episodes are left out. */
  readonly minDuration: Duration.Duration
}

/**
 * The common table expressions that end in `episodes`: runs of positions for which `condition` (over `p`, a position)
 * holds. An episode ends where it is first seen to have ended, at the next position; or at its own last position, if a
 * silence or the end of the period follows.
 */
export const episodes = (
  sql: SqlClient.SqlClient,
  condition: Statement.Fragment,
  e: Episodes
): Statement.Fragment => sql`
  fixes as (
    select
      p.vehicle_id, p.time, p.speed_mps, coalesce(${condition}, false) as holds,
      -- an odometer that falls (a device was replaced) adds nothing
      greatest(0, lead(p.odometer_m) over life - p.odometer_m) as leg_m, p.latitude_deg, p.longitude_deg,
      lead(p.time) over life as next_time,
      lag(p.time) over life is null as is_first,
      p.time - lag(p.time) over life > ${e.maxGap}::interval as after_silence,
      lead(p.time) over life - p.time > ${e.maxGap}::interval as before_silence
    from fleet.positions p
    where ${within(sql, "p", e)}
    window life as (partition by p.vehicle_id order by p.time)
  ),
  numbered as (
    select
      *,
      count(*) filter (where not holds or after_silence) over life as episode,
      not coalesce(lag(holds) over life, false) or after_silence as begins
    from fixes
    window life as (partition by vehicle_id order by time)
  ),
  episodes as (
    select
      vehicle_id, min(time) as start_time,
      max(case when next_time is null or before_silence then time else next_time end) as end_time,
      max(speed_mps) as max_speed_mps,
      coalesce(sum(leg_m) filter (where next_time is not null and not before_silence), 0) as distance_m,
      max(latitude_deg) filter (where begins) as latitude_deg, max(longitude_deg) filter (where begins) as longitude_deg,
      bool_or(is_first) as from_first, bool_or(next_time is null) as to_last
    from numbered
    where holds
    group by vehicle_id, episode
    having max(case when next_time is null or before_silence then time else next_time end) - min(time) >= ${e.minDuration}::interval
  )`
