/**
 * Random parameters and rows there and back: each comes back as the table in `Parameters.ts` says, or is refused by name
 * before it is sent, or by the server; and the session goes on.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { assert } from "@effect/vitest"
import { factsOf, type Session } from "@sluice/sdk/pool/Session"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"
import { fuzz, random, type Random } from "../../support/random.ts"
import { connect } from "./support.ts"

const { runs, seed } = fuzz(600)

const open = Effect.gen(function* () {
  const { name, url } = yield* TestDatabase
  const { hostname, port } = new URL(url)
  return yield* connect({ host: hostname, port: Number(port) }, { database: name })
})

/** Between the ends of what `timestamptz` and `Date` hold. */
const firstDate = -210_866_803_200_000
const lastDate = 8.64e15

const character = (of: Random): string =>
  of.pick([
    () => String.fromCharCode(1 + of.below(127)),
    () => of.pick(["'", '"', "\\", "{", "}", ",", "NULL", "\ufeff", "\ufffd", "$1", "--", "e\u0301", " "]),
    () => String.fromCodePoint(0xa0 + of.below(0xd000)),
    () => String.fromCodePoint(0x10000 + of.below(0xfffff))
  ])()

const scalars: Record<string, (of: Random) => unknown> = {
  boolean: (of) => of.chance(0.5),
  int4: (of) => of.pick([0, 1, -1, 2147483647, -2147483648, of.below(2 ** 31) - 2 ** 30]),
  int8: (of) => of.pick([2147483648, -2147483649, Number.MAX_SAFE_INTEGER, -(2 ** 40) - of.below(1000)]),
  float8: (of) =>
    of.pick([
      0.5,
      -1.1,
      1e300,
      5e-324,
      NaN,
      Infinity,
      -Infinity,
      2 ** 53,
      -1e22,
      of.next(),
      (of.next() - 0.5) * 10 ** of.below(300)
    ]),
  bigint: (of) => {
    const size = BigInt(of.pick([1, 31, 62, 63, 64, 65, 200, 1000]))
    const value = (1n << size) - BigInt(of.below(3))
    return of.chance(0.5) ? value : -value
  },
  string: (of) => of.many(of.pick([0, 1, 3, 20, 200]), () => character(of)).join(""),
  date: (of) =>
    new Date(
      of.pick([
        0,
        -1,
        firstDate,
        lastDate,
        Math.floor(firstDate + of.next() * (lastDate - firstDate)),
        1.7e12 + of.below(1e9)
      ])
    ),
  bytes: (of) => Uint8Array.from(of.many(of.pick([0, 1, 50]), () => of.below(256)))
}
const kinds = Object.keys(scalars)

/** How a value comes back. */
const expected = (value: any, wide: boolean): unknown => {
  if (typeof value === "number" && Number.isInteger(value)) {
    if (Math.abs(value) <= 2 ** 31 && value !== 2 ** 31) return wide ? BigInt(value) : Object.is(value, -0) ? 0 : value
    if (Number.isSafeInteger(value)) return BigInt(value)
  }
  if (typeof value === "bigint" && (value >= 2n ** 63n || value < -(2n ** 63n))) return String(value)
  return value
}

const shape = (of: Random, kind: string): unknown => {
  const one = () => scalars[kind]!(of)
  const orNull = () => (of.chance(0.2) ? null : one())
  switch (of.below(4)) {
    case 0:
    case 1:
      return one()
    case 2:
      return of.many(5, orNull)
    default: {
      const [rows, columns] = [1 + of.below(3), 1 + of.below(3)]
      return Array.from({ length: rows }, () => Array.from({ length: columns }, orNull))
    }
  }
}

/** The elements of an array widen together. */
const expectedArray = (value: any): unknown => {
  if (!Array.isArray(value)) return expected(value, false)
  const leaves = value.flat(9).filter((one) => one !== null)
  const isBigger = (one: any) =>
    typeof one === "bigint" || (Number.isSafeInteger(one) && Math.abs(one) > 2 ** 31 - 1 && one !== -(2 ** 31))
  const numeric = leaves.some((one) => typeof one === "bigint" && (one >= 2n ** 63n || one < -(2n ** 63n)))
  const float = leaves.some((one) => typeof one === "number" && !Number.isSafeInteger(one))
  const wide = leaves.some(isBigger)
  const map = (one: any): unknown => {
    if (one === null) return null
    if (Array.isArray(one)) return one.map(map)
    if (typeof one !== "number" && typeof one !== "bigint") return one
    if (numeric) return String(one)
    if (float) return Number(one)
    return wide ? BigInt(one) : one
  }
  return value.map(map)
}

const told = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) =>
    typeof one === "bigint" ? `${one}n` : typeof one === "number" && !Number.isFinite(one) ? String(one) : one
  )?.slice(0, 300) ?? String(value)

const types: Record<string, string> = { string: "::text", bytes: "::bytea", boolean: "::bool", date: "::timestamptz" }

const alive = (session: Session, where: string) =>
  Effect.map(session.query("select 42 as v"), ({ rows }) => assert.strictEqual(rows[0].v, 42, where))

