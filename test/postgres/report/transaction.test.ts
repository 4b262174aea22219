/** A declared transaction on a real PostgreSQL. */
import { assert } from "@effect/vitest"
import { Report, Snapshot } from "@sluice/sdk"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { at, errorOf, failsWith, Fleet, layerFleet, primary, replica, timed } from "./support.ts"

const common = { database: primary, params: {}, row: { n: Schema.Int }, deadline: "10 seconds" } as const
const total = Report.make("total", {
  ...common,
  query: (sql) => sql`select coalesce(sum(n), 0)::int as n from units`
})
const add = Report.make("add", {
  ...common,
  params: { n: Schema.Int },
  writes: "once",
  query: (sql, { n }) => sql`insert into units values (${n}) returning n`
})
const bump = Report.make("bump", {
  ...common,
  params: { id: Schema.Int },
  writes: "once",
  query: (sql, { id }) => sql`update rows set n = n + 1 where id = ${id} returning n`
})
const retry = { retries: 3, jitter: "none", schedule: Report.presets.report.retry.schedule } as const
const unit = Report.transaction(primary, { name: "unit", deadline: "10 seconds" })
const serializable = Report.transaction(primary, {
  name: "serializable",
  deadline: "10 seconds",
  isolation: "serializable",
  retry
})

const sql = Effect.map(primary, ({ sql }) => sql)
const committed = Effect.flatMap(TestDatabase, ({ query }) =>
  Effect.map(query("select n from units order by n"), (rows) => rows.map((row) => row["n"]))
)
const fresh = Effect.flatMap(TestDatabase, ({ script }) =>
  script([
    "drop table if exists units, rows",
    "create table units (n int)",
    "create table rows (id int primary key, n int)",
    "insert into rows values (1, 0), (2, 0)"
  ])
)
const nothingLeft = Effect.gen(function* () {
  const { name, query } = yield* TestDatabase
  const { stats } = (yield* primary).nodes[0]!.pool
  yield* expectEventually(stats, ({ draining, leased, waiting }) => leased + draining + waiting === 0)
  yield* expectEventually(
    query(`select count(*)::int as n from pg_stat_activity where datname = '${name}' and state like 'idle in%'`),
    ([row]) => row?.["n"] === 0
  )
})
const throughProxy = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const proxy = yield* FaultProxy.make({ target: { host: "127.0.0.1", port: Number(new URL(url).port) } })
  const context = yield* Layer.build(Fleet.layerRole("primary", at(proxy.url(url), { maxConnections: 2 })))
  return { proxy, context }
})

const shown = (exit: unknown): string => JSON.stringify(exit).replace(/"fiberId":\d+/, "")

