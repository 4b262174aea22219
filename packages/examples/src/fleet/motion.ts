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
 * The distance of a run is the sum of the rises of the odometer: one that falls (a device was replaced) adds nothing.
 *
 * A period's borders. The state at `from` is decided by the positions of the time `reach` before it (1 day unless told) and by
 * one more, however old. A change that waits for its confirmation at `to` is decided by the positions up to
 * `minTripDuration` or `minParking` after it, whichever is longer, and by one more. An interval is told from the last position
 * before `from` to the last one before `to`: a leg, from one position to the next, belongs to the period in which it ends. So
 * the halves of a period join to the whole wherever it is cut. The exception is a vehicle that, for all of `reach`, neither
 * stood for `minParking` nor made a trip nor was silent: its state is then taken from that oldest position.
 *
 * The islands are runs cut at every silence; a block is what lies between two silences. Within a block each island but the
 * first confirms itself or not, whatever came before. At the entry of a block the state is always "stopped"; how its
 * first island is read depends on what was confirmed before the silence (`entry`), and that on the block before. Only
 * blocks that are `open` pass this dependence on, and these are few, so that the recursion is short.
 */
import type * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import type { Window } from "./sql.ts"

/** What the rule asks for. Durations travel as intervals of PostgreSQL. */
export interface MotionParams extends Window {
  readonly motionThreshold: number
  readonly minTripDistance: number
  readonly minTripDuration: Duration.Duration
  readonly minParking: Duration.Duration
  readonly silence: Duration.Duration
  readonly useIgnition: boolean
  readonly reach: Duration.Duration
}

/**
 * The positions that open a segment, with sums up to each: what an interval tells is the difference of two of these. Within a
 * segment the odometer rises and the ignition stays; every interval, block, island and period begins and ends at one.
 *
 * For each vehicle this reads one range of the index in the order of time, which no window has to sort: the positions of the
 * period, what the rule needs before and after it, and one more on either side, however far. (As a join over all vehicles it
 * would read the months that the lookup passes over, and sort.)
 */
const placed = (sql: SqlClient.SqlClient, p: MotionParams, engine: boolean): Statement.Fragment => {
  // Who does not ask for the ignition does not pay for it.
  const ignition = engine || p.useIgnition
  const since = sql`(${p.from}::timestamptz - ${p.reach}::interval)`
  // A change that waits at the end of the period is decided by the first position from here on at the latest.
  const until = sql`(${p.to}::timestamptz + greatest(${p.minTripDuration}::interval, ${p.minParking}::interval))`
  return sql`
    placed as (
      select v.id as vehicle_id, path.*
      from fleet.vehicles v
      left join lateral (
        select p.time from fleet.positions p where p.vehicle_id = v.id and p.time < ${since} order by p.time desc limit 1
      ) before on true
      left join lateral (
        select p.time from fleet.positions p where p.vehicle_id = v.id and p.time >= ${until} order by p.time limit 1
      ) after on true
      cross join lateral (
        with compared as (
          select
            p.time, p.latitude_deg, p.longitude_deg, p.odometer_m, p.ignition,
            p.speed_mps > ${p.motionThreshold}::float8 as moving,
            lag(p.time) over life as time_1, lag(p.time, 2) over life as time_2, lead(p.time) over life as next_time,
            lag(p.odometer_m) over life as odometer_1,
            -- motion and ignition in one number: to look back once is cheaper than twice
            kind, lag(kind) over life as kind_1
          from fleet.positions p
          cross join lateral (
            select 3 * (p.speed_mps > ${p.motionThreshold}::float8)::int
              ${ignition ? sql`+ coalesce(p.ignition::int, 2)` : sql``} as kind
          ) told
          where p.vehicle_id = v.id
            and p.time >= coalesce(before.time, ${since}) and p.time <= coalesce(after.time, ${until})
          window life as (order by p.time)
        ),
        marked as (
          select
            *,
            kind / 3 <> kind_1 / 3 as turned,
            time_1 is null or time - time_1 >= ${p.silence}::interval as opens_block,
            time_1 is not null and (time_2 is null or time_1 - time_2 >= ${p.silence}::interval) as after_opening,
            time < ${p.from}::timestamptz and (next_time is null or next_time >= ${p.from}::timestamptz) as is_entry,
            time < ${p.to}::timestamptz and (next_time is null or next_time >= ${p.to}::timestamptz) as is_exit,
            next_time is null or next_time - time >= ${p.silence}::interval as closes_block
          from compared
        ),
        segments as (
          select
            time, time_1, latitude_deg, longitude_deg, ignition, odometer_m, odometer_1, moving,
            opens_block, opens_block or turned as opens_island, after_opening and not opens_block and not turned as is_second,
            is_entry, is_exit, closes_block, time_1 is null as is_first, next_time is null as is_last
          from marked
          where kind <> kind_1 or odometer_m < odometer_1 or is_entry or is_exit
            -- one comparison spares most positions the three
            or ((time_2 is null or next_time is null or next_time - time_2 >= ${p.silence}::interval)
              and (opens_block or closes_block or after_opening))
        ),
        steps as (
          select
            *,
            coalesce(greatest(0, odometer_m - odometer_1), 0) as leg_m,
            coalesce(odometer_1 - lag(odometer_m) over life, 0) + coalesce(greatest(0, odometer_m - odometer_1), 0) as step_m
            ${
              engine
                ? sql`,
            -- a leg counts as running if it begins with the ignition on and is not a silence
            case when lag(ignition and not closes_block) over life then time - lag(time) over life else interval '0' end as step_running,
            (lag(ignition) over life is not null)::int as step_told`
                : sql``
            }
            ${
              p.useIgnition
                ? sql`,
            -- whether the segment before has a position with the ignition off that is not the first of its run
            (coalesce(lag(not ignition) over life, false)
              and (not lag(opens_island) over life or lag(time) over life < time_1))::int as step_off`
                : sql``
            }
          from segments
          window life as (order by time)
        )
        select
          *,
          sum(step_m) over life as path_m,
          ${
            engine
              ? sql`sum(step_running) over life as running, sum(step_told) over life as told`
              : sql`null::interval as running, null::bigint as told`
          },
          ${p.useIgnition ? sql`sum(step_off) over life` : sql`0`} as off,
          count(*) filter (where opens_block) over life as block, count(*) filter (where opens_island) over life as island,
          case when lead(is_second) over life then lead(time) over life end as second_time,
          lead(step_m) over life as second_step_m
        from steps
        window life as (order by time)
      ) path
      ${p.vehicle === null ? sql`` : sql`where v.registration = ${p.vehicle}::text`}
    )`
}

