import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as SqlClient from "effect/sql/SqlClient"
import * as SqlClients from "../../../packages/sdk/src/pool/SqlClients.ts"
import * as Template from "../../../packages/sdk/src/report/Template.ts"

const client = Effect.provide(
  SqlClients.make({ use: () => Effect.die("no session"), acquire: Effect.die("no session") }, { config: {} }),
  Reactivity.layer
)

/** Every query twice by the remembering client: the first time is compiled, the second time remembered. */
const same = (query: (sql: SqlClient.SqlClient, value: number) => { compile: () => unknown }) =>
  Effect.gen(function* () {
    const sql = yield* client
    const remembering = Template.remember(sql)
    query(remembering, 0).compile()
    for (const value of [1, 2]) assert.deepStrictEqual(query(remembering, value).compile(), query(sql, value).compile())
  })

describe("a remembered template", () => {
  it.effect("is the text and the values that Effect makes of it", () =>
    same(
      (sql, value) => sql`select ${value}::int as a, ${"x"} as b, ${null} as c where ${true} and ${new Date(0)} < now()`
    )
  )

  it.effect("without values", () => same((sql) => sql`select 1`))

  it.effect("with times", () => {
    const at = DateTime.makeUnsafe(0)
    return same((sql) => sql`select ${at as unknown as Date} as at`)
  })

  it.effect("leaves fragments, helpers and identifiers to Effect", () =>
    same(
      (sql, value) =>
        sql`select ${sql("a")} from t where ${sql.in("id", [value, 2])} and ${value > 1 ? sql`b = ${value}` : sql`c is null`}`
    )
  )

  it.effect("is a fragment of another statement, remembered or not", () =>
    same((sql, value) => sql`select * from t where ${sql.and([sql`a = ${value}`, sql`b = ${value + 1}`])}`)
  )

  it.effect("one template with plain values now and a fragment then", () =>
    Effect.gen(function* () {
      const sql = yield* client
      const remembering = Template.remember(sql)
      const query = (by: SqlClient.SqlClient, value: unknown) => by`select ${value as number} as a`
      for (const by of [sql, remembering]) {
        assert.deepStrictEqual(
          [query(by, 1), query(by, by`now()`), query(by, 2)].map((statement) => statement.compile()),
          [
            ["select $1 as a", [1]],
            ["select now() as a", []],
            ["select $1 as a", [2]]
          ]
        )
      }
    })
  )

  it.effect("keeps the client's other abilities", () =>
    Effect.gen(function* () {
      const sql = yield* client
      const remembering = Template.remember(sql)
      assert.deepStrictEqual(remembering.unsafe("select 1").compile(), sql.unsafe("select 1").compile())
      assert.strictEqual(Template.remember(sql), remembering)
      assert.isFalse(Template.isCompilable(Effect.succeed(1)))
    })
  )
})
