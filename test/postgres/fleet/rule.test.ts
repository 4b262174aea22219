/**
 * Stops and trips against the state machine that they are defined by, on random positions, with mutants of the SQL that
 * the same positions must tell apart.
 */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { drop, migrate } from "../../../packages/examples/src/fleet/migrations.ts"
import { intervals, type MotionParams } from "../../../packages/examples/src/fleet/motion.ts"
import { stoppage, trips } from "../../../packages/examples/src/fleet/reports/index.ts"
import { defaults, simulate } from "../../../packages/examples/src/fleet/simulate.ts"
import { Metres, MetresPerSecond } from "../../../packages/examples/src/fleet/units.ts"
import { type Fix, type Interval, type Rule, trace } from "../../unit/fleet/reference.ts"
import { postgres } from "../../support/postgres.ts"
import { always, fleet, instant, load, origin, random, registration, seed, vehicles } from "./support.ts"

const minute = 60_000

/** Thresholds at the defaults, at zero, out of reach, and in unusual order (a silence shorter than a trip). */
const rules: ReadonlyArray<Rule> = [
  {
    motionThreshold: 0.5,
    minTripDistance: 500,
    minTripDuration: 5 * minute,
    minParking: 5 * minute,
    silence: 60 * minute,
    useIgnition: false
  },
  {
    motionThreshold: 0.5,
    minTripDistance: 500,
    minTripDuration: 5 * minute,
    minParking: 5 * minute,
    silence: 60 * minute,
    useIgnition: true
  },
  {
    motionThreshold: 0.5,
    minTripDistance: 750,
    minTripDuration: 90 * minute,
    minParking: 2 * minute,
    silence: 5 * minute,
    useIgnition: false
  },
  {
    motionThreshold: 0.5,
    minTripDistance: 1e9,
    minTripDuration: 10 * minute,
    minParking: 10 * minute,
    silence: 5 * minute,
    useIgnition: true
  },
  {
    motionThreshold: 0.5,
    minTripDistance: 0,
    minTripDuration: 0,
    minParking: 0,
    silence: 60 * minute,
    useIgnition: false
  },
  {
    motionThreshold: 0,
    minTripDistance: 1e9,
    minTripDuration: 60 * minute,
    minParking: 60 * minute,
    silence: 10 * minute,
    useIgnition: false
  }
]

const day = 86_400_000

const thresholds = (rule: Rule, reach = day) => ({
  reach: Duration.millis(reach),
  motionThreshold: MetresPerSecond.make(rule.motionThreshold),
  minTripDistance: Metres.make(rule.minTripDistance),
  minTripDuration: Duration.millis(rule.minTripDuration),
  minParking: Duration.millis(rule.minParking),
  silence: Duration.millis(rule.silence),
  useIgnition: rule.useIgnition
})

type ByVehicle = ReadonlyMap<string, ReadonlyArray<Interval>>

/** Stops and trips together, in the order of time, as the two reports tell them. */
const reported = Effect.fnUntraced(function* (rule: Rule, period = always, vehicle: string | null = null, reach = day) {
  const params = { vehicle, ...period, ...thresholds(rule, reach) }
  const stops = yield* stoppage.run(params)
  const moves = yield* trips.run(params)
  const found = new Map<string, Array<Interval>>()
  for (const [moving, rows] of [
    [false, stops],
    [true, moves]
  ] as const) {
    for (const row of rows) {
      const of = found.get(row.vehicle) ?? []
      found.set(row.vehicle, of)
      of.push({ moving, start: DateTime.toEpochMillis(row.start), end: DateTime.toEpochMillis(row.end) })
    }
  }
  for (const of of found.values()) of.sort((a, b) => a.start - b.start)
  return found as ByVehicle
})

/** All that a trip or a stop tells of itself and that can be joined. */
interface Tile extends Interval {
  readonly openStart: boolean
  readonly openEnd: boolean
  readonly distance: number
  readonly maxSpeed: number
  readonly engineOn: number | null
}