/**
 * The common table expressions that end in `intervals`. For use after `with recursive`. Positions are read once: whatever a
 * report tells of an interval is gathered on the way (`engine`: how long the engine ran, too). `open_start` and `open_end` say that the period (or the data) cut it.
 */
export const intervals = (
  sql: SqlClient.SqlClient,
  p: MotionParams,
  { engine }: { readonly engine: boolean }
): Statement.Fragment => sql`
    ${placed(sql, p, engine)},
    runs as (
      select
        vehicle_id, block, island, moving, opens_block as leads, opens_island, time as first_time, path_m as first_m,
        case when opens_block then second_time end as second_time,
        case when opens_block and second_time is not null then path_m + second_step_m end as second_m,
        coalesce(lead(end_time) over life, time) as last_time,
        coalesce(lead(end_m) over life, path_m) as far_m,
        coalesce(lead(end_off) over life - off, 0) > 0 as engine_off
      from placed
      cross join lateral (
        -- the last position of the run before
        select
          case when opens_island then time_1 else time end as end_time,
          case when opens_island then path_m - leg_m else path_m end as end_m,
          case when opens_island then off else off + coalesce(not ignition, false)::int end as end_off
      ) before
      where opens_island or is_last
      window life as (partition by vehicle_id order by time)
    ),
    judged as (
      select
        *,
        case when moving then
          last_time > first_time and (last_time - first_time >= ${p.minTripDuration}::interval
            or far_m - first_m >= ${p.minTripDistance}::float8)
        else
          (last_time > first_time and last_time - first_time >= ${p.minParking}::interval) or (${p.useIgnition}::boolean and engine_off)
        end as confirmed,
        -- the same for a run whose first position is not looked at
        coalesce(moving and last_time > second_time and (last_time - second_time >= ${p.minTripDuration}::interval
          or far_m - second_m >= ${p.minTripDistance}::float8), false) as confirmed_late
      from runs
      where opens_island
    ),
    blocks as (
      select
        vehicle_id, block, max(last_time) as last_time, max(island) as last_island, count(*) = 1 as single,
        max(2 * island + moving::int) filter (where confirmed and not leads) % 2 = 1 as later_moving,
        max(2 * island + moving::int) % 2 = 1 as tail_moving, max(first_time) as tail_time, max(first_m) as tail_m,
        min(island) as island, bool_or(moving) filter (where leads) as moving,
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
      select vehicle_id, time, (array_agg(moving order by step desc))[1] as moving
      from (
        select *, moving is distinct from lag(moving) over life as turned
        from changes
        window life as (partition by vehicle_id order by step)
      ) changed
      where turned
      group by vehicle_id, time
    ),
    edges as (
      -- the turns among the segments, each before the one that it begins: a sort, where a join would compare all with all
      select
        vehicle_id, time, is_first, path_m, running, told, ignition, odometer_m, latitude_deg, longitude_deg,
        is_entry, is_exit, is_last, null::bigint as turn, null::boolean as turns_to
      from placed
      union all
      select
        vehicle_id, time, false, null, null, null, null, null, null, null,
        false, false, false, 2 * row_number() over (partition by vehicle_id order by time) + moving::int, moving
      from turns
    ),
    bounds as (
      select *
      from (
        select
          *,
          max(turn) over life % 2 = 1 as moving, lag(turns_to) over life is not null as begins
        from edges
        window life as (partition by vehicle_id order by time, turn)
      ) edged
      where turns_to is null and (begins or is_entry or is_exit)
    ),
    intervals as (
      select *
      from (
        select
          vehicle_id, moving, time as start_time, lead(time) over life as end_time,
          not begins or is_first as open_start,
          lead(is_exit and (not begins or is_last)) over life as open_end,
          lead(path_m) over life - path_m as distance_m,
          odometer_m as start_odometer_m, lead(odometer_m) over life as end_odometer_m,
          latitude_deg as start_latitude_deg, longitude_deg as start_longitude_deg,
          lead(latitude_deg) over life as end_latitude_deg, lead(longitude_deg) over life as end_longitude_deg,
          case when lead(told) over life > told or lead(ignition) over life is not null
            then lead(running) over life - running end as running,
          not is_exit and (is_entry or time >= ${p.from}::timestamptz) and time < ${p.to}::timestamptz as counts
        from bounds
        window life as (partition by vehicle_id order by time)
      ) tiles
      where counts
    )`
