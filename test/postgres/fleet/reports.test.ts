/** What the reports promise about sums, days, cuts, places and bad input. */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  distance,
  forKnownVehicle,
  idle,
  latest,
  overspeed,
  record,
  stoppage,
  stoppageSummary,
  trips
} from "../../../packages/examples/src/fleet/reports/index.ts"
import {
  Latitude,
  Longitude,
  Metres,
  MetresPerSecond,
  sumDurations
} from "../../../packages/examples/src/fleet/units.ts"
import { postgres } from "../../support/postgres.ts"
import { episodes, type Fix } from "../../unit/fleet/reference.ts"
import { always, fleet, instant, load, origin, random, registration, seed, vehicles } from "./support.ts"

const utc = (text: string): DateTime.Utc => DateTime.makeUnsafe(text)
const fix = (time: string | number, of: Partial<Fix> = {}): Fix => ({
  time: typeof time === "string" ? Date.parse(time) : time,
  speed: 0,
  odometer: 0,
  ignition: null,
  ...of
})

const total = (rows: ReadonlyArray<{ readonly vehicle: string; readonly distance: number }>) => {
  const sums = new Map<string, number>()
  for (const row of rows) sums.set(row.vehicle, (sums.get(row.vehicle) ?? 0) + row.distance)
  return sums
}

postgres(fleet)("distance", (it) => {
  it.effect("adds up to the rises of the odometer, whatever the reader's days", () =>
    Effect.gen(function* () {
      const made = vehicles(random(seed), 200)
      yield* load(made)
      for (const timeZone of ["UTC", "Asia/Kathmandu", "America/St_Johns"]) {
        const sums = total(yield* distance.run({ ...always, timeZone }))
        for (const [index, fixes] of made.entries()) {
          const expected = fixes
            .map((fix, at) => Math.max(0, fix.odometer - fixes[Math.max(0, at - 1)]!.odometer))
            .reduce((sum, rise) => sum + rise, 0)
          assert.approximately(sums.get(registration(index))!, expected, 1e-6, `FLEET_SEED=${seed}, ${index}`)
        }
      }
    })
  )

  it.effect("of two halves is that of the whole, wherever the cut is", () =>
    Effect.gen(function* () {
      const of = random(seed + 1)
      const made = vehicles(of, 200)
      yield* load(made)
      const timeZone = "Europe/Berlin"
      const whole = total(yield* distance.run({ ...always, timeZone }))
      for (let round = 0; round < 5; round++) {
        const cut = instant(origin + 1000 * of.int(30_000))
        const first = total(yield* distance.run({ from: always.from, to: cut, timeZone }))
        const second = total(yield* distance.run({ from: cut, to: always.to, timeZone }))
        for (const [vehicle, length] of whole) {
          const joined = (first.get(vehicle) ?? 0) + (second.get(vehicle) ?? 0)
          assert.approximately(joined, length, 1e-6, `FLEET_SEED=${seed}, ${vehicle}`)
        }
      }
    })
  )

  it.effect("is cut into the reader's days, also on the day that has 23 hours", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`select fleet.ensure_partitions('2026-03-01Z', '2026-04-01Z')::text`
      // Berlin's clocks go forward on 29 March: that day is 23:00Z to 22:00Z.
      yield* load([
        [
          fix("2026-03-28T22:59:59Z", { odometer: 10.4 }),
          fix("2026-03-28T23:00:00Z", { odometer: 20.8 }),
          fix("2026-03-29T21:59:59Z", { odometer: 31.2 }),
          fix("2026-03-29T22:00:00Z", { odometer: 41.6 })
        ]
      ])
      const rows = yield* distance.run({
        from: utc("2026-03-01T00:00:00Z"),
        to: utc("2026-04-01T00:00:00Z"),
        timeZone: "Europe/Berlin"
      })
      assert.deepStrictEqual(
        rows.map((row) => [row.day, row.timeZone, Number(row.distance.toFixed(6)), row.positions]),
        [
          ["2026-03-28", "Europe/Berlin", 0, 1],
          ["2026-03-29", "Europe/Berlin", 20.8, 2],
          ["2026-03-30", "Europe/Berlin", 10.4, 1]
        ]
      )
    })
  )

  it.effect("counts nothing for an odometer that falls, in every report that tells a distance", () =>
    Effect.gen(function* () {
      const odometers = [1000, 1500, 2000, 2600, 50, 650, 650]
      yield* load([
        [...odometers, 650].map((odometer, minute) =>
          fix(origin + (minute < 7 ? minute : 20) * 60_000, { odometer, speed: minute > 0 && minute < 6 ? 10 : 0 })
        )
      ])
      const [day] = yield* distance.run({ ...always, timeZone: "UTC" })
      assert.deepStrictEqual([day?.distance, day?.odometer], [2200, 650])
      const [trip] = yield* trips.run(always)
      assert.deepStrictEqual([trip?.distance, trip?.startOdometer, trip?.endOdometer], [1700, 1500, 650])
      const [fast] = yield* overspeed.run({ ...always, limit: MetresPerSecond.make(5) })
      assert.strictEqual(fast?.distance, 1700)
    })
  )
})

