/** A report inside of a transaction belongs to it. */
import { assert } from "@effect/vitest"
import { Report, Snapshot } from "@sluice/sdk"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { at, errorOf, failsWith, Fleet, layerFleet, primary, replica } from "./support.ts"

const common = { database: primary, params: {}, deadline: "10 seconds" } as const
const n = { n: Schema.Int }

const count = Report.make("count", { ...common, row: n, query: (sql) => sql`select count(*)::int as n from joined` })
const list = { ...common, row: n, query: (sql: any) => sql`select n from joined order by n` } as const
const all = Report.make("all", list)
const add = Report.make("add", {
  ...common,
  params: { n: Schema.Int },
  row: n,
  writes: "once",
  retry: {},
  query: (sql, { n }) => sql`insert into joined values (${n}) returning n`
})
const addSlowly = Report.make("addSlowly", {
  ...common,
  params: { n: Schema.Int, millis: Schema.Int },
  row: n,
  writes: "once",
  deadline: "300 millis",
  query: (sql, { millis, n }) =>
    sql`with slow as (select pg_sleep(${millis} / 1000.0)) insert into joined select ${n}::int from slow returning n`
})
const broken = Report.make("broken", { ...common, row: n, query: (sql) => sql`select 1 / 0 as n` })
const pid = { row: { pid: Schema.Int }, query: (sql: any) => sql`select pg_backend_pid() as pid` } as const
const session = Report.make("session", { ...common, ...pid })
const elsewhere = Report.make("elsewhere", { ...common, ...pid, outside: true })
const onReplica = Report.make("onReplica", { ...common, ...pid, database: replica })
const onReplicaOutside = Report.make("onReplicaOutside", { ...common, ...pid, database: replica, outside: true })

const sql = Effect.map(primary, ({ sql }) => sql)
const inTransaction = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.flatMap(sql, (sql) => sql.withTransaction(self))
const committed = Effect.flatMap(TestDatabase, ({ query }) =>
  Effect.map(query("select n from joined order by n"), (rows) => rows.map((row) => row["n"]))
)
const fresh = Effect.flatMap(TestDatabase, ({ script }) =>
  script(["drop table if exists joined", "create table joined (n int primary key)"])
)
/** Nobody holds a session, and none is being brought to rest; the server has nobody in a transaction. */
const nothingLeft = Effect.gen(function* () {
  const { name, query } = yield* TestDatabase
  const { stats } = (yield* primary).nodes[0]!.pool
  yield* expectEventually(stats, ({ draining, leased, waiting }) => leased + draining + waiting === 0)
  yield* expectEventually(
    query(`select count(*)::int as n from pg_stat_activity where datname = '${name}' and state like 'idle in%'`),
    ([row]) => row?.["n"] === 0
  )
})

const giveUp = Effect.fail("given up" as const)

