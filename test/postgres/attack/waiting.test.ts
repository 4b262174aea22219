import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role, timed } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const ask = Report.make("ask", {
  database: main,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select 1 as n`,
  deadline: "12 seconds"
})
const outside = Report.make("outside", {
  database: main,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select 1 as n`,
  deadline: "12 seconds",
  outside: true
})

postgres(ownCluster())("callers that wait", (it) => {
  it.effect("a thousand, while the server is down for three seconds: few connects, all are told or served", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* server })
      const { context, pool } = yield* role(proxy, {
        maxConnections: 10,
        connectionTimeout: "10 seconds",
        maxWaiting: 2000
      })
      yield* Effect.provide(ask.run({}), context)
      yield* proxy.reset
      yield* proxy.refuse("reset")
      yield* proxy.resetCounters
      const all = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 1000 }), () => timed(Effect.exit(Effect.provide(ask.run({}), context))), {
          concurrency: "unbounded"
        }),
        { startImmediately: true }
      )
      yield* Effect.sleep("3 seconds")
      const { accepted } = yield* proxy.counters
      yield* proxy.heal
      const results = yield* Fiber.join(all)
      for (const [exit, millis] of results) {
        assert.isBelow(millis, 12_500)
        if (Exit.isFailure(exit)) assert.isTrue(Cause.hasFails(exit.cause) && !Cause.hasDies(exit.cause))
      }
      assert.isAtMost(accepted, 60, "connects in three seconds")
      yield* expectEventually(pool.stats, (s) => s.leased + s.waiting + s.draining === 0)
    })
  )

  it.effect("for themselves, in a pool of one, are told why within the bound", () =>
    Effect.gen(function* () {
      const { sql, context } = yield* role(yield* server, { maxConnections: 1, connectionTimeout: "600 millis" })
      const nested = {
        "a statement inside of a reservation": Effect.scoped(Effect.andThen(sql.reserve, sql`select 1`)),
        "a report that stays outside of the transaction around it": sql.withTransaction(
          Effect.andThen(sql`select 1`, Effect.provide(outside.run({}), context))
        ),
        "a statement for each row of a stream": Stream.runDrain(
          Stream.mapEffect(sql`select generate_series(1, 5) g`.stream, () => sql`select 1`)
        ),
        "two reservations": Effect.scoped(Effect.andThen(sql.reserve, sql.reserve))
      }
      for (const [name, effect] of Object.entries(nested)) {
        const [exit, millis] = yield* timed(Effect.exit(effect as Effect.Effect<unknown, unknown>))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause) && !Cause.hasDies(exit.cause), name)
        assert.isBelow(millis, 2000, name)
        assert.isAbove(millis, 500, name)
      }
      assert.deepStrictEqual(yield* sql.withTransaction(Effect.provide(ask.run({}), context)), [{ n: 1 }])
      assert.deepStrictEqual(
        yield* sql.withTransaction(
          Effect.flatMap(Effect.scoped(sql.reserve), (own) => own.execute("select 1 as n", [], undefined))
        ),
        [{ n: 1 }]
      )
      assert.deepStrictEqual(yield* sql`select 1 as n`, [{ n: 1 }])
    })
  )

  it.effect(
    "a layer that is closed while everything is in use ends within its two deadlines",
    () =>
      Effect.gen(function* () {
        const proxy = yield* FaultProxy.make({ target: yield* server })
        const [, millis] = yield* timed(
          Effect.scoped(
            Effect.gen(function* () {
              const { sql, pool } = yield* role(proxy, { maxConnections: 3 })
              yield* Effect.forkDetach(Effect.exit(sql`select pg_sleep(60)`), { startImmediately: true })
              yield* Effect.forkDetach(Effect.exit(sql.withTransaction(Effect.andThen(sql`select 1`, Effect.never))), {
                startImmediately: true
              })
              yield* Effect.forkDetach(
                Effect.exit(Stream.runForEach(sql`select generate_series(1, 1000000) g`.stream, () => Effect.never)),
                { startImmediately: true }
              )
              yield* Effect.forkDetach(Effect.exit(sql`select 1`), { startImmediately: true })
              yield* expectEventually(pool.stats, (s) => s.leased === 3)
              yield* proxy.stall()
            })
          )
        )
        // Five seconds to finish, two to be cancelled, and a loaded machine.
        assert.isBelow(millis, 10_000)
      }),
    60_000
  )
})
