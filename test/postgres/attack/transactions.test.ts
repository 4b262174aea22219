import { assert } from "@effect/vitest"
import { factsOf } from "@sluice/sdk/pool/Session"
import { PgCluster } from "@sluice/sdk/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { role } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

postgres(ownCluster())("a transaction", (it) => {
  it.effect("is over for a fiber that outlives it: its statements do not reach the next borrower's", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, { maxConnections: 1 })
      yield* sql`create table outlived (id int)`
      const late = [
        sql`insert into outlived values (1)`,
        sql.withTransaction(sql`insert into outlived values (2)`),
        sql.unsafe("insert into outlived values (3)").raw,
        Stream.runDrain(sql`insert into outlived values (4) returning id`.stream),
        Effect.scoped(
          Effect.flatMap(sql.reserve, (own) => own.execute("insert into outlived values (5)", [], undefined))
        )
      ] as ReadonlyArray<Effect.Effect<unknown, unknown>>
      for (const [index, statement] of late.entries()) {
        const over = yield* Deferred.make<void>()
        const fiber = yield* sql.withTransaction(
          Effect.andThen(sql`select 1`, Effect.forkDetach(Effect.exit(Effect.andThen(Deferred.await(over), statement))))
        )
        const joined = yield* Effect.exit(
          sql.withTransaction(
            Effect.gen(function* () {
              yield* sql`select 1`
              yield* Deferred.succeed(over, undefined)
              const exit = yield* Fiber.join(fiber)
              assert.isTrue(Exit.isFailure(exit), `${index} ran in a stranger's transaction`)
            })
          )
        )
        assert.isTrue(Exit.isSuccess(joined), String(joined))
      }
      const [kept, own] = yield* Effect.scoped(
        Effect.map(sql.reserve, (own) => [own, own.execute("insert into outlived values (6)", [], undefined)] as const)
      )
      assert.isTrue(Exit.isFailure(yield* Effect.exit(own)))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(kept.execute("insert into outlived values (7)", [], undefined))))
      assert.deepStrictEqual(yield* sql`select * from outlived`, [])
    })
  )

  it.effect("that fails at its COMMIT says why, and costs nothing", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, { maxConnections: 1 })
      yield* sql`create table parent (id int primary key)`
      yield* sql`create table child (id int references parent deferrable initially deferred)`
      const [before] = yield* sql`select pg_backend_pid() as pid`
      const error = yield* Effect.flip(sql.withTransaction(sql`insert into child values (1)`))
      assert.strictEqual(factsOf(error)?.sqlState, "23503")
      assert.deepStrictEqual(yield* sql`select * from child`, [])
      assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, [before!])
    })
  )

  it.effect("whose owner sleeps until the server ends it does not go on elsewhere", () =>
    Effect.gen(function* () {
      const { sql } = yield* role(yield* server, { maxConnections: 2 })
      yield* sql`create table slept (id int)`
      const exit = yield* Effect.exit(
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`set local idle_in_transaction_session_timeout = 100`
            yield* sql`insert into slept values (1)`
            yield* Effect.sleep("400 millis")
            yield* Effect.exit(sql`insert into slept values (2)`)
            yield* sql`insert into slept values (3)`
          })
        )
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* sql`select * from slept`, [])
    })
  )

  it.effect("of a procedure's own is not run twice because the procedure says that a feature is missing", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const { sql } = yield* role(postgres, { maxConnections: 1 })
      yield* postgres.query("create table called (id int)")
      yield* postgres.query(
        "create procedure calls() language plpgsql as $$ begin insert into called values (1); commit; raise exception using errcode = '0A000'; end $$"
      )
      for (let round = 1; round <= 3; round++) {
        assert.strictEqual(factsOf(yield* Effect.flip(sql`call calls()`))?.sqlState, "0A000")
        assert.deepStrictEqual(yield* sql`select count(*)::int as n from called`, [{ n: round }])
      }
    })
  )

  it.effect.each(["", "-- why\r", "-- why\n", "/* /* */ */ ;"])(
    "of a procedure's own is not taken back by its error, whatever stands before the call: %j",
    (before) =>
      Effect.gen(function* () {
        const postgres = yield* server
        const { sql } = yield* role(postgres, { maxConnections: 1 })
        yield* postgres.query(
          "create or replace procedure fails() language plpgsql as $$ begin commit; raise exception 'no'; end $$"
        )
        const facts = factsOf(yield* Effect.flip(sql.unsafe(`${before}call fails()`)))
        assert.strictEqual(facts?.sqlState, "P0001")
        assert.isFalse(facts?.atomic)
      })
  )
})
