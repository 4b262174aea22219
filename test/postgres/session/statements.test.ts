import { assert, layer } from "@effect/vitest"
import { factsOf, Session } from "@sluice/sdk/pool/Session"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { configFor, connect, driver } from "./support.ts"

const primary = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a session's statements", (it) => {
  it.effect("gives rows as objects and as values, the command and the count", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      const result = yield* session.query("select $1::int4 as a, $2::text as b", [1, "x"])
      assert.deepStrictEqual(result.rows, [{ a: 1, b: "x" }])
      assert.deepStrictEqual([result.command, result.rowCount, result.oid], ["SELECT", 1, null])
      assert.deepStrictEqual(
        result.fields.map(({ name }) => name),
        ["a", "b"]
      )
      const values = yield* session.query("select 1 as a, 2 as a", [], { values: true })
      assert.deepStrictEqual(values.rows, [[1, 2]])
      yield* session.query("create temp table t (id int)")
      const inserted = yield* session.query("insert into t values (1), (2)")
      assert.deepStrictEqual([inserted.command, inserted.rowCount, inserted.oid, inserted.rows], ["INSERT", 2, 0, []])
      assert.deepStrictEqual((yield* session.query("")).rows, [])
      assert.deepStrictEqual((yield* session.query(`select 1 as "__proto__"`)).rows.map(Object.keys), [["__proto__"]])
    })
  )

  it.effect("keeps what several sessions read at once apart", () =>
    Effect.gen(function* () {
      const target = yield* primary
      const proxy = yield* FaultProxy.make({ target })
      // What comes from the server fills the buffer that all sessions share; behind the proxy it comes in pieces, between them.
      yield* proxy.latency({ millis: 1 })
      const sessions = yield* Effect.forEach([proxy, target, proxy, target], (to) => connect(to), { concurrency: 4 })
      const text =
        "select i, repeat($1, i * 30000) as text, decode(repeat($2, i * 30000), 'hex') as bytes from generate_series(1, 4) i"
      const results = yield* Effect.forEach(
        sessions,
        (session, index) => session.query(text, [String(index), `0${index}`]),
        { concurrency: 4 }
      )
      results.forEach(({ rows }, index) => {
        assert.deepStrictEqual(
          rows.map((row) => row.text as string),
          [1, 2, 3, 4].map((i) => String(index).repeat(i * 30_000))
        )
        for (const { bytes, i } of rows as ReadonlyArray<{ readonly bytes: Uint8Array; readonly i: number }>) {
          assert.lengthOf(bytes, i * 30_000)
          assert.isTrue(bytes.every((byte) => byte === index))
        }
      })
    })
  )

  it.effect("costs one round trip when warm, also as a transaction's first statement", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy)
      const trips = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.gen(function* () {
          yield* proxy.resetCounters
          yield* effect
          return (yield* proxy.counters).roundTrips
        })
      const statement = session.query("select $1::int4 as n", [1])
      assert.strictEqual(yield* trips(statement), 2, "the first use asks for the columns first")
      assert.strictEqual(yield* trips(statement), 1)
      const transaction = Effect.gen(function* () {
        yield* session.begin()
        yield* statement
        yield* session.commit
      })
      assert.strictEqual(yield* trips(transaction), 2)
      assert.strictEqual(yield* trips(Effect.andThen(session.begin(), session.commit)), 0, "nothing to begin for")
      // Another session of this configuration knows the columns by now; its Parse travels with the rest.
      const config = configFor(proxy)
      yield* Effect.flatMap(Session.connect(config), (other) => other.query("select $1::int4 as n", [1]))
      const second = yield* Session.connect(config)
      assert.strictEqual(yield* trips(second.query("select $1::int4 as n", [1])), 1)
      second.destroy()
    })
  )

  it.effect("answers statements submitted together from one write, and an error touches nobody else", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy)
      yield* session.query("select $1::int4 as n", [0])
      yield* proxy.resetCounters
      const results = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, n) => n),
        (n) => Effect.result(n % 10 === 7 ? session.query("select 1 / 0") : session.query("select $1::int4 as n", [n])),
        { concurrency: "unbounded" }
      )
      results.forEach((result, n) => {
        if (n % 10 === 7) assert.strictEqual(factsOf(assertFailure(result))?.sqlState, "22012")
        else assert.deepStrictEqual(assertSuccess(result).rows, [{ n }])
      })
      assert.isBelow((yield* proxy.counters).roundTrips, 8)
    })
  )

  it.effect("prepares again what the server has forgotten or changed, outside of a transaction", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      yield* session.query("create temp table shape (a int)")
      yield* session.query("insert into shape values (1)")
      const all = session.query("select * from shape")
      assert.deepStrictEqual((yield* all).rows, [{ a: 1 }])
      yield* session.query("alter table shape add column b text default 'b'")
      assert.deepStrictEqual((yield* all).rows, [{ a: 1, b: "b" }])
      yield* session.query("deallocate all")
      assert.deepStrictEqual((yield* all).rows, [{ a: 1, b: "b" }])
      yield* session.query("alter table shape alter column a type text")
      // The first statement of a transaction: nothing but BEGIN is repeated with it.
      yield* session.begin()
      const again = yield* all
      assert.deepStrictEqual(again.rows, [{ a: "1", b: "b" }])
      assert.isTrue(again.repeated)
      assert.strictEqual(session.status, "transaction")
      yield* session.rollback
      assert.deepStrictEqual((yield* all).rows, [{ a: "1", b: "b" }])
    })
  )

  it.effect("makes a plan anew where the transaction's own statements, or another's, have changed what it reads", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      yield* session.query("create table if not exists altered (a int)")
      yield* session.query("insert into altered values (1)")
      const all = session.query("select * from altered")
      yield* all
      // Its own ALTER TABLE.
      yield* session.begin()
      yield* all
      yield* session.query("alter table altered add column b text default 'b'")
      assert.deepStrictEqual((yield* all).rows, [{ a: 1, b: "b" }])
      assert.deepStrictEqual((yield* all).rows, [{ a: 1, b: "b" }])
      yield* session.commit
      // Another's, before the transaction came to read the table.
      yield* session.query("select 1")
      yield* session.begin()
      yield* session.query("select 1")
      yield* server.query("alter table altered add column c int default 3")
      assert.deepStrictEqual((yield* all).rows, [{ a: 1, b: "b", c: 3 }])
      assert.strictEqual(session.status, "transaction")
      yield* session.rollback
      yield* session.query("drop table altered")
    })
  )

  it.effect("reads the same text from the schema that each transaction sets", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      for (const [name, column] of [
        ["tenant_a", "a int default 1"],
        ["tenant_b", "b text default 'b'"],
        ["tenant_c", "c int[] default '{1}', d int default 4"]
      ] as const) {
        yield* session.query(`create schema ${name}`)
        yield* session.query(`create table ${name}.things (${column})`)
        yield* session.query(`insert into ${name}.things default values`)
      }
      const inside = (schema: string, set: string) =>
        Effect.gen(function* () {
          yield* session.begin()
          yield* session.query(set.replace("$", schema))
          const { rows } = yield* session.query("select * from things")
          yield* session.commit
          return rows[0]
        })
      for (const set of ["set local search_path = $", "select set_config('search_path', '$', true)"]) {
        for (let round = 0; round < 3; round++) {
          assert.deepStrictEqual(yield* inside("tenant_a", set), { a: 1 })
          assert.deepStrictEqual(yield* inside("tenant_b", set), { b: "b" })
          assert.deepStrictEqual(yield* inside("tenant_c", set), { c: [1], d: 4 })
        }
      }
      for (const name of ["a", "b", "c"]) yield* session.query(`drop schema tenant_${name} cascade`)
    })
  )

  it.effect("keeps a bounded number of statements prepared, and none when told so", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary, { preparedStatements: 5 })
      for (let n = 0; n < 30; n++) yield* session.query(`select ${n} as n`)
      const { rows } = yield* session.query("select count(*)::int as n from pg_prepared_statements")
      assert.isAtMost(rows[0].n, 6)
      const unnamed = yield* connect(yield* primary, { pooler: "transaction" })
      for (let n = 0; n < 3; n++) assert.deepStrictEqual((yield* unnamed.query("select 1 as one")).rows, [{ one: 1 }])
      const names = yield* unnamed.query("select name from pg_prepared_statements")
      assert.deepStrictEqual(names.rows, [])
    })
  )

  it.effect("keeps the SQLSTATE of a fatal error in a running statement, which the driver loses", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const bare = yield* driver(server)
      const lost = yield* Effect.forkChild(Effect.flip(bare.query("select pg_sleep(20)")), { startImmediately: true })
      yield* expectEventually(
        server.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where pid = ${bare.processId} and wait_event = 'PgSleep'`
        ),
        (rows) => rows.length === 1
      )
      const before = yield* joined(lost)
      assert.isUndefined((before.reason.cause as { code?: string }).code)

      const session = yield* connect(server)
      const dying = yield* Effect.forkChild(Effect.flip(session.query("select pg_sleep(20)")), {
        startImmediately: true
      })
      yield* expectEventually(
        server.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where pid = ${session.processId} and wait_event = 'PgSleep'`
        ),
        (rows) => rows.length === 1
      )
      const error = yield* joined(dying)
      assert.strictEqual((error.reason.cause as { code?: string }).code, "57P01")
      assert.strictEqual(PgFailure.fromSqlError(error).class, "Shutdown")
      assert.strictEqual(PgFailure.fromSqlError(error).outcome, "not-applied")
      assert.isDefined(session.dead)
    })
  )

  it.effect("notices at once that an idle session was ended, with its code", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      const deaths: Array<string | undefined> = []
      session.onDeath((error) => deaths.push(factsOf(error)?.sqlState))
      yield* server.query(`select pg_terminate_backend(${session.processId})`)
      yield* expectEventually(
        Effect.sync(() => deaths),
        (codes) => codes.length === 1
      )
      assert.deepStrictEqual(deaths, ["57P01"])
      const error = yield* Effect.flip(session.query("select 1"))
      assert.strictEqual(factsOf(error)?.sent, false)
      assert.isFalse(session.clean)
    })
  )

  it.effect("refuses a message that is too long with an error that says so", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary, { maxMessageSize: 100_000 })
      assert.lengthOf((yield* session.query("select repeat('x', 90000) as x")).rows, 1)
      const errors = yield* Effect.all(
        [
          Effect.flip(session.query("select repeat('x', 200000) as x")),
          Effect.flip(session.query("select pg_sleep(1), 1 as neighbour"))
        ],
        { concurrency: "unbounded" }
      )
      assert.strictEqual(factsOf(errors[0])?.bound, "message")
      assert.match(errors[0].message, /maxMessageSize/)
      assert.strictEqual(PgFailure.fromSqlError(errors[0]).retry, "never")
      assert.strictEqual(PgFailure.fromSqlError(errors[1]).class, "ConnectionLost")
    })
  )

  it.effect("takes its settings at the start, and knows what the server reports", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary, {
        applicationName: "who",
        statementTimeout: "1234 millis",
        lockTimeout: "2 seconds",
        idleInTransactionTimeout: "3 seconds",
        readOnly: true
      })
      const { rows } = yield* session.query(
        `select current_setting('application_name') as a, current_setting('statement_timeout') as s, current_setting('lock_timeout') as l,
          current_setting('idle_in_transaction_session_timeout') as i, current_setting('default_transaction_read_only') as r`
      )
      assert.deepStrictEqual(rows, [{ a: "who", s: "1234ms", l: "2s", i: "3s", r: "on" }])
      assert.strictEqual(session.parameters.get("in_hot_standby"), "off")
      assert.isDefined(session.parameters.get("server_version"))
      yield* session.query("set default_transaction_read_only = off")
      assert.strictEqual(session.parameters.get("default_transaction_read_only"), "off")
    })
  )

  it.effect("changes the server's limit only where it differs, and in the same round trip", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy, { statementTimeout: "1 minute" })
      const limit = (timeout?: number) =>
        Effect.map(
          session.query("select current_setting('statement_timeout') as t", [], { timeout }),
          ({ rows }) => rows[0].t as string
        )
      assert.strictEqual(yield* limit(), "1min")
      yield* proxy.resetCounters
      assert.strictEqual(yield* limit(500), "500ms")
      assert.strictEqual((yield* proxy.counters).roundTrips, 1)
      assert.strictEqual(yield* limit(500), "500ms")
      assert.strictEqual(yield* limit(), "1min")
      assert.isTrue(session.clean, "its own settings do not make it dirty")
      const error = yield* Effect.flip(session.query("select pg_sleep(5)", [], { timeout: 50 }))
      assert.strictEqual(factsOf(error)?.sqlState, "57014")
      assert.isUndefined(factsOf(error)?.cancelledBy)
      // A limit that was set inside of a transaction goes with it.
      yield* session.begin()
      yield* session.query("select 1")
      yield* limit(700)
      yield* Effect.ignore(session.query("select 1/0"))
      yield* session.rollback
      assert.strictEqual(yield* limit(700), "700ms")
      assert.strictEqual(yield* limit(), "1min")
    })
  )

  it.effect("streams with backpressure, and stops at once", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      const sum = yield* Stream.runFold(
        session.stream("select g from generate_series(1, 100000) g"),
        () => 0,
        (total, row) => total + (row.g as number)
      )
      assert.strictEqual(sum, (100000 * 100001) / 2)
      assert.isTrue(session.clean)
      const first = yield* Stream.runCollect(
        Stream.take(session.stream("select repeat('x', 10000) as x from generate_series(1, 1000000) g"), 3)
      )
      assert.lengthOf(first, 3)
      assert.isTrue(session.busy)
      assert.isTrue(yield* session.drain)
      assert.deepStrictEqual((yield* session.query("select 1 as one")).rows, [{ one: 1 }])
      // A consumer that does not read stops the server, not our memory.
      const pull = yield* Stream.toPull(
        session.stream("select repeat('x', 10000) as x from generate_series(1, 100000) g")
      )
      yield* pull
      yield* expectEventually(
        server.query(`select wait_event from pg_stat_activity where pid = ${session.processId}`),
        ([row]) => row?.["wait_event"] === "ClientWrite"
      )
    }).pipe(Effect.scoped)
  )

  it.effect("delivers the rows before an error, then the error, and goes on", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* primary)
      let rows = 0
      const error = yield* Effect.flip(
        Stream.runForEach(session.stream("select 1 / (5000 - g) as x from generate_series(1, 10000) g"), () =>
          Effect.sync(() => void rows++)
        )
      )
      assert.strictEqual(rows, 4999)
      assert.strictEqual(factsOf(error)?.sqlState, "22012")
      assert.isTrue(session.clean)
    })
  )

  it.effect("undoes what a borrower left, in one round trip, and keeps its prepared statements", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: yield* primary })
      const session = yield* connect(proxy, { statementTimeout: "1 minute" })
      yield* session.query("select 1 as one")
      yield* session.query("set statement_timeout = 77")
      yield* session.query("begin")
      yield* session.query("create temp table leftover (id int)")
      yield* session.query("select pg_advisory_lock(42)")
      assert.isFalse(session.clean)
      yield* session.query("listen things")
      yield* session.query("commit")
      yield* session.query("begin")
      yield* session.reset
      assert.isTrue(session.clean)
      const { rows } = yield* session.query(
        `select current_setting('statement_timeout') as t, to_regclass('pg_temp.leftover')::text as r,
          (select count(*)::int from pg_locks where locktype = 'advisory') as l, (select count(*)::int from pg_listening_channels()) as c`
      )
      assert.deepStrictEqual(rows, [{ t: "1min", r: null, l: 0, c: 0 }])
      yield* session.query("begin")
      yield* proxy.resetCounters
      yield* session.reset
      assert.strictEqual((yield* proxy.counters).roundTrips, 1)
      yield* proxy.resetCounters
      yield* session.query("select 1 as one")
      assert.strictEqual((yield* proxy.counters).roundTrips, 1)
    })
  )

  it.effect("tells a wrong password, an unknown role and an unknown database apart, and prints no secret", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const codeOf = (config: Partial<Parameters<typeof configFor>[1]>) =>
        Effect.map(Effect.flip(connect(server, config ?? {})), (error) => factsOf(error)?.sqlState)
      assert.strictEqual(yield* codeOf({ database: "no_such_database" }), "3D000")
      assert.strictEqual(yield* codeOf({ username: "nobody" }), "28000")
      const failing = yield* Effect.flip(
        connect(server, {
          password: Effect.fail("the secret is s3cr3t") as Effect.Effect<Redacted.Redacted, string>
        })
      )
      assert.strictEqual(failing.reason._tag, "AuthenticationError")
      assert.notInclude(JSON.stringify(failing), "s3cr3t")
      const dying = yield* Effect.flip(connect(server, { password: Effect.die("boom") }))
      assert.strictEqual(dying.reason._tag, "AuthenticationError")
      const nowhere = yield* Effect.flip(connect({ host: "127.0.0.1", port: 1 }))
      assert.strictEqual(PgFailure.fromSqlError(nowhere).class, "Unreachable")
      const impossible = yield* Effect.exit(connect({ host: "127.0.0.1", port: 99999 }))
      assert.include(String(impossible), "port is 99999: must be a whole number from 1 to 65535")
    })
  )

  it.effect("closes in order, and a close is final", () =>
    Effect.gen(function* () {
      const server = yield* primary
      const session = yield* connect(server)
      yield* session.close
      yield* session.close
      assert.strictEqual((yield* Effect.flip(session.query("select 1"))).reason._tag, "ConnectionError")
      yield* expectEventually(
        server.query(`select 1 from pg_stat_activity where pid = ${session.processId}`),
        (rows) => rows.length === 0
      )
    })
  )
})

import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"

const joined = <A, E>(fiber: Fiber.Fiber<A, E>) => Fiber.join(fiber)
const assertFailure = <A, E>(result: Result.Result<A, E>): E => {
  if (Result.isFailure(result)) return result.failure
  throw new Error("expected a failure")
}
const assertSuccess = <A, E>(result: Result.Result<A, E>): A => {
  if (Result.isSuccess(result)) return result.success
  throw new Error("expected a success")
}
