/**
 * The nine ways in which the system before Sluice failed its users, each impossible here. Nothing is cached yet: what its
 * cache made of failures is tested as far as it holds without one, and the names say so.
 */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { FaultProxy } from "@sluice/sdk/testing"
import type * as Brand from "effect/Brand"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { at, errorOf, failsWith, Fleet, layerFleet, primary, timed } from "./support.ts"

const row = { n: Schema.Int }

/** A statement that fails with any code the server can raise, as often as it is called, and counts. */
const raising = [
  "create sequence runs",
  `create function raising(code text, message text) returns int language plpgsql as $$
     begin perform nextval('runs'); raise exception using errcode = code, message = message; end $$`
]
const runs = Effect.flatMap(TestDatabase, ({ query }) =>
  Effect.map(
    query("select case when is_called then last_value else 0 end::int as runs from runs"),
    ([one]) => one!["runs"]
  )
)

postgres(
  layerFleet({ maxConnections: 1 }).pipe(
    Layer.tap((context) =>
      Effect.provide(
        Effect.flatMap(TestDatabase, ({ script }) => script(raising)),
        context
      )
    )
  )
)("the origin system's failures cannot happen", (it) => {
  it.effect("1. an error looks like an empty report (there is no cache yet that could keep it)", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query("create role nobody_at_all nologin").pipe(Effect.ignore)
      yield* query("create table stops (n int)")
      yield* query("create schema hidden")
      const failing = {
        syntax: "selec 1",
        "missing table": "select n from stoppages",
        "missing column": "select m as n from stops",
        value: "select 'x'::int as n",
        division: "select 1 / 0 as n",
        raised: "select raising('22012', 'x') as n",
        permission: "select pg_read_file('/etc/passwd')::int as n",
        type: "select 'x' as n"
      }
      for (const [name, sqlText] of Object.entries(failing)) {
        const report = Report.make("stops", {
          database: primary,
          params: {},
          row,
          query: (sql) => sql.unsafe(sqlText),
          deadline: "5 seconds",
          writes: "idempotent"
        })
        for (const call of [report.run({}), Effect.map(report.runWithInfo({}), ({ rows }) => rows)]) {
          assert.isTrue(Exit.isFailure(yield* Effect.exit(call)), name)
        }
      }
      // And what is mended is right at once: no error was kept for anybody.
      const stops = Report.make("stops", {
        database: primary,
        params: {},
        row,
        query: (sql) => sql`select n from parkings`,
        deadline: "5 seconds"
      })
      assert.strictEqual((yield* failsWith(stops.run({}), "QueryFailed")).sqlState, "42P01")
      yield* query("create table parkings as select 1 as n")
      assert.deepStrictEqual(yield* stops.run({}), [{ n: 1 }])
      yield* query("delete from parkings")
      assert.deepStrictEqual(yield* stops.run({}), [], "empty means empty")
    })
  )

  it.effect("2. truncation looks like data", () =>
    Effect.gen(function* () {
      const many = Report.make("many", {
        database: primary,
        params: { rows: Schema.Int },
        row,
        query: (sql, { rows }) => sql`select n from generate_series(1, ${rows}::int) as n`,
        deadline: "10 seconds",
        maxRows: 1000
      })
      for (const [rows, truncated] of [
        [999, false],
        [1000, false],
        [1001, true],
        [3000, true]
      ] as const) {
        const result = yield* many.runWithInfo({ rows })
        assert.strictEqual(result.truncated, truncated)
        assert.deepStrictEqual(
          result.rows,
          Array.from({ length: Math.min(rows, 1000) }, (_, index) => ({ n: index + 1 }))
        )
      }
    })
  )

  it.effect("3. the declared timeout is never used: acquire, statement and total each hold", () =>
    Effect.gen(function* () {
      const slow = (name: string, deadline: "30 seconds" | "600 millis") =>
        Report.make(name, {
          database: primary,
          params: {},
          row,
          query: (sql) => sql`select 1 as n from pg_sleep(20)`,
          deadline
        })
      // The statement: the caller leaves in time, and the server does not go on with it.
      const [statement, statementMillis] = yield* timed(
        failsWith(slow("statement", "600 millis").run({}), "DeadlineExceeded")
      )
      assert.deepInclude(statement, { deadlineMillis: 600, phase: "attempt", attempts: 1 })
      assert.isBelow(statementMillis, 5000)
      const { query } = yield* TestDatabase
      yield* expectEventually(
        query(`select 1 from pg_stat_activity
          where datname = current_database() and state = 'active' and query like '%pg_sleep(20)%' and pid <> pg_backend_pid()`),
        (busy) => busy.length === 0
      )
      // The wait for the only session: the caller leaves by its deadline, and is told what it waited for.
      const holder = yield* Effect.forkChild(slow("holder", "30 seconds").run({}), { startImmediately: true })
      const { pool } = (yield* primary).nodes[0]!
      yield* expectEventually(pool.stats, ({ leased }) => leased === 1)
      const [acquire, acquireMillis] = yield* timed(failsWith(slow("waits", "600 millis").run({}), "AcquireTimeout"))
      assert.strictEqual(acquire.reason, "all-leased")
      assert.deepEqual(
        acquire.holders.map(({ name }) => name),
        ["holder"]
      )
      assert.isBelow(acquireMillis, 5000)
      yield* Fiber.interrupt(holder)
      yield* expectEventually(pool.stats, ({ draining, leased }) => leased + draining === 0)
    })
  )

  it.effect("3b. ... and the total holds when nobody answers at all", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const { hostname, port } = new URL(url)
        const proxy = yield* FaultProxy.make({ target: { host: hostname, port: Number(port) } })
        const report = Report.make("silent", {
          database: primary,
          params: {},
          row,
          query: (sql) => sql`select 1 as n`,
          deadline: "700 millis",
          retry: { retries: 5 }
        })
        yield* Effect.gen(function* () {
          assert.deepStrictEqual(yield* report.run({}), [{ n: 1 }])
          yield* proxy.stall()
          const [error, millis] = yield* timed(failsWith(report.run({}), "DeadlineExceeded"))
          assert.strictEqual(error.deadlineMillis, 700)
          assert.isBelow(millis, 4000)
          yield* proxy.heal
        }).pipe(Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(proxy.url(url)))), { local: true }))
      })
    )
  )

  it.effect("4. retries multiply: executions are never more than the declared attempts, for anybody", () =>
    Effect.gen(function* () {
      const declared = {
        database: primary,
        params: { code: Schema.String },
        row,
        query: (sql: any, { code }: { readonly code: string }) => sql`select raising(${code}, 'x') as n`,
        deadline: "20 seconds",
        // It counts its runs in a sequence, so it has to say that it writes.
        writes: "idempotent",
        retry: { schedule: Schedule.exponential("5 millis"), retries: 2, budget: { minimum: 100 } }
      } as const
      const report = Report.make("raising", declared)
      const executions = (code: string) =>
        Effect.gen(function* () {
          const before = Number(yield* runs)
          yield* errorOf(report.run({ code }))
          return Number(yield* runs) - before
        })
      assert.strictEqual(yield* executions("40001"), 3)
      // One caller's retries take nothing from the next one's.
      for (let caller = 0; caller < 5; caller++) assert.strictEqual(yield* executions("40P01"), 3)
      // A statement timeout is not repeated, nor is what the caller did wrong.
      for (const code of ["57014", "42601", "22012", "P0001"]) assert.strictEqual(yield* executions(code), 1, code)
    })
  )

  it.effect("4b. ... and what all callers repeat together stays within a budget that refills", () =>
    Effect.gen(function* () {
      const report = Report.make("budgeted", {
        database: primary,
        params: {},
        row,
        query: (sql) => sql`select raising('40001', 'x') as n`,
        deadline: "20 seconds",
        writes: "idempotent",
        retry: {
          schedule: Schedule.spaced("5 millis"),
          retries: 2,
          budget: { ratio: 0, minimum: 4, window: "2 seconds" }
        }
      })
      const before = Number(yield* runs)
      yield* Effect.forEach(Array.from({ length: 10 }), () => errorOf(report.run({})), { discard: true })
      assert.strictEqual(Number(yield* runs) - before, 14)
      yield* Effect.sleep("3 seconds")
      const refilled = Number(yield* runs)
      yield* errorOf(report.run({}))
      assert.strictEqual(Number(yield* runs) - refilled, 3)
    })
  )

  it.effect("5. classification by words in the message: only the code decides, whatever the text says", () =>
    Effect.gen(function* () {
      const messages = ["connection timed out", "could not connect", "deadlock detected", "", "Verbindung verloren"]
      const report = Report.make("worded", {
        database: primary,
        params: { code: Schema.String, message: Schema.String },
        row,
        query: (sql, { code, message }) => sql`select raising(${code}, ${message}) as n`,
        deadline: "5 seconds",
        writes: "idempotent"
      })
      for (const code of ["42P01", "40001", "53100", "P0001"]) {
        const raised = { severity: "ERROR", alive: true, routine: "exec_stmt_raise" } as const
        const expected = PgFailure.classify({ sqlState: code, ...raised })
        for (const message of messages) {
          const error = yield* failsWith(report.run({ code, message }), "QueryFailed")
          assert.deepInclude(error, { sqlState: code, class: expected.class })
          if (message !== "") assert.notInclude(JSON.stringify(error), message)
        }
      }
    })
  )

  it.effect("6. an unsafe cache: nothing is cached yet, each call reads; decimals and timestamps arrive exactly", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query("create table exact (id int, amount numeric, at timestamptz, big int8)")
      yield* query(
        "insert into exact values (1, 0.1000000000000000055511151231257827, '2024-02-29 12:34:56.789Z', 9007199254740993)"
      )
      const exact = Report.make("exact", {
        database: primary,
        params: { tenant: Schema.String },
        row: {
          tenant: Schema.String,
          amount: Schema.String,
          at: Schema.DateTimeUtcFromDate,
          big: Schema.BigInt
        },
        query: (sql, { tenant }) => sql`select ${tenant}::text as tenant, amount, at, big from exact`,
        deadline: "5 seconds"
      })
      const [first] = yield* exact.run({ tenant: "a" })
      assert.strictEqual(first!.amount, "0.1000000000000000055511151231257827")
      assert.strictEqual(DateTime.formatIso(first!.at), "2024-02-29T12:34:56.789Z")
      assert.strictEqual(first!.big, 9007199254740993n)
      assert.strictEqual((yield* exact.run({ tenant: "b" }))[0]!.tenant, "b")
      yield* query("update exact set amount = 2")
      assert.strictEqual((yield* exact.run({ tenant: "a" }))[0]!.amount, "2")
      assert.strictEqual((yield* exact.runWithInfo({ tenant: "a" })).source, "live")
    })
  )

  it.effect("7. connections leak: a pool of one survives every kind of end", () =>
    Effect.gen(function* () {
      const { pool } = (yield* primary).nodes[0]!
      const make = (name: string, text: string, deadline: "10 seconds" | "150 millis" = "10 seconds") =>
        Report.make(name, {
          database: primary,
          params: {},
          row,
          query: (sql) => (text === "defect" ? Effect.die(new Error("a bug")) : sql.unsafe(text)) as never,
          deadline
        })
      const ends = [
        make("error", "select 1 / 0 as n"),
        make("syntax", "selec"),
        make("decode", "select null::int as n"),
        make("defect", "defect"),
        make("fatal", "select pg_terminate_backend(pg_backend_pid())::int as n"),
        make("late", "select 1 as n from pg_sleep(10)", "150 millis")
      ]
      const good = make("good", "select 1 as n")
      for (let round = 0; round < 4; round++) {
        for (const report of ends) {
          assert.isTrue(Exit.isFailure(yield* Effect.exit(report.run({}))), report.name)
        }
        const left = yield* Effect.forkChild(make("left", "select 1 as n from pg_sleep(10)").run({}))
        yield* expectEventually(pool.stats, ({ leased }) => leased === 1)
        yield* Fiber.interrupt(left)
        assert.deepStrictEqual(yield* good.run({}), [{ n: 1 }])
      }
      yield* expectEventually(pool.stats, ({ draining, leased, waiting }) => leased + draining + waiting === 0)
    })
  )

  it.effect("8. healing breaks the pool: failures around it never end a statement that runs", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const { hostname, port } = new URL(url)
        const proxy = yield* FaultProxy.make({ target: { host: hostname, port: Number(port) } })
        const options = at(proxy.url(url), { maxConnections: 3 })
        yield* Effect.gen(function* () {
          const slow = Report.make("slow", {
            database: primary,
            params: {},
            row,
            query: (sql) => sql`select 42 as n from pg_sleep(2)`,
            deadline: "20 seconds"
          })
          const quick = Report.make("quick", {
            database: primary,
            params: {},
            row: { database: Schema.String },
            query: (sql) => sql`select current_database() as database`,
            deadline: "300 millis"
          })
          const { pool } = (yield* primary).nodes[0]!
          const running = yield* Effect.forkChild(slow.run({}))
          yield* expectEventually(pool.stats, ({ leased }) => leased === 1)
          yield* proxy.refuse()
          // More failed acquisitions than it took there.
          const failed = yield* Effect.forEach(Array.from({ length: 15 }), () => Effect.exit(quick.run({})), {
            concurrency: 15
          })
          assert.isTrue(failed.every(Exit.isFailure))
          yield* proxy.heal
          assert.deepStrictEqual(yield* Fiber.join(running), [{ n: 42 }], "the running statement was left alone")
          // What replaces the lost is configured as they were.
          const again = yield* expectEventually(Effect.exit(quick.run({})), Exit.isSuccess)
          assert.deepStrictEqual(again, Exit.succeed([{ database: new URL(url).pathname.slice(1) }]))
        }).pipe(Effect.provide(Layer.fresh(Fleet.layerRole("primary", options)), { local: true }))
      })
    )
  )

  it.effect("9. units are guessed: the unit is in the type of the column, whatever its name and its values", () =>
    Effect.gen(function* () {
      const Metres = Schema.Finite.pipe(Schema.brand("Metres"))
      const Kilometres = Schema.Finite.pipe(Schema.brand("Kilometres"))
      const report = Report.make("distances", {
        database: primary,
        params: {},
        row: { km: Metres, odometer_m: Kilometres },
        query: (sql) => sql`select 1500.5::float8 as km, 2.5::float8 as odometer_m`,
        deadline: "5 seconds"
      })
      const [distance] = yield* report.run({})
      assert.deepStrictEqual({ ...distance }, { km: 1500.5, odometer_m: 2.5 }, "nothing was scaled")
      const metres: number & Brand.Brand<"Metres"> = distance!.km
      // @ts-expect-error kilometres are no metres, whatever the column is called
      const mistaken: number & Brand.Brand<"Metres"> = distance!.odometer_m
      assert.strictEqual(metres + mistaken, 1503)
    })
  )
})
