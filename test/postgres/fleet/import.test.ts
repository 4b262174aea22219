/** CSV in: all good lines or none, every rejected line with its number and reason, and nothing twice. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { gzipSync } from "node:zlib"
import { importPositions, type ImportOptions, tell } from "../../../packages/examples/src/import/importPositions.ts"
import { postgres } from "../../support/postgres.ts"
import { fleet } from "./support.ts"

const header = "vehicle_id,timestamp,speed,route_id,latitude,longitude"

const damaged = (bytes: Buffer): Buffer => {
  bytes.fill(0xff, bytes.length >> 1, (bytes.length >> 1) + 64)
  return bytes
}

/** A file of these lines, gone with the scope. */
const file = (content: string | Buffer): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-import-"))
      fs.writeFileSync(path.join(directory, "positions.csv"), content)
      return path.join(directory, "positions.csv")
    }),
    (name) => Effect.sync(() => fs.rmSync(path.dirname(name), { recursive: true }))
  )

const take = Effect.fnUntraced(function* (
  lines: ReadonlyArray<string>,
  options: ImportOptions = { createVehicles: true }
) {
  return yield* importPositions(yield* file([header, ...lines].join("\n")), options)
}, Effect.scoped)

const empty = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`truncate fleet.positions, fleet.vehicles`
})

const stored = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{
    readonly registration: string
    readonly at: string
    readonly speed: number
    readonly odometer: number
  }>`
    select v.registration, to_char(p.time at time zone 'UTC', 'HH24:MI:SS') as at, p.speed_mps as speed, round(p.odometer_m)::float8 as odometer
    from fleet.positions p join fleet.vehicles v on v.id = p.vehicle_id
    order by v.registration, p.time`
})

const line = (
  vehicle: string,
  at: string,
  speed: number | string = 5,
  latitude: number | string = 30,
  longitude: number | string = -97
) => `${vehicle},2016-01-17T${at},${speed},1,${latitude},${longitude}`

