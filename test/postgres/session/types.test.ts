/**
 * The values of a session against `pg` and against what PostgreSQL itself prints, over every type that it has.
 *
 * Each value is equal to `::text` under the mapping that `Columns.ts` states for its type, or its statement fails, names the
 * column, the type and the cast, and the session goes on. What came out goes in again as a parameter and is the same.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { assert } from "@effect/vitest"
import { factsOf, type Session } from "@sluice/sdk/pool/Session"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { Client } from "pg"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"
import { literals, refused } from "./literals.ts"
import { connect } from "./support.ts"

/** The parser that `pg` reads such literals with. */
const parseArray: (text: string) => unknown = createRequire(createRequire(import.meta.url).resolve("pg-types"))(
  "postgres-array"
).parse

interface Type {
  readonly oid: number
  readonly name: string
  readonly schema: string
  readonly kind: string
  readonly category: string
  readonly element: string | null
  readonly base: string | null
}

/** A type's name as it is written in a cast. */
const written = (type: Type): string => `${type.schema}."${type.name}"`
const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** They hold statistics of the planner or code of it, and take no literal: their values come out of the catalog. */
const fromCatalog: Record<string, string> = {
  pg_node_tree: "select ev_action as v, ev_action::text as t from pg_rewrite limit 3",
  pg_ndistinct: "select stxdndistinct as v, stxdndistinct::text as t from pg_statistic_ext_data",
  pg_dependencies: "select stxddependencies as v, stxddependencies::text as t from pg_statistic_ext_data",
  pg_mcv_list: "select stxdmcv as v, stxdmcv::text as t from pg_statistic_ext_data"
}
/** Their values exist inside of indexes alone. */
const withoutValues = new Set(["gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary"])

const hex = (bytes: Uint8Array): string => `\\x${Buffer.from(bytes).toString("hex")}`

/** Milliseconds of an instant, rounded down, and microseconds of a time, as the server counts them. */
const measures: Record<string, (expression: string) => string> = {
  timestamp: (v) => `floor(extract(epoch from ${v}) * 1000)::text`,
  timestamptz: (v) => `floor(extract(epoch from ${v}) * 1000)::text`,
  time: (v) => `(extract(epoch from ${v}) * 1000000)::bigint::text`,
  interval: (v) =>
    `(extract(year from ${v}) * 12 + extract(month from ${v}))::text || ' ' || extract(day from ${v})::text || ' ' ||
     ((extract(hour from ${v}) * 3600 + extract(minute from ${v}) * 60) * 1000000 + extract(microsecond from ${v}))::bigint::text`,
  bpchar: (v) => `replace(format('%s', ${v}), '', '')`,
  regclass: (v) => `${v}::oid::text`,
  timetz: (v) => `${v}::text`
}

/** A value of a session in the server's words: the stated mapping of its type, turned around. */
const inWords = (type: string, value: any): string => {
  switch (type) {
    case "int2":
    case "int4":
    case "int8":
    case "oid":
    case "regclass":
    case "time":
      assert.strictEqual(typeof value, type === "int8" || type === "time" ? "bigint" : "number")
      return String(value)
    case "float4":
    case "float8":
      return Object.is(value, -0) ? "-0" : String(value)
    case "bytea":
      return hex(value)
    case "timestamp":
    case "timestamptz":
      return value instanceof Date ? String(value.getTime()) : String(value)
    case "interval":
      return `${value.months} ${value.days} ${value.microseconds}`
    default:
      assert.strictEqual(typeof value, "string", type)
      return value
  }
}

const sameNumber = (type: string, value: number, text: string): boolean =>
  Object.is(value, type === "float4" ? Math.fround(Number(text)) : Number(text))

/** `told` is `::text`, `measured` what `measures` made of it. */
const check = (type: string, value: unknown, told: string, measured: string, where: string): void => {
  if (type === "float4" || type === "float8")
    return assert.isTrue(sameNumber(type, value as number, told), `${where}: ${String(value)}`)
  if (type === "bool") return assert.strictEqual(value, told.startsWith("t"), where)
  // Dotted quads, which RFC 5952 leaves to the last 32 bits of mapped addresses.
  if (type === "inet" || type === "cidr")
    return assert.strictEqual(value, told.replace(/^::1\.2\.3\.4/, "::102:304"), where)
  if (type.startsWith("_"))
    return assert.strictEqual(
      JSON.stringify(value).replace("[", "{").replace("]", "}").replace("null", "NULL"),
      told,
      where
    )
  if (type === "json" || type === "jsonb") return assert.deepStrictEqual(value, JSON.parse(told), where)
  // `+02` is written out.
  if (type === "timetz") return assert.strictEqual(value, told.replace(/([+-]\d\d)$/, "$1:00"), where)
  if (type === "timestamp" || type === "timestamptz") {
    const expected = measured === "Infinity" || measured === "-Infinity" ? measured : String(Number(measured))
    return assert.strictEqual(inWords(type, value), expected, where)
  }
  assert.strictEqual(inWords(type, value), type in measures ? measured : told, where)
}