postgres(layerFleet({ maxConnections: 3 }))("a report in a transaction of its role", (it) => {
  it.effect("runs on the transaction's session and sees what it wrote", () =>
    Effect.gen(function* () {
      yield* fresh
      yield* inTransaction(
        Effect.gen(function* () {
          yield* (yield* sql)`insert into joined values (1), (2)`
          const [own] = yield* (yield* sql)<{ readonly pid: number }>`select pg_backend_pid() as pid`
          assert.deepStrictEqual(yield* session.run({}), [{ pid: own!.pid }])
          assert.deepStrictEqual(yield* all.run({}), [{ n: 1 }, { n: 2 }])
          const { url } = yield* TestDatabase
          const told = yield* Report.make("cut", { ...list, maxRows: 1 }).runWithInfo({})
          assert.deepInclude(told, { node: new URL(url).host, attempts: 1, truncated: true, rows: [{ n: 1 }] })
          assert.deepStrictEqual(yield* committed, [], "nobody else does")
        })
      )
      assert.deepStrictEqual(yield* committed, [1, 2])
      yield* nothingLeft
    })
  )

  it.effect("that writes is rolled back with it, and committed with it", () =>
    Effect.gen(function* () {
      yield* fresh
      const exit = yield* Effect.exit(
        inTransaction(Effect.andThen(Effect.all([add.run({ n: 1 }), add.run({ n: 2 })], { concurrency: 2 }), giveUp))
      )
      assert.deepStrictEqual(exit, Exit.fail("given up"))
      assert.deepStrictEqual(yield* committed, [])
      yield* inTransaction(add.run({ n: 3 }))
      assert.deepStrictEqual(yield* committed, [3])
    })
  )

  it.effect("may be its first statement, and leaves it free to write", () =>
    Effect.gen(function* () {
      yield* fresh
      // On a session that has just served a read by itself, which was told to refuse writes.
      yield* Effect.all([count.run({}), count.run({}), count.run({})], { concurrency: 3 })
      yield* inTransaction(Effect.andThen(count.run({}), add.run({ n: 1 })))
      assert.deepStrictEqual(yield* committed, [1])
      const sneaky = Report.make("sneaky", {
        ...common,
        row: n,
        query: (sql) => sql`insert into joined values (2) returning n`
      })
      yield* failsWith(sneaky.run({}), "QueryFailed")
      // The transaction decides: nothing inside is repeated, hedged or sent to a replica.
      yield* inTransaction(sneaky.run({}))
      assert.deepStrictEqual(yield* committed, [1, 2])
    })
  )

  it.effect("fails it, as a statement does: what follows fails, and its COMMIT rolls back", () =>
    Effect.gen(function* () {
      yield* fresh
      const error = yield* Effect.flip(
        inTransaction(
          Effect.gen(function* () {
            yield* add.run({ n: 1 })
            assert.strictEqual((yield* failsWith(broken.run({}), "QueryFailed")).sqlState, "22012")
            assert.strictEqual((yield* failsWith(count.run({}), "QueryFailed")).sqlState, "25P02")
          })
        )
      )
      assert.strictEqual(error._tag, "SqlError")
      assert.deepStrictEqual(yield* committed, [])
      yield* nothingLeft
    })
  )

  it.effect("is not repeated: the transaction is the unit that is", () =>
    Effect.gen(function* () {
      yield* fresh
      const { query } = yield* TestDatabase
      yield* query("create sequence if not exists calls")
      yield* query(
        "create or replace function conflicts() returns int language plpgsql as $$ begin perform nextval('calls'); raise exception using errcode = '40001'; end $$"
      )
      const conflicts = Report.make("conflicts", {
        ...common,
        row: n,
        retry: { retries: 3 },
        hedge: { after: 1 },
        query: (sql) => sql`select conflicts() as n`
      })
      const error = yield* failsWith(inTransaction(conflicts.run({})), "QueryFailed")
      assert.strictEqual(error.sqlState, "40001")
      assert.deepStrictEqual(yield* query("select last_value::int as n from calls"), [{ n: 1 }])
    })
  )

  it.effect("rolls back to the savepoint of the transaction that nests, and the outer one goes on", () =>
    Effect.gen(function* () {
      yield* fresh
      yield* inTransaction(
        Effect.gen(function* () {
          yield* add.run({ n: 1 })
          yield* failsWith(inTransaction(Effect.andThen(add.run({ n: 2 }), broken.run({}))), "QueryFailed")
          yield* inTransaction(add.run({ n: 3 }))
          assert.deepStrictEqual(yield* all.run({}), [{ n: 1 }, { n: 3 }])
        })
      )
      assert.deepStrictEqual(yield* committed, [1, 3])
    })
  )

  it.effect("that leaves at its deadline leaves a transaction that can only be rolled back", () =>
    Effect.gen(function* () {
      for (const millis of [5_000]) {
        yield* fresh
        const error = yield* Effect.flip(
          inTransaction(
            Effect.gen(function* () {
              yield* add.run({ n: 1 })
              const late = yield* failsWith(addSlowly.run({ n: 2, millis }), "DeadlineExceeded")
              assert.strictEqual(late.key, "addSlowly")
              yield* Effect.sleep("50 millis")
              assert.strictEqual((yield* failsWith(count.run({}), "QueryFailed")).sqlState, "25P02")
            })
          )
        )
        assert.strictEqual(error._tag, "SqlError", "COMMIT says that it rolled back")
        assert.deepStrictEqual(yield* committed, [])
        yield* nothingLeft
        // A savepoint takes the same back.
        yield* inTransaction(
          Effect.gen(function* () {
            yield* add.run({ n: 1 })
            yield* failsWith(inTransaction(addSlowly.run({ n: 2, millis })), "DeadlineExceeded")
            yield* add.run({ n: 3 })
          })
        )
        assert.deepStrictEqual(yield* committed, [1, 3])
        yield* nothingLeft
      }
    })
  )

  it.effect(
    "that is left while its answer is on its way leaves one that can only be rolled back: it was done, and nobody was told",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const proxy = yield* FaultProxy.make({ target: { host: "127.0.0.1", port: Number(new URL(url).port) } })
        const throughProxy = Layer.build(Fleet.layerRole("primary", at(proxy.url(url), { maxConnections: 2 })))
        yield* Effect.gen(function* () {
          const [report, statement] = [
            add.run({ n: 2 }),
            Effect.flatMap(sql, (sql) => sql`insert into joined values (2)`)
          ] as ReadonlyArray<Effect.Effect<unknown, unknown, any>>
          const streams = [
            Effect.flatMap(sql, (sql) => Stream.runDrain(sql`insert into joined values (2) returning n`.stream))
          ]
          for (const left of [report, statement, ...streams]) {
            yield* fresh
            /** The server has done it, and its answer comes when its caller has gone. */
            const leaving = Effect.gen(function* () {
              yield* proxy.stall({ direction: "server->client" })
              const fiber = yield* Effect.forkChild(left!)
              yield* Effect.sleep("50 millis")
              yield* Fiber.interrupt(fiber)
              yield* Effect.sleep("50 millis")
              yield* proxy.heal
            })
            const error = yield* Effect.flip(
              inTransaction(
                Effect.gen(function* () {
                  yield* add.run({ n: 1 })
                  yield* leaving
                  assert.strictEqual((yield* failsWith(count.run({}), "QueryFailed")).sqlState, "25P02")
                })
              )
            )
            assert.strictEqual(error._tag, "SqlError", "COMMIT says that it rolled back")
            assert.deepStrictEqual(yield* committed, [])
            // A savepoint takes the same back, and the transaction goes on.
            yield* inTransaction(
              Effect.gen(function* () {
                yield* add.run({ n: 1 })
                yield* Effect.flip(inTransaction(Effect.andThen(leaving, giveUp)))
                yield* add.run({ n: 3 })
              })
            )
            assert.deepStrictEqual(yield* committed, [1, 3])
            yield* nothingLeft
          }
        }).pipe(Effect.provide(yield* throughProxy))
      })
  )

  it.effect("streams on the transaction's session", () =>
    Effect.gen(function* () {
      yield* fresh
      yield* inTransaction(
        Effect.gen(function* () {
          yield* (yield* sql)`insert into joined select generate_series(1, 5000)`
          const rows = yield* Stream.runCollect(all.stream({}))
          assert.lengthOf(rows, 5000)
          // Left early, and cut by `maxRows`: the transaction goes on.
          assert.lengthOf(yield* Stream.runCollect(Stream.take(all.stream({}), 10)), 10)
          const cut = Report.make("cutStream", { ...list, maxRows: 7 })
          assert.lengthOf(yield* Stream.runCollect(cut.stream({})), 7)
          yield* add.run({ n: 5001 })
        })
      )
      assert.lengthOf(yield* committed, 5001)
      yield* nothingLeft
    })
  )

  it.effect("as a stream that leaves at its deadline leaves one that can only be rolled back", () =>
    Effect.gen(function* () {
      yield* fresh
      // In its first rows, and in a later chunk.
      for (const quick of [0, 5_000]) {
        const late = Report.make("late", {
          ...common,
          row: n,
          deadline: "200 millis",
          query: (sql) =>
            sql`select n from (select n, case when n > ${quick}::int then pg_sleep(10)::text end from (select generate_series(1, 20000) as n) as all_of_them) as slow`
        })
        const begin = performance.now()
        const error = yield* Effect.flip(
          inTransaction(
            Effect.gen(function* () {
              yield* add.run({ n: 1 })
              yield* failsWith(Stream.runDrain(late.stream({})), "DeadlineExceeded")
              yield* failsWith(count.run({}), "QueryFailed")
            })
          )
        )
        assert.strictEqual(error._tag, "SqlError")
        assert.isBelow(performance.now() - begin, 8_000, "it was cancelled")
        assert.deepStrictEqual(yield* committed, [])
        yield* nothingLeft
      }
    })
  )

  it.effect("from a fiber that was forked inside joins it, and is refused when it is over", () =>
    Effect.gen(function* () {
      yield* fresh
      const over = yield* Deferred.make<void>()
      const fiber = yield* inTransaction(
        Effect.gen(function* () {
          const [own] = yield* session.run({})
          assert.deepStrictEqual(yield* Fiber.join(yield* Effect.forkChild(session.run({}))), [own!])
          return yield* Effect.forkDetach(errorOf(Effect.andThen(Deferred.await(over), add.run({ n: 1 }))))
        })
      )
      yield* Deferred.succeed(over, undefined)
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "QueryFailed", String(error))
      assert.strictEqual(error.class, "TransactionMisuse")
      assert.include(error.message, "has ended")
      assert.deepStrictEqual(yield* committed, [])
    })
  )

  it.effect("holds its bulkhead and its attempt's timeout", () =>
    Effect.gen(function* () {
      yield* fresh
      const one = { permits: 1, queue: 0 }
      const held = Report.make("held", {
        ...common,
        row: n,
        bulkhead: one,
        query: (sql) => sql`select 1 as n from pg_sleep(0.1)`
      })
      const attempts = Report.make("attempts", {
        ...common,
        row: n,
        attemptTimeout: "100 millis",
        query: (sql) => sql`select 1 as n from pg_sleep(5)`
      })
      yield* inTransaction(
        Effect.gen(function* () {
          const exits = yield* Effect.all([Effect.exit(held.run({})), Effect.exit(held.run({}))], { concurrency: 2 })
          assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false])
          const error = yield* failsWith(inTransaction(attempts.run({})), "DeadlineExceeded")
          assert.strictEqual(error.deadlineMillis, 100)
          yield* add.run({ n: 1 })
        })
      )
      assert.deepStrictEqual(yield* committed, [1])
      yield* nothingLeft
    })
  )

  it.effect("says `outside: true` to run on a lease of its own", () =>
    Effect.gen(function* () {
      yield* fresh
      yield* inTransaction(
        Effect.gen(function* () {
          yield* (yield* sql)`insert into joined values (1)`
          const [inside] = yield* session.run({})
          const [outside] = yield* elsewhere.run({})
          assert.notStrictEqual(outside!.pid, inside!.pid)
          const blind = Report.make("blind", { ...list, outside: true })
          assert.deepStrictEqual(yield* blind.run({}), [])
          assert.deepStrictEqual(yield* Stream.runCollect(blind.stream({})), [])
        })
      )
    })
  )

  it.effect("of another role is refused by name, unless it says `outside: true`", () =>
    Effect.gen(function* () {
      yield* fresh
      yield* inTransaction(
        Effect.gen(function* () {
          yield* add.run({ n: 1 })
          for (const refused of [onReplica.run({}), Stream.runDrain(onReplica.stream({}))]) {
            const error = yield* failsWith(refused, "QueryFailed")
            assert.strictEqual(error.class, "TransactionMisuse")
            for (const name of ["onReplica", "fleet/replica", "fleet/primary", "outside: true"]) {
              assert.include(error.message, name)
            }
          }
          assert.lengthOf(yield* onReplicaOutside.run({}), 1)
          yield* add.run({ n: 2 })
        })
      )
      assert.deepStrictEqual(yield* committed, [1, 2], "nothing was sent: the transaction goes on")
      assert.lengthOf(yield* onReplica.run({}), 1)
      // A transaction of each: a report finds its own.
      const both = Effect.flatMap(replica, ({ sql }) => inTransaction(sql.withTransaction(session.run({}))))
      assert.lengthOf(yield* both, 1)
    })
  )

  it.effect("and a snapshot: not one in the other", () =>
    Effect.gen(function* () {
      yield* fresh
      const snapshot = Snapshot.run(primary, { sessions: 1 })
      const error = yield* failsWith(inTransaction(snapshot(count.run({}))), "QueryFailed")
      assert.strictEqual(error.class, "TransactionMisuse")
      assert.include(error.message, "snapshot")
      assert.lengthOf(yield* inTransaction(snapshot(elsewhere.run({}))), 1)
      // The sessions of a snapshot are in a transaction already.
      assert.strictEqual((yield* errorOf(snapshot(inTransaction(count.run({})))))._tag, "SqlError")
      yield* nothingLeft
    })
  )

  it.effect("does not join a reserved connection, which is a value and surrounds nothing", () =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const own = yield* (yield* sql).reserve
          const [row] = yield* own.execute("select pg_backend_pid() as pid", [], undefined)
          assert.notDeepEqual(yield* session.run({}), [row])
        })
      )
      yield* nothingLeft
    })
  )
})
