/** What a soak stands on: a primary and a replica, each behind a proxy, tables, and Sluice over both. */
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

export class Soak extends Database.Service<Soak>()("soak", { roles: ["primary", "replica"] }) {}
export const primary = Soak.role("primary")
export const replica = Soak.role("replica")

export const user = "soak"
export const password = "through the weir"
export const applicationName = "soak"
export const items = 1_000
export const itemName = (id: number) => `item ${id}`

export const deadline = 1_500
export const permits = 4

const retry = { schedule: Schedule.exponential("50 millis"), retries: 3, budget: { ratio: 0.5 } } as const
const write = { database: primary, params: { n: Schema.Int }, row: { n: Schema.Int }, deadline } as const

export const reports = {
  short: Report.make("short", {
    database: replica,
    params: { id: Schema.Int },
    row: { name: Schema.String },
    query: (sql, { id }) => sql`select name from items where id = ${id}`,
    deadline,
    attemptTimeout: deadline / 3,
    retry
  }),
  /** Its permits are counted at the end: there is no queue, so that one that is missing shows. */
  long: Report.make("long", {
    database: replica,
    params: { id: Schema.Int },
    row: { name: Schema.String },
    query: (sql, { id }) => sql`select name from items, pg_sleep(0.3) where id = ${id}`,
    deadline: 2 * deadline,
    bulkhead: { permits },
    breaker: { failureRate: 0.5, minimumCalls: 10, openFor: Schedule.spaced("500 millis") }
  }),
  many: Report.make("many", {
    database: replica,
    params: { rows: Schema.Int },
    row: { n: Schema.Int, name: Schema.String },
    query: (sql, { rows }) => sql`select n, 'item ' || n as name from generate_series(1, ${rows}::int4) n`,
    deadline,
    retry
  }),
  once: Report.make("once", {
    ...write,
    writes: "once",
    retry,
    query: (sql, { n }) => sql`insert into writes (n) values (${n}) returning n`
  }),
  idempotent: Report.make("idempotent", {
    ...write,
    writes: "idempotent",
    attemptTimeout: deadline / 3,
    retry,
    query: (sql, { n }) =>
      sql`insert into keyed (n) values (${n}) on conflict (n) do update set n = excluded.n returning n`
  }),
  /** Reads on the replica what was written on the primary. */
  found: Report.make("found", {
    database: replica,
    params: { n: Schema.Int },
    row: { n: Schema.Int },
    query: (sql, { n }) => sql`select n from keyed where n = ${n}`,
    deadline
  }),
  /** Both parts of a transaction, counted apart: equal on one snapshot. */
  parts: Report.make("parts", {
    database: replica,
    params: { part: Schema.Int },
    row: { n: Schema.Int },
    query: (sql, { part }) => sql`select count(*)::int as n from recent where part = ${part}`,
    deadline
  })
}

export type Servers = Effect.Success<typeof servers>

/** A primary and a replica, with a proxy in front of each. */
export const servers = Effect.gen(function* () {
  const cluster = yield* PgCluster.make({ auth: "scram-sha-256", replicas: 1, settings: { max_connections: 100 } })
  const database = yield* cluster.createDatabase("soak")
  const run = (sql: string) => cluster.primary.query(sql, [], { database: database.name })
  for (const sql of [
    `create role ${user} login password '${password}'`,
    "create table items (id int primary key, name text not null)",
    `insert into items select g, 'item ' || g from generate_series(1, ${items}) g`,
    // Without a key, so that a write that was repeated shows.
    "create table writes (n int not null)",
    "create table keyed (n int primary key)",
    "create table ledger (id bigint generated always as identity primary key, n int not null, part int not null)",
    // By number, so that no transaction is cut in two.
    "create index on ledger (n)",
    "create view recent as select * from ledger where n > (select max(n) from ledger) - 2000",
    `grant select, insert, update on all tables in schema public to ${user}`
  ]) {
    yield* run(sql)
  }
  yield* cluster.replica.waitForReplay(cluster.primary)
  const proxies = yield* Effect.forEach(cluster.servers, (target) => FaultProxy.make({ target }))
  return { cluster, database: database.name, proxies }
})

/** Sluice over both, closed with the scope or before. */
export const open = ({ database, proxies }: Servers, pool: number) =>
  ManagedRuntime.make(
    Soak.layerServers({
      servers: proxies.map(({ host, port }) => `${host}:${port}`),
      name: database,
      user,
      password: Redacted.make(password),
      sslmode: "disable",
      applicationName,
      maxConnections: pool,
      roles: { replica: { maxLag: "5 seconds", fallback: "primary" } }
    }).pipe(Layer.provide(Logger.layer([])))
  )

export type Runtime = ReturnType<typeof open>
