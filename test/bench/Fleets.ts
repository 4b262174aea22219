/** The tables of the examples' fleet, filled for the rows that run its reports. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { Fleet } from "../../packages/examples/src/fleet/Fleet.ts"
import { migrate } from "../../packages/examples/src/fleet/migrations.ts"
import { defaults, simulate } from "../../packages/examples/src/fleet/simulate.ts"
import type { Context } from "./Row.ts"

const rolesOf = (url: string) => {
  const role = { url: Redacted.make(url), statementTimeout: "5 minutes" } as const
  return Fleet.layer({ primary: role, replica: role })
}

const filled = <E>(url: string, fill: Effect.Effect<unknown, E, SqlClient.SqlClient>) =>
  Effect.runPromise(
    Effect.andThen(migrate, fill).pipe(
      Effect.provide(Fleet.layerSqlClient("primary").pipe(Layer.provideMerge(rolesOf(url))))
    )
  )

/** One server for all rows of a run, with its data. */
const onceFor = <A>(make: (context: Context) => Promise<A>) => {
  const all = new WeakMap<Context, Promise<A>>()
  return (context: Context): Promise<A> => {
    const known = all.get(context) ?? make(context)
    all.set(context, known)
    return known
  }
}

const settings = { shared_buffers: "256MB", work_mem: "64MB", max_wal_size: "8GB", checkpoint_timeout: "30min" }

/** Vehicles and days of the simulated fleet. */
export const simulated = ({ quick }: Context) => (quick ? { vehicles: 8, days: 1 } : { vehicles: 60, days: 7 })

/** The fleet of `npm start`. Gives its URL, and the day that its managers ask about: its Friday. */
export const fleet = onceFor(async (context) => {
  const { primary } = await context.cluster({ settings })
  const { days, vehicles } = simulated(context)
  await filled(
    primary.url,
    simulate({ ...defaults, days, vehicles }, () => Effect.void)
  )
  return { url: primary.url, from: new Date(defaults.start.getTime() + Math.min(days - 1, 4) * 86_400_000) }
})

export const scaledVehicles = ({ scale }: Context) => Math.max(8, Math.min(1_000, Math.floor(scale / 1_440)))

/**
 * Many positions, the quick way: every vehicle reports each minute, drives for two hours of three at a speed of its own and
 * stands the third. Rows come in the order of time, a day at a time, into the fleet's own table with its own indexes.
 */
const insertMany = Effect.fnUntraced(function* (context: Context) {
  const sql = yield* SqlClient.SqlClient
  const vehicles = scaledVehicles(context)
  const minutes = Math.ceil(context.scale / vehicles)
  const end = defaults.start
  const since = new Date(end.getTime() - minutes * 60_000)
  yield* sql`select fleet.ensure_partitions(${since}::timestamptz, ${end}::timestamptz)::text`
  yield* sql`
    insert into fleet.depots (id, name, region, time_zone, latitude_deg, longitude_deg)
    values (1, 'Hamburg', 'North', 'Europe/Berlin', 53.5412, 10.0451)`
  yield* sql`
    insert into fleet.zones (id, name, kind, region, latitude_deg, longitude_deg, radius_m)
    values (100, 'Hamburg depot', 'depot', 'North', 53.5412, 10.0451, 250)`
  yield* sql`
    insert into fleet.vehicles (id, registration, depot_id)
    select v, 'HH-SL ' || v, 1 from generate_series(1, ${vehicles}::int) v`
  const days = Math.ceil(minutes / 1_440)
  for (let day = 0; day < days; day++) {
    const first = day * 1_440
    const last = Math.min(minutes, first + 1_440) - 1
    yield* sql`
      insert into fleet.positions
        (vehicle_id, time, latitude_deg, longitude_deg, speed_mps, heading_deg, ignition, odometer_m)
      select
        v, ${since}::timestamptz + m * interval '1 minute',
        53.5412 + 0.0001 * (v % 100) + 0.002 * least(way, 120 - way),
        10.0451 + 0.0001 * (v / 100) + 0.003 * least(way, 120 - way),
        case when turn < 120 then 8 + v % 17 else 0 end,
        case when turn < 120 then v % 360 else null end,
        turn < 120,
        60 * (8 + v % 17) * (m / 180 * 120 + way)
      from generate_series(${first}::int, ${last}::int) m
      cross join generate_series(1, ${vehicles}::int) v
      cross join lateral (select (m + v) % 180 as turn) at
      cross join lateral (select least(turn, 120) as way) path`
  }
  yield* sql`vacuum (analyze) fleet.positions`
  yield* sql`vacuum (analyze) fleet.vehicles`
  const [counted] = yield* sql<{ count: number }>`select count(*)::int as count from fleet.positions`
  return counted!.count
})

/** `--scale` positions. Gives the URL, how many there are, and the last day. */
export const scaled = onceFor(async (context) => {
  const { primary } = await context.cluster({ settings })
  const began = performance.now()
  let positions = 0
  await filled(
    primary.url,
    Effect.tap(insertMany(context), (count) => Effect.sync(() => (positions = count)))
  )
  const seconds = (performance.now() - began) / 1_000
  context.say(
    `${positions.toLocaleString("en")} positions of ${scaledVehicles(context)} vehicles in ${seconds.toFixed(0)} s`
  )
  return { url: primary.url, positions, from: new Date(defaults.start.getTime() - 86_400_000), to: defaults.start }
})

export type FleetRuntime = ManagedRuntime.ManagedRuntime<Layer.Success<ReturnType<typeof rolesOf>>, unknown>

export const runtimeOf = (url: string): FleetRuntime => ManagedRuntime.make(rolesOf(url))
