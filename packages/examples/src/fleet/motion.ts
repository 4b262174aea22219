/**
 * Trips and stops by confirmed runs, as gaps and islands.
 *
 * The rule, for the positions of one vehicle in the order of time. A position is *moving* above a speed. There is a
 * confirmed state, at first the motion of the first position, and a run: consecutive positions of equal motion. A run that
 * disagrees with the confirmed state becomes the state once a later position of the run confirms it, dated at the run's
 * first position: towards moving by time or distance, towards stopped by time (or, if asked for, by an ignition that
 * is off). A silence that begins while the confirmed state is moving ends the trip at the last position before the
 * silence, and the position after it is not looked at. A silence while stopped changes nothing.
 *
 * The islands are runs cut at every silence; a block is what lies between two silences. Within a block each island but the
 * first confirms itself or not, whatever came before. At the entry of a block the state is always "stopped"; how its
 * first island is read depends on what was confirmed before the silence (`entry`), and that on the block before. Only
 * blocks that are `open` pass this dependence on, and these are few, so that the recursion is short.
 */
import type * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import { type Window, within } from "./sql.ts"

/** What the rule asks for. Durations travel as intervals of PostgreSQL. */
export interface MotionParams extends Window {
  readonly motionThreshold: number
  readonly minTripDistance: number
  readonly minTripDuration: Duration.Duration
  readonly minParking: Duration.Duration
  readonly silence: Duration.Duration
  readonly useIgnition: boolean
}

/**
 * The common table expressions that end in `intervals`: (vehicle_id, moving, start_time, end_time, from_first, to_last).
 * For use after `with recursive`. `from_first` and `to_last` say that the interval was cut by the period (or the data).
 */
