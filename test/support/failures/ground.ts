/** What the failure scenes stand on: functions, tables and roles in a `TestDatabase`. */
import { FaultProxy } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { TestDatabase } from "../database.ts"
import { expectEventually } from "../expectEventually.ts"
import { at, Fleet } from "../fleetRoles.ts"

export const row = { n: Schema.Int }

/** Two retries, quickly, with a budget that no scene exhausts. */
export const retry = {
  schedule: Schedule.spaced("50 millis"),
  retries: 2,
  jitter: "none",
  budget: { minimum: 1000 }
} as const

export const setup = Effect.gen(function* () {
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
    "create table log (n int)",
    `create function locked(i int) returns int language plpgsql as $$
       declare found int;
       begin perform nextval('runs'); select n into found from counters where id = i for update; return found; end $$`,
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

export const runs = Effect.flatMap(TestDatabase, ({ query }) =>
  Effect.map(query("select case when is_called then last_value else 0 end::int as runs from runs"), ([one]) =>
    Number(one!["runs"])
  )
)

/** How often the statement ran on the server while the effect did. */
export const executions = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* runs
    const value = yield* effect
    return [value, (yield* runs) - before] as const
  })

/** The primary as another role of the database. */
export const as = (suffix: string, options = {}) =>
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
export const proxied = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const { hostname, port } = new URL(url)
  const proxy = yield* FaultProxy.make({ target: { host: hostname, port: Number(port) } })
  return { proxy, live: Layer.fresh(Fleet.layerRole("primary", at(proxy.url(url)))) }
})

/** Waits until somebody else is in the middle of a statement like this one: asleep, or waiting for a lock. */
export const running = (like: string, count = 1) =>
  Effect.gen(function* () {
    const { query } = yield* TestDatabase
    const found = yield* expectEventually(
      query(
        `select pid from pg_stat_activity
         where datname = current_database() and state = 'active' and query like $1 and pid <> pg_backend_pid()
           and wait_event_type in ('Timeout', 'Lock')`,
        [like]
      ),
      (rows) => rows.length >= count
    )
    return found.map(({ pid }) => pid as number)
  })

/** How long it took, in milliseconds of real time. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const begin = performance.now()
    const value = yield* effect
    return [value, performance.now() - begin] as const
  })

/** In time, on a busy machine, or how late. */
export const inTime = (millis: number, most: number): string => (millis < most ? "in time" : `after ${millis} ms`)