postgres(fleet)("what a vehicle reports of itself", (it) => {
  const at = (time: string, latitude: number, odometer: number, vehicle = "V 0") =>
    record.run({
      vehicle,
      time: utc(time),
      latitude: Latitude.make(latitude),
      longitude: Longitude.make(8),
      speed: MetresPerSecond.make(10),
      odometer: Metres.make(odometer)
    })

  it.effect("is recorded in a month that nobody foresaw, also by several at once", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* load([[], [], []])
      const months = sql`select 1 from pg_class where relname in ('positions_2031_07', 'positions_2031_08')`
      assert.lengthOf(yield* at("2031-07-01T00:00:00Z", 50, 1, "nobody"), 0)
      assert.lengthOf(yield* months, 0)
      const told = yield* Effect.all(
        ["V 0", "V 1", "V 2"].flatMap((vehicle) => [
          at("2031-07-31T23:59:59Z", 50, 1, vehicle),
          at("2031-08-01T00:00:00Z", 50, 2, vehicle)
        ]),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        told.map((rows) => rows.length),
        [1, 1, 1, 1, 1, 1]
      )
      assert.lengthOf(yield* months, 2)
    })
  )

  it.effect("goes along the path where the vehicle has no odometer of its own, in whatever order it comes", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* load([[]])
      yield* sql`update fleet.vehicles set odometer = 'positions'`
      const stored = sql`select round(odometer_m)::float8 as m from fleet.positions order by time`.pipe(
        Effect.map((rows) => rows.map((row) => row["m"]))
      )
      const calls = [0, 1, 2, 3].map((step) => () => at(`2026-01-05T08:0${step}:00Z`, 50 + step / 10, 123_456_000))
      for (const step of [2, 0, 3, 1]) yield* calls[step]!()
      assert.deepStrictEqual(yield* stored, [0, 11120, 22239, 33359])
      // Repeated, it is the same; corrected, the later ones move.
      yield* calls[1]!()
      assert.deepStrictEqual(yield* stored, [0, 11120, 22239, 33359])
      yield* at("2026-01-05T08:01:00Z", 50.3, 0)
      assert.deepStrictEqual(yield* stored, [0, 33359, 44478, 55598])
    })
  )
})