const tiles = Effect.fnUntraced(function* (rule: Rule, period = always) {
  const params = { vehicle: null, ...period, ...thresholds(rule) }
  const told = ({
    end,
    openEnd,
    openStart,
    start
  }: {
    readonly start: DateTime.Utc
    readonly end: DateTime.Utc
    readonly openStart: boolean
    readonly openEnd: boolean
  }) => ({
    start: DateTime.toEpochMillis(start),
    end: DateTime.toEpochMillis(end),
    openStart,
    openEnd
  })
  const found: Array<readonly [string, Tile]> = [
    ...(yield* stoppage.run(params)).map((row): readonly [string, Tile] => [
      row.vehicle,
      {
        moving: false,
        ...told(row),
        distance: 0,
        maxSpeed: 0,
        engineOn: row.engineOn === null ? null : Duration.toMillis(row.engineOn)
      }
    ]),
    ...(yield* trips.run(params)).map((row): readonly [string, Tile] => [
      row.vehicle,
      { moving: true, ...told(row), distance: row.distance, maxSpeed: row.maxSpeed, engineOn: null }
    ])
  ]
  const byVehicle = new Map<string, Array<Tile>>()
  for (const [vehicle, tile] of found) byVehicle.set(vehicle, [...(byVehicle.get(vehicle) ?? []), tile])
  for (const of of byVehicle.values()) of.sort((a, b) => a.start - b.start)
  return byVehicle
})

/** Two tiles become one where the first was cut at its end and the second at its start. */
const joined = (of: ReadonlyArray<Tile>): ReadonlyArray<Tile> => {
  const all: Array<Tile> = []
  for (const tile of of) {
    const previous = all.at(-1)
    if (previous?.moving === tile.moving && previous.openEnd && tile.openStart && previous.end === tile.start) {
      const engineOn =
        previous.engineOn === null && tile.engineOn === null ? null : (previous.engineOn ?? 0) + (tile.engineOn ?? 0)
      all.splice(-1, 1, {
        ...previous,
        end: tile.end,
        openEnd: tile.openEnd,
        distance: previous.distance + tile.distance,
        maxSpeed: Math.max(previous.maxSpeed, tile.maxSpeed),
        engineOn
      })
    } else all.push(tile)
  }
  return all.map((tile) => ({ ...tile, distance: Math.round(tile.distance * 1000) / 1000 }))
}

const show = (intervals: ReadonlyArray<Interval>): string =>
  intervals
    .map(({ end, moving, start }) => `${moving ? "trip" : "stop"} ${(start - origin) / 1000}-${(end - origin) / 1000}`)
    .join(", ")

const assertAsReference = (found: ByVehicle, of: ReadonlyArray<ReadonlyArray<Fix>>, rule: Rule): void => {
  for (const [index, fixes] of of.entries()) {
    assert.strictEqual(
      show(found.get(registration(index)) ?? []),
      show(trace(fixes, rule).intervals),
      `FLEET_SEED=${seed}, ${registration(index)}, ${JSON.stringify(rule)}`
    )
  }
}

