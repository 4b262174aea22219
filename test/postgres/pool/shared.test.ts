import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import { assert } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}

const base = {
  database: Fleet.role("primary"),
  row: { pid: Schema.Int },
  lane: "shared",
  deadline: "10 seconds"
} as const
const quick = Report.make("quick", {
  ...base,
  params: {},
  query: (sql) => sql`select pg_backend_pid() as pid, pg_sleep(0.02) is null as slept`
})
const slow = Report.make("slow", {
  ...base,
  params: { seconds: Schema.Finite },
  query: (sql, p) => sql`select pg_backend_pid() as pid, pg_sleep(${p.seconds}) is null as slept`
})
const hasty = Report.make("hasty", {
  ...base,
  params: {},
  deadline: "300 millis",
  query: (sql) => sql`select 1 as pid`
})
const failing = Report.make("failing", { ...base, params: {}, query: (sql) => sql`select 1 / 0 as pid` })
const retried = Report.make("retried", {
  ...base,
  params: {},
  retry: { retries: 3, budget: { minimum: 20 } },
  query: (sql) => sql`select 1 as pid`
})

const layer = (url: string, sessions: number, silence: Duration.Input = "10 seconds") =>
  Fleet.layerRole("primary", {
    url: Redacted.make(url),
    maxConnections: 8,
    minConnections: 0,
    lanes: { shared: { cap: 4, shared: { sessions, statements: 8, silence } } }
  })

const leased = Effect.gen(function* () {
  const role = yield* Fleet.role("primary")
  const stats = yield* role.nodes[0]!.pool.stats
  return { leased: stats.leased, waiting: stats.waiting }
})

postgres(ownCluster())("a shared lane", (it) => {
  it.effect(
    "waits for a silence that is longer than a timer of Node's, or has no end, without a timer each millisecond",
    () =>
      Effect.gen(function* () {
        const { primary } = yield* PgCluster.PgCluster
        const warnings: Array<string> = []
        const note = ({ name }: Error) => void warnings.push(name)
        process.on("warning", note)
        for (const silence of ["40 days", "Infinity"] as const) {
          const [row] = yield* Effect.provide(slow.run({ seconds: 0.1 }), layer(primary.url, 1, silence))
          assert.isNumber(row!.pid)
        }
        process.off("warning", note)
        assert.notInclude(warnings, "TimeoutOverflowWarning")
      })
  )

  it.effect("puts the statements of many callers on few sessions, and gives these back", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const rows = yield* Effect.forEach(Array.from({ length: 40 }), () => quick.run({}), { concurrency: 16 })
        const pids = new Set(rows.map(([row]) => row!.pid))
        assert.isAtMost(pids.size, 2)
        yield* expectEventually(leased, ({ leased }) => leased === 0)
      }).pipe(Effect.provide(layer(primary.url, 2)))
    })
  )

  it.effect("an error is that of its statement alone", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const calls = Array.from({ length: 24 }, (_, index) =>
          Effect.exit(index % 3 === 0 ? failing.run({}) : quick.run({}))
        )
        const exits = yield* Effect.all(calls, { concurrency: "unbounded" })
        assert.strictEqual(exits.filter((exit) => exit._tag === "Success").length, 16)
      }).pipe(Effect.provide(layer(primary.url, 1)))
    })
  )

  it.effect("a slow statement does not keep those who come later from another session", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const long = yield* Effect.forkChild(slow.run({ seconds: 3 }), { startImmediately: true })
        yield* Effect.sleep("300 millis")
        yield* Effect.forEach(Array.from({ length: 20 }), () => quick.run({}), { concurrency: 4, discard: true })
        assert.isUndefined(long.pollUnsafe(), "the slow statement is still running")
        yield* Fiber.interrupt(long)
      }).pipe(Effect.provide(layer(primary.url, 2)))
    })
  )

  it.effect("who leaves takes nothing from the others, and what was left alone is cancelled", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const long = yield* Effect.forkChild(slow.run({ seconds: 30 }), { startImmediately: true })
        yield* Effect.sleep("200 millis")
        yield* Fiber.interrupt(long)
        yield* expectEventually(
          primary.query(
            "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(%' and state = 'active' and pid <> pg_backend_pid()"
          ),
          ([row]) => row?.["n"] === 0
        )
        yield* quick.run({})
      }).pipe(Effect.provide(layer(primary.url, 1)))
    })
  )

  it.effect(
    "a silent server costs the callers one silence, not for ever (the driver hands the frozen connection on)",
    () =>
      Effect.gen(function* () {
        const { primary } = yield* PgCluster.PgCluster
        const proxy = yield* FaultProxy.make({ target: primary })
        yield* Effect.gen(function* () {
          yield* quick.run({})
          yield* proxy.stall({ connections: "existing" })
          const rows = yield* Effect.all(
            Array.from({ length: 6 }, () => retried.run({})),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(
            rows.flat(),
            Array.from({ length: 6 }, () => ({ pid: 1 }))
          )
        }).pipe(Effect.provide(layer(proxy.url(primary.url), 2, "500 millis")))
      })
  )

  it.effect("who has left its queue takes up no place in it", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const busy = yield* Effect.forkChild(slow.run({ seconds: 20 }), { startImmediately: true })
        yield* expectEventually(leased, ({ leased }) => leased === 1)
        for (let round = 0; round < 2; round++) {
          const errors = yield* Effect.forEach(Array.from({ length: 2 }), () => Effect.flip(hasty.run({})), {
            concurrency: 2
          })
          for (const error of errors) assert.deepInclude(error, { _tag: "AcquireTimeout", reason: "lane-full" })
        }
        yield* Fiber.interrupt(busy)
      }).pipe(
        Effect.provide(
          Fleet.layerRole("primary", {
            url: Redacted.make(primary.url),
            maxConnections: 4,
            minConnections: 0,
            lanes: { shared: { cap: 1, maxWaiting: 2, shared: { sessions: 1, statements: 1, silence: "30 seconds" } } }
          }),
          { local: true }
        )
      )
    })
  )
})