postgres(fleet)("overspeed and idling", (it) => {
  const maxGap = 600_000

  it.effect("are the runs of positions for which they hold, on random positions", () =>
    Effect.gen(function* () {
      const made = vehicles(random(seed + 2), 300)
      yield* load(made)
      const gap = Duration.millis(maxGap)
      const fast = yield* overspeed.run({ ...always, limit: MetresPerSecond.make(0.6), maxGap: gap })
      const still = yield* idle.run({ ...always, maxGap: gap, minDuration: Duration.zero })
      const held = [
        [fast, (of: Fix) => of.speed > 0.6],
        [still, (of: Fix) => of.ignition === true && of.speed <= 0.5]
      ] as const
      for (const [rows, holds] of held) {
        for (const [index, fixes] of made.entries()) {
          const told = rows
            .filter((row) => row.vehicle === registration(index))
            .map((row) => ({ start: DateTime.toEpochMillis(row.start), end: DateTime.toEpochMillis(row.end) }))
            .reverse()
          assert.deepStrictEqual(told, episodes(fixes, holds, maxGap), `FLEET_SEED=${seed}, ${registration(index)}`)
        }
      }
    })
  )

  it.effect("of two halves are those of the whole, where nothing holds at the last position before the cut", () =>
    Effect.gen(function* () {
      const of = random(seed + 3)
      const at = origin + 10 * 86_400_000
      const limit = MetresPerSecond.make(0.6)
      const made = vehicles(of, 400).flatMap((fixes) => {
        const quiet = fixes.filter((_, index) => index > 0 && fixes[index - 1]!.speed <= limit)
        if (quiet.length === 0) return []
        const shift = at - of.pick(quiet).time
        return [fixes.map((one) => ({ ...one, time: one.time + shift }))]
      })
      yield* load(made)
      const told = (period: typeof always) =>
        Effect.map(overspeed.run({ ...period, limit }), (rows) =>
          rows.map((row) => `${row.vehicle} ${DateTime.formatIso(row.start)} ${DateTime.formatIso(row.end)}`)
        )
      const first = yield* told({ from: always.from, to: instant(at) })
      const second = yield* told({ from: instant(at), to: always.to })
      assert.deepStrictEqual([...first, ...second].sort(), [...(yield* told(always))].sort(), `FLEET_SEED=${seed}`)
    })
  )

  it.effect("leave out what is shorter than asked for, and say what the period cut off", () =>
    Effect.gen(function* () {
      const fast = (minute: number, speed: number): Fix =>
        fix(origin + minute * 60_000, { speed, odometer: minute * 100 })
      yield* load([[fast(0, 30), fast(1, 10), fast(2, 30), fast(3, 31), fast(4, 10), fast(5, 30)]])
      const rows = yield* overspeed.run({ ...always, minDuration: Duration.minutes(1) })
      assert.deepStrictEqual(
        rows.map((row) => [row.openStart, row.openEnd, Duration.toMinutes(row.duration), row.maxSpeed, row.distance]),
        [
          [false, false, 2, 31, 200],
          [true, false, 1, 30, 100]
        ]
      )
      assert.lengthOf(yield* overspeed.run(always), 3)
    })
  )
})

postgres(fleet)("stoppage", (it) => {
  const minutes = (of: number, speed: number, ignition: boolean | null = null): Fix =>
    fix(origin + of * 60_000, { speed, ignition })

  it.effect("tells the newest first, with class, zone, engine time and what the period cut off", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* load([
        [
          minutes(0, 0, true),
          minutes(4, 0, false),
          minutes(10, 9),
          minutes(16, 9),
          minutes(20, 0, true),
          minutes(51, 0, false)
        ]
      ])
      yield* sql`
        insert into fleet.zones (id, name, kind, region, latitude_deg, longitude_deg, radius_m)
        values (1, 'around', 'plant', 'West', 50.001, 8, 500), (2, 'yard', 'plant', 'West', 50.0001, 8, 50)`
      const rows = yield* stoppage.run(always)
      assert.deepStrictEqual(
        rows.map((row) => [
          Duration.toMinutes(row.duration),
          row.class,
          row.zone,
          row.engineOn === null ? null : Duration.toMinutes(row.engineOn),
          row.openStart,
          row.openEnd
        ]),
        [
          [31, "long", "yard", 31, false, true],
          [10, "short", "yard", 4, true, false]
        ]
      )
      const [moved] = yield* stoppage.run({ ...always, veryLong: Duration.minutes(20) })
      assert.strictEqual(moved?.class, "very-long")
    })
  )

  it.effect("does not make up engine time where nothing tells of the ignition", () =>
    Effect.gen(function* () {
      yield* load([[minutes(0, 0), minutes(9, 0)]])
      const [row] = yield* stoppage.run(always)
      assert.strictEqual(row?.engineOn, null)
    })
  )

  it.effect("takes a period as half open", () =>
    Effect.gen(function* () {
      yield* load([[minutes(0, 0), minutes(6, 0), minutes(12, 0)]])
      const [row] = yield* stoppage.run({ from: instant(origin), to: instant(origin + 12 * 60_000) })
      assert.strictEqual(DateTime.toEpochMillis(row!.end), origin + 6 * 60_000)
    })
  )

  it.effect("by place counts and sums what it tells one by one", () =>
    Effect.gen(function* () {
      yield* load(vehicles(random(seed + 4), 100))
      const stops = yield* stoppage.run(always)
      const [row, ...others] = yield* stoppageSummary.run({ ...always, by: "depot" })
      assert.lengthOf(others, 0)
      assert.strictEqual(row!.place, null)
      assert.strictEqual(row!.stops, stops.length)
      assert.strictEqual(row!.vehicles, new Set(stops.map((stop) => stop.vehicle)).size)
      assert.strictEqual(row!.veryLong, stops.filter((stop) => stop.class === "very-long").length)
      assert.strictEqual(row!.long, stops.filter((stop) => stop.class === "long").length)
      const expected = Duration.toMillis(sumDurations(stops.map((stop) => stop.duration)))
      assert.strictEqual(Duration.toMillis(row!.total), expected)
      assert.approximately(Duration.toMillis(row!.average), expected / stops.length, 1)
    })
  )
})

