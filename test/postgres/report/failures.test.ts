/** What PostgreSQL can do to a statement, really done, and what a report's caller gets: class, attempts, result. */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres, TestDatabase } from "../../support/postgres.ts"
import { at, errorOf, failsWith, Fleet, keepsSecret, layerFleet, primary, replica, timed } from "./support.ts"

const row = { n: Schema.Int }

/** Two retries, quickly, with a budget that no test exhausts. */
const retry = {
  schedule: Schedule.spaced("50 millis"),
  retries: 2,
  jitter: "none",
  budget: { minimum: 1000 }
} as const

const setup = Effect.gen(function* () {
  const { name, script } = yield* TestDatabase
  yield* script([
    `alter database ${name} set deadlock_timeout = '100ms'`,
    "create sequence runs",
    // Advisory locks of a transaction: a reader may take them, and they deadlock as rows do.
    `create function lock_two(a int, b int) returns int language plpgsql as $$
       begin perform pg_advisory_xact_lock(a); perform pg_sleep(0.3); perform pg_advisory_xact_lock(b); return 1; end $$`,
    `create function raising(code text) returns int language plpgsql as $$
       begin perform nextval('runs'); raise exception using errcode = code; end $$`,
    `create function counted_sleep(seconds float8) returns int language plpgsql as $$
       begin perform nextval('runs'); perform pg_sleep(seconds); return 1; end $$`,
    "create table counters (id int primary key, n int not null)",
    "insert into counters values (1, 0), (2, 0)",
    "create table orders (key text primary key, n int not null default 1)",
    `create role ${name}_serial login`,
    `alter role ${name}_serial set default_transaction_isolation = 'repeatable read'`,
    `create role ${name}_hasty login`,
    `alter role ${name}_hasty set lock_timeout = '200ms'`,
    `create role ${name}_few login connection limit 1`,
    `grant all on all tables in schema public to ${name}_serial, ${name}_hasty, ${name}_few`,
    `grant all on all sequences in schema public to ${name}_serial, ${name}_hasty, ${name}_few`
  ])
  yield* Effect.addFinalizer(() =>
    Effect.ignore(
      script([
        `drop owned by ${name}_serial, ${name}_hasty, ${name}_few`,
        `drop role ${name}_serial, ${name}_hasty, ${name}_few`
      ])
    )
  )
})

const runs = Effect.flatMap(TestDatabase, ({ query }) =>
  Effect.map(query("select case when is_called then last_value else 0 end::int as runs from runs"), ([one]) =>
    Number(one!["runs"])
  )
)

/** How often the statement ran on the server while the effect did. */
const executions = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* runs
    const value = yield* effect
    return [value, (yield* runs) - before] as const
  })

/** The primary as another role of the database. */
const as = (suffix: string, options = {}) =>
  Layer.fresh(
    Layer.unwrap(
      Effect.map(TestDatabase, ({ name, url }) => {
        const other = new URL(url)
        other.username = `${name}_${suffix}`
        return Fleet.layerRole("primary", at(other.href, options))
      })
    )
  )

/** The primary behind a proxy. */
const proxied = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const { hostname, port } = new URL(url)
  const proxy = yield* FaultProxy.make({ target: { host: hostname, port: Number(port) } })
  return { proxy, live: Layer.fresh(Fleet.layerRole("primary", at(proxy.url(url)))) }
})

/** Waits until somebody else is in the middle of a statement like this one: asleep, or waiting for a lock. */
const running = (like: string) =>
  Effect.gen(function* () {
    const { query } = yield* TestDatabase
    const [found] = yield* expectEventually(
      query(
        `select pid from pg_stat_activity
         where datname = current_database() and state = 'active' and query like $1 and pid <> pg_backend_pid()
           and wait_event_type in ('Timeout', 'Lock')`,
        [like]
      ),
      (rows) => rows.length > 0
    )
    return found!["pid"] as number
  })

