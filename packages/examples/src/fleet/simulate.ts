/**
 * Fills the fleet inside the server: a plan first (one row a drive or a stop, `fleet.plan`), then the positions, a slice
 * of the period at a time, so that rows lie in the order of time as they would after a real week.
 *
 * Everything follows from the seed. A day is a round from the depot over its customers and back: drives with red lights
 * and stretches above 90 km/h, deliveries of minutes, breaks of hours, engines left running, tunnels and dead devices,
 * nights with a heartbeat every half hour or (every fifth vehicle) with none.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"

/** What to simulate. `start` is an instant; the vehicles' working days begin at about six in their depot's time zone. */
export interface Simulation {
  readonly seed: number
  readonly vehicles: number
  readonly days: number
  /** First instant of the period. */
  readonly start: Date
  /** `dirty`: every slice arrives shuffled, one position in fifty twice. The table ends up the same. */
  readonly arrival?: "clean" | "dirty" | undefined
}

export const defaults: Simulation = { seed: 1, vehicles: 60, days: 7, start: new Date("2026-03-02T00:00:00Z") }

/** How far the simulation is; `positions` counts the rows written so far. */
export interface Progress {
  readonly done: number
  readonly total: number
  readonly positions: number
}

const insertPlaces = Effect.fnUntraced(function* ({ seed, vehicles }: Simulation) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    insert into fleet.depots (id, name, region, time_zone, latitude_deg, longitude_deg) values
      (1, 'Hamburg', 'North', 'Europe/Berlin', 53.5412, 10.0451),
      (2, 'Leipzig', 'East', 'Europe/Berlin', 51.3962, 12.4024),
      (3, 'Cologne', 'West', 'Europe/Berlin', 50.9881, 6.9442),
      (4, 'Munich', 'South', 'Europe/Berlin', 48.1912, 11.6489)`
  // Zone ids: depot d has 100 d; its plants, customers and rest places have 100 d + 1 to 100 d + 14.
  yield* sql`
    insert into fleet.zones (id, name, kind, region, latitude_deg, longitude_deg, radius_m)
    select id * 100, name || ' depot', 'depot', region, latitude_deg, longitude_deg, 250 from fleet.depots
    union all
    select
      d.id * 100 + k,
      d.name || case when k <= 3 then ' plant ' || k when k <= 12 then ' customer ' || k - 3 else ' rest place ' || k - 12 end,
      case when k <= 3 then 'plant' when k <= 12 then 'customer' else 'rest' end,
      d.region,
      round((d.latitude_deg + away * cos(bearing) / 111195)::numeric, 5)::float8,
      round((d.longitude_deg + away * sin(bearing) / (111195 * cos(radians(d.latitude_deg))))::numeric, 5)::float8,
      200
    from fleet.depots d
    cross join generate_series(1, 14) k
    cross join lateral (
      select
        3000 + 27000 * fleet.noise(${seed}::int, 'zone away ' || d.id || ' ' || k) as away,
        2 * pi() * fleet.noise(${seed}::int, 'zone bearing ' || d.id || ' ' || k) as bearing
    ) at`
  yield* sql`
    insert into fleet.vehicles (registration, depot_id)
    select
      case d.id when 1 then 'HH' when 2 then 'L' when 3 then 'K' else 'M' end || '-SL ' || 100 + v, d.id
    from generate_series(1, ${vehicles}::int) v
    join fleet.depots d on d.id = 1 + v % 4
    order by v`
})

/** One row a drive or a stop. All randomness that is not a wobble of the GPS is in here. */
const insertPlan = Effect.fnUntraced(function* ({ days, seed, start }: Simulation) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    create unlogged table fleet.plan as
    with tours as (
      select
        v.id as vehicle_id, v.depot_id, day, 4 + floor(5 * fleet.noise(${seed}::int, key))::int as legs,
        -- about six in the morning, where the depot is
        ((${start}::timestamptz at time zone d.time_zone)::date + day + time '05:00') at time zone d.time_zone
          + interval '1 second' * floor(9000 * fleet.noise(${seed}::int, 'begin ' || key)) as begins
      from fleet.vehicles v
      join fleet.depots d on d.id = v.depot_id
      cross join generate_series(0, ${days}::int - 1) day
      cross join lateral (select v.id || ' ' || day as key) keyed
      -- on a Sunday one vehicle in five works
      where extract(isodow from (${start}::timestamptz at time zone d.time_zone)::date + day) < 7
        or fleet.noise(${seed}::int, 'sunday ' || key) < 0.2
    ),
    places as (
      select t.*, leg, z.latitude_deg as lat, z.longitude_deg as lon
      from tours t
      cross join lateral generate_series(0, t.legs) leg
      join fleet.zones z on z.id = t.depot_id * 100 + case
        when leg in (0, t.legs) then 0
        else 1 + floor(14 * fleet.noise(${seed}::int, 'site ' || t.vehicle_id || ' ' || t.day || ' ' || leg))::int end
    ),
    legs as (
      select
        p.*, key,
        lag(lat) over tour as lat0, lag(lon) over tour as lon0,
        -- a site twice in a row is a round of the yard
        greatest(1500, 1.25 * fleet.distance_m(lag(lat) over tour, lag(lon) over tour, lat, lon)) as length_m
      from places p
      cross join lateral (select vehicle_id || ' ' || day || ' ' || leg as key) keyed
      window tour as (partition by vehicle_id, day order by leg)
    ),
    timed as (
      select
        *,
        length_m / (6 + 4 * least(1, length_m / 25000) + 4 * fleet.noise(${seed}::int, 'pace ' || key)) as drive_s,
        case when leg = legs then 0 else case
          when kind < 0.55 then 240 + 900 * amount
          when kind < 0.85 then 1200 + 2400 * amount
          else 3600 + 5400 * amount end end as stop_s
      from legs
      cross join lateral (
        select fleet.noise(${seed}::int, 'stop kind ' || key) as kind, fleet.noise(${seed}::int, 'stop ' || key) as amount
      ) stop
      where leg > 0
    ),
    scaled as (
      -- a day never takes longer than 16 hours, so that it never runs into the next
      select *, least(1, 57600 / sum(drive_s + stop_s) over (partition by vehicle_id, day)) as pressed from timed
    ),
    placed as (
      select
        *,
        begins + interval '1 second' * floor(pressed * coalesce(sum(drive_s + stop_s) over before, 0)) as drive_at,
        interval '1 second' * floor(pressed * drive_s) as drive,
        coalesce(sum(length_m) over life, 0) as odometer_m
      from scaled
      window
        before as (partition by vehicle_id, day order by leg rows between unbounded preceding and 1 preceding),
        life as (partition by vehicle_id order by day, leg rows between unbounded preceding and 1 preceding)
    ),
    segments as (
      select
        vehicle_id, 'drive' as kind, key, drive_at as since, drive_at + drive as until,
        lat0, lon0, lat as lat1, lon as lon1, odometer_m, length_m, 0 as engine_s, true as short
      from placed
      union all
      select
        vehicle_id, 'stop', key, drive_at + drive,
        coalesce(lead(drive_at) over next, ${start}::timestamptz + interval '1 day' * ${days}::int),
        lat, lon, lat, lon, odometer_m + length_m, 0,
        -- one stop in three with the engine running, for three minutes to twenty
        case when fleet.noise(${seed}::int, 'idle ' || key) < 0.35
          then floor(180 + 1020 * fleet.noise(${seed}::int, 'idle for ' || key)) else 0 end,
        leg < legs
      from placed
      window next as (partition by vehicle_id order by day, leg)
      union all
      select
        v.id, 'stop', v.id || ' before', ${start}::timestamptz,
        coalesce((select min(drive_at) from placed p where p.vehicle_id = v.id), ${start}::timestamptz + interval '1 day' * ${days}::int),
        d.latitude_deg, d.longitude_deg, d.latitude_deg, d.longitude_deg, 0, 0, 0, false
      from fleet.vehicles v
      join fleet.depots d on d.id = v.depot_id
    )
    select
      s.*,
      floor(20000 + 180000 * fleet.noise(${seed}::int, 'odometer ' || vehicle_id)) * 1000 as base_m,
      -- a tunnel, a dead zone, a loose plug: the middle of the drive is missing
      kind = 'drive' and fleet.noise(${seed}::int, 'silent ' || key) < 0.05 as silent,
      fleet.noise(${seed}::int, 'asleep ' || vehicle_id) < 0.2 as sleeps
    from segments s
    where until > since`
  yield* sql`analyze fleet.plan`
})

