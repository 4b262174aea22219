import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const tiny = Report.make("tiny", {
  database: main,
  params: { n: Schema.Int },
  row: { n: Schema.Int },
  query: (sql, { n }) => sql`select ${n}::int4 as n, pg_sleep(${(n % 7) / 1000})::text`,
  deadline: "20 seconds",
  bulkhead: { permits: 6, queue: 10_000 },
  retry: { retries: 2 }
})

const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length

postgres(ownCluster())("a storm of interruptions", (it) => {
  it.effect(
    "leaves no session, waiter, permit, lock or timer behind, and nobody gets another's answer",
    () =>
      Effect.gen(function* () {
        const postgres = yield* server
        const before = timers()
        yield* Effect.scoped(
          Effect.gen(function* () {
            const { context, pool, sql } = yield* role(postgres, {
              maxConnections: 8,
              maxWaiting: 10_000,
              connectionTimeout: "25 seconds"
            })
            yield* sql`create table stormed (id int)`
            const kinds = [
              (n: number) =>
                Effect.map(Effect.provide(tiny.run({ n }), context), (rows) => assert.deepInclude(rows[0], { n })),
              (n: number) => Effect.map(sql`select ${n}::int4 as n`, (rows) => assert.deepStrictEqual(rows, [{ n }])),
              (n: number) =>
                Effect.map(
                  sql.withTransaction(
                    Effect.andThen(sql`insert into stormed values (${n})`, sql`select ${n}::int4 as n`)
                  ),
                  (rows) => assert.deepStrictEqual(rows, [{ n }])
                ),
              (n: number) =>
                Effect.map(
                  sql.withTransaction(
                    sql.withTransaction(sql`select ${n}::int4 as n, pg_advisory_xact_lock(${n})::text`)
                  ),
                  (rows) => assert.deepInclude(rows[0] as object, { n })
                ),
              (n: number) =>
                Effect.map(Stream.runCount(Stream.provideContext(tiny.stream({ n }), context)), (count) =>
                  assert.strictEqual(count, 1)
                ),
              (n: number) =>
                Effect.map(
                  Stream.runCollect(
                    Stream.take(sql`select g from generate_series(${n}::int4, ${n + 5000}) g`.stream, 3)
                  ),
                  (rows) => assert.deepStrictEqual([...rows][0], { g: n })
                ),
              (n: number) =>
                Effect.scoped(
                  Effect.map(
                    Effect.flatMap(sql.reserve, (own) => own.execute("select $1::int4 as n", [n], undefined)),
                    (rows) => assert.deepStrictEqual(rows, [{ n }])
                  )
                )
            ]
            let seed = 12345
            const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff
            let served = 0
            let left = 0
            for (let wave = 0; wave < 6; wave++) {
              const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
              for (let index = 0; index < 500; index++) {
                const n = wave * 1000 + index
                fibers.push(
                  yield* Effect.forkChild(kinds[index % kinds.length]!(n) as Effect.Effect<unknown, unknown>, {
                    startImmediately: true
                  })
                )
              }
              yield* Effect.forEach(
                fibers,
                (fiber) =>
                  Effect.gen(function* () {
                    if (random() < 0.7) {
                      yield* Effect.sleep(Math.floor(random() * 120))
                      yield* Fiber.interrupt(fiber)
                    }
                    const exit = yield* Fiber.await(fiber)
                    if (Exit.isSuccess(exit)) served++
                    else {
                      left++
                      assert.isTrue(
                        exit.cause.reasons.every((reason) => reason._tag === "Interrupt"),
                        String(exit.cause)
                      )
                    }
                  }),
                { concurrency: "unbounded", discard: true }
              )
            }
            assert.isAbove(served, 500)
            assert.isAbove(left, 300)
            yield* expectEventually(pool.stats, (s) => s.leased + s.draining + s.waiting === 0)
            const sessions = yield* postgres.query(
              "select state, query from pg_stat_activity where application_name = 'target/main'"
            )
            assert.isAtMost(sessions.length, 9)
            assert.isTrue(
              sessions.every((row) => row["state"] === "idle"),
              JSON.stringify(sessions)
            )
            assert.lengthOf(yield* postgres.query("select 1 from pg_locks where locktype = 'advisory'"), 0)
            // Every permit is back: six at once.
            const [,] = yield* Effect.all(
              Array.from({ length: 6 }, () => Effect.provide(tiny.run({ n: 3 }), context)),
              { concurrency: "unbounded" }
            )
          })
        )
        yield* expectEventually(
          postgres.query("select 1 from pg_stat_activity where application_name = 'target/main'"),
          (rows) => rows.length === 0
        )
        yield* Effect.sleep("200 millis")
        assert.isAtMost(timers(), before + 2)
      }),
    60_000
  )
})