postgres(fleet)("stops and trips", (it) => {
  it.effect("are what the state machine says, on random positions", () =>
    Effect.gen(function* () {
      const of = random(seed)
      for (let round = 0; round < 3; round++) {
        const made = vehicles(of, 300)
        yield* load(made)
        for (const rule of rules) assertAsReference(yield* reported(rule), made, rule)
      }
    })
  )

  it.effect("are what the state machine says when every position is an hour apart", () =>
    Effect.gen(function* () {
      // Chains of blocks that each depend on the one before: the recursion has to go all the way.
      const of = random(seed + 1)
      const made = Array.from({ length: 200 }, () => {
        let time = origin
        return Array.from({ length: 1 + of.int(40) }, (): Fix => {
          time += of.pick([3600, 3600, 3600, 60]) * 1000
          return { time, odometer: 0, speed: of.pick([5, 5, 5, 0]), ignition: null }
        })
      })
      yield* load(made)
      for (const rule of rules) assertAsReference(yield* reported(rule), made, rule)
    })
  )

  it.effect("tile the time from the first position to the last, without gap or overlap", () =>
    Effect.gen(function* () {
      const made = vehicles(random(seed + 2), 300)
      yield* load(made)
      for (const rule of rules) {
        const found = yield* reported(rule)
        for (const [index, fixes] of made.entries()) {
          const tiles = found.get(registration(index)) ?? []
          const message = `FLEET_SEED=${seed}, ${registration(index)}: ${show(tiles)}`
          if (fixes.length === 1) {
            assert.lengthOf(tiles, 0, message)
            continue
          }
          assert.strictEqual(tiles[0]?.start, fixes[0]!.time, message)
          assert.strictEqual(tiles.at(-1)?.end, fixes.at(-1)!.time, message)
          for (const [place, tile] of tiles.entries()) {
            assert.isBelow(tile.start, tile.end, message)
            if (place > 0) {
              assert.strictEqual(tile.start, tiles[place - 1]!.end, message)
              assert.notStrictEqual(tile.moving, tiles[place - 1]!.moving, message)
            }
          }
        }
      }
    })
  )

  it.effect("do not change with the order in which positions arrive, nor with repetitions", () =>
    Effect.gen(function* () {
      const of = random(seed + 3)
      const made = vehicles(of, 300)
      yield* load(made)
      const ordered = yield* reported(rules[0]!)
      yield* load(made.map((fixes) => of.shuffle([...fixes, ...fixes.filter(() => of.next() < 0.3)])))
      assert.deepStrictEqual(yield* reported(rules[0]!), ordered, `FLEET_SEED=${seed}`)
    })
  )

  it.effect("of one vehicle are those that it has among all", () =>
    Effect.gen(function* () {
      yield* load(vehicles(random(seed + 4), 50))
      const all = yield* reported(rules[0]!)
      for (const vehicle of ["V 0", "V 7", "V 49"]) {
        assert.deepStrictEqual((yield* reported(rules[0]!, always, vehicle)).get(vehicle), all.get(vehicle))
      }
    })
  )

  it.effect("of two halves joined are those of the whole, wherever the cut is", () =>
    Effect.gen(function* () {
      const of = random(seed + 5)
      const made = vehicles(of, 500)
      yield* load(made)
      for (const rule of rules) {
        const whole = yield* tiles(rule)
        for (let round = 0; round < 2; round++) {
          // Exactly at a position as well: it belongs to the second half.
          const at = round === 0 ? origin + 1000 * of.int(30_000) : of.pick(of.pick(made)).time
          const first = yield* tiles(rule, { from: always.from, to: instant(at) })
          const second = yield* tiles(rule, { from: instant(at), to: always.to })
          for (const index of made.keys()) {
            const name = registration(index)
            assert.deepStrictEqual(
              joined([...(first.get(name) ?? []), ...(second.get(name) ?? [])]),
              whole.get(name) ?? [],
              `FLEET_SEED=${seed}, cut at ${(at - origin) / 1000}, ${name}, ${JSON.stringify(rule)}`
            )
          }
        }
      }
    })
  )

  it.effect("of a simulated fleet's days joined are those of its days together", () =>
    Effect.gen(function* () {
      const simulation = { ...defaults, vehicles: 8, days: 3 }
      yield* drop
      yield* migrate
      yield* simulate(simulation, () => Effect.void)
      const at = (day: number) => instant(simulation.start.getTime() + day * 86_400_000)
      const whole = yield* tiles(rules[0]!, { from: at(0), to: at(3) })
      assert.strictEqual(whole.size, 8)
      // In the middle of a working day, and at midnight.
      for (const day of [0.4, 1, 1.55, 2]) {
        const first = yield* tiles(rules[0]!, { from: at(0), to: at(day) })
        const second = yield* tiles(rules[0]!, { from: at(day), to: at(3) })
        for (const [name, expected] of whole) {
          assert.deepStrictEqual(
            joined([...(first.get(name) ?? []), ...(second.get(name) ?? [])]),
            joined(expected),
            `${name} at ${day}`
          )
        }
      }
    })
  )

  it.effect("begin in the state that the positions within reach decide, and no others", () =>
    Effect.gen(function* () {
      const rule = rules[0]!
      const at = (minutes: number, speed: number): Fix => ({
        time: origin + minutes * minute,
        speed,
        odometer: 0,
        ignition: null
      })
      // A parking from 0 to 10; then bursts of two minutes that confirm nothing.
      yield* load([[at(0, 0), at(10, 0), at(12, 5), at(14, 0), at(16, 5), at(18, 5), at(20, 0)]])
      const from = instant(origin + 17 * minute)
      const told = (reach: number) =>
        Effect.map(reported(rule, { from, to: always.to }, null, minute * reach), (found) => show(found.get("V 0")!))
      assert.strictEqual(yield* told(60), "stop 960-1200")
      // From 13 on, and one position more: that is a moving one, and nothing says otherwise before 20.
      assert.strictEqual(yield* told(4), "trip 960-1200")
    })
  )

  it.effect("read each position once, of the months of the period alone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* load([[{ time: origin, speed: 0, odometer: 0, ignition: null }]])
      yield* sql`select fleet.ensure_partitions('2025-10-01Z', '2026-05-01Z')::text`
      yield* sql`
        insert into fleet.positions (vehicle_id, time, latitude_deg, longitude_deg, speed_mps, odometer_m)
        select 1, time, 50, 8, 0, 0 from generate_series('2025-10-02Z'::timestamptz, '2026-04-28Z', interval '1 hour') time
        on conflict do nothing`
      yield* sql`analyze fleet.positions`
      const params: MotionParams = {
        vehicle: null,
        from: DateTime.makeUnsafe("2026-02-10T00:00:00Z"),
        to: DateTime.makeUnsafe("2026-02-12T00:00:00Z"),
        ...thresholds(rules[0]!)
      }
      const [text, values] =
        sql`explain (analyze, format json) with recursive ${intervals(sql, params, { engine: false })} select * from intervals`.compile()
      const [row] = yield* sql.unsafe<{ "QUERY PLAN": ReadonlyArray<{ readonly Plan: PlanNode }> }>(
        text,
        values.map(asText)
      )
      const scans: Array<string> = []
      const probes: Array<string> = []
      const walk = (node: PlanNode, limited: boolean): void => {
        const relation = node["Relation Name"]
        if (relation?.startsWith("positions_") === true && node["Actual Loops"] > 0)
          (limited ? probes : scans).push(relation)
        for (const child of node.Plans ?? []) walk(child, limited || node["Node Type"] === "Limit")
      }
      walk(row!["QUERY PLAN"][0]!.Plan, false)
      assert.deepStrictEqual(scans, ["positions_2026_02"])
      // One position before and one after, from the nearest month that has it.
      assert.deepStrictEqual(probes, ["positions_2026_02", "positions_2026_02"])
    })
  )
})