postgres(fleet)("the latest position", (it) => {
  it.effect("is the last in time, and a vehicle without one is there, too", () =>
    Effect.gen(function* () {
      const at = (second: number, of: Partial<Fix>): Fix => fix(origin + 1000 * second, of)
      yield* load([
        [at(9, { speed: 7, odometer: 5 }), at(1, {})],
        [at(1, { ignition: true })],
        [at(1, { ignition: false })],
        [at(1, {})],
        []
      ])
      const rows = yield* latest.run({})
      assert.deepStrictEqual(
        rows.map((row) => `${row.vehicle} ${row.state} ${row.odometer}`),
        ["V 0 moving 5", "V 1 idle 0", "V 2 parked 0", "V 3 unknown 0", "V 4 unseen null"]
      )
    })
  )
})

postgres(fleet)("bad input", (it) => {
  const refused = <A, E extends { readonly _tag: string; readonly message: string }, R>(run: Effect.Effect<A, E, R>) =>
    Effect.map(Effect.flip(run), (error) => `${error._tag}: ${error.message}`)

  it.effect("is a typed error that names the field", () =>
    Effect.gen(function* () {
      yield* load([[]])
      const backwards = { from: always.to, to: always.from }
      const empty = { from: always.from, to: always.from }
      assert.deepStrictEqual(
        yield* Effect.all([
          refused(forKnownVehicle(stoppage, { ...always, vehicle: "V 1" })),
          refused(stoppage.run(backwards)),
          refused(trips.run(empty)),
          refused(distance.run({ ...always, timeZone: "+01:00" })),
          refused(overspeed.run({ ...always, limit: MetresPerSecond.make(-1) })),
          refused(trips.run({ ...always, minTripDistance: Metres.make(-0.1), silence: Duration.seconds(-1) })),
          refused(idle.run({ ...always, minDuration: Duration.infinity })),
          refused(latest.run({ vehicle: "" }))
        ]),
        [
          'UnknownVehicle: stoppage: vehicle: no vehicle has the registration "V 1"',
          "InvalidParameters: stoppage: to: must be later than from",
          "InvalidParameters: trips: to: must be later than from",
          "InvalidParameters: distance: timeZone: is not the name of a time zone, such as Europe/Berlin",
          "InvalidParameters: overspeed: limit: must not be below zero",
          "InvalidParameters: trips: minTripDistance: must not be below zero; silence: must not be below zero",
          "InvalidParameters: idle: minDuration: must be finite",
          "InvalidParameters: latest-position: vehicle: Expected a value with a length of at least 1"
        ]
      )
    })
  )

  it.effect("is told from a vehicle that is known and did nothing", () =>
    Effect.gen(function* () {
      yield* load([[]])
      assert.deepStrictEqual(yield* forKnownVehicle(stoppage, { ...always, vehicle: "V 0" }), [])
    })
  )
})
