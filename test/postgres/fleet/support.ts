/** A database with the fleet's tables, positions from tests, and random vehicles from a seed. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { Fleet } from "../../../packages/examples/src/fleet/Fleet.ts"
import { migrate } from "../../../packages/examples/src/fleet/migrations.ts"
import { layerDatabase, TestDatabase } from "../../support/postgres.ts"
import { mulberry32 } from "../../support/random.ts"
import type { Fix } from "../../unit/fleet/reference.ts"

/** A fleet in a database of its own. Both roles are the primary: replication is not what these tests are about. */
export const fleet = Layer.effectDiscard(migrate).pipe(
  Layer.provideMerge(Fleet.layerSqlClient("primary")),
  Layer.provideMerge(
    Layer.unwrap(
      TestDatabase.useSync(({ url }) =>
        Fleet.layer({ primary: { url: Redacted.make(url) }, replica: { url: Redacted.make(url) } })
      )
    )
  ),
  Layer.provideMerge(layerDatabase)
)

/** Where the clocks of the tests begin. */
export const origin = Date.parse("2026-01-05T00:00:00Z")
/** A period around everything that a test may load. */
export const always = {
  from: DateTime.makeUnsafe("2026-01-01T00:00:00Z"),
  to: DateTime.makeUnsafe("2026-02-01T00:00:00Z")
}
export const instant = (millis: number): DateTime.Utc => DateTime.makeUnsafe(millis)

/** Vehicle `n` (from 0) is registered as `V n`. */
export const registration = (vehicle: number): string => `V ${vehicle}`

/** Makes these vehicles the whole fleet. Positions arrive in the order given; a repeated instant is refused as in the import. */
export const load = Effect.fnUntraced(function* (vehicles: ReadonlyArray<ReadonlyArray<Fix>>) {
  const sql = yield* SqlClient.SqlClient
  const rows = vehicles.flatMap((fixes, index) =>
    fixes.map(({ ignition, odometer, speed, time }) => ({
      vehicle: index + 1,
      time: new Date(time),
      speed,
      odometer,
      ignition
    }))
  )
  yield* sql`select fleet.ensure_partitions('2026-01-01Z', '2026-02-01Z')::text`
  yield* sql`truncate fleet.positions, fleet.vehicles`
  yield* sql`
    insert into fleet.vehicles (id, registration)
    select n, 'V ' || n - 1 from generate_series(1, ${vehicles.length}::int) n`
  yield* sql`
    insert into fleet.positions (vehicle_id, time, latitude_deg, longitude_deg, speed_mps, ignition, odometer_m)
    select vehicle, time, 50, 8, speed, ignition, odometer
    from json_to_recordset(${JSON.stringify(rows)}::text::json)
      as r (vehicle int, time timestamptz, speed float8, odometer float8, ignition boolean)
    on conflict (vehicle_id, time) do nothing`
})

export interface Random {
  /** In [0, 1). */
  readonly next: () => number
  readonly int: (below: number) => number
  readonly pick: <A>(from: ReadonlyArray<A>) => A
  readonly shuffle: <A>(items: ReadonlyArray<A>) => Array<A>
}

export const random = (seed: number): Random => {
  const next = mulberry32(seed)
  const int = (below: number): number => Math.floor(next() * below)
  return {
    next,
    int,
    pick: (from) => from[int(from.length)]!,
    shuffle: (items) => {
      const shuffled = [...items]
      for (let index = shuffled.length - 1; index > 0; index--) {
        const other = int(index + 1)
        ;[shuffled[index], shuffled[other]] = [shuffled[other]!, shuffled[index]!]
      }
      return shuffled
    }
  }
}

/** The seed of this run: `FLEET_SEED` repeats one. Every failure prints it. */
export const seed = Number(process.env["FLEET_SEED"] ?? Math.floor(Math.random() * 2 ** 31))

/**
 * Short lives that visit every corner of the rule: steps around its thresholds (exactly on them, too), silences, single
 * positions, motion and rest in equal parts.
 */
export const vehicles = (of: Random, count: number): ReadonlyArray<ReadonlyArray<Fix>> =>
  Array.from({ length: count }, () => {
    let time = origin
    let odometer = 1000 * of.int(1000)
    let moving = of.next() < 0.5
    const restless = of.next()
    return Array.from({ length: 1 + of.int(16) }, () => {
      time += 1000 * of.pick([30, 60, 120, 150, 299, 300, 301, 600, 3599, 3600, 3601, 5000])
      odometer += of.pick([0, 0, 100, 250, 499, 500])
      // A device is replaced.
      if (of.next() < 0.05) odometer = of.int(1000)
      if (of.next() < restless) moving = !moving
      return {
        time,
        odometer,
        speed: moving ? of.pick([0.6, 5]) : of.pick([0, 0.5]),
        ignition: of.pick([true, false, null])
      }
    })
  })
