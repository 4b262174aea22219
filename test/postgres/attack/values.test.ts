import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { role } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

postgres(ownCluster())("values", (it) => {
  it.effect("hostile parameters fail by themselves or arrive as they are, and never cost a session", () =>
    Effect.gen(function* () {
      const { pool, sql } = yield* role(yield* server, { maxConnections: 1 })
      yield* sql`select 1`
      const { counters } = (yield* pool.stats) as any
      void counters
      const pid = (yield* sql`select pg_backend_pid() as pid`)[0]
      const cyclic: Array<unknown> = []
      cyclic.push(cyclic)
      const sparse = [1, , 3] as Array<unknown>
      const wrong: Array<unknown> = ["a\0b", "\ud800", ["\udfff"], ["a\0"], new Date(NaN), {}, new Map(), Symbol("x"), () => 1, cyclic, [1, "a"], [[1], ["a\0"]], [new Date(NaN)], new Uint16Array(2), Object.create(null), new Proxy({}, { get() { throw new Error("trap") } }), { toString() { throw new Error("no") } }, [{}]]
      for (const [index, value] of wrong.entries()) {
        const exit = yield* Effect.exit(sql`select ${value}::text as v`)
        assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons.every((reason) => reason._tag === "Fail"), `${index}: ${String(exit)}`)
      }
      for (const text of ["'; drop table x; --", "$1", "\\", "\u{1F600}\u0301", "\u2028", "{}", "{a,\"b\"}", "\r\n", "%s", "null", "NULL", "\uffff", "\ufeff"]) {
        assert.deepStrictEqual(yield* sql`select ${text}::text as v`, [{ v: text }])
        assert.deepStrictEqual(yield* sql`select ${[text, text]}::text[] as v`, [{ v: [text, text] }])
        assert.deepStrictEqual(yield* sql`select ${[[text], [text]]}::text[] as v`, [{ v: [[text], [text]] }])
        assert.deepStrictEqual(yield* sql`select 1 as ${sql(text)}`.pipe(Effect.map((rows) => Object.keys(rows[0]!))), [text])
      }
      for (const number of [0, -1, 2147483647, 2147483648, -2147483649, Number.MAX_SAFE_INTEGER, 0.1, 1e300, 5e-324, Infinity, -Infinity, NaN, 2 ** 60]) {
        assert.deepStrictEqual(yield* sql`select ${number}::float8 as v`, [{ v: number }])
        assert.deepStrictEqual(yield* sql`select ${[number]}::float8[] as v`, [{ v: [number] }])
      }
      for (const big of [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n]) assert.deepStrictEqual(yield* sql`select ${big}::text as v`, [{ v: String(big) }])
      const bytes = Uint8Array.from({ length: 256 }, (_, n) => n)
      const [row] = yield* sql`select ${bytes} as v, ${[bytes]}::bytea[] as w`
      assert.deepStrictEqual(Array.from((row as any).v), Array.from(bytes))
      const many = Array.from({ length: 300_000 }, (_, n) => n)
      assert.deepStrictEqual(yield* sql`select sum(v)::text as v from unnest(${many}::int[]) v`, [{ v: "44999850000" }])
      const long = "x".repeat(5_000_000)
      assert.deepStrictEqual(yield* sql`select length(${long}::text) as v`, [{ v: long.length }])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(sql`select ${sparse as never}::int[] as v`)))
      for (const count of [32_768, 65_536, 70_000, 131_072]) {
        const exit = yield* Effect.exit(sql.unsafe(`select $1::int as v`, Array.from({ length: count }, () => 1)))
        assert.isTrue(Exit.isFailure(exit), String(count))
      }
      const values = Array.from({ length: 32_767 }, (_, n) => n)
      assert.deepStrictEqual(yield* sql.unsafe(`select count(*)::int as n from (values ${values.map((n) => `($${n + 1}::int)`).join(",")}) v`, values), [{ n: 32_767 }])
      assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, [pid])
    }), 60_000
  )

  it.effect("what is read is what the server holds, or an error", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, { maxConnections: 1 })
      yield* sql`create type mood as enum ('a b', 'c')`
      yield* sql`create type pair as (a int, b text)`
      yield* sql`create domain small as int check (value < 10)`
      const rows: Array<string> = []
      for (const literal of [
        "1::\"char\"", "'a'::\"char\"", "'x'::name", "1::oid", "'1.5'::numeric", "'NaN'::numeric", "'Infinity'::numeric", "'-0.000'::numeric", "'1e-20'::numeric", "'123456789012345678901234567890.123'::numeric", "'NaN'::float4", "'3.4e38'::float4", "0.1::float4", "9223372036854775807::int8", "'-9223372036854775808'::int8", "array[9223372036854775807]",
        "'infinity'::date", "'4713-01-01 BC'::date", "'0001-01-01'::date", "'9999-12-31'::date", "'2024-02-29'::date", "'5874897-01-01'::date", "'24:00'::time", "'23:59:59.999999'::time", "'12:00+02'::timetz", "'1 year 2 mons 3 days 04:05:06.789'::interval", "'-1 day +01:00'::interval", "'2024-01-01 00:00:00.123456'::timestamp", "'2024-06-01 12:00:00+00'::timestamptz", "'infinity'::timestamptz", "'4713-01-01 BC'::timestamp",
        "'10.0.0.1/8'::inet", "'::1'::inet", "'10.0.0.0/8'::cidr", "'08:00:2b:01:02:03'::macaddr", "'{\"a\":1}'::json", "'{\"a\":12345678901234567890}'::jsonb", "'null'::jsonb", "'\"x\"'::jsonb", "'1'::jsonb", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "B'101'", "B'101'::varbit", "'(1,2)'::point", "12.34::money", "'a b'::mood", "array['a b','c']::mood[]", "row(1,'x')::pair", "array[row(1,'x')::pair]", "row(1,2)", "5::small", "array[5]::small[]", "int4range(1,5)", "'{[1,3)}'::int4multirange", "'x & y'::tsquery", "'x y'::tsvector", "'0/16B3748'::pg_lsn", "'1'::xid", "'<a/>'::xml", "'$.a'::jsonpath", "array[[1,2],[3,4]]", "'[0:1]={1,2}'::int[]", "array[]::int[]", "array[null]::int[]", "array['2024-01-01']::date[]", "array['NaN']::numeric[]", "'pg_class'::regclass", "null::int", "void_function()", "'\\xdeadbeef'::bytea", "array['\\xdead']::bytea[]", "array['{\"a\":1}']::jsonb[]", "'abc'::char(5)", "array[true,null]"
      ]) {
        if (literal.startsWith("void")) continue
        const exit = yield* Effect.exit(sql.unsafe(`select v, v::text as t from (select ${literal} as v) x`))
        const inspect = (value: unknown): string => typeof value === "bigint" ? `${value}n` : value instanceof Date ? `Date(${Number.isNaN(value.getTime()) ? "INVALID" : value.toISOString()})` : value instanceof Uint8Array ? `bytes(${Buffer.from(value).toString("hex")})` : Array.isArray(value) ? `[${value.map(inspect).join(",")}]` : typeof value === "object" && value !== null ? JSON.stringify(value, (_, v) => typeof v === "bigint" ? `${v}n` : v) : `${typeof value} ${String(value)}`
        rows.push(Exit.isSuccess(exit) ? `${literal.padEnd(60)} ${inspect((exit.value[0] as any).v).padEnd(50)} ${(exit.value[0] as any).t}` : `${literal.padEnd(60)} FAILS ${String((exit.cause.reasons[0] as any).error?.message)}`)
      }
      console.log(rows.join("\n"))
    })
  )
})
