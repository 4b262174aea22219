import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role, timed } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

class Mine extends Schema.TaggedError<Mine>("Mine")("Mine", {}) {}

const ask = Report.make("ask", {
  database: main,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select 1 as n`,
  deadline: "400 millis"
})

const numbers = Report.make("numbers", {
  database: main,
  params: {},
  row: { n: Schema.Int, text: Schema.String },
  query: (sql) => sql`select n, repeat('x', 500) as text from generate_series(1, 50000) n`,
  deadline: "1 second"
})

// The promise is 50 ms; a machine that runs other tests gets more.
const late = 400 + 250

postgres(ownCluster())("a caller leaves at its deadline", (it) => {
  it.effect("on a black hole: at connect, in the middle of a query, with a frozen server, each caller by itself", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const proxy = yield* FaultProxy.make({ target: postgres })
      const { context, sql, pool } = yield* role(proxy, { maxConnections: 10 })
      const run = timed(Effect.exit(Effect.provide(ask.run({}), context)))
      const all = Effect.all(
        Array.from({ length: 20 }, () => run),
        { concurrency: "unbounded" }
      )
      const none = (results: ReadonlyArray<readonly [Exit.Exit<unknown, unknown>, number]>, what: string) => {
        for (const [exit, millis] of results) {
          assert.isTrue(Exit.isFailure(exit) && !Cause.hasDies(exit.cause), what)
          assert.isBelow(millis, late, what)
        }
      }
      yield* proxy.blackHole
      none(yield* all, "at connect")
      yield* proxy.heal
      yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
      yield* Effect.all(
        Array.from({ length: 10 }, () => sql`select pg_sleep(0.1)`),
        { concurrency: "unbounded" }
      )
      yield* proxy.stall()
      none(yield* all, "stalled")
      none(yield* all, "stalled, again")
      yield* proxy.heal
      yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
      yield* Effect.all(
        Array.from({ length: 10 }, () => sql`select pg_sleep(0.1)`),
        { concurrency: "unbounded" }
      )
      yield* postgres.freeze
      none(yield* all, "frozen")
      yield* postgres.thaw
      const [, healed] = yield* timed(
        expectEventually(Effect.exit(Effect.provide(ask.run({}), context)), Exit.isSuccess)
      )
      assert.isBelow(healed, 5000)
      yield* expectEventually(pool.stats, (s) => s.leased + s.draining + s.waiting === 0)
    })
  )

  it.effect("ten silently dead idle sessions cost one validation", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* server })
      const { sql, pool } = yield* role(proxy, { maxConnections: 10 })
      yield* Effect.all(
        Array.from({ length: 10 }, () => sql`select pg_sleep(0.2)`),
        { concurrency: "unbounded" }
      )
      assert.strictEqual((yield* pool.stats).idle, 10)
      yield* Effect.sleep("1200 millis")
      yield* proxy.halfOpen("server")
      const [, millis] = yield* timed(sql`select 1`)
      assert.isBelow(millis, 1500)
    })
  )

  it.effect("a frozen COMMIT, a frozen body, a frozen nested transaction, a frozen listen and its end", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* server })
      const { sql, pool } = yield* role(proxy, { maxConnections: 3 })
      const stall = Effect.andThen(sql`select 1`, proxy.stall())
      const scenarios: Record<string, Effect.Effect<unknown, unknown>> = {
        commit: sql.withTransaction(stall),
        body: sql.withTransaction(Effect.andThen(stall, sql`select 1`)),
        rollback: sql.withTransaction(Effect.andThen(stall, Effect.fail(new Mine()))),
        nested: sql.withTransaction(Effect.andThen(sql`select 1`, sql.withTransaction(stall))),
        reserve: Effect.scoped(
          Effect.flatMap(sql.reserve, (own) => Effect.andThen(proxy.stall(), own.execute("select 1", [], undefined)))
        ),
        stream: Stream.runDrain(
          Stream.tap(sql`select n from generate_series(1, 200000) n`.stream, () => proxy.stall())
        ),
        listen: Effect.scoped(Effect.andThen(proxy.stall(), sql.listen("frozen"))),
        listening: Effect.scoped(
          Effect.flatMap(sql.listen("frozen"), (queue) => Effect.andThen(proxy.stall(), Queue.take(queue)))
        )
      }
      for (const [name, scenario] of Object.entries(scenarios)) {
        yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
        const [exit, millis] = yield* timed(Effect.exit(Effect.timeout(scenario, "400 millis")))
        assert.isTrue(Exit.isFailure(exit) && !Cause.hasDies(exit.cause), name)
        assert.isBelow(millis, late, name)
        yield* proxy.reset
        yield* proxy.heal
      }
      yield* expectEventually(pool.stats, (s) => s.leased + s.draining + s.waiting === 0)
    })
  )

  it.effect("a stream whose server stalls, whose consumer freezes, whose backend is killed", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const proxy = yield* FaultProxy.make({ target: postgres })
      const { context, sql, pool } = yield* role(proxy, { maxConnections: 1 })
      const rows = Stream.provideContext(numbers.stream({}), context)
      yield* sql`select 1`
      let seen = 0
      const [stalled, millis] = yield* timed(
        Effect.exit(Stream.runForEach(rows, () => (++seen === 1000 ? proxy.stall() : Effect.void)))
      )
      assert.isTrue(Exit.isFailure(stalled))
      assert.isBelow(millis, 15_000)
      yield* proxy.reset
      yield* proxy.heal
      yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
      seen = 0
      const killed = yield* Effect.exit(
        Stream.runForEach(rows, () =>
          ++seen === 1000
            ? Effect.andThen(
                postgres.query(
                  "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'target/main'"
                ),
                Effect.sleep("100 millis")
              )
            : Effect.void
        )
      )
      assert.isTrue(Exit.isFailure(killed), `never a short result: ${seen}`)
      seen = 0
      const frozen = yield* Effect.forkChild(
        Stream.runForEach(rows, () => (++seen === 1000 ? Effect.never : Effect.void)),
        { startImmediately: true }
      )
      yield* expectEventually(
        Effect.sync(() => seen),
        (n) => n === 1000
      )
      yield* Fiber.interrupt(frozen)
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(rows, 1)).pipe(Effect.map((all) => all.length)), 1)
      assert.deepStrictEqual(yield* sql`select 1 as n`, [{ n: 1 }])
      yield* expectEventually(pool.stats, (s) => s.leased + s.draining + s.waiting === 0)
    })
  )
})

postgres(ownCluster())("a server that goes and comes", (it) => {
  it.effect("kill of idle, busy and committing backends: typed errors, no defects, the pool goes on", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const { context, sql, pool } = yield* role(postgres, { maxConnections: 5, minConnections: 5 })
      yield* sql`create table written (id int primary key)`
      yield* expectEventually(pool.stats, (s) => s.idle === 5)
      let stop = false
      let id = 0
      const told = new Map<number, boolean>()
      const worker = Effect.gen(function* () {
        for (;;) {
          if (stop) return
          const mine = ++id
          const exit = yield* Effect.exit(
            sql.withTransaction(Effect.andThen(sql`insert into written values (${mine})`, sql`select pg_sleep(0.002)`))
          )
          if (Exit.isSuccess(exit)) told.set(mine, true)
          else {
            assert.isFalse(Cause.hasDies(exit.cause), Cause.pretty(exit.cause))
            if (!Cause.hasFails(exit.cause)) assert.fail(Cause.pretty(exit.cause))
          }
          const report = yield* Effect.exit(Effect.provide(ask.run({}), context))
          if (Exit.isFailure(report)) assert.isFalse(Cause.hasDies(report.cause))
        }
      })
      const workers = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () =>
        Effect.forkChild(worker, { startImmediately: true })
      )
      for (let round = 0; round < 15; round++) {
        yield* Effect.sleep("40 millis")
        yield* postgres.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'target/main' and random() < 0.5"
        )
      }
      stop = true
      for (const fiber of workers) {
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isSuccess(exit), String(exit))
      }
      const there = new Set((yield* postgres.query("select id from written")).map((row) => row["id"] as number))
      for (const mine of told.keys()) assert.isTrue(there.has(mine), `${mine} was reported as committed`)
      yield* expectEventually(pool.stats, (s) => s.idle === 5 && s.leased + s.draining + s.waiting === 0)
    })
  )

  it.effect("restart -m immediate: the pool is full again within a second of readiness", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const { sql, pool } = yield* role(postgres, { maxConnections: 10, minConnections: 10 })
      yield* expectEventually(pool.stats, (s) => s.idle === 10)
      yield* sql`select 1`
      yield* postgres.stop("immediate")
      yield* Effect.sleep("3 seconds")
      yield* postgres.start
      const [, millis] = yield* timed(expectEventually(pool.stats, (s) => s.idle === 10))
      // A second is the promise; noisy machines get two.
      assert.isBelow(millis, 2000)
    })
  )

  it.effect("a pool of one and a thousand failing statements, and transactions with typed errors", () =>
    Effect.gen(function* () {
      const { sql, pool } = yield* role(yield* server, { maxConnections: 1 })
      const results = yield* Effect.forEach(
        Array.from({ length: 1000 }, (_, n) => n),
        (n) =>
          Effect.exit(
            n % 5 === 0
              ? sql`select 1 / 0`
              : n % 5 === 1
                ? sql`nonsense`
                : n % 5 === 2
                  ? sql`select ${"a\0b"}::text`
                  : n % 5 === 3
                    ? sql.withTransaction(Effect.andThen(sql`select 1`, Effect.fail(new Mine())))
                    : sql.withTransaction(Effect.andThen(sql`select 1/0`, sql`select 1`))
          ),
        { concurrency: 50 }
      )
      for (const exit of results)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause) && !Cause.hasDies(exit.cause))
      assert.deepStrictEqual(yield* sql`select 1 as n`, [{ n: 1 }])
      const stats = yield* pool.stats
      assert.deepInclude(stats, { leased: 0, waiting: 0, draining: 0, idle: 1 })
    })
  )
})