postgres(Layer.provideMerge(Layer.effectDiscard(setup), layerFleet()))("what PostgreSQL does to a statement", (it) => {
  it.effect("deadlock: the victim is repeated, both callers have their rows; without a retry it is told", () =>
    Effect.gen(function* () {
      const declared = {
        database: primary,
        params: { a: Schema.Int, b: Schema.Int },
        row,
        query: (sql: any, { a, b }: { readonly a: number; readonly b: number }) =>
          sql`select lock_two(${a}, ${b}) as n`,
        deadline: "20 seconds"
      } as const
      const patient = Report.make("patient", { ...declared, retry })
      const both = yield* Effect.all([patient.runWithInfo({ a: 1, b: 2 }), patient.runWithInfo({ a: 2, b: 1 })], {
        concurrency: 2
      })
      assert.deepStrictEqual(
        both.map(({ rows }) => rows),
        [[{ n: 1 }], [{ n: 1 }]]
      )
      assert.strictEqual(both[0].attempts + both[1].attempts, 3)

      const hasty = Report.make("hasty", declared)
      const results = yield* Effect.all(
        [Effect.result(hasty.run({ a: 3, b: 4 })), Effect.result(hasty.run({ a: 4, b: 3 }))],
        { concurrency: 2 }
      )
      const failures = results.flatMap((one) => (one._tag === "Failure" ? [one.failure] : []))
      assert.lengthOf(failures, 1)
      assert.deepInclude(failures[0], { _tag: "QueryFailed", sqlState: "40P01", class: "Deadlock" })
    })
  )

  it.effect("serialization failure: a write is repeated, once or idempotent, and applied once", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      for (const [id, writes] of [
        [1, "once"],
        [2, "idempotent"]
      ] as const) {
        const count = Report.make("count", {
          database: primary,
          params: {},
          row,
          query: (sql) => sql`update counters set n = n + 1 where id = ${id}::int returning n`,
          deadline: "20 seconds",
          writes,
          retry
        })
        yield* Effect.gen(function* () {
          const { sql } = yield* primary
          // Another transaction holds the row, changes it, and commits while ours waits for it.
          const waiting = yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* sql`update counters set n = n + 10 where id = ${id}::int`
              const fiber = yield* Effect.forkChild(count.runWithInfo({}))
              yield* running("update counters set n = n + 1 where%")
              return fiber
            })
          )
          assert.deepInclude(yield* Fiber.join(waiting), { attempts: 2, rows: [{ n: 11 }] })
        }).pipe(Effect.provide(as("serial"), { local: true }))
        assert.deepStrictEqual(yield* query(`select n from counters where id = ${id}`), [{ n: 11 }])
      }
    })
  )

  it.effect("statement timeout: the server stops it, it is not repeated, and the session lives", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* Effect.gen(function* () {
        const slow = Report.make("slow", {
          database: primary,
          params: {},
          row,
          query: (sql) => sql`select counted_sleep(10) as n`,
          deadline: "10 seconds",
          // The server's own limit is a quarter of a second shorter: enough on a busy machine, too.
          attemptTimeout: "2500 millis",
          writes: "idempotent",
          retry
        })
        const { sql } = yield* primary
        const before = yield* sql`select pg_backend_pid() as pid`
        const [[error, count], millis] = yield* timed(executions(failsWith(slow.run({}), "DeadlineExceeded")))
        assert.deepInclude(error, { deadlineMillis: 2500, phase: "attempt", attempts: 1 })
        assert.deepInclude(error.lastError, { tag: "StatementTimeout", sqlState: "57014" })
        assert.strictEqual(count, 1)
        assert.isBelow(millis, 9000)
        assert.deepStrictEqual(yield* sql`select pg_backend_pid() as pid`, before)
      }).pipe(Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(url, { maxConnections: 1 }))), { local: true }))
    })
  )

  it.effect("lock timeout: repeated once and no more; a lock that is free by then is had", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      yield* query(
        "create function locked(i int) returns int language plpgsql as $$ declare found int; begin perform nextval('runs'); select n into found from counters where id = i for update; return found; end $$"
      )
      const waits = Report.make("waits", {
        database: primary,
        params: {},
        row,
        query: (sql) => sql`select locked(1) as n`,
        deadline: "20 seconds",
        writes: "idempotent",
        retry: { ...retry, retries: 5 }
      })
      yield* Effect.gen(function* () {
        const { sql: holder } = yield* primary
        const [error, count] = yield* executions(
          holder.withTransaction(
            Effect.andThen(
              holder`select n from counters where id = 1 for update`,
              failsWith(waits.run({}), "QueryFailed")
            )
          )
        )
        assert.deepInclude(error, { sqlState: "55P03", class: "LockTimeout" })
        assert.strictEqual(count, 2)
        const later = yield* holder.withTransaction(
          Effect.gen(function* () {
            yield* holder`select n from counters where id = 1 for update`
            const fiber = yield* Effect.forkChild(waits.runWithInfo({}))
            const before = yield* runs
            yield* expectEventually(runs, (now) => now >= before + 1)
            yield* Effect.sleep("150 millis")
            return fiber
          })
        )
        assert.isAtMost((yield* Fiber.join(later)).attempts, 2)
      }).pipe(Effect.provide(as("hasty"), { local: true }))
    })
  )

  it.effect("too many connections: told in time with the server's code, and over as soon as one is free", () =>
    Effect.gen(function* () {
      const declared = {
        database: primary,
        params: {},
        row,
        query: (sql: any) => sql`select 1 as n`,
        retry
      } as const
      const hasty = Report.make("hasty", { ...declared, deadline: "700 millis" })
      const patient = Report.make("patient", { ...declared, deadline: "20 seconds" })
      const occupied = Effect.gen(function* () {
        const { sql } = yield* primary
        return yield* sql.withTransaction(Effect.andThen(sql`select 1`, Effect.never))
      }).pipe(Effect.provide(as("few"), { local: true }))
      const holder = yield* Effect.forkChild(occupied)
      const { name, query } = yield* TestDatabase
      const sessions = query("select count(*)::int as n from pg_stat_activity where usename = $1", [`${name}_few`])
      yield* expectEventually(sessions, ([one]) => one!["n"] === 1)
      yield* Effect.gen(function* () {
        const [error, millis] = yield* timed(errorOf(hasty.run({})))
        assert.include(["DatabaseUnavailable", "AcquireTimeout", "DeadlineExceeded"], error._tag)
        if (error._tag === "DatabaseUnavailable") assert.deepInclude(error.lastError, { sqlState: "53300" })
        assert.isBelow(millis, 5000)
        const waiting = yield* Effect.forkChild(patient.run({}))
        yield* Effect.sleep("200 millis")
        yield* Fiber.interrupt(holder)
        assert.deepStrictEqual(yield* Fiber.join(waiting), [{ n: 1 }])
      }).pipe(Effect.provide(as("few", { maxConnections: 1 }), { local: true }))
    })
  )

  it.effect("admin shutdown mid-query: repeated on a fresh session; without a retry it is told", () =>
    Effect.gen(function* () {
      const { query } = yield* TestDatabase
      const declared = {
        database: primary,
        params: {},
        row,
        query: (sql: any) => sql`select 1 as n from pg_sleep(0.8) /* terminated */`,
        deadline: "20 seconds"
      } as const
      const terminate = Effect.flatMap(running("%/* terminated */%"), (pid) =>
        query("select pg_terminate_backend($1::int)", [pid])
      )
      const again = yield* Effect.forkChild(Report.make("again", { ...declared, retry }).runWithInfo({}))
      yield* terminate
      assert.deepInclude(yield* Fiber.join(again), { attempts: 2, rows: [{ n: 1 }] })
      const bare = yield* Effect.forkChild(errorOf(Report.make("bare", declared).run({})))
      yield* terminate
      const error = yield* Fiber.join(bare)
      assert.deepInclude(error, { _tag: "DatabaseUnavailable", reason: "lost" })
      if (error._tag === "DatabaseUnavailable") {
        assert.deepInclude(error.lastError, { tag: "Shutdown", sqlState: "57P01" })
      }
      // It said so before the statement was complete: rolled back for certain, so that even this write may be repeated.
      yield* query("create table log (n int)")
      const writing = Report.make("writing", {
        ...declared,
        query: (sql) => sql`insert into log select 1 from pg_sleep(0.8) /* terminated */ returning n`,
        writes: "once",
        retry
      })
      const write = yield* Effect.forkChild(writing.runWithInfo({}))
      yield* terminate
      assert.deepInclude(yield* Fiber.join(write), { attempts: 2, rows: [{ n: 1 }] })
      assert.deepStrictEqual(yield* query("select * from log"), [{ n: 1 }])
    })
  )

  it.effect("read-only: a write on a standby is told as such, once", () =>
    Effect.gen(function* () {
      const { replayed } = yield* TestDatabase
      yield* replayed
      const writes = Report.make("writes", {
        database: replica,
        params: {},
        row,
        query: (sql) => sql`insert into orders (key) values ('standby') returning n`,
        deadline: "20 seconds",
        writes: "idempotent",
        retry
      })
      const [error, millis] = yield* timed(failsWith(writes.run({}), "QueryFailed"))
      assert.deepInclude(error, { sqlState: "25006", class: "ReadOnly" })
      assert.isBelow(millis, 5000)
    })
  )

  it.effect("disk full, out of memory, internal errors: class and number of executions of each", () =>
    Effect.gen(function* () {
      const raising = Report.make("raising", {
        database: primary,
        params: { code: Schema.String },
        row,
        query: (sql, { code }) => sql`select raising(${code}) as n`,
        deadline: "20 seconds",
        writes: "idempotent",
        retry
      })
      for (const [code, expected, count] of [
        // Nobody else to ask, and the disk does not empty itself.
        ["53100", "DiskOrIo", 1],
        // Once more, after a second.
        ["53200", "Resources", 2],
        ["53400", "ResourceLimit", 1],
        ["XX000", "Internal", 1],
        ["XX001", "Corruption", 1],
        ["40001", "Serialization", 3],
        ["40003", "CompletionUnknown", 3],
        ["55006", "ObjectState", 1],
        ["P0001", "CallerError", 1]
      ] as const) {
        const [error, times] = yield* executions(errorOf(raising.run({ code })))
        assert.strictEqual(times, count, code)
        if (expected === "CompletionUnknown") assert.strictEqual(error._tag, "OutcomeUnknown")
        else assert.deepInclude(error, { _tag: "QueryFailed", sqlState: code, class: expected })
      }
    })
  )

  const order = {
    database: primary,
    params: { key: Schema.String },
    row,
    query: (sql: any, { key }: { readonly key: string }) =>
      sql`insert into orders (key) values (${key}) on conflict (key) do update set n = orders.n returning n`,
    retry
  } as const
  const written = (key: string) =>
    Effect.flatMap(TestDatabase, ({ query }) => query("select n from orders where key = $1", [key]))

  it.effect("a lost answer of an INSERT declared once: one row, OutcomeUnknown, never repeated", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* proxied
        const once = Report.make("once", { ...order, deadline: "10 seconds", writes: "once" })
        yield* Effect.gen(function* () {
          yield* once.run({ key: "warm" })
          yield* proxy.stall({ direction: "server->client" })
          const call = yield* Effect.forkChild(failsWith(once.run({ key: "lost" }), "OutcomeUnknown"))
          yield* expectEventually(written("lost"), (rows) => rows.length === 1)
          yield* Effect.andThen(proxy.reset, proxy.heal)
          const error = yield* Fiber.join(call)
          assert.strictEqual(error.key, "once")
          assert.deepInclude(error.lastError, { tag: "ConnectionLost" })
          keepsSecret(error, ["insert", "orders"])
          assert.deepStrictEqual(yield* written("lost"), [{ n: 1 }])
          // The next caller is served.
          assert.deepStrictEqual(yield* once.run({ key: "next" }), [{ n: 1 }])
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )

  it.effect("an answer that does not come by the deadline: one row, OutcomeUnknown, in time", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* proxied
        const once = Report.make("once", { ...order, deadline: "600 millis", writes: "once" })
        yield* Effect.gen(function* () {
          yield* once.run({ key: "warm" })
          yield* proxy.stall({ direction: "server->client" })
          const [, millis] = yield* timed(failsWith(once.run({ key: "silent" }), "OutcomeUnknown"))
          assert.isBelow(millis, 4000)
          yield* proxy.heal
          assert.deepStrictEqual(yield* written("silent"), [{ n: 1 }])
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )

  it.effect("a lost answer of an INSERT declared idempotent: repeated, one row by its key, a success", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* proxied
        const idempotent = Report.make("idempotent", { ...order, deadline: "10 seconds", writes: "idempotent" })
        yield* Effect.gen(function* () {
          yield* idempotent.run({ key: "warm" })
          yield* proxy.stall({ direction: "server->client" })
          const call = yield* Effect.forkChild(idempotent.runWithInfo({ key: "again" }))
          yield* expectEventually(written("again"), (rows) => rows.length === 1)
          yield* Effect.andThen(proxy.reset, proxy.heal)
          assert.deepInclude(yield* Fiber.join(call), { attempts: 2, rows: [{ n: 1 }] })
          assert.deepStrictEqual(yield* written("again"), [{ n: 1 }])
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )
})

postgres(ownCluster())("crash recovery", (it) => {
  it.effect("a backend is killed: everybody is repeated when the server is back; without a retry it is told", () =>
    Effect.gen(function* () {
      const { primary: server } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const declared = {
          database: primary,
          params: { seconds: Schema.Finite },
          row,
          query: (sql: any, { seconds }: { readonly seconds: number }) =>
            sql`select 1 as n from pg_sleep(${seconds}) /* crashed */`,
          deadline: "30 seconds"
        } as const
        const again = Report.make("again", {
          ...declared,
          retry: { ...retry, retries: 5, schedule: Schedule.spaced("300 millis") }
        })
        const bare = Report.make("bare", declared)
        const calls = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(again.runWithInfo({ seconds: 0.7 })))
        const told = yield* Effect.forkChild(errorOf(bare.run({ seconds: 5 })))
        const pids = yield* expectEventually(
          server.query(
            "select pid from pg_stat_activity where state = 'active' and query like '%/* crashed */%' and wait_event = 'PgSleep'"
          ),
          (rows) => rows.length === 4
        )
        yield* server.killBackend(pids[0]!["pid"] as number)
        for (const call of calls) {
          const { attempts, rows } = yield* Fiber.join(call)
          assert.deepStrictEqual(rows, [{ n: 1 }])
          assert.isAtLeast(attempts, 2)
          assert.isAtMost(attempts, 6)
        }
        assert.deepInclude(yield* Fiber.join(told), { _tag: "DatabaseUnavailable", reason: "lost" })
      }).pipe(
        Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(server.url, { maxConnections: 8 }))), { local: true })
      )
    })
  )
})