postgres(layerDatabase)("random values", (it) => {
  it.effect(`${runs} parameters, from SLUICE_FUZZ_SEED=${seed}`, () =>
    Effect.gen(function* () {
      const session = yield* open
      const of = random(seed)
      for (let run = 0; run < runs; run++) {
        const kind = of.pick(kinds)
        const value = shape(of, kind)
        const where = `run ${run}: ${kind} ${told(value)}`
        const leaves = Array.isArray(value) ? value.flat(9) : [value]
        const none = leaves.every((one) => one === null)
        const cast = Array.isArray(value)
          ? none || typeof leaves[0] === "string" || kind === "string"
            ? "::text[]"
            : kind in types
              ? `${types[kind]}[]`
              : ""
          : (types[kind] ?? "")
        const result = yield* Effect.result(session.query(`select $1${cast} as v`, [value]))
        if (Result.isFailure(result)) return assert.fail(`${where}: ${result.failure.message}`)
        const want = Array.isArray(value) && value.flat(9).length === 0 ? [] : expectedArray(value)
        assert.deepStrictEqual(result.success.rows[0].v, want, where)
      }
      yield* alive(session, "at the end")
    })
  )

  it.effect("rows of random columns, in one read or in many", () =>
    Effect.gen(function* () {
      const session = yield* open
      const columns: ReadonlyArray<readonly [kind: string, type: string]> = [
        ["boolean", "bool"],
        ["int4", "int4"],
        ["float8", "float8"],
        ["string", "text"],
        ["date", "timestamptz"],
        ["bytes", "bytea"]
      ]
      for (let run = 0; run < Math.ceil(runs / 20); run++) {
        const of = random(seed + run)
        const chosen = columns.filter(() => of.chance(0.6))
        if (chosen.length === 0) continue
        const count = of.pick([0, 1, 7, 200])
        const data = chosen.map(([kind]) =>
          Array.from({ length: count }, () => (of.chance(0.2) ? null : scalars[kind]!(of)))
        )
        const lists = chosen.map(([, type], index) => `$${index + 1}::${type}[]`).join(", ")
        const names = chosen.map((_, index) => `c${index}`)
        // A column of floats that happen to be integers is bound as such, and -0 with it.
        const params = data.map((values, index) =>
          chosen[index]![0] === "float8" ? values.concat(0.5) : values.concat(null)
        )
        const { rows } = yield* session.query(`select * from unnest(${lists}) as t (${names.join(", ")})`, params)
        assert.lengthOf(rows, count + 1)
        for (let row = 0; row < count; row++) {
          const want = Object.fromEntries(names.map((name, index) => [name, data[index]![row]]))
          assert.deepStrictEqual(rows[row], want, `seed ${seed + run}, row ${row}`)
        }
      }
    })
  )

  it.effect("what cannot be sent truthfully is refused by its place, and never sent as something else", () =>
    Effect.gen(function* () {
      const session = yield* open
      const digits = (count: number) => BigInt(`1${"0".repeat(count - 1)}`)
      // The most that numeric holds before its point.
      const most = digits(131_072)
      const { rows } = yield* session.query("select $1::numeric = $2::text::numeric as v", [most, String(most)])
      assert.isTrue(rows[0].v)
      const long = [
        PgTypes.numeric("1e200000"),
        PgTypes.numeric("1e999999999"),
        PgTypes.numeric(`0${"9".repeat(131_073)}.5`)
      ]
      for (const value of [digits(131_073), digits(200_000), -digits(140_000), [1n, digits(200_000)], ...long]) {
        const error = yield* Effect.flip(session.query("select $1 as v", [value]))
        assert.match(error.message, /^Parameter \$1(\[\d\])?: .*numeric/)
        assert.isFalse(factsOf(error)?.sent)
        assert.isBelow(error.message.length, 300)
      }
      // Dates of any year, inside of nested arrays too, where they travel as text.
      for (const millis of [firstDate, -62_167_219_200_001, -1, 253_402_300_800_000, 3_707_823_462_774_775, lastDate]) {
        const date = new Date(millis)
        for (const value of [[date], [[date]]]) {
          const back = yield* session.query("select $1::timestamptz[] as v", [value])
          assert.deepStrictEqual(back.rows[0].v, value)
        }
        for (const [oid, make] of [
          [1114, PgTypes.timestamp],
          [1184, PgTypes.timestamptz]
        ] as const) {
          const list = Result.getOrThrow(PgTypes.array([date, null], oid))
          const back = yield* session.query("select $1 as v, $2 as list", [make(date), list])
          assert.deepStrictEqual(back.rows[0], { v: date, list: [date, null] })
        }
      }
      for (const value of [new Date(-8.64e15), [new Date(-8.64e15)], [[new Date(-8.64e15)]]]) {
        const result = yield* Effect.result(session.query("select $1 as v", [value]))
        assert.isTrue(Result.isFailure(result), "before the first instant of PostgreSQL")
      }
      const ragged = yield* Effect.result(session.query("select $1::int[] as v", [[[1, 2], [3]]]))
      assert.isTrue(Result.isFailure(ragged))
      yield* alive(session, "at the end")
    })
  )
})
