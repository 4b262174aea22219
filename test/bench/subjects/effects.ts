/** Subjects in Effect's world: the bare driver, and Sluice. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgPool from "@effect/sql-pg/PgPool"
import { Database, Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Schedule from "effect/Schedule"
import {
  byKey as statement,
  checked,
  type Item,
  keys,
  type Load,
  type Querying,
  type Subject,
  wide
} from "../Subject.ts"

/** `fibers` fibers of one runtime that repeat `once` until the time is over; each does it at least once. */
const effects =
  <R>(runtime: ManagedRuntime.ManagedRuntime<R, unknown>) =>
  (once: (key: number) => Effect.Effect<unknown, unknown, R>): Load =>
  (fibers, millis) => {
    let count = 0
    const end = performance.now() + millis
    const next = () => once((count++ % keys) + 1)
    const more = Effect.whileLoop({ while: () => performance.now() < end, body: next, step: () => {} })
    const worker = Effect.flatMap(Effect.suspend(next), () => more)
    return runtime.runPromise(
      Effect.map(
        Effect.forEach(Array.from({ length: fibers }), () => worker, { concurrency: "unbounded", discard: true }),
        () => count
      )
    )
  }

const five =
  <E, R>(select: (id: number) => Effect.Effect<unknown, E, R>) =>
  (id: number) =>
    Effect.forEach([0, 1, 2, 3, 4], (n) => select(((id + n) % keys) + 1), { concurrency: 5, discard: true })

/** Everything that goes over Effect's `SqlClient`, whoever provides it. */
const overSqlClient = async (layer: Layer.Layer<SqlClient.SqlClient, unknown>): Promise<Querying> => {
  const runtime = ManagedRuntime.make(layer)
  const sql = await runtime.runPromise(SqlClient.SqlClient)
  const load = effects(runtime)
  const select = (id: number) =>
    Effect.map(sql<Item>`select id, name, value from items where id = ${id}`, (rows) => checked(rows[0], id))
  return {
    select: load(select),
    transaction: load((id) => sql.withTransaction(select(id))),
    acquire: load(() => Effect.scoped(sql.reserve)),
    five: load(five(select)),
    once: (id) => runtime.runPromise(select(id)),
    collect: (rows) =>
      runtime.runPromise(
        Effect.map(sql.unsafe<{ speed: number }>(wide(String(rows))), (all) => {
          let sum = 0
          for (const row of all) sum += row.speed
          return sum
        })
      ),
    stream: (rows) => {
      let sum = 0
      return runtime.runPromise(
        Effect.as(
          Stream.runForEachArray(sql.unsafe<{ speed: number }>(wide(String(rows))).stream, (chunk) =>
            Effect.sync(() => {
              for (const row of chunk) sum += row.speed
            })
          ),
          0
        ).pipe(Effect.map(() => sum))
      )
    },
    close: () => runtime.dispose()
  }
}

/** `@effect/sql-pg` as it is, with its own pool. */
export const driver: Subject = {
  name: "driver",
  beside: "sluice sql",
  open: ({ pool, url }) => overSqlClient(PgClient.layer({ url: Redacted.make(url), maxConnections: pool }))
}

/** A connection of the driver's own pool for one statement, without Effect's `SqlClient`. */
const leaseOfDriver = (name: string, beside: string, multiplex: boolean): Subject => ({
  name,
  beside,
  open: async ({ pool: size, url }) => {
    const config = { url: Redacted.make(url), maxConnections: size, multiplex }
    const layer = Layer.effect(PgPool.PgPool, PgPool.make(config))
    const runtime = ManagedRuntime.make(layer)
    const pool = await runtime.runPromise(PgPool.PgPool)
    const load = effects(runtime)
    const select = (id: number) =>
      Effect.map(
        pool.use((connection) => connection.query(statement, [id])),
        ({ rows }) => checked(rows[0] as unknown as Item, id)
      )
    return {
      select: load(select),
      acquire: load(() => pool.use(() => Effect.void)),
      five: load(five(select)),
      close: () => runtime.dispose()
    }
  }
})

export const driverLease = leaseOfDriver("driver lease", "sluice lease", false)