interface PlanNode {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Actual Loops": number
  readonly Plans?: ReadonlyArray<PlanNode>
}

/** A parameter as a statement outside of a report binds it. */
const asText = (value: unknown): unknown =>
  Duration.isDuration(value)
    ? `${Duration.toMillis(value)} milliseconds`
    : DateTime.isDateTime(value)
      ? DateTime.toDateUtc(value)
      : value

/** From, to: a piece of the compiled SQL (blanks run together) and what becomes of it. */
interface Mutant {
  readonly name: string
  readonly of: string | RegExp
  readonly by: string
}

const mutants: ReadonlyArray<Mutant> = [
  {
    name: "the state before a silence is the motion of the last position (trap a)",
    of: "coalesce(later_moving, moving and (block = 1 or confirmed_late))",
    by: "tail_moving"
  },
  {
    name: "the position after every silence is dropped (trap b)",
    of: /when e\.cut_before then/g,
    by: "when true then"
  },
  { name: "no position after a silence is dropped", of: /when e\.cut_before then/g, by: "when false then" },
  { name: "a candidate does not survive a silence", of: "coalesce(e.carried_time, b.first_time)", by: "b.first_time" },
  {
    name: "the dependence of blocks on one another is cut short",
    of: "not e.cut_before and case when",
    by: "false and case when"
  },
  { name: "a silence is longer than its threshold", of: /(time - time_1) >= /, by: "$1 > " },
  {
    name: "a trip is longer than its threshold",
    of: /(last_time - first_time) >= (?=\$\d+::interval or)/,
    by: "$1 > "
  },
  {
    name: "a trip is farther than its threshold",
    of: "far_m - first_m >= ",
    by: "far_m - first_m > "
  },
  {
    name: "a parking is longer than its threshold",
    of: /(last_time > first_time and last_time - first_time) >= (?=\$\d+::interval\) or)/,
    by: "$1 > "
  },
  {
    name: "a single position confirms a trip",
    of: "when moving then last_time > first_time",
    by: "when moving then last_time >= first_time"
  },
  {
    name: "the first position of a run confirms by its ignition",
    of: "(not lag(opens_island) over life or lag(time) over life < time_1)",
    by: "true"
  },
  { name: "a change is dated at its confirmation", of: "moving, first_time as time", by: "moving, last_time as time" },
  {
    name: "a silence while moving ends no trip",
    of: "select vehicle_id, 2 * last_island + 1, false, last_time from blocks",
    by: "select vehicle_id, 2 * last_island + 1, false, last_time from blocks where false"
  },
  { name: "a repeated state is a change", of: ") changed where turned", by: ") changed" },
  { name: "at the threshold of motion is moving", of: "p.speed_mps > ", by: "p.speed_mps >= " }
]

