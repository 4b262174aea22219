import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const write = (writes: "once" | "idempotent", options: object = {}) =>
  Report.make(`write-${writes}`, {
    database: main,
    params: { id: Schema.Int },
    row: { id: Schema.Int },
    query: (sql, { id }) =>
      writes === "once"
        ? sql`insert into written (id) values (${id}) returning id`
        : sql`insert into written (id) values (${id}) on conflict (id) do update set id = excluded.id returning id`,
    deadline: "2 seconds",
    writes,
    retry: { retries: 3 },
    ...options
  })

const create = "create table if not exists written (key bigserial, id int)"
const errorTag = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  assert.isFalse(Cause.hasDies(exit.cause), Cause.pretty(exit.cause))
  const error = Cause.findErrorOption(exit.cause)
  return error._tag === "Some" ? (error.value as { _tag: string })._tag : "interrupted"
}

postgres(ownCluster())("a write", (it) => {
  it.effect("that says it failed did not happen, that succeeded happened once, and the rest is in doubt", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      yield* postgres.query(create)
      const proxy = yield* FaultProxy.make({ target: postgres })
      const { context } = yield* role(proxy, { maxConnections: 6 })
      const once = write("once")
      const tags: Record<string, number> = {}
      let id = 0
      let stop = false
      const results = new Map<number, string>()
      const worker: Effect.Effect<void> = Effect.gen(function* () {
        for (;;) {
          if (stop) return
          const mine = ++id
          const tag = errorTag(yield* Effect.exit(Effect.provide(once.run({ id: mine }), context)))
          tags[tag] = (tags[tag] ?? 0) + 1
          results.set(mine, tag)
          if (tag !== "success") yield* Effect.sleep("10 millis")
        }
      })
      const weather = Effect.gen(function* () {
        for (let round = 0; round < 4; round++) {
          yield* Effect.sleep("60 millis")
          yield* proxy.stall({ direction: "server->client" })
          yield* Effect.sleep("30 millis")
          yield* proxy.reset
          yield* proxy.heal
          yield* Effect.sleep("60 millis")
          yield* postgres.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'target/main'"
          )
          yield* Effect.sleep("60 millis")
          yield* proxy.stall({ direction: "client->server" })
          yield* Effect.sleep("30 millis")
          yield* proxy.reset
          yield* proxy.heal
          yield* Effect.sleep("60 millis")
          yield* proxy.cut
        }
        stop = true
      })
      yield* Effect.all([weather, ...Array.from({ length: 12 }, () => worker)], { concurrency: "unbounded" })
      const counts = new Map(
        (yield* postgres.query("select id, count(*)::int as n from written group by id")).map((row) => [
          row["id"] as number,
          row["n"] as number
        ])
      )
      for (const [mine, tag] of results) {
        const n = counts.get(mine) ?? 0
        assert.isAtMost(n, 1, `${mine} ${tag}`)
        if (tag === "success") assert.strictEqual(n, 1, `${mine} ${tag}`)
        else if (tag !== "OutcomeUnknown") assert.strictEqual(n, 0, `${mine} ${tag}`)
      }
      assert.isAbove(tags["OutcomeUnknown"] ?? 0, 0, JSON.stringify(tags))
      assert.isAbove(tags["success"] ?? 0, 0, JSON.stringify(tags))
    })
  )

  it.effect("that may be repeated stays in doubt when its repetition does not come through", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      yield* postgres.query("create table if not exists written (key bigserial, id int)")
      yield* postgres.query("delete from written")
      yield* postgres.query("create unique index on written (id)")
      const proxy = yield* FaultProxy.make({ target: postgres })
      const { context, sql } = yield* role(proxy, { maxConnections: 1, connectTimeout: "5 seconds" })
      for (const [number, how] of (["blackHole", "refuse"] as const).entries()) {
        const report = write("idempotent", { deadline: "1500 millis", attemptTimeout: "300 millis" })
        yield* Effect.provide(report.run({ id: 1 }), context)
        yield* proxy.stall({ direction: "server->client" })
        if (how === "refuse") yield* proxy.refuse()
        else yield* proxy.blackHole
        const id = 100 + number
        const error = yield* Effect.flip(Effect.provide(report.run({ id }), context))
        assert.lengthOf(yield* postgres.query(`select 1 from written where id = ${id}`), 1)
        assert.strictEqual(error._tag, "OutcomeUnknown", `${how}: ${JSON.stringify(error)}`)
        yield* proxy.reset
        yield* proxy.heal
        yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
      }
    })
  )

  it.effect("whose rows cannot be read is not repeated, and does not look undone", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      yield* postgres.query("create table odd (at timestamp)")
      const { context } = yield* role(postgres)
      const odd = Report.make("odd", {
        database: main,
        params: {},
        row: { at: Schema.Date },
        query: (sql) => sql`insert into odd values ('290000-01-01') returning at`,
        deadline: "2 seconds",
        writes: "once",
        retry: { retries: 3 }
      })
      const error = yield* Effect.flip(Effect.provide(odd.run({}), context))
      assert.lengthOf(yield* postgres.query("select 1 from odd"), 1)
      assert.deepInclude(error, { _tag: "RowDecodeError", field: "at", row: 0 })
    })
  )
})
