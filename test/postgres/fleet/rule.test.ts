/**
 * Stops and trips against the state machine that they are defined by, on random positions, with mutants of the SQL that
 * the same positions must tell apart.
 */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { intervals, type MotionParams } from "../../../packages/examples/src/fleet/motion.ts"
import { stoppage, trips } from "../../../packages/examples/src/fleet/reports/index.ts"
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

const thresholds = (rule: Rule) => ({
  motionThreshold: MetresPerSecond.make(rule.motionThreshold),
  minTripDistance: Metres.make(rule.minTripDistance),
  minTripDuration: Duration.millis(rule.minTripDuration),
  minParking: Duration.millis(rule.minParking),
  silence: Duration.millis(rule.silence),
  useIgnition: rule.useIgnition
})

type ByVehicle = ReadonlyMap<string, ReadonlyArray<Interval>>

/** Stops and trips together, in the order of time, as the two reports tell them. */
const reported = Effect.fnUntraced(function* (rule: Rule, period = always, vehicle: string | null = null) {
  const params = { vehicle, ...period, ...thresholds(rule) }
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

  /*
   * Nothing before a period is consulted, so a cut forgets the state. Nothing is lost where there is nothing to forget: at a
   * position with the motion of the confirmed state, before and after which no change waits for its confirmation.
   */
  it.effect("of two halves joined are those of the whole, where the cut is at a settled position", () =>
    Effect.gen(function* () {
      const rule = rules[0]!
      const of = random(seed + 5)
      const at = origin + 10 * 86_400_000
      const made = vehicles(of, 1200).flatMap((fixes) => {
        const { states } = trace(fixes, rule)
        const settled = fixes.flatMap((fix, index) => {
          const [before, after] = [states[index - 1], states[index]]
          const moving = fix.speed > rule.motionThreshold
          const quiet = [before, after].every(
            (state) => state !== undefined && state.candidate === undefined && state.confirmed === moving
          )
          return quiet ? [fix.time] : []
        })
        if (settled.length === 0) return []
        // One cut for all: each vehicle's clock is moved so that a settled position of its own lies there.
        const shift = at - of.pick(settled)
        return [fixes.map((fix) => ({ ...fix, time: fix.time + shift }))]
      })
      assert.isAbove(made.length, 200)
      yield* load(made)
      const whole = yield* reported(rule)
      const first = yield* reported(rule, { from: always.from, to: instant(at) })
      const second = yield* reported(rule, { from: instant(at), to: always.to })
      for (const [index, fixes] of made.entries()) {
        const name = registration(index)
        // The leg across the cut is in neither half: it belongs to the state that both of its ends are in.
        const earliest = fixes[0]!
        const halves = [...(first.get(name) ?? [])]
        const last = halves.pop() ?? { moving: earliest.speed > rule.motionThreshold, start: earliest.time }
        halves.push({ ...last, end: at }, ...(second.get(name) ?? []))
        const joined: Array<Interval> = []
        for (const tile of halves) {
          const previous = joined.at(-1)
          if (previous?.moving === tile.moving) joined.splice(-1, 1, { ...previous, end: tile.end })
          else joined.push(tile)
        }
        assert.strictEqual(show(joined), show(whole.get(name) ?? []), `FLEET_SEED=${seed}, ${name}`)
      }
    })
  )

  it.effect("of two halves may differ from the whole where a change waits for its confirmation", () =>
    Effect.gen(function* () {
      const rule = rules[0]!
      const at = (minutes: number, speed: number): Fix => ({
        time: origin + minutes * minute,
        speed,
        odometer: 0,
        ignition: null
      })
      // The trip of the whole begins at 2 and is confirmed at 8; neither half sees both.
      yield* load([[at(0, 0), at(1, 0), at(2, 5), at(4, 5), at(8, 5), at(9, 5)]])
      const whole = yield* reported(rule)
      assert.strictEqual(show(whole.get("V 0")!), "stop 0-120, trip 120-540")
      const cut = instant(origin + 4 * minute)
      assert.strictEqual(show((yield* reported(rule, { from: always.from, to: cut })).get("V 0")!), "stop 0-120")
      assert.strictEqual(show((yield* reported(rule, { from: cut, to: always.to })).get("V 0")!), "trip 240-540")
    })
  )
})

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
  { name: "a silence is longer than its threshold", of: /(time - lag\(time\) over life) >= /, by: "$1 > " },
  {
    name: "a trip is longer than its threshold",
    of: /(last_time - first_time) >= (?=\$\d+::interval or)/,
    by: "$1 > "
  },
  {
    name: "a trip is farther than its threshold",
    of: "far_after_first_m - first_m >= ",
    by: "far_after_first_m - first_m > "
  },
  {
    name: "a parking is longer than its threshold",
    of: /(size > 1 and last_time - first_time) >= (?=\$\d+::interval\) or)/,
    by: "$1 > "
  },
  { name: "a single position confirms a trip", of: /when moving then size > 1/, by: "when moving then size > 0" },
  {
    name: "the first position of a run confirms by its ignition",
    of: "filter (where not opens_island), false)",
    by: ", false)"
  },
  { name: "a change is dated at its confirmation", of: "moving, first_time as time", by: "moving, last_time as time" },
  {
    name: "a silence while moving ends no trip",
    of: "select vehicle_id, 2 * last_island + 1, false, last_time from blocks",
    by: "select vehicle_id, 2 * last_island + 1, false, last_time from blocks where false"
  },
  { name: "a repeated state is a change", of: "where t.turned", by: "where true" },
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
      for (const rule of rules) {
        const params: MotionParams = { vehicle: null, ...always, ...thresholds(rule) }
        const [text, values] = sql`
          with recursive ${intervals(sql, params)}
          select vehicle_id, moving, start_time, end_time from intervals order by vehicle_id, start_time`.compile()
        const original = text.replace(/--.*$/gm, "").replace(/\s+/g, " ")
        const mutated = original.replace(of, by)
        assert.notStrictEqual(mutated, original, "the mutation finds nothing to change")
        const rows = yield* sql.unsafe<{ vehicle_id: number; moving: boolean; start_time: Date; end_time: Date }>(
          mutated,
          values.map((value) =>
            Duration.isDuration(value)
              ? `${Duration.toMillis(value)} milliseconds`
              : DateTime.isDateTime(value)
                ? DateTime.toDateUtc(value)
                : value
          )
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
      assert.isTrue(differs, "the mutant gives the same intervals")
    })
  )
})
