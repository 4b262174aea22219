/** Slices in parallel that see one state of the database, while writers change it. */
import { assert } from "@effect/vitest"
import { Database, Report, Snapshot } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const slices = [0, 1, 2, 3, 4, 5, 6, 7]

const slice = Report.make("slice", {
  database: Fleet.role("primary"),
  params: { of: Schema.Int },
  row: { total: Schema.Int, pid: Schema.Int },
  query: (sql, p) =>
    sql`select coalesce(sum(litres), 0)::int as total, pg_backend_pid() as pid from tanks where id % 8 = ${p.of}`,
  deadline: "10 seconds",
  retry: Schedule.recurs(2)
})

const broken = Report.make("broken", {
  database: Fleet.role("primary"),
  params: {},
  row: { one: Schema.Int },
  query: (sql) => sql`select 1 / 0 as one`,
  deadline: "10 seconds"
})

const layer = Layer.unwrap(
  Effect.map(TestDatabase, ({ replicaUrl, url }) =>
    Fleet.layer({
      primary: { url: Redacted.make(url), minConnections: 1, maxConnections: 10 },
      replica: { url: Redacted.make(replicaUrl), minConnections: 1, maxConnections: 5 }
    }).pipe(Layer.provide(Logger.layer([])))
  )
)

const sleeping = Report.make("sleeping", {
  database: Fleet.role("primary"),
  params: {},
  row: { one: Schema.Int },
  query: (sql) => sql`select 1 as one from (select pg_sleep(3)) as slept`,
  deadline: "10 seconds"
})

const hasty = Report.make("hasty", {
  database: Fleet.role("primary"),
  params: {},
  row: { one: Schema.Int },
  query: (sql) => sql`select 1 as one`,
  deadline: "300 millis"
})

/** Litres go from tank to tank; their sum stays, in every state of the database. */
const writers = Effect.flatMap(Fleet.role("primary"), ({ sql }) =>
  Effect.forEach(
    [1, 2, 3],
    (step) =>
      Effect.forever(
        Effect.ignore(
          sql`with taken as (update tanks set litres = litres - 1 where id = ${step} * 7 returning id)
            update tanks set litres = litres + 1 where id = ${step} * 11 + (select count(*) from taken) - 1`
        )
      ),
    { concurrency: "unbounded" }
  )
)

const total = Effect.map(
  Effect.forEach(slices, (of) => slice.run({ of }), { concurrency: 4 }),
  (answers) => ({
    litres: answers.reduce((sum, [row]) => sum + row!.total, 0),
    each: answers.map(([row]) => row!.total),
    sessions: new Set(answers.map(([row]) => row!.pid)).size
  })
)

const withTanks = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { script } = yield* TestDatabase
    yield* script([
      "drop table if exists tanks",
      "create table tanks (id int primary key, litres int not null)",
      "insert into tanks select id, 1000 from generate_series(0, 99) as id"
    ])
    const load = yield* Effect.forkChild(writers)
    yield* Effect.sleep("50 millis")
    const result = yield* self
    yield* Fiber.interrupt(load)
    return result
  }).pipe(Effect.provide(layer, { local: true }))

const onOne = Snapshot.run(Fleet.role("primary"), { sessions: 4, maxHold: "20 seconds" })