postgres(fleet)("the import", (it) => {
  it.effect("takes the good lines and lists the others with number, field and reason", () =>
    Effect.gen(function* () {
      yield* empty
      const summary = yield* take([
        line("A", "14:00:00-06:00"),
        "",
        "A,2016-02-30T14:00:00Z,5,1,30,-97",
        line("A", "14:00:00"),
        line("A", "14:01:00Z", ""),
        line("A", "14:01:00Z", "0x10"),
        line("A", "14:01:00Z", -1),
        line("A", "14:01:00Z", 101),
        line("A", "14:01:00Z", 5, 90.5),
        line("A", "14:01:00Z", 5, 30, 181),
        line("A", "14:01:00Z", 5, 0, 0),
        "A,2016-01-17T14:01:00Z,5",
        line("", "14:01:00Z"),
        "A,2999-01-17T14:01:00Z,5,1,30,-97",
        "A,1970-01-17T14:01:00Z,5,1,30,-97",
        line("A", "14:00:30-06:00")
      ])
      assert.deepStrictEqual(
        summary.rejectedLines.map((rejected) => `${rejected.line} ${tell(rejected)}`),
        [
          '4 timestamp is not a time with an offset, such as 2016-01-17T14:05:58-06:00: "2016-02-30T14:00:00Z"',
          '5 timestamp is not a time with an offset, such as 2016-01-17T14:05:58-06:00: "2016-01-17T14:00:00"',
          "6 speed is not a number",
          '7 speed is not a number: "0x10"',
          '8 speed is not from 0 to 100 m/s: "-1"',
          '9 speed is not from 0 to 100 m/s: "101"',
          '10 latitude is not from -90 to 90 degrees: "90.5"',
          '11 longitude is not from -180 to 180 degrees: "181"',
          '12 latitude 0, 0 is no position: "0"',
          '13 line has 3 columns instead of 6: "A,2016-01-17T14:01:00Z,5"',
          "14 vehicle_id is not a registration",
          '15 timestamp is in the future: "2999-01-17T14:01:00Z"',
          '16 timestamp is before 1990: "1970-01-17T14:01:00Z"'
        ]
      )
      assert.deepInclude(summary, { lines: 15, imported: 2, rejected: 13, vehicles: 1, vehiclesCreated: 1 })
      assert.strictEqual(
        summary.reasons.reduce((sum, reason) => sum + reason.lines, 0),
        13
      )
      assert.deepStrictEqual(
        (yield* stored).map((row) => row.at),
        ["20:00:00", "20:00:30"]
      )
    })
  )

  it.effect("accounts for every line, and a file twice is a file once", () =>
    Effect.gen(function* () {
      yield* empty
      const lines = [
        line("A", "14:00:00Z"),
        line("A", "14:02:00Z"),
        line("A", "14:01:00Z"),
        line("A", "14:02:00Z"),
        line("A", "14:02:00Z", 6),
        line("B", "14:02:00Z"),
        line("B", "never")
      ]
      const counts = { lines: 7, repeated: 1, contradicting: 1, rejected: 1 }
      const first = yield* take(lines)
      assert.deepInclude(first, {
        ...counts,
        imported: 4,
        alreadyThere: 0,
        outOfOrder: 1,
        vehicles: 2,
        vehiclesCreated: 2
      })
      const before = yield* stored
      const second = yield* take(lines)
      assert.deepInclude(second, {
        ...counts,
        imported: 0,
        alreadyThere: 4,
        outOfOrder: 0,
        vehicles: 0,
        vehiclesCreated: 0
      })
      assert.deepStrictEqual(yield* stored, before)
    })
  )

  it.effect("rejects unknown vehicles unless told to add them, and those that report their own odometer", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* empty
      yield* sql`insert into fleet.vehicles (registration, odometer) values ('OWN', 'device'), ('OURS', 'positions')`
      const lines = [line("OWN", "14:00:00Z"), line("NEW", "14:00:00Z"), line("OURS", "14:00:00Z")]
      const summary = yield* take(lines, {})
      assert.deepStrictEqual(summary.rejectedLines, [
        {
          line: 2,
          field: "vehicle_id",
          reason: "belongs to a vehicle that reports its odometer, which the file lacks",
          value: "OWN"
        },
        { line: 3, field: "vehicle_id", reason: "is unknown", value: "NEW" }
      ])
      assert.deepStrictEqual(
        (yield* stored).map((row) => row.registration),
        ["OURS"]
      )
      assert.deepInclude(yield* take(lines), { imported: 1, alreadyThere: 1, rejected: 1, vehiclesCreated: 1 })
    })
  )

  it.effect("converts the speed from the unit that is said", () =>
    Effect.gen(function* () {
      yield* empty
      yield* take([line("A", "14:00:00Z", 36)], { createVehicles: true, speedUnit: "km/h" })
      yield* take([line("B", "14:00:00Z", 10)], { createVehicles: true, speedUnit: "mph" })
      const [a, b] = yield* stored
      assert.approximately(a!.speed, 10, 1e-9)
      assert.approximately(b!.speed, 4.4704, 1e-9)
    })
  )

  it.effect("gives the same odometer in whatever order and parts the positions come", () =>
    Effect.gen(function* () {
      // A tenth of a degree of latitude is 11.1 km.
      const lines = [0, 1, 2, 3, 4, 5].map((step) => line("A", `14:0${step}:00Z`, 5, (30 + step / 10).toFixed(1)))
      yield* empty
      yield* take(lines)
      const whole = yield* stored
      assert.deepStrictEqual(
        whole.map((row) => row.odometer),
        [0, 11120, 22239, 33359, 44478, 55598]
      )
      yield* empty
      yield* take([lines[4]!, lines[1]!])
      yield* take([lines[5]!, lines[2]!])
      yield* take([lines[3]!, lines[0]!])
      assert.deepStrictEqual(yield* stored, whole)
    })
  )

  it.effect("refuses a file that is not one, names what is wrong, and imports nothing of it", () =>
    Effect.gen(function* () {
      yield* empty
      const good = Array.from({ length: 5000 }, (_, n) => line("A", `14:00:00.${String(n).padStart(4, "0")}Z`))
      const refusals: ReadonlyArray<readonly [string | Buffer, string]> = [
        ["", "file: is empty"],
        ["\n\n", "file: is empty"],
        [
          "vehicle_id,time,speed\n1,2,3",
          "timestamp, latitude, longitude: no such column; the first line has vehicle_id, time, speed"
        ],
        [`${header},speed\n`, "speed: the column is there twice"],
        [Buffer.from("PK\u0003\u0004\u0000\u0000\u0008\u0000", "latin1"), "file: is not text in UTF-8"],
        [Buffer.from(`${header}\n${good[0]}`, "utf16le"), "file: is not text in UTF-8"],
        ["x".repeat(100_000), "file: is not lines of text"],
        [`"${header}\n${good[0]}`, "line 1: has a quote that is opened and never closed"],
        [gzipSync([header, ...good].join("\n")).subarray(0, -20), "file: is a gzip file that ends too early"],
        [damaged(gzipSync([header, ...good].join("\n"))), "file: is a damaged gzip file"]
      ]
      for (const [content, problem] of refusals) {
        const name = yield* file(content)
        const error = yield* Effect.flip(importPositions(name, { createVehicles: true }))
        assert.strictEqual(`${error._tag} ${error.message}`, `NotAPositionsFile ${name}: ${problem}`)
        assert.lengthOf(yield* stored, 0, problem)
      }
      const missing = yield* Effect.flip(importPositions(path.join(os.tmpdir(), "sluice-no-such-file.csv")))
      assert.match(missing.message, /: file: does not exist$/)
      const directory = yield* Effect.flip(importPositions(os.tmpdir()))
      assert.match(directory.message, /: file: is a directory$/)
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`select 1 from fleet.vehicles`, 0)
    })
  )

  it.effect("imports nothing when strict and a line is rejected", () =>
    Effect.gen(function* () {
      yield* empty
      const error = yield* Effect.flip(
        take([line("A", "14:00:00Z"), line("A", "14:00:00Z", "fast")], { createVehicles: true, strict: true })
      )
      assert.strictEqual(error._tag, "LinesRejected")
      assert.match(error.message, /: 1 line is rejected, line 3: speed is not a number: "fast"$/)
      assert.lengthOf(yield* stored, 0)
    })
  )

  it.effect("reads a byte order mark, CRLF, quotes, and columns in any order", () =>
    Effect.gen(function* () {
      yield* empty
      const name = yield* file(
        `\ufeffLongitude,latitude,"speed",vehicle_id,timestamp\r\n-97,30,5,"A, B"," 2016"\r\n-97,30,5,"A B",2016-01-17 14:00:00+0000\r\n`
      )
      const summary = yield* importPositions(name, { createVehicles: true })
      assert.deepInclude(summary, { lines: 2, imported: 1, rejected: 1 })
      assert.deepStrictEqual(
        (yield* stored).map((row) => row.registration),
        ["A B"]
      )
    })
  )

  it.effect("rejects a line by its number, whatever is wrong with it, and takes all others", () =>
    Effect.gen(function* () {
      yield* empty
      const summary = yield* take([
        line("A", "14:00:00Z"),
        `"A,2016-01-17T14:01:00Z,5,1,30,-97`,
        line("A", "14:02:00Z"),
        `A,"2016-01-17T14:03:00Z"x,5,1,30,-97`,
        `A,2016-01-17T14:04:00Z,5"5,1,30,-97`,
        line("A\0", "14:05:00Z"),
        line("A".repeat(70_000), "14:06:00Z"),
        line("A\u001b[2J", "14:07:00Z"),
        line("A", "14:08:00Z")
      ])
      assert.deepStrictEqual(
        summary.rejectedLines.map(({ field, line, reason }) => `${line} ${field} ${reason}`),
        [
          "3 line has a quote that is opened and never closed",
          "5 line has text after a closing quote",
          "6 line has a quote in the middle of a field",
          "7 line holds a NUL character",
          "8 line is longer than 64 KiB",
          "9 vehicle_id is not a registration"
        ]
      )
      assert.deepStrictEqual(
        (yield* stored).map((row) => row.at),
        ["14:00:00", "14:02:00", "14:08:00"]
      )
      // A value is shown, but moves no cursor, and a long one is cut.
      assert.strictEqual(summary.rejectedLines[5]!.value, "A\u00b7[2J")
      for (const { value } of summary.rejectedLines) assert.isAtMost(value.length, 40)
    })
  )

  it.effect("reads every line, whichever way each of them ends", () =>
    Effect.gen(function* () {
      for (const ends of [["\r\n", "\n"], ["\n", "\r\n"], ["\r", "\n", "\r\n"], ["\r"], ["\n\n", "\r\n\r\n"]]) {
        yield* empty
        // Longer than a chunk of the file, so that a line ending lies across two of them.
        const times = Array.from({ length: 9000 }, (_, second) =>
          new Date(Date.UTC(2016, 0, 17) + second * 1000).toISOString().slice(11)
        )
        const content = [header, ...times.map((at) => line("A", at))].map(
          (text, index) => text + ends[index % ends.length]
        )
        const name = yield* file(content.join(""))
        const summary = yield* importPositions(name, { createVehicles: true })
        assert.deepInclude(summary, { lines: 9000, imported: 9000, rejected: 0 }, JSON.stringify(ends))
      }
    })
  )

  it.effect("reads a gzip file, whatever its name", () =>
    Effect.gen(function* () {
      yield* empty
      const content = [header, line("A", "14:00:00Z"), line("A", "14:01:00Z")].join("\n")
      // Two members after one another are one file, as gzip has it.
      const [first, second] = [content.slice(0, 70), content.slice(70)]
      const name = yield* file(Buffer.concat([gzipSync(first), gzipSync(second)]))
      assert.deepInclude(yield* importPositions(name, { createVehicles: true }), { lines: 2, imported: 2 })
    })
  )

  it.effect("takes an offset of hours alone, as PostgreSQL writes it", () =>
    Effect.gen(function* () {
      yield* empty
      const times = ["14:00:00+00", "14:00:01+0000", "15:00:02+01", "08:30:03-05:30", "14:00:04z"]
      assert.deepInclude(yield* take(times.map((at) => line("A", at))), { imported: 5, rejected: 0 })
      assert.deepStrictEqual(
        (yield* stored).map((row) => row.at),
        ["14:00:00", "14:00:01", "14:00:02", "14:00:03", "14:00:04"]
      )
    })
  )

  it.effect("tells of a corrected line, and takes it when told to", () =>
    Effect.gen(function* () {
      yield* empty
      const at = (minute: number, latitude: number, speed = 5) => line("A", `14:0${minute}:00Z`, speed, latitude)
      const first = [at(0, 30), at(1, 30.1), at(2, 30.2), at(3, 30.3)]
      const corrected = [at(1, 30.15), at(2, 30.2), at(3, 30.3, 6)]
      yield* take(first)
      const before = yield* stored
      assert.deepInclude(yield* take(corrected), { imported: 0, alreadyThere: 1, differing: 2, corrected: 0 })
      assert.deepStrictEqual(yield* stored, before)
      const replaced = yield* take(corrected, { replace: true })
      assert.deepInclude(replaced, { lines: 3, imported: 2, alreadyThere: 1, differing: 0, corrected: 2 })
      const after = yield* stored
      // The odometer is that of the corrected path.
      yield* empty
      yield* take([at(0, 30), ...corrected])
      assert.deepStrictEqual(after, yield* stored)
      assert.notDeepEqual(after, before)
    })
  )

  it.effect("makes a partition for each month that occurs, and for none between", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* empty
      const partitions = sql`select relname from pg_class where relnamespace = 'fleet'::regnamespace and relispartition and relkind = 'r'`
      const before = (yield* partitions).length
      const summary = yield* take(["A,1991-01-01T00:00:00Z,5,1,30,-97", "A,2017-06-30T23:59:59Z,5,1,30,-97"])
      assert.deepInclude(summary, { imported: 2 })
      assert.isAtMost((yield* partitions).length - before, 2)
    })
  )
})
