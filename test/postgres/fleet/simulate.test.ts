/** The simulated fleet: the same from the same seed, and fit for the reports. */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { drop, migrate } from "../../../packages/examples/src/fleet/migrations.ts"
import { idle, overspeed, stoppage, trips } from "../../../packages/examples/src/fleet/reports/index.ts"
import { defaults, simulate, type Simulation } from "../../../packages/examples/src/fleet/simulate.ts"
import { postgres } from "../../support/postgres.ts"
import { fleet } from "./support.ts"

const small: Simulation = { ...defaults, vehicles: 6, days: 2 }
const period = {
  from: DateTime.fromDateUnsafe(small.start),
  to: DateTime.fromDateUnsafe(new Date(small.start.getTime() + 2 * 86_400_000))
}

/** Makes the fleet anew and gives a checksum of all that is in it. */
const made = Effect.fnUntraced(function* (simulation: Simulation) {
  const sql = yield* SqlClient.SqlClient
  yield* drop
  yield* migrate
  let last = { done: 0, total: 0, positions: 0 }
  const positions = yield* simulate(simulation, (progress) =>
    Effect.sync(() => {
      assert.isAtLeast(progress.positions, last.positions)
      last = progress
    })
  )
  assert.deepStrictEqual(last, { done: simulation.days * 4, total: simulation.days * 4, positions })
  const [sum] = yield* sql<{ readonly count: number; readonly sum: string }>`
    select count(*)::int as count, md5(string_agg(p::text, ',' order by vehicle_id, time)) as sum from fleet.positions p`
  assert.strictEqual(sum?.count, positions)
  return sum!.sum
})

postgres(fleet)("the simulated fleet", (it) => {
  it.effect("follows from its seed, also when positions arrive shuffled and twice", () =>
    Effect.gen(function* () {
      const first = yield* made(small)
      assert.strictEqual(yield* made({ ...small, arrival: "dirty" }), first)
      assert.notStrictEqual(yield* made({ ...small, seed: 2 }), first)
    })
  )

  it.effect("has stops, trips, overspeed and idling, an odometer that never falls, and silences", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* made({ ...small, vehicles: 20 })
      for (const rows of [
        yield* stoppage.run(period),
        yield* trips.run(period),
        yield* overspeed.run(period),
        yield* idle.run(period)
      ]) {
        assert.isAbove(rows.length, 10)
      }
      const [facts] = yield* sql<{ readonly falls: number; readonly silences: number; readonly jumps: number }>`
        select
          (count(*) filter (where odometer_m < before))::int as falls,
          (count(*) filter (where gap >= interval '1 hour'))::int as silences,
          -- nothing drives above 150 km/h between two positions
          (count(*) filter (where odometer_m - before > 42 * extract(epoch from gap) + 10))::int as jumps
        from (
          select odometer_m, lag(odometer_m) over life as before, time - lag(time) over life as gap
          from fleet.positions window life as (partition by vehicle_id order by time)
        ) legs`
      assert.strictEqual(facts!.falls, 0)
      assert.strictEqual(facts!.jumps, 0)
      assert.isAbove(facts!.silences, 0)
    })
  )
})