postgres(layerFleet({ maxConnections: 3 }))("a declared transaction", (it) => {
  it.effect("commits what its reports and statements did on one session, and gives what the effect gives", () =>
    Effect.gen(function* () {
      yield* fresh
      const value = yield* unit(
        Effect.gen(function* () {
          yield* add.run({ n: 1 })
          yield* (yield* sql)`insert into units values (2)`
          assert.deepStrictEqual(yield* committed, [])
          return yield* total.run({})
        })
      )
      assert.deepStrictEqual(value, [{ n: 3 }])
      assert.deepStrictEqual(yield* committed, [1, 2])
      assert.strictEqual(yield* Report.transaction(Effect.succeed("empty"), primary, { deadline: "1 second" }), "empty")
      yield* nothingLeft
    })
  )

  it.effect("rolls back when the effect fails, with its own error; a defect and an interrupt, too", () =>
    Effect.gen(function* () {
      yield* fresh
      for (const end of [Effect.fail("mine"), Effect.fail(undefined), Effect.die("bug"), Effect.interrupt]) {
        const exit = yield* Effect.exit(unit(Effect.andThen(add.run({ n: 1 }), end as Effect.Effect<never, unknown>)))
        assert.strictEqual(shown(exit), shown(yield* Effect.exit(end as Effect.Effect<never>)))
      }
      assert.deepStrictEqual(yield* committed, [])
      const error = yield* failsWith(
        unit(Effect.ignore(Effect.flatMap(sql, (sql) => sql`select 1 / 0`))),
        "QueryFailed"
      )
      assert.deepInclude(error, { report: "unit", sqlState: "25P02" }, "a failure that was ignored is not committed")
      yield* nothingLeft
    })
  )

  it.effect("says of a COMMIT that the server refuses what its code is", () =>
    Effect.gen(function* () {
      const { script } = yield* TestDatabase
      yield* script([
        "create table if not exists parent (id int primary key)",
        "create table if not exists child (id int references parent deferrable initially deferred)"
      ])
      const error = yield* failsWith(
        unit(Effect.flatMap(sql, (sql) => sql`insert into child values (1)`)),
        "QueryFailed"
      )
      assert.deepInclude(error, { report: "unit", sqlState: "23503" })
    })
  )

  it.effect("begins as it declares", () =>
    Effect.gen(function* () {
      yield* fresh
      const how = Report.make("how", {
        ...common,
        row: { isolation: Schema.String, only: Schema.String, deferrable: Schema.String },
        query: (sql) => sql`select current_setting('transaction_isolation') as isolation,
          current_setting('transaction_read_only') as only, current_setting('transaction_deferrable') as deferrable`
      })
      const reading = Report.transaction(primary, {
        deadline: "5 seconds",
        isolation: "serializable",
        readOnly: true,
        deferrable: true
      })
      assert.deepStrictEqual(yield* reading(how.run({})), [{ isolation: "serializable", only: "on", deferrable: "on" }])
      const repeatable = Report.transaction(primary, { deadline: "5 seconds", isolation: "repeatable read" })
      assert.deepStrictEqual(yield* repeatable(how.run({})), [
        { isolation: "repeatable read", only: "off", deferrable: "off" }
      ])
      assert.deepStrictEqual(yield* unit(how.run({})), [
        { isolation: "read committed", only: "off", deferrable: "off" }
      ])
      const refused = yield* failsWith(reading(add.run({ n: 1 })), "QueryFailed")
      assert.deepInclude(refused, { sqlState: "25006", report: "add" })
      assert.include(refused.problem, "declared read-only")
      // What one of them set is not what the next one gets.
      yield* unit(add.run({ n: 1 }))
      assert.deepStrictEqual(yield* committed, [1])
    })
  )

  it.effect("is run again as a whole when it conflicts (40001) or is a deadlock's victim (40P01)", () =>
    Effect.gen(function* () {
      yield* fresh
      let runs = 0
      const meet = () => {
        const both = [Deferred.makeUnsafe<void>(), Deferred.makeUnsafe<void>()]
        return (id: number) => Effect.andThen(Deferred.succeed(both[id]!, undefined), Deferred.await(both[1 - id]!))
      }
      const read = meet()
      /** Write skew: each reads what the other one writes. */
      const skew = (id: number) =>
        serializable(
          Effect.gen(function* () {
            runs++
            const [sum] = yield* total.run({})
            yield* read(id)
            yield* add.run({ n: 10 + sum!.n })
          })
        )
      yield* Effect.all([skew(0), skew(1)], { concurrency: 2 })
      assert.deepStrictEqual(yield* committed, [10, 20], "as if one had come after the other")
      assert.strictEqual(runs, 3)

      runs = 0
      const locked = meet()
      const patient = Report.transaction(primary, { name: "patient", deadline: "20 seconds", retry })
      const cross = (id: number) =>
        patient(
          Effect.gen(function* () {
            runs++
            yield* bump.run({ id: 1 + id })
            yield* locked(id)
            // By a statement of its own for one of them: both kinds of errors say so.
            if (id === 0) yield* bump.run({ id: 2 })
            else yield* (yield* sql)`update rows set n = n + 1 where id = 1`
          })
        )
      yield* Effect.all([cross(0), cross(1)], { concurrency: 2 })
      const { query } = yield* TestDatabase
      assert.deepStrictEqual(yield* query("select n from rows order by id"), [{ n: 2 }, { n: 2 }])
      assert.strictEqual(runs, 3)
      yield* nothingLeft
    })
  )

  it.effect("is not run again without a retry, nor for any other failure", () =>
    Effect.gen(function* () {
      yield* fresh
      let runs = 0
      const raising = (code: string) =>
        Effect.gen(function* () {
          runs++
          yield* add.run({ n: 1 })
          yield* (yield* sql).unsafe(`do $$ begin raise exception using errcode = '${code}'; end $$`)
        })
      assert.strictEqual((yield* errorOf(unit(raising("40001"))))._tag, "SqlError")
      assert.strictEqual(runs, 1)
      for (const code of ["23505", "55P03", "57014", "08006", "P0001"]) {
        runs = 0
        assert.strictEqual((yield* errorOf(serializable(raising(code))))._tag, "SqlError", code)
        assert.strictEqual(runs, 1, code)
      }
      runs = 0
      assert.strictEqual((yield* errorOf(serializable(raising("40001"))))._tag, "SqlError")
      assert.strictEqual(runs, 4, "no more often than it declares, and its last error is the effect's own")
      assert.deepStrictEqual(yield* committed, [])
      yield* nothingLeft
    })
  )

  for (const lost of ["its answer", "the COMMIT itself"] as const) {
    for (const how of ["the network", "the deadline"] as const) {
      it.effect(`whose COMMIT was lost (${lost}, by ${how}) is OutcomeUnknown and never run again`, () =>
        Effect.gen(function* () {
          yield* fresh
          const { context, proxy } = yield* throughProxy
          let runs = 0
          const deadline = how === "the deadline" ? "600 millis" : "10 seconds"
          const direction = lost === "its answer" ? ("server->client" as const) : ("client->server" as const)
          const unlucky = Report.transaction(primary, { name: "unlucky", deadline, retry })
          const call = unlucky(
            Effect.gen(function* () {
              runs++
              yield* add.run({ n: 1 })
              yield* proxy.stall({ direction })
              if (how === "the network") yield* Effect.forkDetach(Effect.delay(proxy.reset, "200 millis"))
            })
          ).pipe(Effect.provide(context))
          const [error, millis] = yield* timed(failsWith(call, "OutcomeUnknown"))
          assert.strictEqual(error.key, "unlucky")
          assert.isBelow(millis, 5_000)
          assert.strictEqual(runs, 1)
          yield* proxy.heal
          if (lost === "its answer") assert.deepStrictEqual(yield* committed, [1])
          yield* Effect.provide(nothingLeft, context)
          // One that only reads has nothing to apply.
          if (how === "the network") {
            const reading = Report.transaction(primary, { deadline: "10 seconds", readOnly: true })
            const read = reading(
              Effect.gen(function* () {
                yield* total.run({})
                yield* proxy.stall({ direction })
                yield* Effect.forkDetach(Effect.delay(proxy.reset, "200 millis"))
              })
            ).pipe(Effect.provide(context))
            assert.strictEqual((yield* failsWith(read, "DatabaseUnavailable")).reason, "lost")
          }
        })
      )
    }
  }

  it.effect("whose deadline comes in the middle leaves nothing behind", () =>
    Effect.gen(function* () {
      yield* fresh
      const brief = Report.transaction(primary, { name: "brief", deadline: "300 millis", retry })
      const slow = Report.make("slow", { ...common, query: (sql) => sql`select 1 as n from pg_sleep(20)` })
      const middles: ReadonlyArray<Effect.Effect<unknown, unknown, any>> = [
        slow.run({}),
        Effect.flatMap(sql, (sql) => sql`select pg_sleep(20)`),
        Effect.never,
        Effect.flatMap(sql, (sql) => sql.withTransaction(Effect.andThen(add.run({ n: 2 }), slow.run({}))))
      ]
      for (const middle of middles) {
        const [error, millis] = yield* timed(
          failsWith(brief(Effect.andThen(add.run({ n: 1 }), middle)) as typeof failing, "DeadlineExceeded")
        )
        assert.strictEqual(error.key, "brief")
        assert.isBelow(millis, 5_000)
        yield* nothingLeft
        assert.deepStrictEqual(yield* committed, [])
      }
      // Nobody gets a session: it has not begun.
      const holding = yield* Effect.forkChild(
        Effect.all([unit(Effect.never), unit(Effect.never), unit(Effect.never)], { concurrency: 3 })
      )
      yield* expectEventually((yield* primary).nodes[0]!.pool.stats, ({ leased }) => leased === 3)
      const error = yield* errorOf(brief(add.run({ n: 3 })))
      assert.strictEqual(error._tag, "AcquireTimeout")
      yield* Fiber.interrupt(holding)
      yield* nothingLeft
      assert.deepStrictEqual(yield* committed, [])
    })
  )

  it.effect("that is interrupted at any step loses no session, and is applied as a whole or not at all", () =>
    Effect.gen(function* () {
      yield* fresh
      const whole = serializable(Effect.andThen(add.run({ n: 1 }), Effect.andThen(total.run({}), add.run({ n: 2 }))))
      let ended = 0
      for (let step = 0; step < 150; step++) {
        const fiber = yield* Effect.forkChild(Effect.provideService(whole, Scheduler.MaxOpsBeforeYield, 3))
        // By steps of the fiber, then by the server's time; the last one is left alone.
        for (let n = 0; n < step && fiber.pollUnsafe() === undefined; n++) {
          yield* n % 10 === 9 ? Effect.promise(() => new Promise(setImmediate)) : Effect.yieldNow
        }
        if (step >= 75) yield* Effect.sleep((step - 75) / 4)
        if (step === 149) yield* Fiber.await(fiber)
        if (fiber.pollUnsafe() !== undefined) ended++
        yield* Fiber.interrupt(fiber)
      }
      yield* nothingLeft
      const rows = yield* committed
      assert.strictEqual(rows.filter((n) => n === 1).length, rows.filter((n) => n === 2).length)
      assert.isTrue(ended > 0 && ended < 150, "some were interrupted, some were done")
      assert.deepStrictEqual(yield* whole, [{ n: 2 }])
    })
  )

  it.effect(
    "in a transaction of its role is a savepoint, not repeated; in another role's it is refused unless outside",
    () =>
      Effect.gen(function* () {
        yield* fresh
        let runs = 0
        const inner = Report.transaction(primary, { name: "inner", deadline: "5 seconds", retry })
        yield* unit(
          Effect.gen(function* () {
            yield* add.run({ n: 1 })
            const conflicting = Effect.gen(function* () {
              runs++
              yield* add.run({ n: 2 })
              yield* (yield* sql).unsafe("do $$ begin raise exception using errcode = '40001'; end $$")
            })
            assert.strictEqual((yield* errorOf(inner(conflicting)))._tag, "SqlError")
            yield* inner(add.run({ n: 3 }))
            const brief = Report.transaction(primary, { name: "brief", deadline: "200 millis" })
            assert.strictEqual(
              (yield* failsWith(brief(Effect.andThen(add.run({ n: 4 }), Effect.never)), "DeadlineExceeded")).key,
              "brief"
            )
            const otherwise = yield* failsWith(serializable(add.run({ n: 5 })), "QueryFailed")
            assert.include(otherwise.message, "isolation")
            const own = Report.transaction(primary, { deadline: "5 seconds", outside: true })
            yield* own(add.run({ n: 6 }))
            assert.deepStrictEqual(yield* committed, [6], "one of its own")
          })
        )
        assert.strictEqual(runs, 1)
        assert.deepStrictEqual(yield* committed, [1, 3, 6])
        yield* serializable(serializable(add.run({ n: 7 })))

        const reading = Report.transaction(replica, { name: "reading", deadline: "5 seconds", readOnly: true })
        const beside = Report.transaction(replica, { deadline: "5 seconds", readOnly: true, outside: true })
        const ask = Report.make("ask", { ...common, database: replica, query: (sql) => sql`select 1 as n` })
        yield* unit(
          Effect.gen(function* () {
            const refused = yield* failsWith(reading(ask.run({})), "QueryFailed")
            assert.strictEqual(refused.class, "TransactionMisuse")
            for (const name of ["reading", "fleet/primary", "fleet/replica"]) assert.include(refused.message, name)
            assert.deepStrictEqual(yield* beside(ask.run({})), [{ n: 1 }])
          })
        )
        const inSnapshot = unit(add.run({ n: 8 })).pipe(Snapshot.run(primary, { sessions: 1 }))
        assert.include((yield* failsWith(inSnapshot, "QueryFailed")).message, "snapshot")
        yield* nothingLeft
      })
  )

  it.effect("has a bulkhead", () =>
    Effect.gen(function* () {
      yield* fresh
      const one = Report.transaction(primary, { deadline: "5 seconds", bulkhead: { permits: 1, queue: 0 } })
      const exits = yield* Effect.all(
        [Effect.exit(one(Effect.sleep("100 millis"))), Effect.exit(one(add.run({ n: 1 })))],
        { concurrency: 2 }
      )
      assert.deepStrictEqual(
        exits.map((exit) => exit._tag),
        ["Success", "Failure"]
      )
      assert.strictEqual((yield* errorOf(exits[1]!))._tag, "Overloaded")
    })
  )
})

declare const failing: Effect.Effect<unknown, { readonly _tag: "DeadlineExceeded"; readonly key: string }, never>
