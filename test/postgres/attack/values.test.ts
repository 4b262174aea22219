import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { role } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

postgres(ownCluster())("values", (it) => {
  it.effect(
    "hostile parameters fail by themselves or arrive as they are, and never cost a session",
    () =>
      Effect.gen(function* () {
        const { pool, sql } = yield* role(yield* server, { maxConnections: 1 })
        yield* sql`select 1`
        const { counters } = (yield* pool.stats) as any
        void counters
        const pid = (yield* sql`select pg_backend_pid() as pid`)[0]
        const cyclic: Array<unknown> = []
        cyclic.push(cyclic)
        const sparse: Array<unknown> = [1]
        sparse[2] = 3
        const wrong: Array<unknown> = [
          "a\0b",
          "\ud800",
          ["\udfff"],
          ["a\0"],
          new Date(NaN),
          {},
          new Map(),
          Symbol("x"),
          () => 1,
          cyclic,
          [1, "a"],
          [[1], ["a\0"]],
          [new Date(NaN)],
          new Uint16Array(2),
          Object.create(null),
          new Proxy(
            {},
            {
              get() {
                throw new Error("trap")
              }
            }
          ),
          {
            toString() {
              throw new Error("no")
            }
          },
          [{}]
        ]
        for (const [index, value] of wrong.entries()) {
          const exit = yield* Effect.exit(sql`select ${value}::text as v`)
          assert.isTrue(
            Exit.isFailure(exit) && exit.cause.reasons.every((reason) => reason._tag === "Fail"),
            `${index}: ${String(exit)}`
          )
        }
        for (const text of [
          "'; drop table x; --",
          "$1",
          "\\",
          "\u{1F600}\u0301",
          "\u2028",
          "{}",
          '{a,"b"}',
          "\r\n",
          "%s",
          "null",
          "NULL",
          "\uffff",
          "\ufeff"
        ]) {
          assert.deepStrictEqual(yield* sql`select ${text}::text as v`, [{ v: text }])
          assert.deepStrictEqual(yield* sql`select ${[text, text]}::text[] as v`, [{ v: [text, text] }])
          assert.deepStrictEqual(yield* sql`select ${[[text], [text]]}::text[] as v`, [{ v: [[text], [text]] }])
          assert.deepStrictEqual(
            yield* sql`select 1 as ${sql(text)}`.pipe(Effect.map((rows) => Object.keys(rows[0]!))),
            [text]
          )
        }
        for (const number of [
          0,
          -1,
          2147483647,
          2147483648,
          -2147483649,
          Number.MAX_SAFE_INTEGER,
          0.1,
          1e300,
          5e-324,
          Infinity,
          -Infinity,
          NaN,
          2 ** 60
        ]) {
          assert.deepStrictEqual(yield* sql`select ${number}::float8 as v`, [{ v: number }])
          assert.deepStrictEqual(yield* sql`select ${[number]}::float8[] as v`, [{ v: [number] }])
        }
        for (const big of [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n])
          assert.deepStrictEqual(yield* sql`select ${big}::text as v`, [{ v: String(big) }])
        const bytes = Uint8Array.from({ length: 256 }, (_, n) => n)
        const [row] = yield* sql`select ${bytes} as v, ${[bytes]}::bytea[] as w`
        assert.deepStrictEqual(Array.from((row as any).v), Array.from(bytes))
        const many = Array.from({ length: 300_000 }, (_, n) => n)
        assert.deepStrictEqual(yield* sql`select sum(v)::text as v from unnest(${many}::int[]) v`, [
          { v: "44999850000" }
        ])
        const long = "x".repeat(5_000_000)
        assert.deepStrictEqual(yield* sql`select length(${long}::text) as v`, [{ v: long.length }])
        assert.isTrue(Exit.isFailure(yield* Effect.exit(sql`select ${sparse as never}::int[] as v`)))
        for (const count of [65_536, 70_000, 131_072, 300_000]) {
          const exit = yield* Effect.exit(
            sql.unsafe(
              `select $1::int as v`,
              Array.from({ length: count }, () => 1)
            )
          )
          const told = Exit.isFailure(exit) ? String(exit.cause) : ""
          assert.include(told, `has ${count} parameters; PostgreSQL takes at most 65535`)
        }
        const values = Array.from({ length: 65_535 }, (_, n) => (n % 2 === 0 ? n : String(n)))
        assert.deepStrictEqual(
          yield* sql.unsafe(
            `select count(*)::int as n from (values ${values.map((_, n) => `($${n + 1}::int)`).join(",")}) v`,
            values
          ),
          [{ n: 65_535 }]
        )
        assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, [pid!])
      }),
    60_000
  )
})