postgres(fleet)("the comparison with the state machine", (it) => {
  it.effect.each(mutants)("notices when $name", ({ by, of }) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      // A fixed seed: whether a mutant is found is no matter of luck.
      const made = vehicles(random(20_260_105), 300)
      const present = yield* sql`select 1 from fleet.vehicles limit 1`
      if (present.length === 0) yield* load(made)
      let differs = false
      let changed = false
      for (const rule of rules) {
        const params: MotionParams = { vehicle: null, ...always, ...thresholds(rule) }
        const [text, values] = sql`
          with recursive ${intervals(sql, params, { engine: false })}
          select vehicle_id, moving, start_time, end_time from intervals order by vehicle_id, start_time`.compile()
        const original = text.replace(/--.*$/gm, "").replace(/\s+/g, " ")
        const mutated = original.replace(of, by)
        // What a rule does not ask for is not in its statement.
        if (mutated === original) continue
        changed = true
        const rows = yield* sql.unsafe<{ vehicle_id: number; moving: boolean; start_time: Date; end_time: Date }>(
          mutated,
          values.map(asText)
        )
        const found = new Map<number, Array<Interval>>()
        for (const row of rows) {
          const told = found.get(row.vehicle_id) ?? []
          found.set(row.vehicle_id, told)
          told.push({ moving: row.moving, start: row.start_time.getTime(), end: row.end_time.getTime() })
        }
        differs ||= made.some((fixes, index) => show(found.get(index + 1) ?? []) !== show(trace(fixes, rule).intervals))
        if (differs) break
      }
      assert.isTrue(changed, "the mutation finds nothing to change")
      assert.isTrue(differs, "the mutant gives the same intervals")
    })
  )
})