export const intervals = (sql: SqlClient.SqlClient, p: MotionParams): Statement.Fragment => sql`
    fixes as (
      select
        p.vehicle_id, p.time, p.odometer_m, p.ignition, p.speed_mps > ${p.motionThreshold}::float8 as moving
      from fleet.positions p
      where ${within(sql, "p", p)}
    ),
    compared as (
      select
        *,
        lag(moving) over life is null as is_first,
        time - lag(time) over life >= ${p.silence}::interval as after_silence,
        moving <> lag(moving) over life as turned
      from fixes
      window life as (partition by vehicle_id order by time)
    ),
    cut as (
      select
        *,
        is_first or after_silence as opens_block,
        is_first or after_silence or turned as opens_island
      from compared
    ),
    numbered as (
      select
        *,
        count(*) filter (where opens_block) over life as block,
        count(*) filter (where opens_island) over life as island,
        coalesce(lag(opens_island) over life, false) and not opens_island as is_second
      from cut
      window life as (partition by vehicle_id order by time)
    ),
    runs as (
      select
        vehicle_id, block, island, bool_and(moving) as moving, bool_or(opens_block) as leads, count(*) as size,
        min(time) as first_time, max(time) as last_time, min(time) filter (where is_second) as second_time,
        max(odometer_m) filter (where opens_island) as first_m, max(odometer_m) filter (where is_second) as second_m,
        -- how far the run gets, counted from its first, second and third position on
        max(odometer_m) as far_m,
        max(odometer_m) filter (where not opens_island) as far_after_first_m,
        max(odometer_m) filter (where not opens_island and not is_second) as far_after_second_m,
        coalesce(bool_or(not ignition) filter (where not opens_island), false) as engine_off
      from numbered
      group by vehicle_id, block, island
    ),
    judged as (
      select
        *,
        case when moving then
          size > 1 and (last_time - first_time >= ${p.minTripDuration}::interval
            or far_after_first_m - first_m >= ${p.minTripDistance}::float8)
        else
          (size > 1 and last_time - first_time >= ${p.minParking}::interval) or (${p.useIgnition}::boolean and engine_off)
        end as confirmed,
        -- the same for a run whose first position is not looked at
        moving and size > 2 and (last_time - second_time >= ${p.minTripDuration}::interval
          or far_after_second_m - second_m >= ${p.minTripDistance}::float8) as confirmed_late
      from runs
    ),
    blocks as (
      select
        vehicle_id, block, max(last_time) as last_time, max(island) as last_island, count(*) = 1 as single,
        (array_agg(moving order by island desc) filter (where confirmed and not leads))[1] as later_moving,
        (array_agg(moving order by island desc))[1] as tail_moving,
        (array_agg(first_time order by island desc))[1] as tail_time,
        (array_agg(first_m order by island desc))[1] as tail_m,
        min(island) as island, bool_or(moving) filter (where leads) as moving, max(size) filter (where leads) as size,
        min(first_time) filter (where leads) as first_time, max(last_time) filter (where leads) as run_end,
        max(first_m) filter (where leads) as first_m, max(far_m) filter (where leads) as far_m,
        max(second_time) filter (where leads) as second_time, max(second_m) filter (where leads) as second_m,
        bool_or(confirmed) filter (where leads) as confirmed, bool_or(confirmed_late) filter (where leads) as confirmed_late
      from judged
      group by vehicle_id, block
    ),
    ends as (
      -- the state and the candidate with which a block ends if a trip was cut before it (or if it is the first)
      select
        b.*, ended.exit_moving,
        case when exit_moving or not tail_moving then null when single then second_time else tail_time end as exit_time,
        case when exit_moving or not tail_moving then null when single then second_m else tail_m end as exit_m,
        block > 1 and moving and not confirmed_late and later_moving is null as open
      from blocks b
      cross join lateral (
        select coalesce(later_moving, moving and (block = 1 or confirmed_late)) as exit_moving
      ) ended
    ),
    chained as (
      select
        *,
        lag(open, 1, false) over life as after_open,
        lag(exit_moving) over life as cut_before, lag(exit_time) over life as carried_time, lag(exit_m) over life as carried_m
      from ends
      window life as (partition by vehicle_id order by block)
    ),
    entered as (
      -- entry: was a trip cut by the silence before; if not, which candidate does the silence leave
      select vehicle_id, block, cut_before, carried_time, carried_m from chained where not after_open
      union all
      select b.vehicle_id, b.block, out.exit_moving, out.exit_time, out.exit_m
      from entered e
      join ends a on a.vehicle_id = e.vehicle_id and a.block = e.block and a.open
      join chained b on b.vehicle_id = e.vehicle_id and b.block = e.block + 1
      cross join lateral (
        select not e.cut_before and case when e.carried_time is null then a.confirmed else
          a.run_end - e.carried_time >= ${p.minTripDuration}::interval
            or a.far_m - e.carried_m >= ${p.minTripDistance}::float8 end as exit_moving
      ) now
      cross join lateral (
        select
          now.exit_moving,
          case when now.exit_moving then null when e.cut_before or not a.single then a.exit_time
            else coalesce(e.carried_time, a.first_time) end as exit_time,
          case when now.exit_moving then null when e.cut_before or not a.single then a.exit_m
            else coalesce(e.carried_m, a.first_m) end as exit_m
      ) out
    ),
    changes as (
      select vehicle_id, 2 * island as step, moving, first_time as time from judged where confirmed and not leads
      union all
      select b.vehicle_id, 2 * b.island, b.moving, case
        when b.block = 1 then b.first_time when e.cut_before then b.second_time else coalesce(e.carried_time, b.first_time) end
      from blocks b
      join entered e on e.vehicle_id = b.vehicle_id and e.block = b.block
      where b.block = 1 or (b.moving and case
        when e.cut_before then b.confirmed_late
        when e.carried_time is null then b.confirmed
        else b.run_end - e.carried_time >= ${p.minTripDuration}::interval
          or b.far_m - e.carried_m >= ${p.minTripDistance}::float8 end)
      union all
      -- a silence: stopped, if it was not so already
      select vehicle_id, 2 * last_island + 1, false, last_time from blocks
    ),
    turns as (
      select *, moving is distinct from lag(moving) over life as turned
      from changes
      window life as (partition by vehicle_id order by step)
    ),
    bounds as (
      select vehicle_id, min(first_time) as first_time, max(last_time) as last_time from blocks group by vehicle_id
    ),
    spans as (
      select
        t.vehicle_id, t.moving, t.time as start_time,
        coalesce(lead(t.time) over (partition by t.vehicle_id order by t.step), b.last_time) as end_time,
        b.first_time, b.last_time
      from turns t
      join bounds b on b.vehicle_id = t.vehicle_id
      where t.turned
    ),
    intervals as (
      select
        vehicle_id, moving, start_time, end_time,
        start_time = first_time as from_first, end_time = last_time as to_last
      from spans
      where end_time > start_time
    )`