/** The same with its sessions shared by fibers (pipelining). */
export const driverSharedLease = leaseOfDriver("driver shared lease", "sluice shared lease", true)

class Bench extends Database.Service<Bench>()("bench", { roles: ["main"] }) {}

const item = {
  database: Bench.role("main"),
  params: { id: Schema.Int },
  row: { id: Schema.Int, name: Schema.String, value: Schema.Finite },
  query: (sql: SqlClient.SqlClient, { id }: { readonly id: number }) =>
    sql`select id, name, value from items where id = ${id}`,
  deadline: "10 seconds"
} as const

const byKey = Report.make("byKey", { ...item, lane: "interactive" })

const byKeyShared = Report.make("byKeyShared", { ...item, lane: "shared" })

/** With the policies that `pg + cockatiel + schema` has. The queue is as long as the widest row needs. */
const byKeyFull = Report.make("byKeyFull", {
  ...item,
  lane: "interactive",
  attemptTimeout: "5 seconds",
  retry: { schedule: Schedule.exponential("100 millis"), retries: 2 },
  breaker: { failureRate: false, consecutiveFailures: 5, openFor: Schedule.spaced("5 seconds") },
  bulkhead: { permits: 10, queue: 1_000 }
})

const layerOf = (url: string, pool: number) =>
  Bench.layer({
    main: {
      url: Redacted.make(url),
      minConnections: Math.min(2, pool),
      maxConnections: pool,
      lanes: { shared: { shared: { sessions: Math.max(1, Math.ceil(pool / 2)) } } }
    }
  })

const report = (name: string, call: (id: number) => ReturnType<typeof byKey.run>): Subject => ({
  name,
  open: async ({ pool, url }) => {
    const runtime = ManagedRuntime.make(layerOf(url, pool))
    await runtime.runPromise(Bench.role("main"))
    const load = effects(runtime)
    const select = (id: number) => Effect.map(call(id), (rows) => checked(rows[0], id))
    return {
      select: load(select),
      five: load(five(select)),
      once: (id) => runtime.runPromise(select(id)),
      close: () => runtime.dispose()
    }
  }
})

/** A report of Sluice: parameters, deadline, lease, statement, rows. */
export const sluice = report("sluice", (id) => byKey.run({ id }))

/** The same with retry, breaker, bulkhead and attempt timeout. */
export const sluiceFull = report("sluice full", (id) => byKeyFull.run({ id }) as ReturnType<typeof byKey.run>)

/** The same in a lane whose sessions are shared. */
export const sluiceShared = report("sluice shared", (id) => byKeyShared.run({ id }))

/** Effect's `SqlClient` over the pool of Sluice: the same calls as the bare driver. */
export const sluiceSql: Subject = {
  name: "sluice sql",
  open: ({ pool, url }) => overSqlClient(Layer.provide(Bench.layerSqlClient("main"), layerOf(url, pool)))
}

/** A session of Sluice's pool for one statement: what a report stands on, without the report. */
export const sluiceLease: Subject = {
  name: "sluice lease",
  open: async ({ pool: size, url }) => {
    const runtime = ManagedRuntime.make(layerOf(url, size))
    const { pool } = (await runtime.runPromise(Bench.role("main"))).nodes[0]!
    const load = effects(runtime)
    const request = { name: "bench", lane: "interactive" }
    const select = (id: number) =>
      Effect.map(
        pool.use(request, (session) => session.query(statement, [id])),
        ({ rows }) => checked(rows[0], id)
      )
    return {
      select: load(select),
      acquire: load(() => pool.use(request, () => Effect.void)),
      five: load(five(select)),
      close: () => runtime.dispose()
    }
  }
}

/** The same in a lane whose sessions are shared. */
export const sluiceSharedLease: Subject = {
  name: "sluice shared lease",
  open: async ({ pool: size, url }) => {
    const runtime = ManagedRuntime.make(layerOf(url, size))
    const { read } = (await runtime.runPromise(Bench.role("main"))).nodes[0]!
    const request = { name: "bench", lane: "shared" }
    const select = (id: number) =>
      Effect.map(
        read(request, (session) => session.query(statement, [id])),
        ({ rows }) => checked(rows[0], id)
      )
    return { select: effects(runtime)(select), close: () => runtime.dispose() }
  }
}
