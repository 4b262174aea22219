/** What people stumble over, where it shows at the first run alone. */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { failsWith, Fleet, layerFleet } from "./support.ts"

const base = { database: Fleet.role("primary"), params: {}, row: { n: Schema.Int }, deadline: "5 seconds" } as const

postgres(layerFleet({ lanes: { nightly: { cap: 2 } } }))("a report", (it) => {
  it.effect("whose lane is not declared is refused when it first runs, by run, stream and transaction", () =>
    Effect.gen(function* () {
      const lost = Report.make("lost", { ...base, lane: "nigthly", query: (sql) => sql`select 1 as n` })
      for (const run of [lost.run({}), Stream.runDrain(lost.stream({}))]) {
        const error = yield* failsWith(run, "DatabaseUnavailable")
        assert.strictEqual(error.reason, "configuration")
        assert.strictEqual(
          error.lastError?.message,
          "report lost: fleet/primary has no lane nigthly; did you mean nightly?; declare it in the options of the role, or name one of interactive, report, batch, nightly"
        )
      }
      const unit = Report.transaction(base.database, { deadline: "5 seconds", lane: "nigthly" })
      assert.deepInclude(yield* Effect.flip(unit(Effect.void)), { _tag: "DatabaseUnavailable" })
      const known = Report.make("known", { ...base, lane: "nightly", query: (sql) => sql`select 1 as n` })
      assert.deepStrictEqual(yield* known.run({}), [{ n: 1 }])
    })
  )

  it.effect("whose query gives no statement says so, and not what it gave", () =>
    Effect.gen(function* () {
      for (const [query, said] of [
        [() => "select 'hunter2'", "a string"],
        [async () => "select 1", "a Promise"],
        [() => undefined, "undefined"],
        [() => Effect.succeed("select 'hunter2'"), "a string"],
        [() => [{ n: 1 }], "an array (the statement was run: give it back as it is)"]
      ] as const) {
        const report = Report.make("odd", { ...base, query: query as never })
        for (const exit of [
          yield* Effect.exit(Effect.asVoid(report.run({}))),
          yield* Effect.exit(Stream.runDrain(report.stream({})))
        ]) {
          const text = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "succeeded"
          assert.include(text, `Report "odd": query must give a statement, as sql\`select ...\` does, not ${said}`)
          assert.notInclude(text, "hunter2")
        }
      }
    })
  )

  it.effect("takes an object, or an array of some, as json and as jsonb", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query("create table documents (a json, b jsonb)")
      const put = Report.make("put", {
        ...base,
        params: {
          one: Schema.Struct({ n: Schema.Int, at: Schema.Date }),
          many: Schema.Array(Schema.Struct({ n: Schema.Int }))
        },
        query: (sql, { many, one }) =>
          sql`insert into documents values (${one}, ${one}), (${many}, ${many}) returning 1 as n`,
        writes: "once"
      })
      yield* put.run({ one: { n: 7, at: new Date(0) }, many: [{ n: 1 }, { n: 2 }] })
      const read = Report.make("read", {
        ...base,
        params: { wanted: Schema.Struct({ n: Schema.Int }) },
        query: (sql, { wanted }) => sql`select (b->>'n')::int as n from documents where b @> ${wanted}`
      })
      assert.deepStrictEqual(yield* read.run({ wanted: { n: 7 } }), [{ n: 7 }])
      const sum = Report.make("sum", {
        ...base,
        params: { all: Schema.Array(Schema.Struct({ n: Schema.Int })) },
        query: (sql, { all }) => sql`select sum(n)::int as n from json_to_recordset(${all}) as each (n int)`
      })
      assert.deepStrictEqual(yield* sum.run({ all: [{ n: 3 }, { n: 4 }] }), [{ n: 7 }])
    })
  )

  it.effect("that writes tells how many rows it changed, with and without RETURNING", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query("create table changed (n int)")
      const changed = (sql: string, writes: "once" | undefined) =>
        Effect.map(
          Report.make("changed", { ...base, row: {}, query: (q) => q.unsafe<object>(sql), writes }).runWithInfo({}),
          ({ changed }) => changed
        )
      assert.strictEqual(yield* changed("insert into changed values (1), (2), (3)", "once"), 3)
      assert.strictEqual(yield* changed("update changed set n = 5 where n > 1 returning n", "once"), 2)
      assert.strictEqual(yield* changed("update changed set n = 5 where n > 100", "once"), 0)
      assert.strictEqual(
        yield* changed("merge into changed using (select 5 as m) on n = m when matched then delete", "once"),
        2
      )
      assert.strictEqual(yield* changed("delete from changed", "once"), 1)
      assert.isUndefined(yield* changed("select 1", undefined))
      assert.isUndefined(yield* changed("truncate changed", "once"))
    })
  )

  it.effect("that writes has no stream: nothing is written by one", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query("create table streamed (n int)")
      const many = Report.make("many", {
        ...base,
        query: (sql) => sql`insert into streamed select generate_series(1, 11) returning n`,
        writes: "once"
      })
      const stream = many.stream as unknown as (params: object) => Stream.Stream<unknown>
      const exit = yield* Effect.exit(Stream.runCollect(Stream.take(stream({}), 1)))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "a report that writes has no stream")
      assert.deepStrictEqual(yield* query("select count(*)::int as n from streamed"), [{ n: 0 }])
    })
  )
})
