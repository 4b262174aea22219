import { assert, layer } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { absent } from "../../support/absent.ts"
import { bouncer, installed } from "../../support/pgbouncer.ts"
import { connect, driver } from "./support.ts"

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a session behind PgBouncer", (it) => {
  it.effect.skipIf(absent("pgbouncer", installed))(
    "runs statements and transactions that the driver's named statements break",
    () =>
      Effect.gen(function* () {
        const target = yield* bouncer(4)
        const work = (run: (n: number) => Effect.Effect<number, unknown>) =>
          Effect.map(
            Effect.forEach(
              Array.from({ length: 25 }, (_, n) => n),
              (n) => Effect.map(Effect.result(run(n)), (result) => result._tag === "Success" && result.success === n)
            ),
            (all) => all.filter((right) => !right).length
          )
        const wrong = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () =>
            Effect.gen(function* () {
              const session = yield* connect(target, { pooler: "transaction", statementTimeout: "5 seconds" })
              return yield* work((n) =>
                Effect.gen(function* () {
                  if (n % 2 === 0) yield* session.begin()
                  const { rows } = yield* session.query("select $1::int4 as n, int4range(1, 2) as r", [n])
                  if (n % 2 === 0) yield* session.commit
                  return rows[0].n as number
                })
              )
            }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          wrong,
          wrong.map(() => 0)
        )
        const bare = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () =>
            Effect.gen(function* () {
              const connection = yield* driver(target)
              return yield* work((n) =>
                Effect.gen(function* () {
                  if (n % 2 === 0) yield* connection.query("begin")
                  const { rows } = yield* connection.query("select $1::int4 as n", [n])
                  if (n % 2 === 0) yield* connection.query("commit")
                  return rows[0]?.["n"] as number
                  // What fails in between would hold one of the four server connections for ever.
                }).pipe(Effect.tapError(() => Effect.ignore(connection.query("rollback", [], false))))
              )
            }),
          { concurrency: "unbounded" }
        )
        assert.isAbove(
          bare.reduce((sum, n) => sum + n, 0),
          0
        )
      }).pipe(Effect.scoped)
  )

  it.effect.skipIf(absent("pgbouncer", installed))(
    "is not handed on after a cancellation, which the pooler may deliver late",
    () =>
      Effect.gen(function* () {
        const session = yield* connect(yield* bouncer(4), { pooler: "transaction" })
        const fiber = yield* Effect.forkChild(session.query("select pg_sleep(20)"), { startImmediately: true })
        yield* Effect.sleep("100 millis")
        yield* Fiber.interrupt(fiber)
        assert.isFalse(yield* session.drain)
        assert.isDefined(session.dead)
      }).pipe(Effect.scoped)
  )
})
