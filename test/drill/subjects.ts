import * as PgClient from "@effect/sql-pg/PgClient"
import { Database, Report } from "@sluice/sdk"
import * as PgFailure from "@sluice/sdk/PgFailure"
import * as Deadline from "@sluice/sdk/policy/Deadline"
import { DeadlineExceeded } from "@sluice/sdk/ReportError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlClient } from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import * as pg from "pg"
import type { Answer, Opened, Subject, Target } from "./Subject.ts"

const urlOf = ({ applicationName, database, host, password, port, user }: Target) =>
  `postgres://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}?application_name=${applicationName}&sslmode=disable`

/** What a fiber's end means to the caller: its typed failures are declared, all else is not. */
const answer = <E>(
  exit: Exit.Exit<string, E>,
  declared: (error: E) => { readonly error: string; readonly mayBeApplied: boolean } | undefined
): Answer => {
  if (Exit.isSuccess(exit)) return { kind: "ok", value: exit.value }
  const failure = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  const known = failure === undefined ? undefined : declared(failure)
  return known === undefined
    ? { kind: "otherwise", error: Cause.pretty(exit.cause).split("\n")[0]!.slice(0, 200) }
    : { kind: "declared", ...known }
}

/** The same for a report: what its errors say is declared. */
export const answerOf = (report: { readonly errors: ReadonlySet<Schema.Top> }) => {
  const mayBeApplied = new Set(["OutcomeUnknown", "DeadlineExceeded"])
  return (exit: Exit.Exit<string, unknown>): Answer =>
    answer(exit, (error) =>
      [...report.errors].some((schema) => Schema.is(schema as Schema.Codec<unknown>)(error))
        ? {
            error: (error as { readonly _tag: string })._tag,
            mayBeApplied: mayBeApplied.has((error as { readonly _tag: string })._tag)
          }
        : undefined
    )
}

class Drill extends Database.Service<Drill>()("drill", { roles: ["main"] }) {}

const reportsOf = (deadline: number) => ({
  read: Report.make("read", {
    database: Drill.role("main"),
    params: { id: Schema.Int },
    row: { name: Schema.String },
    query: (sql, { id }) => sql`select name from items, pg_sleep(0.02) where id = ${id}`,
    deadline,
    attemptTimeout: deadline / 3,
    retry: { schedule: Schedule.exponential("50 millis"), retries: 3, budget: { ratio: 0.5 } }
  }),
  write: Report.make("write", {
    database: Drill.role("main"),
    params: { token: Schema.String },
    row: { token: Schema.String },
    query: (sql, { token }) =>
      sql`insert into writes (token) select ${token}::text from pg_sleep(0.02) returning token`,
    deadline,
    writes: "once"
  })
})

/** One transaction: two rows, a moment of the caller's own in between. */
const transfer = (sql: SqlClient, token: string) =>
  sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`insert into ledger (token, part) values (${token}, 1)`
      yield* Effect.sleep("10 millis")
      yield* sql`insert into ledger (token, part) values (${token}, 2)`
      return token
    })
  )

/** A failed transaction may have been committed only if nobody knows that it was not. */
const declaredTransfer = (error: unknown) => {
  if (error instanceof DeadlineExceeded) return { error: error._tag, mayBeApplied: true }
  if (!isSqlError(error)) return undefined
  const { class: name, outcome } = PgFailure.fromSqlError(error)
  return { error: name, mayBeApplied: outcome === "unknown" || outcome === "applied" }
}

/** A role on what is drilled. */
export const roleOf = ({ applicationName, database, host, password, pool, pooler, port, user }: Target) =>
  ({
    host,
    port,
    name: database,
    user,
    password: Redacted.make(password),
    sslmode: "disable",
    applicationName,
    maxConnections: pool,
    pooler
  }) as const

/** Callers that hold a session or wait for one. */
export const heldBy = ({ nodes }: Pick<Database.RoleService, "nodes">) =>
  Effect.runPromise(
    Effect.map(
      Effect.forEach(nodes, (node) => node.pool.stats),
      (all) => all.reduce((sum, stats) => sum + stats.leased + stats.waiting, 0)
    )
  )

