/**
 * PgFailure's table against what PostgreSQL really says: every code raised, and provoked where it can be.
 * The driver is used as it is, so that the facts are the worst that are possible.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import * as PgFailure from "../../packages/sdk/src/PgFailure.ts"
import { expectEventually } from "../support/expectEventually.ts"
import { ownCluster, postgres } from "../support/postgres.ts"
import { knownCodes } from "../unit/policy/sqlstates.ts"

const open = (url: string) => PgConnection.make({ url: Redacted.make(url), connectTimeout: "10 seconds" })
const fails = <A, R>(self: Effect.Effect<A, SqlError, R>): Effect.Effect<SqlError, never, R> =>
  Effect.flatMap(Effect.result(self), (result) =>
    result._tag === "Failure" ? Effect.succeed(result.failure) : Effect.die(new Error("it did not fail"))
  )
const said = (error: SqlError, expected: Partial<PgFailure.PgFailure>, facts?: PgFailure.LocalFacts): void =>
  assert.deepInclude(PgFailure.fromSqlError(error, facts), expected)

const withUser = (url: string, user: string, password: string): string => {
  const changed = new URL(url)
  changed.username = user
  changed.password = password
  return changed.href
}

const statements = (connection: PgConnection.PgConnection, ...sql: ReadonlyArray<string>) =>
  Effect.forEach(sql, (one) => connection.query(one), { discard: true })

postgres(ownCluster({ replicas: 1, auth: "scram-sha-256" }))("PgFailure and PostgreSQL", (it) => {
  it.effect("every code of the appendix, raised by the server, is read as the table has it", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      for (const code of knownCodes) {
        // RAISE takes 00000 for "no code given".
        if (code === "00000") continue
        const error = yield* fails(
          connection.query(
            `do $$ begin raise exception 'a message that nobody reads' using errcode = '${code}'; end $$`
          )
        )
        const failure = PgFailure.fromSqlError(error)
        assert.strictEqual(failure.sqlState, code)
        assert.notStrictEqual(failure.class, "Unknown", code)
        const raised = { sqlState: code, severity: "ERROR", phase: "query", routine: "exec_stmt_raise" } as const
        assert.deepStrictEqual(failure, PgFailure.classify(raised), code)
        // A session of ours knows, beyond the driver's, that it outlived the error: so no code of a function is an outage.
        const { breaker, class: name } = PgFailure.classify({ ...raised, alive: true })
        assert.isFalse(
          ["Unreachable", "ConnectionLost", "Shutdown", "Starting", "TooManyConnections", "DiskOrIo"].includes(name),
          code
        )
        if (name === "Raised") assert.strictEqual(breaker, "ignored", code)
      }
      // All these were errors, not the end of the session.
      assert.strictEqual((yield* connection.query("select 1 as one")).rows[0]?.["one"], 1)
    })
  )

  it.effect("conflicts between transactions", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const one = yield* open(primary.url)
      const two = yield* open(primary.url)
      yield* statements(
        one,
        "create table conflict (id int primary key, n int)",
        "insert into conflict values (1, 0), (2, 0)"
      )

      yield* statements(one, "begin isolation level repeatable read", "select * from conflict")
      yield* two.query("update conflict set n = 1 where id = 1")
      const serialization = yield* fails(one.query("update conflict set n = 2 where id = 1"))
      said(serialization, {
        class: "Serialization",
        retry: "same",
        write: "same",
        outcome: "not-applied",
        session: "keep"
      })
      said(yield* fails(one.query("select 1")), { class: "TransactionMisuse", sqlState: "25P02", session: "reset" })
      yield* one.query("rollback")

      for (const session of [one, two]) yield* statements(session, "set deadlock_timeout = '50ms'", "begin")
      yield* one.query("update conflict set n = 1 where id = 1")
      yield* two.query("update conflict set n = 1 where id = 2")
      const [first, second] = yield* Effect.all(
        [
          Effect.result(one.query("update conflict set n = 2 where id = 2")),
          Effect.result(two.query("update conflict set n = 2 where id = 1").pipe(Effect.tap(two.query("rollback"))))
        ],
        { concurrency: 2 }
      ).pipe(Effect.timeout("20 seconds"), Effect.orDie)
      const victim = first._tag === "Failure" ? first.failure : second._tag === "Failure" ? second.failure : undefined
      said(victim!, { class: "Deadlock", retry: "same", write: "same", breaker: "ignored" })
      for (const session of [one, two]) yield* Effect.ignore(session.query("rollback"))

      yield* statements(one, "begin", "select * from conflict where id = 1 for update")
      yield* two.query("set lock_timeout = '50ms'")
      said(yield* fails(two.query("update conflict set n = 3 where id = 1")), {
        class: "LockTimeout",
        retry: "same",
        retries: 1,
        breaker: "ignored"
      })
    })
  )

  it.effect("57014 is three things: the server's timeout, our own cancel, and somebody else's", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      yield* connection.query("set statement_timeout = '50ms'")
      const timeout = yield* fails(connection.query("select pg_sleep(10)"))
      said(timeout, {
        class: "StatementTimeout",
        retry: "never",
        breaker: "ignored",
        session: "keep"
      })
      yield* connection.query("set statement_timeout = 0")
      const { rows } = yield* connection.query("select pg_backend_pid() as pid")
      const sleeping = yield* Effect.forkChild(fails(connection.query("select pg_sleep(30)")))
      yield* Effect.sleep("100 millis")
      yield* primary.query("select pg_cancel_backend($1)", [rows[0]?.["pid"]])
      const cancelled = yield* Fiber.join(sleeping)
      said(cancelled, { class: "StatementTimeout", sqlState: "57014" })
      said(
        cancelled,
        { class: "Cancelled", retry: "never", breaker: "ignored", outcome: "not-applied" },
        { cancelledBy: "us" }
      )
      assert.strictEqual((yield* connection.query("select 1 as one")).rows[0]?.["one"], 1)
    })
  )

  it.effect("a session that the server ends: idle, idle in a transaction, too long in one", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const cases = [
        ["57P05", ["set idle_session_timeout = '50ms'"]],
        ["25P03", ["set idle_in_transaction_session_timeout = '50ms'", "begin"]],
        ["25P04", ["set transaction_timeout = '50ms'", "begin"]]
      ] as const
      for (const [sqlState, sql] of cases) {
        const connection = yield* open(primary.url)
        yield* statements(connection, ...sql)
        yield* Effect.sleep("500 millis")
        said(yield* fails(connection.query("select 1")), {
          sqlState,
          class: "IdleTimeout",
          retry: "fresh-session",
          write: "never",
          breaker: "ignored",
          session: "drop",
          alarm: true
        })
      }
    })
  )

  it.effect("who may not come in, and who may not do it", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* primary.query("create role limited login password 'limited' connection limit 0")
      yield* primary.query("create role reader login password 'reader'")
      yield* primary.query("create table secret (id int)")
      const wrong = yield* fails(Effect.scoped(open(withUser(primary.url, "reader", "wrong"))))
      said(wrong, { class: "Authentication", retry: "never", breaker: "ignored", outcome: "not-sent", alarm: true })
      const missing = yield* fails(Effect.scoped(open(primary.urlOf("no_such_database"))))
      said(missing, { sqlState: "3D000", class: "DatabaseGone", retry: "never", outcome: "not-sent" })
      const full = yield* fails(Effect.scoped(open(withUser(primary.url, "limited", "limited"))))
      said(full, {
        sqlState: "53300",
        class: "TooManyConnections",
        retry: "after-delay",
        write: "after-delay",
        outcome: "not-sent",
        breaker: "failure"
      })
      const reader = yield* open(withUser(primary.url, "reader", "reader"))
      said(yield* fails(reader.query("select * from secret")), {
        sqlState: "42501",
        class: "Permission",
        session: "keep"
      })
    })
  )

  it.effect("errors of the statement are the caller's; the server is well", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      yield* statements(connection, "create table mine (id int primary key)", "insert into mine values (1)")
      for (const [sqlState, sql] of [
        ["22012", "select 1 / 0"],
        ["42P01", "select * from no_such_table"],
        ["42601", "select from where"],
        ["23505", "insert into mine values (1)"],
        ["22P02", "select 'x'::int"]
      ] as const) {
        said(yield* fails(connection.query(sql)), {
          sqlState,
          class: "CallerError",
          retry: "never",
          breaker: "ignored"
        })
      }
      said(yield* fails(connection.query("savepoint s")), { sqlState: "25P01", class: "TransactionMisuse" })
      said(yield* fails(connection.query("select currval('pg_temp.no')")), { class: "CallerError" })
      yield* connection.query("create materialized view empty as select 1 as one with no data")
      said(yield* fails(connection.query("select * from empty")), {
        sqlState: "55000",
        class: "ObjectState"
      })
    })
  )

  it.effect("a limit of the configuration recurs: it is not retried", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      yield* statements(connection, "set work_mem = '64kB'", "set temp_file_limit = '64kB'")
      const error = yield* fails(
        connection.query("select count(*) from (select g from generate_series(1, 200000) g order by random()) s")
      )
      said(error, { sqlState: "53400", class: "ResourceLimit", retry: "never", breaker: "failure", session: "keep" })
    })
  )

  it.effect("a stale plan is told from a missing feature", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      yield* statements(
        connection,
        "create table changing (a int)",
        "prepare p as select * from changing",
        "alter table changing add column b int"
      )
      said(yield* fails(connection.query("execute p")), {
        sqlState: "0A000",
        class: "StalePlan",
        retry: "same",
        retries: 1
      })
      said(yield* fails(connection.query("execute unheard_of")), { sqlState: "26000", class: "StalePlan" })
      const missing = yield* fails(connection.query("create table other_database.public.t (a int)"))
      said(missing, { sqlState: "0A000", class: "CallerError", retry: "never" })
    })
  )

  it.effect("a replica is read-only: the way leads to the primary", () =>
    Effect.gen(function* () {
      const { replica } = yield* PgCluster.PgCluster
      const connection = yield* open(replica.url)
      said(yield* fails(connection.query("create table no (id int)")), {
        sqlState: "25006",
        class: "ReadOnly",
        retry: "other-node",
        write: "other-node",
        probe: true,
        outcome: "not-applied",
        breaker: "ignored"
      })
    })
  )

  it.effect("an administrator ends an idle session", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      const { rows } = yield* connection.query("select pg_backend_pid() as pid")
      yield* primary.query("select pg_terminate_backend($1)", [rows[0]?.["pid"]])
      yield* Effect.sleep("200 millis")
      const error = yield* fails(connection.query("select 1"))
      said(error, { class: "Shutdown", sqlState: "57P01", retry: "fresh-session", session: "drop", breaker: "failure" })
      // Whoever does not know that no commit was on its way has to take it for lost.
      said(error, { outcome: "unknown", write: "never" })
      said(error, { outcome: "not-applied", write: "fresh-session" }, { sent: true, commit: false })
      said(error, { outcome: "not-sent", write: "fresh-session" }, { sent: false })
    })
  )

  it.effect(
    "under a query the bare driver loses the code, and knows of a lost connection only (Session keeps it)",
    () =>
      Effect.gen(function* () {
        const { primary } = yield* PgCluster.PgCluster
        const connection = yield* open(primary.url)
        const { rows } = yield* connection.query("select pg_backend_pid() as pid")
        const sleeping = yield* Effect.forkChild(fails(connection.query("select pg_sleep(30)")))
        yield* Effect.sleep("100 millis")
        yield* primary.query("select pg_terminate_backend($1)", [rows[0]?.["pid"]])
        const error = yield* Fiber.join(sleeping)
        assert.include(["ConnectionLost", "Shutdown"], PgFailure.fromSqlError(error).class)
        said(error, { retry: "fresh-session", write: "never", outcome: "unknown", session: "drop", breaker: "failure" })
      })
  )

  it.effect("a crash, a recovery, a shutdown, nobody there", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const connection = yield* open(primary.url)
      const victim = yield* open(primary.url)
      const { rows } = yield* victim.query("select pg_backend_pid() as pid")
      const bystander = yield* Effect.forkChild(fails(connection.query("select pg_sleep(30)")))
      yield* Effect.sleep("100 millis")
      yield* primary.killBackend(Number(rows[0]?.["pid"]))
      // 57P02 comes as a warning, so that the driver knows of a lost connection only.
      said(yield* Fiber.join(bystander), {
        class: "ConnectionLost",
        retry: "fresh-session",
        immediate: true,
        write: "never",
        outcome: "unknown",
        session: "drop"
      })
      const attempt = Effect.map(Effect.result(Effect.scoped(open(primary.url))), (result) =>
        result._tag === "Failure" ? result.failure : undefined
      )
      yield* expectEventually(attempt, (error) => error === undefined, 60_000)

      // A shutdown that waits for its last session refuses new ones, as a start and a recovery do.
      yield* open(primary.url)
      const stopping = yield* Effect.forkChild(Effect.exit(primary.stop("smart")))
      const refused = yield* expectEventually(attempt, (error) => error !== undefined, 60_000)
      said(refused!, {
        sqlState: "57P03",
        class: "Starting",
        retry: "after-delay",
        write: "after-delay",
        outcome: "not-sent",
        delayFloorMillis: 1000,
        breaker: "failure"
      })
      yield* primary.kill
      yield* Fiber.interrupt(stopping)
      const nobody = yield* expectEventually(
        attempt,
        (error) => error !== undefined && PgFailure.fromSqlError(error).sqlState === undefined,
        60_000
      )
      said(nobody!, {
        class: "Unreachable",
        retry: "fresh-session",
        write: "fresh-session",
        outcome: "not-sent",
        breaker: "failure"
      })
      const nowhere = new URL(primary.url)
      nowhere.hostname = "no-such-host.invalid"
      said(yield* fails(Effect.scoped(open(nowhere.href))), { class: "Unreachable", outcome: "not-sent" })
    })
  )
})