/** What an application binds to get the value back in; `undefined` for what has no such constructor. */
const constructors: Record<string, (value: any) => unknown> = {
  bool: PgTypes.bool,
  bytea: PgTypes.bytea,
  name: PgTypes.name,
  int8: PgTypes.int8,
  int2: PgTypes.int2,
  int4: PgTypes.int4,
  text: PgTypes.text,
  oid: PgTypes.oid,
  json: PgTypes.json,
  cidr: PgTypes.cidr,
  float4: PgTypes.float4,
  float8: PgTypes.float8,
  inet: PgTypes.inet,
  bpchar: PgTypes.bpchar,
  varchar: PgTypes.varchar,
  date: PgTypes.date,
  time: PgTypes.time,
  timestamp: PgTypes.timestamp,
  timestamptz: PgTypes.timestamptz,
  interval: PgTypes.interval,
  timetz: PgTypes.timetz,
  numeric: PgTypes.numeric,
  uuid: PgTypes.uuid,
  jsonb: PgTypes.jsonb
}

/** Their JavaScript value is less than their whole: microseconds of instants, duplicate keys and zeros of json. */
const lossy = new Set(["timestamp", "timestamptz", "json", "jsonb"])
/** The constructor takes them in other words, or not at all: they go in as text. */
const asText = (value: unknown): boolean =>
  value === null || Object.is(value, -0) || (typeof value === "string" && value.endsWith(" BC"))

const setup = [
  "create type colour as enum ('red', 'Grün ü', 'with,comma', 'with\"quote')",
  "create type pair as (a int, b text)",
  "create domain positive as int check (value > 0)",
  "create domain label as text",
  "create domain numbers as int[]",
  "create type floatrange as range (subtype = float8)",
  "create table measured (a int, b int)",
  "insert into measured select n % 5, n % 5 from generate_series(1, 1000) n",
  "create statistics of_measured (ndistinct, dependencies, mcv) on a, b from measured",
  "analyze measured"
]

const open = Effect.gen(function* () {
  const database = yield* TestDatabase
  const { hostname, port } = new URL(database.url)
  const session = yield* connect({ host: hostname, port: Number(port) }, { database: database.name })
  // Text as it comes, whatever the type.
  const raw = new Client({
    connectionString: database.url,
    types: { getTypeParser: () => (text: string) => text } as never
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => raw.connect()),
    () => Effect.promise(() => raw.end())
  )
  const types = (yield* session.query(`
    select t.oid, t.typname::text as name, n.nspname::text as schema, t.typtype::text as kind, t.typcategory::text as category,
      e.typname::text as element, b.typname::text as base
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
      left join pg_type e on e.typarray = t.oid left join pg_type b on b.oid = t.typbasetype
    where (t.typtype <> 'p' or t.typname in ('cstring', 'unknown')) and n.nspname in ('pg_catalog', 'public', 'information_schema')
    order by t.oid`)).rows as ReadonlyArray<Type>
  return { raw, session, types }
})

/** All of it is told at once: one wrong type seldom comes alone. */
const collect = () => {
  const problems: Array<string> = []
  return {
    problems,
    /** Whether it held. */
    expect: (assertion: () => void): boolean => {
      try {
        assertion()
        return true
      } catch (error) {
        problems.push((error as Error).message.slice(0, 400))
        return false
      }
    }
  }
}

const alive = (session: Session, where: string) =>
  Effect.map(session.query("select 42 as v"), ({ rows }) => assert.strictEqual(rows[0].v, 42, where))

