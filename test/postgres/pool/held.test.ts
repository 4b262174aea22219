/** Sessions that callers hold: what becomes of their place, and what others are told of them. */
import { Database, Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { isSqlError } from "effect/sql/SqlError"
import type { AcquireTimeout } from "../../../packages/sdk/src/ReportError.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}
const one = Report.make("one", {
  database: Fleet.role("primary"),
  params: {},
  row: { v: Schema.Int },
  query: (sql) => sql`select 1 as v`,
  deadline: "1 second"
})
const many = Report.make("many", {
  database: Fleet.role("primary"),
  params: {},
  row: { v: Schema.Int },
  query: (sql) => sql`select v from generate_series(1, 10000) v`,
  deadline: "5 seconds"
})

const withPool = <A, E>(
  options: Partial<Parameters<typeof Fleet.layerRole>[1]>,
  f: (role: Database.RoleService) => Effect.Effect<A, E, any>
) =>
  Effect.gen(function* () {
    const { primary } = yield* PgCluster.PgCluster
    const layer = Fleet.layerRole("primary", {
      url: Redacted.make(primary.url),
      minConnections: 0,
      maxConnections: 1,
      connectionTimeout: "1 second",
      ...options
    })
    return yield* Effect.provide(Effect.flatMap(Fleet.role("primary"), f), layer) as Effect.Effect<A, E>
  })

/** Why somebody went without, also where a client of Effect's says it. */
const told = (exit: Exit.Exit<unknown, unknown>): AcquireTimeout => {
  assert.isTrue(Exit.isFailure(exit))
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  const own = isSqlError(error) ? (error.reason.cause as Error).cause : error
  assert.strictEqual((own as AcquireTimeout)._tag, "AcquireTimeout")
  return own as AcquireTimeout
}

postgres(ownCluster())("a session that is held", (it) => {
  it.effect("gives up its place when it dies: a caller who waits is admitted while the holder still has it", () =>
    withPool({}, ({ nodes, sql }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const held = yield* sql.reserve
          yield* Effect.ignore(held.executeRaw("select pg_terminate_backend(pg_backend_pid())", []))
          assert.deepStrictEqual(yield* sql`select 1 as v`, [{ v: 1 }])
          assert.deepInclude(yield* nodes[0]!.pool.stats, { leased: 0, idle: 1 })
          // What it has is of no use, and says so.
          assert.isTrue(Exit.isFailure(yield* Effect.exit(held.execute("select 1", [], undefined))))
        })
      ).pipe(Effect.andThen(nodes[0]!.pool.stats), (end) =>
        Effect.map(end, (stats) => assert.deepInclude(stats, { leased: 0, idle: 1, draining: 0 }))
      )
    )
  )

  it.effect("by a transaction: who waits for another one inside of it is told so, in whichever fiber", () =>
    withPool({}, ({ sql }) =>
      sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`select 1`
          const more = Effect.scoped(sql.listen("news"))
          const here = yield* Effect.exit(more)
          const there = yield* Effect.flatMap(Effect.forkDetach(Effect.exit(more)), Fiber.join)
          for (const exit of [here, there]) {
            assert.strictEqual(told(exit).heldByCaller, 1)
            assert.include(told(exit).message, "1 held by the caller itself while it waits")
          }
        })
      )
    )
  )

  it.effect("by a reservation: a report in its scope is told so", () =>
    withPool({}, ({ sql }) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* sql.reserve
          assert.strictEqual(told(yield* Effect.exit(one.run({}))).heldByCaller, 1)
          const [first] = yield* Effect.forEach([1, 2], () => Effect.exit(one.run({})), { concurrency: 2 })
          assert.strictEqual(told(first!).heldByCaller, 1)
        })
      )
    )
  )

  it.effect("by a stream: a report that is run for its rows is told so", () =>
    withPool({}, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          Stream.runForEach(many.stream({}), () => one.run({})) as Effect.Effect<void, unknown>
        )
        assert.strictEqual(told(exit).heldByCaller, 1)
      })
    )
  )

  it.effect("is named to a report that is refused at a full queue, with the pool's true counts", () =>
    withPool({ maxConnections: 2, maxWaiting: 1, lanes: { interactive: { cap: 1 } } }, ({ nodes, options, sql }) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* sql.reserve
          const waiter = yield* Effect.forkChild(Effect.exit(sql`select 1`), { startImmediately: true })
          const refused = told(yield* Effect.exit(one.run({})))
          assert.deepInclude(refused, {
            pool: `fleet/primary@${options.host}:${options.port}`,
            lane: "report",
            reason: "queue-full",
            waitedMillis: 0,
            counts: { idle: 0, leased: 1, connecting: 0, draining: 0, waiting: 1, max: 2 },
            heldByCaller: 1
          })
          assert.deepStrictEqual(
            refused.holders.map(({ lane, name }) => ({ lane, name })),
            [{ lane: "interactive", name: "sql" }]
          )
          assert.strictEqual(nodes[0]!.pool.name, refused.pool)
          yield* Fiber.interrupt(waiter)
        })
      )
    )
  )

  it.effect("by LISTEN is in the lane listen and named as such, and no leak", () =>
    withPool(
      { maxConnections: 2, lanes: { listen: { cap: 1 } }, leakDetection: { threshold: "100 millis" } },
      ({ nodes, sql }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const news = yield* sql.listen("news")
            const more = told(yield* Effect.exit(Effect.scoped(sql.listen("others"))))
            assert.deepInclude(more, { lane: "listen", reason: "lane-full" })
            assert.deepInclude(more.holders[0]!, { lane: "listen", name: "listen" })
            // The cap of listeners leaves the rest to the others.
            yield* sql.notify("news", "hello")
            assert.strictEqual((yield* Queue.take(news)).payload, "hello")
            yield* Effect.sleep("2100 millis")
            const stats = yield* nodes[0]!.pool.stats
            assert.deepInclude(stats.lanes["listen"], { leased: 1, cap: 1 })
            assert.strictEqual(stats.counters.leaksSuspected, 0)
          })
        )
    )
  )
})
