/** Each way that a statement can travel ends, in a bounded number of round trips, and does its work once. */
import { assert, layer } from "@effect/vitest"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { connect } from "./support.ts"

const statements: ReadonlyArray<{
  readonly sql: string
  readonly params?: ReadonlyArray<unknown>
  readonly rows: ReadonlyArray<Record<string, unknown>>
}> = [
  { sql: "select 7 as n", rows: [{ n: 7 }] },
  { sql: "select $1 as a, 'x'::text as b, array[1, 2] as c", params: ["a"], rows: [{ a: "a", b: "x", c: [1, 2] }] },
  {
    sql: "select 'low'::level as level, '{low,high}'::level[] as levels",
    rows: [{ level: "low", levels: ["low", "high"] }]
  },
  { sql: "insert into kept (name) values ($1)", params: ["a"], rows: [] },
  { sql: "insert into kept (name) values ($1) returning name", params: ["a"], rows: [{ name: "a" }] },
  {
    sql: "insert into kept (name, level) values ($1, $2) returning name, level, 1::int8 as one",
    params: ["a", "high"],
    rows: [{ name: "a", level: "high", one: 1n }]
  },
  { sql: "with w as (insert into kept (name) values ('a') returning name) select * from w", rows: [{ name: "a" }] }
]

const long = `${" ".repeat(70_000)}-- long`

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a statement", (it) => {
  for (const [way, { options = {}, config = {}, suffix = "" }] of Object.entries<{
    readonly options?: { readonly prepare?: boolean }
    readonly config?: { readonly preparedStatements?: number }
    readonly suffix?: string
  }>({
    "under a name": {},
    "without a name": { options: { prepare: false } },
    "on a session that names nothing": { config: { preparedStatements: 0 } },
    "too long for a name": { suffix: long }
  })) {
    for (const place of ["alone", "first in a transaction", "later in a transaction"] as const) {
      for (const form of ["collected", "streamed"] as const) {
        it.effect(`${way}, ${place}, ${form}`, () =>
          Effect.gen(function* () {
            const { primary } = yield* PgCluster.PgCluster
            for (const sql of [
              "drop table if exists kept",
              "drop type if exists level",
              "create type level as enum ('low', 'high')",
              "create table kept (name text, level level)"
            ]) {
              yield* primary.query(sql)
            }
            const proxy = yield* FaultProxy.make({ target: primary })
            const session = yield* connect(proxy, config)
            let writes = 0
            for (const { params = [], rows, sql } of statements) {
              for (let turn = 0; turn < 3; turn++) {
                yield* proxy.resetCounters
                if (place !== "alone") yield* session.begin()
                if (place === "later in a transaction") yield* session.query("select 1")
                const given =
                  form === "collected"
                    ? (yield* session.query(sql + suffix, params, options)).rows
                    : yield* Stream.runCollect(session.stream(sql + suffix, params, options))
                if (place !== "alone") yield* session.commit
                assert.deepStrictEqual(given, rows, sql)
                assert.isAtMost((yield* proxy.counters).roundTrips, 9, sql)
                if (sql.includes("insert")) writes++
              }
            }
            const [count] = yield* primary.query("select count(*)::int as n from kept")
            assert.strictEqual(count!["n"], writes)
          }).pipe(Effect.timeout("20 seconds"))
        )
      }
    }
  }
})