/** Fails in the declared way, and the session goes on. */
const fails = Effect.fnUntraced(function* (session: Session, sql: string, where: string) {
  const result = yield* Effect.result(session.query(sql))
  yield* alive(session, where)
  return () => {
    if (Result.isSuccess(result)) return assert.fail(`${where}: gave ${String(result.success.rows[0].v)}`)
    assert.match(result.failure.message, /^Column "v" \(type [^)]+\): .*cast the column to text/, where)
    assert.isFalse(factsOf(result.failure)?.fatal, where)
  }
})

const database = Layer.effectDiscard(TestDatabase.use(({ script }) => script(setup))).pipe(
  Layer.provideMerge(layerDatabase)
)

postgres(database)("every type of PostgreSQL", (it) => {
  it.effect("one value at a time: as the server prints it, or refused with the cast to write", () =>
    Effect.gen(function* () {
      const { raw, session, types } = yield* open
      const { expect, problems } = collect()
      let values = 0
      for (const type of types) {
        if (type.element !== null || (type.kind === "c" && type.name !== "pair")) continue
        if (withoutValues.has(type.name)) continue
        const catalog = fromCatalog[type.name]
        if (catalog !== undefined) {
          const { rows } = yield* session.query(catalog)
          assert.isAbove(rows.length, 0, type.name)
          for (const { t, v } of rows) assert.strictEqual(v, t, type.name)
          continue
        }
        const texts = literals[type.name]
        assert.isDefined(texts, `no literal is known for ${type.name} (${type.kind})`)
        const base = type.kind === "d" ? type.base! : type.name
        for (const text of texts!) {
          const where = `${type.name} ${text.slice(0, 60)}`
          const expression = `${quote(text)}::${written(type)}`
          const measure = measures[base]?.(expression) ?? "null"
          const sql = `select ${expression} as v, ${expression}::text as t, ${measure} as m`
          if (refused[type.name]?.includes(text) === true) {
            expect(yield* fails(session, sql, where))
            continue
          }
          const truth = yield* Effect.promise(() => raw.query(sql))
          const { m, t, v: printed } = truth.rows[0]
          if (!["bool", "bpchar", "inet"].includes(base)) expect(() => assert.strictEqual(printed, t, `${where}: pg`))
          for (let round = 0; round < 2; round++) {
            const result = yield* Effect.result(session.query(sql))
            if (Result.isFailure(result)) {
              problems.push(`${where}: ${result.failure.message.slice(0, 300)}`)
              continue
            }
            const { v } = result.success.rows[0]
            values++
            if (
              !expect(() =>
                base === "bpchar" ? assert.strictEqual(v, printed, where) : check(base, v, printed, m, where)
              )
            )
              continue
            // In again: as its text, and as the value itself.
            const again = yield* session.query(`select $1::${written(type)}::text as t`, [printed])
            expect(() => assert.strictEqual(again.rows[0].t, t, `${where}: as text`))
            const made = constructors[base]
            if (made === undefined || (asText(v) && base !== "float4" && base !== "float8")) continue
            const back = yield* Effect.result(
              session.query(`select $1::${written(type)} as v, $1::${written(type)}::text as t`, [made(v)])
            )
            if (Result.isFailure(back)) {
              problems.push(`${where}: back: ${back.failure.message.slice(0, 300)}`)
              continue
            }
            const [row] = back.success.rows
            expect(() => assert.deepStrictEqual(row.v, v, `${where}: back`))
            if (!lossy.has(base)) expect(() => assert.strictEqual(row.t, t, `${where}: back`))
          }
        }
        const { rows } = yield* session.query(`select null::${written(type)} as v`)
        assert.isNull(rows[0].v, type.name)
      }
      assert.deepStrictEqual(problems, [])
      assert.isAbove(values, 400)
      assert.isUndefined(session.dead)
    })
  )

  it.effect("arrays: empty, with nulls, nested, with other bounds", () =>
    Effect.gen(function* () {
      const { raw, session, types } = yield* open
      const { expect, problems } = collect()
      const known = new Set<number>(Object.values(PgTypes.OID))
      for (const type of types) {
        if (type.element === null || withoutValues.has(type.element) || type.element in fromCatalog) continue
        const element = types.find((one) => one.name === type.element && one.schema === type.schema)!
        if (element.kind === "c" && element.name !== "pair") continue
        const hard = refused[element.name] ?? []
        const texts = literals[element.name]!.filter((text) => !hard.includes(text) && text.length < 10_000)
        const list = texts.map((text) => `${quote(text)}::${written(element)}`)
        const cast = `::${written(type)}`
        const shapes = [
          "'{}'" + cast,
          `array[${[...list, "null"].join(",")}]${cast}`,
          `array[[${list[0]}, null], [null, ${list.at(-1)}]]${cast}`,
          `array[[[${list[0]}], [null]], [[null], [${list.at(-1)}]]]${cast}`,
          `array_fill(${list[0]}, array[2], array[-3])${cast}`
        ]
        for (const expression of shapes) {
          const where = `${type.name} ${expression.slice(0, 80)}`
          const measure = measures[element.name]?.("e") ?? "null"
          const sql = `select ${expression} as v, ${expression}::text as t, array_ndims(${expression}) as dims,
            array(select e::text from unnest(${expression}) e) as texts, array(select ${measure} from unnest(${expression}) e) as measured`
          const truth = yield* Effect.promise(() => raw.query(`select ${expression} as v, ${expression}::text as t`))
          const result = yield* Effect.result(session.query(sql))
          if (Result.isFailure(result)) {
            problems.push(`${where}: ${result.failure.message.slice(0, 300)}`)
            continue
          }
          const { dims, measured, t, texts, v } = result.success.rows[0]
          const told =
            element.name === "inet"
              ? texts.map((text: string | null) => text?.replace(/\/(32|128)$/, "") ?? null)
              : texts
          expect(() => assert.strictEqual(truth.rows[0].v, t, where))
          if (!known.has(type.oid)) {
            // Arrays of users' types are arrays of texts; PostgreSQL's own that nobody reads are its literal.
            const expected = type.oid >= 16_384 ? parseArray(t) : t
            expect(() => assert.deepStrictEqual(v, expected, where))
            continue
          }
          let depth = 0
          for (let level: unknown = v; depth < (dims ?? 0) && Array.isArray(level); level = level[0]) depth++
          if (!expect(() => assert.strictEqual(depth, dims ?? 0, where))) continue
          const flat: ReadonlyArray<any> = dims === null ? v : v.flat(dims - 1)
          expect(() => assert.lengthOf(flat, texts.length, where))
          const same = flat.map((one, index) =>
            expect(() => {
              if (told[index] === null) return assert.isNull(one, where)
              if (element.name === "bpchar") return assert.strictEqual(one.trimEnd(), told[index].trimEnd(), where)
              check(element.name, one, told[index], measured[index], where)
            })
          )
          if (same.includes(false)) continue
          if (
            depth === 1 &&
            element.name in constructors &&
            !expression.startsWith("array_fill") &&
            !flat.some((one) => asText(one) && one !== null) &&
            element.name !== "json" &&
            element.name !== "jsonb"
          ) {
            const bound = Result.getOrThrow(PgTypes.array(v, element.oid))
            const back = yield* Effect.result(session.query(`select $1${cast} as v, $1${cast}::text as t`, [bound]))
            if (Result.isFailure(back)) {
              problems.push(`${where}: back: ${back.failure.message.slice(0, 300)}`)
              continue
            }
            const [row] = back.success.rows
            expect(() => assert.deepStrictEqual(row.v, v, where))
            if (!lossy.has(element.name)) expect(() => assert.strictEqual(row.t, t, where))
          }
        }
        for (const text of hard) {
          const sql = `select array[null, ${quote(text)}::${written(element)}] as v`
          expect(yield* fails(session, sql, `${type.name} ${text}`))
        }
      }
      assert.deepStrictEqual(problems, [])
      assert.isUndefined(session.dead)
    })
  )

  it.effect("rows of the catalog, whole, and records of any columns", () =>
    Effect.gen(function* () {
      const { session, types } = yield* open
      let seen = 0
      for (const type of types) {
        if (type.kind !== "c" || type.schema !== "pg_catalog") continue
        const result = yield* Effect.result(
          session.query(`select t as v, t::text as t from pg_catalog."${type.name}" t limit 2`)
        )
        // Some may be asked in other ways only, as a function or with a setting.
        if (Result.isFailure(result)) {
          assert.isDefined(factsOf(result.failure)?.sqlState, `${type.name}: ${result.failure.message}`)
          continue
        }
        for (const { t, v } of result.success.rows) assert.strictEqual(v, t, type.name)
        seen += result.success.rows.length
      }
      assert.isAbove(seen, 100)
      const { rows } = yield* session.query("select row(1, null, 'a,b', array[1], row('infinity'::date)) as v")
      assert.strictEqual(rows[0].v, '(1,,"a,b",{1},"(infinity)")')
    })
  )
})