postgres(layerDatabase)("one snapshot for many reports", (it) => {
  it.effect("refuses options that cannot hold, by name, before it asks for a session", () =>
    Effect.gen(function* () {
      for (const [options, name] of [
        [{ sessions: 0 }, "sessions"],
        [{ sessions: -1 }, "sessions"],
        [{ sessions: Number.NaN }, "sessions"],
        [{ sessions: Infinity }, "sessions"],
        [{ sessions: "two" }, "sessions"],
        [{ sessions: 1, retries: -1 }, "retries"],
        [{ sessions: 1, maxHold: 0 }, "maxHold"],
        [{ sessions: 1, maxHodl: "5 seconds" }, "maxHodl"],
        [{ sessions: 1, maxHold: "-1 seconds" }, "maxHold"],
        [{ sessions: 1, maxHold: "soon" }, "maxHold"],
        [{ sessions: 1, maxHold: Infinity }, "maxHold"],
        [{ sessions: 1, lane: "" }, "lane"]
      ] as const) {
        const error: any = yield* Effect.flip(
          Snapshot.run(Fleet.role("replica"), options as never)(Effect.void).pipe(Effect.provide(layer))
        )
        assert.strictEqual(error._tag, "InvalidConfiguration", JSON.stringify(options))
        assert.deepStrictEqual(
          error.issues.map((issue: any) => issue.name),
          [name]
        )
      }
    })
  )

  it.effect("whoever waits for one of its sessions leaves at the deadline", () =>
    Effect.gen(function* () {
      const [outcome, took] = yield* Effect.gen(function* () {
        const busy = yield* Effect.forkChild(sleeping.run({}), { startImmediately: true })
        yield* Effect.sleep("100 millis")
        const from = performance.now()
        const outcome = yield* Effect.flip(hasty.run({}))
        const took = performance.now() - from
        yield* Fiber.interrupt(busy)
        return [outcome, took] as const
      }).pipe(Snapshot.run(Fleet.role("primary"), { sessions: 1 }))
      assert.deepInclude(outcome, { _tag: "DeadlineExceeded", phase: "acquire" })
      // The one that it waits for takes three seconds.
      assert.isBelow(took, 2_000)
    }).pipe(Effect.provide(layer))
  )

  it.effect("parallel slices see what a sequential run sees, while writers change the table", () =>
    withTanks(
      Effect.gen(function* () {
        for (let round = 0; round < 20; round++) {
          const [parallel, sequential] = yield* Effect.all([
            total,
            Effect.forEach(slices, (of) => Effect.map(slice.run({ of }), ([row]) => row!.total))
          ]).pipe(onOne)
          assert.strictEqual(parallel.litres, 100_000)
          assert.deepStrictEqual(parallel.each, sequential)
          assert.isAtMost(parallel.sessions, 4)
        }
        // Without the snapshot the same slices do not fit together: that is what it is for.
        const torn = yield* Effect.repeat(total, {
          schedule: Schedule.recurs(500),
          until: ({ litres }) => litres !== 100_000
        })
        assert.notStrictEqual(torn.litres, 100_000)
      })
    )
  )

  it.effect("a working session that is lost is replaced on the same snapshot", () =>
    withTanks(
      Effect.gen(function* () {
        const { query } = yield* TestDatabase
        const before = yield* slice.run({ of: 1 })
        const [first] = before
        assert.isDefined(first)
        yield* Effect.gen(function* () {
          const [row] = yield* slice.run({ of: 1 })
          yield* query("select pg_terminate_backend($1)", [row!.pid])
          const [again] = yield* slice.run({ of: 1 })
          assert.strictEqual(again!.total, row!.total)
          assert.notStrictEqual(again!.pid, row!.pid)
          assert.strictEqual((yield* total).litres, 100_000)
        }).pipe(onOne)
      })
    )
  )

  it.effect("a report that fails fails alone: the next one works on the same snapshot", () =>
    withTanks(
      Effect.gen(function* () {
        const first = yield* total
        const error = yield* Effect.flip(broken.run({}))
        assert.strictEqual(error._tag, "QueryFailed")
        assert.deepStrictEqual((yield* total).each, first.each)
      }).pipe(onOne)
    )
  )

  it.effect("the group fails as a whole when its snapshot is lost, or begins again as a whole", () =>
    withTanks(
      Effect.gen(function* () {
        const { query } = yield* TestDatabase
        const kill = Effect.andThen(
          query(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_export_snapshot() AS id%' and datname = current_database() and pid <> pg_backend_pid()"
          ),
          Effect.sleep("5 seconds")
        )
        const error = yield* Effect.flip(kill.pipe(onOne))
        assert.strictEqual((error as { _tag: string })._tag, "DatabaseUnavailable")
        let begun = 0
        const litres = yield* Effect.suspend(() => (begun++ === 0 ? Effect.andThen(kill, total) : total)).pipe(
          Snapshot.run(Fleet.role("primary"), { sessions: 2, retries: 1 })
        )
        assert.strictEqual(litres.litres, 100_000)
        assert.strictEqual(begun, 2)
      })
    )
  )

  it.effect("a snapshot is not held longer than declared, and nothing of it is left", () =>
    withTanks(
      Effect.gen(function* () {
        const { query } = yield* TestDatabase
        const held = Effect.andThen(total, Effect.sleep("1 minute")).pipe(
          Snapshot.run(Fleet.role("primary"), { sessions: 2, maxHold: "300 millis" })
        )
        const error = yield* Effect.flip(held)
        assert.strictEqual((error as { _tag: string })._tag, "DeadlineExceeded")
        yield* Effect.sleep("100 millis")
        const left = yield* query(
          "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction' and query like '%export%'"
        )
        assert.deepStrictEqual(left, [])
        assert.isAtLeast((yield* total).litres, 1)
      })
    )
  )
})
