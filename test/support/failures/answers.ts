/** Answers that are lost on their way, a disk that is full, and a server that crashes: beside what the caller must get. */
import { Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { inspect } from "node:util"
import { TestDatabase } from "../database.ts"
import { expectEventually } from "../expectEventually.ts"
import { at, Fleet, primary } from "../fleetRoles.ts"
import { smallDisk } from "../smallDisk.ts"
import { inTime, proxied, retry, row, timed } from "./ground.ts"
import { type Line, observe, seen, within } from "./observe.ts"

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

/** No text that the error can become holds the statement. */
const discreet = (error: unknown): string =>
  /insert|orders/i.test(`${JSON.stringify(error)} ${String(error)} ${inspect(error, { depth: 20, showHidden: true })}`)
    ? "tells the statement"
    : "discreet"

export const lostOnce = Effect.gen(function* () {
  const { live, proxy } = yield* proxied
  const once = Report.make("once", { ...order, deadline: "10 seconds", writes: "once" })
  return yield* Effect.gen(function* () {
    yield* once.run({ key: "warm" })
    yield* proxy.stall({ direction: "server->client" })
    const fiber = yield* Effect.forkChild(observe(once.runWithInfo({ key: "lost" })))
    yield* expectEventually(written("lost"), (rows) => rows.length === 1)
    yield* Effect.andThen(proxy.reset, proxy.heal)
    const call = yield* Fiber.join(fiber)
    const next = yield* observe(once.runWithInfo({ key: "next" }))
    const lines: ReadonlyArray<Line> = [
      {
        case: "never repeated, told as unknown",
        expected: { class: "ConnectionLost", attempts: 1, result: "OutcomeUnknown; stored: 1, discreet" },
        seen: seen(call, `stored: ${(yield* written("lost")).length}, ${discreet(call.error)}`)
      },
      {
        case: "the next caller is served",
        expected: { class: "none", attempts: 1, result: '[{"n":1}]' },
        seen: seen(next)
      }
    ]
    return lines
  }).pipe(Effect.provide(live, { local: true }))
})

export const silentOnce = Effect.gen(function* () {
  const { live, proxy } = yield* proxied
  const once = Report.make("once", { ...order, deadline: "600 millis", writes: "once" })
  return yield* Effect.gen(function* () {
    yield* once.run({ key: "warm" })
    yield* proxy.stall({ direction: "server->client" })
    const [call, millis] = yield* timed(observe(once.runWithInfo({ key: "silent" })))
    yield* proxy.heal
    const stored = yield* expectEventually(written("silent"), (rows) => rows.length > 0)
    const line: Line = {
      case: "an answer that does not come by the deadline",
      expected: { class: "any", attempts: 1, result: "OutcomeUnknown; stored: 1, in time" },
      seen: {
        class: "any",
        attempts: call.attempts,
        result: `${call.error?._tag ?? "rows"}; stored: ${stored.length}, ${inTime(millis, 4_000)}`
      }
    }
    return [line]
  }).pipe(Effect.provide(live, { local: true }))
})

export const lostIdempotent = Effect.gen(function* () {
  const { live, proxy } = yield* proxied
  const idempotent = Report.make("idempotent", { ...order, deadline: "10 seconds", writes: "idempotent" })
  return yield* Effect.gen(function* () {
    yield* idempotent.run({ key: "warm" })
    yield* proxy.stall({ direction: "server->client" })
    const fiber = yield* Effect.forkChild(observe(idempotent.runWithInfo({ key: "again" })))
    yield* expectEventually(written("again"), (rows) => rows.length === 1)
    yield* Effect.andThen(proxy.reset, proxy.heal)
    const call = yield* Fiber.join(fiber)
    const line: Line = {
      case: "repeated: one row by its key",
      expected: { class: "ConnectionLost", attempts: 2, result: '[{"n":1}]; stored: 1' },
      seen: seen(call, `stored: ${(yield* written("again")).length}`)
    }
    return [line]
  }).pipe(Effect.provide(live, { local: true }))
})

/**
 * Really full, where a small file system can be mounted. For a cluster of one's own without replicas: a replica on the
 * same machine would have its tablespace in the same place.
 */
export const diskFull = Effect.gen(function* () {
  const { primary: server } = yield* PgCluster.PgCluster
  const disk = yield* smallDisk(server.dataDirectory)
  if (disk === undefined) return []
  const run = (...statements: ReadonlyArray<string>) =>
    Effect.forEach(statements, (sql) => server.query(sql), { discard: true })
  yield* run(`create tablespace small location '${disk.space}'`)
  yield* Effect.addFinalizer(() =>
    // A recovery must not look for a tablespace that is gone.
    Effect.ignore(run("drop table if exists bulky", "drop tablespace if exists small", "checkpoint"))
  )
  yield* run("create table bulky (n int, pad text) tablespace small")
  const bulky = Report.make("bulky", {
    database: primary,
    params: {},
    row,
    query: (sql) =>
      sql`with stored as (insert into bulky select g, repeat(md5(g::text), 60) from generate_series(1, 100) g returning 1)
          select count(*)::int as n from stored`,
    deadline: "20 seconds",
    writes: "idempotent",
    retry
  })
  return yield* Effect.gen(function* () {
    yield* disk.fill
    const full = yield* observe(bulky.runWithInfo({}))
    yield* disk.empty
    const after = yield* observe(bulky.runWithInfo({}))
    const lines: ReadonlyArray<Line> = [
      {
        case: "told, and not repeated where the disk is full",
        expected: { class: "DiskOrIo", attempts: 1, result: "QueryFailed 53100" },
        seen: seen(full)
      },
      {
        case: "over as soon as there is room",
        expected: { class: "none", attempts: 1, result: '[{"n":100}]' },
        seen: seen(after)
      }
    ]
    return lines
  }).pipe(Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(server.url))), { local: true }))
})