/** Reports of Sluice: a read that retries, a write that is never repeated. */
export const sluice: Subject = {
  name: "sluice",
  open: async (target) => {
    const { clock, deadline } = target
    const runtime = ManagedRuntime.make(
      Drill.layer({ main: roleOf(target) }).pipe(Layer.provideMerge(Layer.succeed(Clock.Clock, clock)))
    )
    const role = await runtime.runPromise(Drill.role("main"))
    const { read, write } = reportsOf(deadline)
    return {
      read: (id) =>
        runtime.runPromiseExit(Effect.map(read.run({ id }), (rows) => rows[0]?.name ?? "nothing")).then(answerOf(read)),
      write: (token) =>
        runtime
          .runPromiseExit(Effect.map(write.run({ token }), (rows) => rows[0]?.token ?? "nothing"))
          .then(answerOf(write)),
      transfer: (token) =>
        runtime
          .runPromiseExit(transfer(role.sql, token).pipe(Deadline.within({ key: "transfer", duration: deadline })))
          .then((exit) => answer(exit, declaredTransfer)),
      held: () => heldBy(role),
      close: () => runtime.dispose()
    } satisfies Opened
  }
}

/** The bare driver with what Effect offers around it: a timeout, and three retries of a read that says it is retryable. */
export const driver: Subject = {
  name: "driver",
  open: async (target) => {
    const { deadline } = target
    const runtime = ManagedRuntime.make(
      PgClient.layer({
        url: Redacted.make(urlOf(target)),
        applicationName: target.applicationName,
        maxConnections: target.pool,
        prepare: target.pooler === undefined
      }).pipe(Layer.provideMerge(Layer.succeed(Clock.Clock, target.clock)))
    )
    const sql = await runtime.runPromise(PgClient.PgClient)
    const declared = (error: unknown) =>
      isSqlError(error)
        ? { error: error.reason._tag, mayBeApplied: true }
        : Cause.isTimeoutError(error)
          ? { error: "TimeoutError", mayBeApplied: true }
          : undefined
    return {
      read: (id) =>
        runtime
          .runPromiseExit(
            sql<{ name: string }>`select name from items, pg_sleep(0.02) where id = ${id}`.pipe(
              Effect.retry({ times: 3, while: (error) => error.isRetryable }),
              Effect.map((rows) => rows[0]?.name ?? "nothing"),
              Effect.timeout(deadline)
            )
          )
          .then((exit) => answer(exit, declared)),
      write: (token) =>
        runtime
          .runPromiseExit(
            sql<{
              token: string
            }>`insert into writes (token) select ${token}::text from pg_sleep(0.02) returning token`.pipe(
              Effect.map((rows) => rows[0]?.token ?? "nothing"),
              Effect.timeout(deadline)
            )
          )
          .then((exit) => answer(exit, declared)),
      transfer: (token) =>
        runtime.runPromiseExit(Effect.timeout(transfer(sql, token), deadline)).then((exit) => answer(exit, declared)),
      held: async () => 0,
      close: () => runtime.dispose()
    }
  }
}

/** `pg` with its pool and the timeouts that it has. */
export const pgPool: Subject = {
  name: "pg",
  open: async (target) => {
    const pool = new pg.Pool({
      connectionString: urlOf(target),
      max: target.pool,
      connectionTimeoutMillis: target.deadline,
      query_timeout: target.deadline
    })
    pool.on("error", () => {})
    const failed = (error: unknown): Answer =>
      error instanceof Error
        ? { kind: "declared", error: (error as { readonly code?: string }).code ?? error.message, mayBeApplied: true }
        : { kind: "otherwise", error: String(error) }
    const query = (text: string, value: unknown, column: string): Promise<Answer> =>
      pool
        .query<Record<string, string>>({ ...(target.pooler ? {} : { name: column }), text, values: [value] })
        .then(({ rows }): Answer => ({ kind: "ok", value: rows[0]?.[column] ?? "nothing" }), failed)
    const unheard = () => {}
    /** As its documentation writes it. */
    const transaction = async (token: string): Promise<Answer> => {
      const client = await pool.connect()
      // While it is lent, nobody else hears its errors.
      client.on("error", unheard)
      try {
        await client.query("begin")
        await client.query("insert into ledger (token, part) values ($1, 1)", [token])
        await new Promise((resolve) => setTimeout(resolve, 10))
        await client.query("insert into ledger (token, part) values ($1, 2)", [token])
        await client.query("commit")
        client.off("error", unheard).release()
        return { kind: "ok", value: token }
      } catch (error) {
        client.release(true)
        return failed(error)
      }
    }
    return {
      read: (id) => query("select name from items, pg_sleep(0.02) where id = $1", id, "name"),
      write: (token) =>
        query("insert into writes (token) select $1::text from pg_sleep(0.02) returning token", token, "token"),
      transfer: (token) => transaction(token).catch(failed),
      held: async () => pool.waitingCount + (pool.totalCount - pool.idleCount),
      close: () => pool.end()
    }
  }
}

export const subjects: ReadonlyArray<Subject> = [sluice, driver, pgPool]
