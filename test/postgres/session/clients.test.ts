import { assert, layer } from "@effect/vitest"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgMigrator from "@effect/sql-pg/PgMigrator"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { factsOf } from "@sluice/sdk/pool/Session"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlSchema from "effect/sql/SqlSchema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { client, driverClient, heldClient, timed } from "./support.ts"

const primary = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

class Mine extends Schema.TaggedError<Mine>("Mine")("Mine", {}) {}

const BeginTransaction =
  "BeginTransaction" in SqlClient ? (SqlClient.BeginTransaction as Context.Reference<string | undefined>) : undefined

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })(
  "Effect's clients over sessions",
  (it) => {
    it.effect("runs statements, helpers, streams, values and json unchanged", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        assert.strictEqual((sql as { readonly driver?: string }).driver, "pg")
        yield* sql`create table if not exists items (id int primary key, name text, data jsonb)`
        yield* sql`insert into items ${sql.insert([
          { id: 1, name: "a" },
          { id: 2, name: "b" }
        ])}`
        yield* sql`update items set data = ${sql.json({ x: [1] })} where id = 1`
        assert.deepStrictEqual(yield* sql`select id, data from items where id in ${sql.in([1, 2])} order by id`, [
          { id: 1, data: { x: [1] } },
          { id: 2, data: null }
        ])
        assert.deepStrictEqual(yield* sql`select id from items order by id`.values, [[1], [2]])
        assert.deepStrictEqual(yield* sql`select 1 as one`.unprepared, [{ one: 1 }])
        assert.deepInclude(yield* sql`select 1 as one`.raw, { command: "SELECT", rowCount: 1 })
        const streamed = yield* Stream.runCollect(sql`select generate_series(1, 3) as n`.stream)
        assert.deepStrictEqual([...streamed], [{ n: 1 }, { n: 2 }, { n: 3 }])
        const find = SqlSchema.findAll({
          Request: Schema.Int,
          Result: Schema.Struct({ id: Schema.Int, name: Schema.String }),
          execute: (id) => sql`select id, name from items where id = ${id}`
        })
        assert.deepStrictEqual(yield* find(2), [{ id: 2, name: "b" }])
      })
    )

    it.effect("runs a migrator", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        const migrate = PgMigrator.run({
          loader: PgMigrator.fromRecord({
            "0001_one": Effect.flatMap(SqlClient.SqlClient, (db) => db`create table migrated (id int)`)
          })
        })
        const services = Layer.mergeAll(
          Layer.succeed(SqlClient.SqlClient, sql),
          Layer.succeed(PgClient.PgClient, sql),
          NodeServices.layer
        )
        assert.lengthOf(yield* Effect.provide(migrate, services), 1)
        assert.lengthOf(yield* Effect.provide(migrate, services), 0)
        assert.deepStrictEqual(yield* sql`select * from migrated`, [])
      })
    )

    it.effect("commits, rolls back, nests, and sees a swallowed error", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        yield* sql`create table if not exists tx (id int)`
        yield* sql.withTransaction(sql`insert into tx values (1)`)
        const failed = yield* Effect.exit(
          sql.withTransaction(Effect.andThen(sql`insert into tx values (2)`, Effect.fail(new Mine())))
        )
        assert.isTrue(Exit.isFailure(failed) && Cause.hasFails(failed.cause) && !Cause.hasDies(failed.cause))
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`insert into tx values (3)`
            yield* Effect.ignore(
              sql.withTransaction(Effect.andThen(sql`insert into tx values (4)`, Effect.fail(new Mine())))
            )
            yield* sql.withTransaction(sql`insert into tx values (5)`)
            const conn = yield* Effect.scoped(sql.reserve)
            assert.deepStrictEqual(yield* conn.execute("select count(*)::int as n from tx", [], undefined), [{ n: 3 }])
          })
        )
        assert.deepStrictEqual(yield* sql`select id from tx order by id`.values, [[1], [3], [5]])
        const swallowed = yield* Effect.flip(sql.withTransaction(Effect.ignore(sql`select 1 / 0`)))
        assert.strictEqual(factsOf(swallowed)?.sqlState, "25P02")
        assert.deepStrictEqual(yield* sql`select id from tx order by id`.values, [[1], [3], [5]])
      })
    )

    // Effect 4.0 has no BeginTransaction: there, a transaction always begins with BEGIN.
    it.effect.skipIf(BeginTransaction === undefined)("respects BeginTransaction", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        yield* sql`create table if not exists begun (id int)`
        const readOnly = yield* Effect.flip(
          Effect.provideService(
            sql.withTransaction(sql`insert into begun values (6)`),
            BeginTransaction!,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
          )
        )
        assert.strictEqual(factsOf(readOnly)?.sqlState, "25006")
        const wrong = yield* Effect.flip(
          Effect.provideService(
            sql.withTransaction(sql`insert into begun values (7)`),
            BeginTransaction!,
            "BEGIN NONSENSE"
          )
        )
        assert.strictEqual(factsOf(wrong)?.sqlState, "42601")
        assert.deepStrictEqual(yield* sql`select id from begun`, [])
      })
    )

    it.effect.skipIf(BeginTransaction === undefined)("runs nothing outside of a transaction whose BEGIN failed", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        yield* sql`create table if not exists never (id int)`
        yield* Effect.ignore(
          Effect.provideService(
            sql.withTransaction(
              Effect.all(
                [
                  sql`insert into never values (1)`,
                  sql`insert into never values (2)`,
                  sql`insert into never values (3)`
                ],
                {
                  concurrency: "unbounded",
                  mode: "result"
                }
              )
            ),
            BeginTransaction!,
            "BEGIN NONSENSE"
          )
        )
        assert.deepStrictEqual(yield* sql`select * from never`, [])
      })
    )

    it.effect("keeps a typed error typed when the session dies under the transaction, where the driver dies too", () =>
      Effect.gen(function* () {
        const server = yield* primary
        const bare = yield* driverClient(server)
        const theirs = yield* Effect.exit(bare.withTransaction(bare`select pg_terminate_backend(pg_backend_pid())`))
        assert.isTrue(Exit.isFailure(theirs) && Cause.hasDies(theirs.cause))
        const sql = yield* client(server)
        const ours = yield* Effect.exit(sql.withTransaction(sql`select pg_terminate_backend(pg_backend_pid())`))
        assert.isTrue(Exit.isFailure(ours) && Cause.hasFails(ours.cause) && !Cause.hasDies(ours.cause))
        const mine = yield* Effect.flip(
          sql.withTransaction(
            Effect.gen(function* () {
              const [row] = yield* sql`select pg_backend_pid() as pid`
              yield* server.query(`select pg_terminate_backend(${row?.["pid"]})`)
              return yield* new Mine()
            })
          )
        )
        assert.strictEqual(mine._tag, "Mine")
      })
    )

    it.effect("leaves a frozen BEGIN, COMMIT, ROLLBACK and savepoint at the caller's deadline", () =>
      Effect.gen(function* () {
        const server = yield* primary
        const proxy = yield* FaultProxy.make({ target: server })
        const bare = yield* driverClient(proxy, { maxConnections: 1 })
        yield* bare`select 1`
        const stuck = yield* Effect.forkDetach(
          Effect.timeoutOption(bare.withTransaction(proxy.stall()), "300 millis"),
          {
            startImmediately: true
          }
        )
        yield* Effect.sleep("1500 millis")
        assert.isUndefined(stuck.pollUnsafe(), "the driver's COMMIT cannot be left")
        yield* proxy.reset
        yield* proxy.heal
        yield* Effect.ignoreCause(Fiber.join(stuck))

        const sql = yield* client(proxy)
        const stall = Effect.andThen(sql`select 1`, proxy.stall())
        const scenarios = {
          begin: Effect.andThen(proxy.stall(), sql`select 1`),
          commit: stall,
          rollback: Effect.andThen(stall, Effect.fail(new Mine())),
          savepoint: Effect.andThen(stall, sql.withTransaction(Effect.void)),
          rollbackTo: sql.withTransaction(Effect.andThen(stall, Effect.fail(new Mine())))
        }
        for (const [name, body] of Object.entries(scenarios)) {
          const [exit, millis] = yield* timed(
            Effect.exit(Effect.timeout(sql.withTransaction(body as Effect.Effect<unknown, unknown>), "300 millis"))
          )
          assert.isTrue(Exit.isFailure(exit), name)
          assert.isBelow(millis, 1000, name)
          yield* proxy.heal
        }
      })
    )

    it.effect("bounds a COMMIT without a deadline, and says that its outcome is unknown", () =>
      Effect.gen(function* () {
        const proxy = yield* FaultProxy.make({ target: yield* primary })
        const sql = yield* client(proxy, { controlTimeout: "300 millis", commitTimeout: "1 second" })
        const error = yield* Effect.flip(
          sql.withTransaction(Effect.andThen(sql`select 1`, proxy.stall({ direction: "server->client" })))
        )
        assert.isTrue(factsOf(error)?.commit)
        assert.isFalse(error.isRetryable)
        assert.strictEqual(PgFailure.fromSqlError(error as never).outcome, "unknown")
      })
    )

    it.effect("does not invite to repeat a write whose answer was lost, as the driver does", () =>
      Effect.gen(function* () {
        const server = yield* primary
        const proxy = yield* FaultProxy.make({ target: server })
        const scenario = (sql: SqlClient.SqlClient, table: string) =>
          Effect.gen(function* () {
            yield* sql.unsafe(`create table ${table} (id int)`)
            // Warm, so that the statement itself is what is sent next.
            yield* sql.unsafe(`insert into ${table} values (1)`)
            yield* sql.unsafe(`delete from ${table}`)
            let attempts = 0
            yield* Effect.forkChild(
              Effect.andThen(
                expectEventually(server.query(`select count(*)::int as n from ${table}`), ([row]) => row?.["n"] === 1),
                Effect.andThen(proxy.reset, proxy.heal)
              )
            )
            yield* proxy.stall({ direction: "server->client" })
            yield* Effect.suspend(() => {
              attempts++
              return sql.unsafe(`insert into ${table} values (1)`)
            }).pipe(Effect.retry({ while: (error) => error.isRetryable, times: 3 }), Effect.exit)
            const [row] = yield* server.query(`select count(*)::int as n from ${table}`)
            return [attempts, row?.["n"]]
          })
        const bare = yield* scenario(yield* driverClient(proxy, { maxConnections: 1 }), "doubled")
        assert.deepStrictEqual(bare, [2, 2])
        const ours = yield* scenario(yield* heldClient(proxy), "single")
        assert.deepStrictEqual(ours, [1, 1])
      })
    )

    it.effect("asks a query for each streamed row in one transaction, where the driver waits for itself", () =>
      Effect.gen(function* () {
        const server = yield* primary
        const body = (sql: SqlClient.SqlClient) =>
          sql.withTransaction(
            Stream.runFold(
              Stream.mapEffect(sql`select g from generate_series(1, 30000) g`.stream, ({ g }) =>
                (g as number) % 1000 === 0 ? Effect.as(sql`select ${g}::int4`, 1) : Effect.succeed(0)
              ),
              () => 0,
              (sum, one) => sum + one
            )
          )
        const bare = yield* driverClient(server, { maxConnections: 1 })
        const stuck = yield* Effect.forkDetach(body(bare), { startImmediately: true })
        assert.strictEqual(yield* body(yield* heldClient(server)), 30)
        yield* Effect.sleep("1 second")
        assert.isUndefined(stuck.pollUnsafe())
        yield* Effect.forkDetach(Fiber.interrupt(stuck))
      })
    )

    it.effect("listens and notifies, and the queue fails with the session", () =>
      Effect.gen(function* () {
        const server = yield* primary
        const sql = yield* client(server)
        const queue = yield* sql.listen("news")
        yield* sql.notify("news", "hello")
        assert.deepInclude(yield* Queue.take(queue), { channel: "news", payload: "hello" })
        yield* server.query("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")
        const error = yield* Effect.flip(Queue.take(queue))
        assert.strictEqual(factsOf(error)?.sqlState, "57P01")
      })
    )

    it.effect("goes on in the outer transaction after an inner one was left at its deadline", () =>
      Effect.gen(function* () {
        const sql = yield* client(yield* primary)
        yield* sql`create table if not exists outer_tx (id int)`
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`insert into outer_tx values (1)`
            const [, millis] = yield* timed(
              Effect.timeoutOption(
                sql.withTransaction(Effect.andThen(sql`insert into outer_tx values (2)`, sql`select pg_sleep(20)`)),
                "100 millis"
              )
            )
            assert.isBelow(millis, 1000)
            yield* sql`insert into outer_tx values (3)`
          })
        )
        assert.deepStrictEqual(yield* sql`select id from outer_tx order by id`.values, [[1], [3]])
      })
    )
  }
)
