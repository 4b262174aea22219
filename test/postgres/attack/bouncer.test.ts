import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { absent } from "../../support/absent.ts"
import { bouncer, installed } from "../../support/pgbouncer.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role } from "./support.ts"

const counted = Report.make("counted", {
  database: main,
  params: { n: Schema.Int },
  row: { n: Schema.Int, mood: Schema.String },
  query: (sql, { n }) => sql`select ${n}::int4 as n, 'good'::mood as mood`,
  deadline: "20 seconds"
})

postgres(ownCluster())("behind PgBouncer in transaction mode", (it) => {
  it.effect.skipIf(absent("pgbouncer", installed))(
    "forty fibers on ten server connections: reports, transactions, streams, some left",
    () =>
      Effect.gen(function* () {
        const { primary } = yield* PgCluster.PgCluster
        yield* primary.query("create type mood as enum ('good')")
        yield* primary.query("create table bounced (id int)")
        const { context, pool, sql } = yield* role(yield* bouncer(10), {
          pooler: "transaction",
          maxConnections: 40,
          minConnections: 0,
          connectionTimeout: "20 seconds"
        })
        let committed = 0
        const worker = (id: number) =>
          Effect.gen(function* () {
            for (let round = 0; round < 10; round++) {
              const n = id * 100 + round
              const [row] = yield* Effect.provide(counted.run({ n }), context)
              assert.deepStrictEqual(row, { n, mood: "good" })
              assert.deepStrictEqual(yield* sql`select ${n}::int4 as n`, [{ n }])
              const inside = yield* sql.withTransaction(
                Effect.gen(function* () {
                  const [first] = yield* sql`select pg_backend_pid() as pid, pg_current_xact_id()::text as x`
                  yield* sql`insert into bounced values (${n})`
                  yield* Effect.ignore(
                    sql.withTransaction(Effect.andThen(sql`insert into bounced values (-1)`, Effect.fail("no")))
                  )
                  const [second] = yield* sql`select pg_backend_pid() as pid, pg_current_xact_id()::text as x`
                  return [first, second]
                })
              )
              assert.deepStrictEqual(inside[0], inside[1])
              committed++
              assert.strictEqual(yield* Stream.runCount(Stream.provideContext(counted.stream({ n }), context)), 1)
              assert.strictEqual(yield* Stream.runCount(sql`select generate_series(1, 100) g`.stream), 100)
              if (round === 5) {
                const fiber = yield* Effect.forkChild(sql`select pg_sleep(0.3)`, { startImmediately: true })
                yield* Effect.sleep("20 millis")
                yield* Fiber.interrupt(fiber)
              }
            }
          })
        const exits = yield* Effect.forEach(
          Array.from({ length: 40 }, (_, id) => id),
          (id) => Effect.exit(worker(id)),
          { concurrency: "unbounded" }
        )
        for (const exit of exits)
          assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
        assert.strictEqual(committed, 400)
        assert.deepStrictEqual(yield* primary.query("select count(*)::int as n, min(id) as least from bounced"), [
          { n: 400, least: 0 }
        ])
        yield* expectEventually(pool.stats, (s) => s.leased + s.draining + s.waiting === 0)
        yield* expectEventually(
          primary.query(
            "select 1 from pg_stat_activity where pid <> pg_backend_pid() and (state like 'idle in%' or query like '%pg_sleep(0.3)%' and state = 'active')"
          ),
          (rows) => rows.length === 0
        )
      })
  )
})
