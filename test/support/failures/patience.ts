/** What takes longer than a timer: a COMMIT of six seconds, and a process that was busy for six. */
import { Database, Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Line } from "./observe.ts"

class Patient extends Database.Service<Patient>()("patient", { roles: ["primary"] }) {}

const role = Patient.role("primary")

const on = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.flatMap(PgCluster.PgCluster, ({ primary }) =>
    Effect.provide(
      work,
      Patient.layerRole("primary", { url: Redacted.make(primary.url), sslmode: "disable", maxConnections: 4 })
    )
  )

const line = (what: string, result: string, seen: string): Line => ({
  case: what,
  expected: { class: "", attempts: 1, result },
  seen: { class: "", attempts: 1, result: seen }
})

export const slowCommit = Effect.gen(function* () {
  const { primary } = yield* PgCluster.PgCluster
  yield* primary.query("create table deferred (id int)")
  yield* primary.query(
    "create function deferring() returns trigger language plpgsql as $$ begin perform pg_sleep(6); return null; end $$"
  )
  yield* primary.query(
    "create constraint trigger deferring after insert on deferred initially deferred for each row execute function deferring()"
  )
  const exit = yield* on(
    Effect.flatMap(role, ({ sql }) => Effect.exit(sql.withTransaction(sql`insert into deferred values (1)`)))
  )
  const [row] = yield* primary.query("select count(*)::int as n from deferred")
  return [line("a deferred trigger of 6 s", "Success; 1 row", `${exit._tag}; ${String(row!["n"])} row`)]
})

const beBusy = Effect.sync(() => {
  const end = performance.now() + 6000
  while (performance.now() < end);
})

export const busyProcess = on(
  Effect.gen(function* () {
    const service = yield* role
    const { sql } = service
    const select = Report.make("select", {
      database: role,
      params: {},
      row: { n: Schema.Int },
      query: (sql) => sql`select 1 as n`,
      deadline: "20 seconds"
    })
    yield* Effect.all(
      Array.from({ length: 4 }, () => sql`select pg_sleep(0.1)`),
      { concurrency: 4 }
    )
    const pool = service.nodes[0]!.pool
    const before = yield* pool.stats
    // Silent for longer than a second: they are validated when they are lent.
    yield* Effect.sleep("1200 millis")
    const calls = yield* Effect.forkChild(
      Effect.all(
        Array.from({ length: 4 }, () => Effect.exit(select.run({}))),
        { concurrency: 4 }
      ),
      { startImmediately: true }
    )
    const transaction = yield* Effect.forkChild(Effect.exit(sql.withTransaction(sql`select 1`)), {
      startImmediately: true
    })
    yield* beBusy
    const exits = [...(yield* Fiber.join(calls)), yield* Fiber.join(transaction)]
    const after = yield* pool.stats
    const closed = (stats: typeof before) => Object.values(stats.counters.closed).reduce((sum, n) => sum + n, 0)
    const failed = exits.filter(({ _tag }) => _tag === "Failure").length
    return [
      line(
        "validation, statements and a COMMIT over a busy loop of 6 s",
        "0 calls failed, 0 sessions closed",
        `${failed} calls failed, ${closed(after) - closed(before)} sessions closed`
      )
    ]
  })
)