/** The positions of the segments, cut to [since, until). */
const insertPositions = Effect.fnUntraced(function* (simulation: Simulation, since: Date, until: Date) {
  const sql = yield* SqlClient.SqlClient
  const { seed } = simulation
  const dirty = simulation.arrival === "dirty"
  const inserted = yield* sql<{ readonly count: number }>`
    with fixes as (
      select
        p.vehicle_id, time, p.kind, p.base_m + p.odometer_m + p.length_m * along as odometer_m,
        p.lat0 + (p.lat1 - p.lat0) * along + bow * (p.lon1 - p.lon0) * cos(radians(p.lat0)) as lat,
        p.lon0 + (p.lon1 - p.lon0) * along - bow * (p.lat1 - p.lat0) / cos(radians(p.lat0)) as lon,
        case when p.kind = 'drive'
          then p.length_m / extract(epoch from p.until - p.since) * (1 - cos(2 * pi() * hops * share)) else 0 end as speed_mps,
        case when p.kind = 'drive'
          then degrees(atan2((p.lon1 - p.lon0) * cos(radians(p.lat0)), p.lat1 - p.lat0)) end as heading_deg,
        p.kind = 'drive' or time < p.since + interval '1 second' * p.engine_s as ignition
      from fleet.plan p
      cross join lateral (
        -- driving every 30 s, idling every 60 s, parked every 10 min (half an hour at night), a sleeper once
        select p.since + interval '1 second' * second as time from generate_series(0, case
          when p.kind = 'drive' then extract(epoch from p.until - p.since)::int
          else least(p.engine_s, extract(epoch from p.until - p.since))::int end - 1, case when p.kind = 'drive' then 30 else 60 end) second
        union all
        select parked from generate_series(
          p.since + interval '1 second' * p.engine_s, p.until - interval '1 second',
          case when p.sleeps then interval '10 years' when p.short then interval '10 minutes' else interval '30 minutes' end) parked
        where p.kind = 'stop'
      ) beat
      cross join lateral (
        select
          extract(epoch from time - p.since)::float8 / extract(epoch from p.until - p.since)::float8 as share,
          greatest(1, round(p.length_m / 3000)) as hops
      ) at
      cross join lateral (
        -- a drive is a row of hops from red light to red light, at rest at both ends of each
        select case when p.kind = 'drive' then share - sin(2 * pi() * hops * share) / (2 * pi() * hops) else 0 end as along
      ) way
      cross join lateral (
        select case when p.kind = 'drive' then 0.15 * sin(pi() * along) else 0 end as bow
      ) bend
      where p.since < ${until}::timestamptz and p.until > ${since}::timestamptz
        and time >= ${since}::timestamptz and time < ${until}::timestamptz
        and not (p.silent and share > 0.3 and share < 0.85)
    ),
    arriving as (
      select * from fixes
      ${dirty ? sql`union all select * from fixes where fleet.noise(${seed}::int, 'twice ' || vehicle_id || ' ' || extract(epoch from time)) < 0.02` : sql.literal("")}
    ),
    inserted as (
      insert into fleet.positions
        (vehicle_id, time, latitude_deg, longitude_deg, speed_mps, heading_deg, ignition, odometer_m)
      select
        vehicle_id, time,
        round((lat + 0.00004 * (fleet.noise(${seed}::int, 'lat ' || vehicle_id || extract(epoch from time)) - 0.5))::numeric, 6)::float8,
        round((lon + 0.00006 * (fleet.noise(${seed}::int, 'lon ' || vehicle_id || extract(epoch from time)) - 0.5))::numeric, 6)::float8,
        round(greatest(0, speed_mps)::numeric, 2)::float8,
        (round((heading_deg + 360)::numeric, 1) % 360)::float8,
        ignition,
        round(odometer_m::numeric, 1)::float8
      from arriving
      order by ${dirty ? sql`fleet.noise(${seed}::int, 'arrival ' || vehicle_id || ' ' || extract(epoch from time))` : sql`time, vehicle_id`}
      on conflict (vehicle_id, time) do nothing
      returning 1
    )
    select count(*)::int as count from inserted`
  return inserted[0]?.count ?? 0
})

