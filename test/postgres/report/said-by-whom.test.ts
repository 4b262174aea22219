/** Who said an error decides what it means: this server, a function behind it, or a timer that Sluice has set. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as PgFailure from "@sluice/sdk/PgFailure"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role, Target, optionsAt } from "../attack/support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)
const row = { n: Schema.Int }

class Endpoint extends Database.Service<Endpoint>()("endpoint", { roles: ["primary"] }) {}

postgres(ownCluster({ replicas: 1 }))("what an error means", (it) => {
  it.effect(
    "what a function raises is no word on the server: no breaker opens, no session goes, nobody is alarmed",
    () =>
      Effect.gen(function* () {
        const primary = yield* server
        yield* primary.query(
          "create or replace function raising(code text) returns int language plpgsql as $$ begin raise exception using errcode = code; end $$"
        )
        const lines: Array<string> = []
        const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
        const { context, pool } = yield* Effect.provide(role(primary, { maxConnections: 1 }), logger)
        const report = Report.make("raising", {
          database: main,
          params: { code: Schema.String },
          row,
          query: (sql, { code }) => sql`select raising(${code}) as n`,
          deadline: "5 seconds",
          retry: {},
          breaker: { consecutiveFailures: 2 }
        })
        for (const code of [
          "08001",
          "08006",
          "08P01",
          "57P01",
          "57P03",
          "53300",
          "53200",
          "53100",
          "53400",
          "25P03",
          "3D000",
          "28000",
          "28P01",
          "57014",
          "58030",
          "F0000",
          "XX000",
          "XX001"
        ]) {
          const error = yield* Effect.flip(Effect.provide(report.run({ code }), context))
          assert.strictEqual(error._tag, "QueryFailed", code)
          assert.deepInclude(error, { sqlState: code, class: "Raised" })
        }
        assert.strictEqual((yield* pool.stats).counters.closed.unfit, 0)
        assert.deepStrictEqual(
          lines.filter((line) => line.includes("SQLSTATE")),
          []
        )
      })
  )

  it.effect("a function that names a stale plan is executed once, however warm the statement is", () =>
    Effect.gen(function* () {
      const primary = yield* server
      yield* primary.query("create sequence stale_runs")
      yield* primary.query(`create function stale(code text) returns int language plpgsql as $$
        begin perform nextval('stale_runs'); if code <> '' then raise exception using errcode = code; end if; return 1; end $$`)
      const { context } = yield* role(primary, { maxConnections: 1 })
      const report = Report.make("stale", {
        database: main,
        params: { code: Schema.String },
        row,
        query: (sql, { code }) => sql`select stale(${code}) as n`,
        deadline: "5 seconds",
        writes: "once",
        retry: {}
      })
      const call = (code: string) => Effect.provide(report.run({ code }), context)
      for (let warm = 0; warm < 10; warm++) yield* call("")
      for (const code of ["0A000", "26000"]) {
        yield* primary.query("select setval('stale_runs', 1, false)")
        const error = yield* Effect.flip(call(code))
        assert.strictEqual(error._tag === "QueryFailed" ? error.sqlState : error._tag, code)
        const [runs] = yield* primary.query("select last_value::int as n from stale_runs")
        assert.strictEqual(runs?.["n"], 1, code)
      }
    })
  )

  it.effect(
    "what was never sent is the caller's: no word of the server, no failure of its breaker, no other session",
    () =>
      Effect.gen(function* () {
        const { context, sql } = yield* role(yield* server, { maxConnections: 1 })
        const [{ pid }] = (yield* sql`select pg_backend_pid() as pid`) as any
        const asking = (value: unknown) =>
          Report.make("asking", {
            database: main,
            params: {},
            row: { v: Schema.Unknown },
            query: (sql) => sql`select ${value as string}::text as v`,
            deadline: "5 seconds",
            retry: {},
            breaker: { consecutiveFailures: 1 }
          })
        for (const value of ["\ud800", "a\0b", new Map(), Symbol("x"), new Date(NaN)]) {
          const error = yield* Effect.flip(Effect.provide(asking(value).run({}), context))
          assert.strictEqual(error._tag, "QueryFailed", String(value))
          assert.match(error.message, /Parameter \$1: /)
          assert.notProperty(error, "sqlState")
        }
        const missing = Report.make("missing", {
          database: main,
          params: {},
          row: { v: Schema.Unknown },
          query: (sql) => sql.unsafe("select $1::text as v"),
          deadline: "5 seconds",
          breaker: { consecutiveFailures: 1 }
        })
        for (let turn = 0; turn < 3; turn++) {
          const error = yield* Effect.flip(Effect.provide(missing.run({}), context))
          assert.include(error.message, "The statement has 1 parameter, and 0 values were given")
        }
        assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, [{ pid }])
      })
  )

  it.effect(
    "a breaker opens on a server that is slow for everybody, though the server ends each statement itself",
    () =>
      Effect.gen(function* () {
        const { context } = yield* role(yield* server)
        const slow = Report.make("slow", {
          database: main,
          params: { seconds: Schema.Finite },
          row,
          query: (sql, { seconds }) => sql`select 1 as n from pg_sleep(${seconds}::float8)`,
          deadline: "3 seconds",
          attemptTimeout: "300 millis",
          breaker: { consecutiveFailures: 3 }
        })
        const tags: Array<string> = []
        for (let turn = 0; turn < 5; turn++) {
          const error = yield* Effect.flip(Effect.provide(slow.run({ seconds: 2 }), context))
          tags.push(error._tag)
        }
        assert.deepStrictEqual(tags, [
          "DeadlineExceeded",
          "DeadlineExceeded",
          "DeadlineExceeded",
          "CircuitOpen",
          "CircuitOpen"
        ])
      })
  )

  it.effect("a limit of the server's own, far below the attempt's time, says nothing of the server", () =>
    Effect.gen(function* () {
      const { context } = yield* role(yield* server)
      const limited = Report.make("limited", {
        database: main,
        params: {},
        row,
        query: (sql) => sql.unsafe("select limited() as n"),
        deadline: "10 seconds",
        breaker: { consecutiveFailures: 1 }
      })
      yield* (yield* server).query(
        "create or replace function limited() returns int language plpgsql as $$ begin raise exception using errcode = '57014'; end $$"
      )
      for (let turn = 0; turn < 3; turn++) {
        const error = yield* Effect.flip(Effect.provide(limited.run({}), context))
        assert.notStrictEqual(error._tag, "CircuitOpen")
      }
    })
  )

  it.effect("each column of the table is read: a layer changes it, and the behaviour follows", () =>
    Effect.gen(function* () {
      const primary = yield* server
      yield* primary.query("create sequence if not exists overridden")
      yield* primary.query(`create or replace function overridden() returns int language plpgsql as $$
        begin perform nextval('overridden'); raise exception using errcode = 'P0R01'; end $$`)
      const schedule = Schedule.spaced("20 millis")
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
      const observe = (
        rule: Partial<PgFailure.Rule>,
        writes: "once" | "idempotent" = "idempotent",
        more: object = {}
      ) =>
        Effect.gen(function* () {
          const context = yield* Layer.build(
            Target.layer({ main: optionsAt(primary, { maxConnections: 1 }) }).pipe(
              Layer.provideMerge(PgFailure.layer({ P0R01: rule })),
              Layer.provideMerge(logger)
            )
          )
          const report = Report.make("overridden", {
            database: main,
            params: {},
            row,
            query: (sql: any) => sql`select overridden() as n`,
            deadline: "10 seconds",
            retry: { schedule, retries: 2, jitter: "none", budget: { minimum: 100 } },
            breaker: { consecutiveFailures: 2 },
            writes,
            ...more
          } as any) as any
          yield* primary.query("select setval('overridden', 1, false)")
          const pid =
            report.pipe === undefined
              ? undefined
              : yield* Effect.provide(
                  main.use(({ sql }) => sql`select pg_backend_pid() as pid`),
                  context
                )
          const began = performance.now()
          const errors: Array<any> = []
          for (let turn = 0; turn < 3; turn++)
            errors.push(yield* Effect.flip(Effect.provide(report.run({}) as Effect.Effect<any, any>, context)))
          const millis = performance.now() - began
          const [{ times }] = (yield* primary.query("select last_value::int as times from overridden")) as any
          const after = yield* Effect.provide(
            main.use(({ sql }) => sql`select pg_backend_pid() as pid`),
            context
          )
          return { errors, millis, times, sameSession: JSON.stringify(pid) === JSON.stringify(after) }
        }).pipe(Effect.scoped)

      const plain = yield* observe({})
      assert.deepInclude(plain, { times: 3, sameSession: true })
      assert.strictEqual(plain.errors[0].class, "CallerError")

      assert.strictEqual((yield* observe({ class: "Permission" })).errors[0].class, "Permission")
      assert.strictEqual((yield* observe({ retry: "same" })).times, 9)
      assert.strictEqual((yield* observe({ retry: "same", retries: 1 })).times, 6)
      assert.strictEqual((yield* observe({ retry: "same" }, "once")).times, 3)
      assert.strictEqual((yield* observe({ retry: "same", write: "same" }, "once")).times, 9)
      assert.isAbove((yield* observe({ retry: "after-delay", retries: 1, delayFloorMillis: 200 })).millis, 600)
      const slowly = {
        retry: { schedule: Schedule.spaced("300 millis"), retries: 1, jitter: "none", budget: { minimum: 100 } }
      }
      assert.isAbove((yield* observe({ retry: "same" }, undefined, slowly)).millis, 900)
      assert.isBelow((yield* observe({ retry: "same", immediate: true }, undefined, slowly)).millis, 900)
      assert.strictEqual(
        (yield* observe({ breaker: "failure" }, "idempotent", { retry: undefined })).errors[2]._tag,
        "CircuitOpen"
      )
      assert.isFalse((yield* observe({ session: "drop" })).sameSession)
      assert.isTrue((yield* observe({ session: "reset" })).sameSession)
      assert.strictEqual((yield* observe({ outcomeUnknown: true }, "once")).errors[0]._tag, "OutcomeUnknown")
      assert.lengthOf(
        lines.filter((line) => line.includes("P0R01")),
        0
      )
      yield* observe({ alarm: true })
      assert.lengthOf(
        lines.filter((line) => line.includes("P0R01")),
        1
      )
    })
  )
})

postgres(ownCluster({ replicas: 1 }))("an endpoint that moved", (it) => {
  it.effect("leads to the new primary at once: sessions to a server that turned read-only are not lent again", () =>
    Effect.gen(function* () {
      const { primary, replica } = yield* PgCluster.PgCluster
      yield* primary.query("create table t (id int primary key)")
      yield* replica.waitForReplay(primary)
      const proxy = yield* FaultProxy.make({ target: primary })
      const put = Report.make("put", {
        database: Endpoint.role("primary"),
        params: { id: Schema.Int },
        row: { id: Schema.Int },
        query: (sql, { id }) =>
          sql`insert into t values (${id}) on conflict (id) do update set id = excluded.id returning id`,
        deadline: "3 seconds",
        writes: "idempotent"
      })
      yield* Effect.gen(function* () {
        yield* Effect.all(
          [1, 2, 3, 4].map((id) => put.run({ id })),
          { concurrency: 4 }
        )
        yield* primary.query("alter system set default_transaction_read_only = on")
        yield* primary.query("select pg_reload_conf()")
        yield* replica.promote
        yield* proxy.retarget(replica)
        yield* Effect.sleep("300 millis")
        const exits: Array<string> = []
        for (let id = 10; id < 20; id++) exits.push((yield* Effect.exit(put.run({ id })))._tag)
        assert.isAtMost(exits.filter((tag) => tag === "Failure").length, 2, exits.join(" "))
        assert.strictEqual(exits.at(-1), "Success")
      }).pipe(
        Effect.provide(
          Endpoint.layerRole("primary", {
            url: Redacted.make(proxy.url(primary.url)),
            minConnections: 4,
            maxConnections: 4
          })
        )
      )
    })
  )

  it.effect("a server that never took writes costs no storm of sessions", () =>
    Effect.gen(function* () {
      const { replica } = yield* PgCluster.PgCluster
      void replica
      const { primary } = yield* PgCluster.PgCluster
      const { context, pool } = yield* role(primary, { maxConnections: 2 })
      const write = Report.make("write", {
        database: main,
        params: {},
        row,
        query: (sql) => sql`insert into t values (100) returning id as n`,
        deadline: "3 seconds",
        writes: "once"
      })
      for (let turn = 0; turn < 5; turn++) {
        const exit = yield* Effect.exit(Effect.provide(write.run({}), context))
        assert.isTrue(Exit.isFailure(exit))
      }
      assert.strictEqual((yield* pool.stats).counters.closed.unfit, 0)
    })
  )
})