/** For a cluster of one's own: every session of it is ended. */
export const crash = Effect.gen(function* () {
  const { primary: server } = yield* PgCluster.PgCluster
  const declared = {
    database: primary,
    params: { seconds: Schema.Finite },
    row,
    query: (sql: any, { seconds }: { readonly seconds: number }) =>
      sql`select 1 as n from pg_sleep(${seconds}) /* crashed */`,
    deadline: "30 seconds"
  } as const
  const schedule = Schedule.spaced("300 millis")
  const again = Report.make("again", { ...declared, retry: { ...retry, retries: 5, schedule } })
  const bare = Report.make("bare", declared)
  return yield* Effect.gen(function* () {
    const calls = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(observe(again.runWithInfo({ seconds: 0.7 }))))
    const lost = yield* Effect.forkChild(observe(bare.runWithInfo({ seconds: 5 })))
    const pids = yield* expectEventually(
      server.query(
        "select pid from pg_stat_activity where state = 'active' and query like '%/* crashed */%' and wait_event = 'PgSleep'"
      ),
      (rows) => rows.length === 4
    )
    yield* server.killBackend(pids[0]!["pid"] as number)
    const repeated = yield* Effect.forEach(calls, (call) => Fiber.join(call))
    const told = yield* Fiber.join(lost)
    const lines: ReadonlyArray<Line> = [
      ...repeated.map((call): Line => ({
        case: "repeated when the server is back",
        expected: { class: "Shutdown or lost", attempts: "2 to 6", result: '[{"n":1}]' },
        seen: {
          class: /^((Shutdown|ConnectionLost|Starting|Unreachable)(, )?)+$/.test(call.class)
            ? "Shutdown or lost"
            : call.class,
          attempts: within(call.attempts, 2, 6),
          result: call.result
        }
      })),
      {
        case: "without a retry it is told",
        expected: { class: "any", attempts: 1, result: "DatabaseUnavailable, lost" },
        seen: {
          class: "any",
          attempts: told.attempts,
          result: told.error?._tag === "DatabaseUnavailable" ? `DatabaseUnavailable, ${told.error.reason}` : told.result
        }
      }
    ]
    return lines
  }).pipe(
    Effect.provide(Layer.fresh(Fleet.layerRole("primary", at(server.url, { maxConnections: 8 }))), { local: true })
  )
})