/**
 * Simulates a fleet into empty tables, a slice at a time: six hours of up to 500 vehicles, less of more, so that a statement
 * stays short whatever the size of the fleet. `onProgress` is called after each slice.
 * Gives the number of positions.
 */
export const simulate = Effect.fnUntraced(function* <E, R>(
  simulation: Simulation,
  onProgress: (progress: Progress) => Effect.Effect<void, E, R>
) {
  const sql = yield* SqlClient.SqlClient
  const { days, start, vehicles } = simulation
  const slicesOfDay = 4 * Math.ceil(vehicles / 500)
  const sliceMillis = 86_400_000 / slicesOfDay
  const slices = days * slicesOfDay
  const end = new Date(start.getTime() + slices * sliceMillis)
  yield* sql`select fleet.ensure_partitions(${start}::timestamptz, ${end}::timestamptz)::text`
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* insertPlaces(simulation)
      yield* insertPlan(simulation)
    })
  )
  let done = 0
  let positions = 0
  yield* Effect.forEach(
    Array.from({ length: slices }, (_, slice) => new Date(start.getTime() + slice * sliceMillis)),
    (since) =>
      Effect.gen(function* () {
        const inserted = yield* insertPositions(simulation, since, new Date(since.getTime() + sliceMillis))
        positions += inserted
        done += 1
        yield* onProgress({ done, total: slices, positions })
      }),
    { concurrency: 2, discard: true }
  )
  yield* sql`drop table fleet.plan`
  // Statistics and visibility now, not when autovacuum comes: the first report should already be fast.
  yield* sql`vacuum (analyze) fleet.positions`
  yield* sql`vacuum (analyze) fleet.vehicles`
  return positions
})
