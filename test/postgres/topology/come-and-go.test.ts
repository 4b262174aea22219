/** Servers that are added, removed and replaced behind an address, and what refuses a write without being another server. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster, type PgServer } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const where = Report.make("where", {
  database: Fleet.role("replica"),
  params: {},
  row: { port: Schema.Int },
  query: (sql) => sql`select inet_server_port() as port`,
  deadline: "3 seconds"
})

const at = ({ port }: PgServer.PgServer) => `127.0.0.1:${port}`
const place = (port: number) => ({ host: "127.0.0.1", port, zone: undefined })

/** A database of the servers that `pick` takes from the cluster. Series go to a registry of the test's own. */
const withServers = <A, E, R>(
  pick: (cluster: PgCluster.Cluster) => ReadonlyArray<PgServer.PgServer>,
  self: (cluster: PgCluster.Cluster) => Effect.Effect<A, E, R>
) =>
  Effect.flatMap(PgCluster.PgCluster, (cluster) =>
    Effect.andThen(
      Effect.flatMap(Fleet.servers, ({ refresh }) => refresh),
      self(cluster)
    ).pipe(
      Effect.provide(
        Fleet.layerServers({ servers: pick(cluster).map(at), user: "postgres", maxConnections: 5 }).pipe(
          Layer.provide(Logger.layer([]))
        ),
        { local: true }
      ),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  )

/** Lends a session of a server for so long. */
const holding = (name: string, millis: number) =>
  Effect.gen(function* () {
    const { topology } = yield* Fleet.servers
    const acquired = Effect.andThen(
      topology.get(name)!.member.pool.acquire({ lane: "report", name: "holder" }),
      Effect.sleep(millis)
    )
    return yield* Effect.forkChild(Effect.scoped(acquired), { startImmediately: true })
  })

postgres(ownCluster({ replicas: 2 }))("servers that come and go", (it) => {
  it.effect("one that is added while it takes its leave is there when it has left", () =>
    withServers(
      ({ primary, replica }) => [primary, replica],
      ({ replica }) =>
        Effect.gen(function* () {
          const { add, remove, topology } = yield* Fleet.servers
          yield* holding(at(replica), 500)
          yield* Effect.sleep(50)
          const leaving = yield* Effect.forkChild(remove(at(replica)), { startImmediately: true })
          assert.isTrue(topology.get(at(replica))?.draining)
          yield* add(place(replica.port))
          yield* Fiber.join(leaving)
          yield* expectEventually(
            Effect.sync(() => topology.get(at(replica))),
            (view) => view?.draining === false && view.state.phase === "up"
          )
          assert.deepStrictEqual(yield* where.run({}), [{ port: replica.port }])
        })
    )
  )

  it.effect("one that is added and never answers takes nothing from those who were served", () =>
    withServers(
      ({ primary }) => [primary],
      ({ primary }) =>
        Effect.gen(function* () {
          const { add, topology } = yield* Fleet.servers
          assert.deepStrictEqual(yield* where.run({}), [{ port: primary.port }])
          yield* add(place(1))
          assert.deepStrictEqual(yield* where.run({}), [{ port: primary.port }])
          yield* expectEventually(
            Effect.sync(() => topology.get("127.0.0.1:1")?.state.phase),
            (phase) => phase === "down"
          )
          assert.deepStrictEqual(yield* where.run({}), [{ port: primary.port }])
        })
    )
  )

  it.effect("all series of one that is removed go with it, though a session of it was lent to the last", () =>
    withServers(
      ({ primary, replica }) => [primary, replica],
      ({ replica }) =>
        Effect.gen(function* () {
          const { remove } = yield* Fleet.servers
          yield* where.run({})
          yield* holding(at(replica), 1_500)
          const own = Effect.map(Metric.snapshot, (all) =>
            all.filter(({ attributes }) => JSON.stringify(attributes ?? {}).includes(at(replica))).map(({ id }) => id)
          )
          yield* expectEventually(own, (ids) => ids.includes("db.client.connection.count"))
          assert.include(yield* own, "db.client.operation.duration")
          yield* remove(at(replica))
          assert.deepStrictEqual(yield* own, [])
        })
    )
  )

  it.effect("the duration of a hedged call is that of the server that answered, not of the one asked last", () => {
    const hedged = Report.make("hedged", {
      database: Fleet.role("replica"),
      params: {},
      row: { port: Schema.Int },
      query: (sql) => sql`select inet_server_port() as port from pg_sleep(0.5)`,
      deadline: "5 seconds",
      hedge: { after: "50 millis" }
    })
    return withServers(
      ({ servers }) => servers,
      () =>
        Effect.gen(function* () {
          const [row] = yield* hedged.run({})
          const all = yield* Metric.snapshot
          const named = all
            .filter(({ id }) => id === "db.client.operation.duration")
            .map(({ attributes }) => (attributes as Record<string, string>)["server.address"])
          assert.deepStrictEqual(named, [`127.0.0.1:${row?.port}`])
        })
    )
  })

  it.effect("a write that this side or a function refuses is no news of the server", () => {
    const refused = (name: string, query: "insert" | "raise") =>
      Report.make(name, {
        database: Fleet.role("primary"),
        params: {},
        row: { n: Schema.Int },
        query: (sql) =>
          query === "insert" ? sql`insert into refused values (1) returning n` : sql`select refuses() as n`,
        deadline: "2 seconds",
        retry: {}
      })
    return withServers(
      ({ primary, replica }) => [primary, replica],
      ({ primary }) =>
        Effect.gen(function* () {
          const { topology } = yield* Fleet.servers
          yield* primary.query("create table refused (n int)")
          yield* primary.query(`create function refuses() returns int language plpgsql as $$
            begin raise exception using errcode = '25006', message = 'x'; end $$`)
          const { sql } = yield* Fleet.role("primary")
          const pid = sql<{ pid: number }>`select pg_backend_pid() as pid`
          const before = yield* pid
          const changes: Array<string> = []
          topology.onChange(({ from, kind, to }) => void changes.push(`${kind}: ${from} -> ${to}`))
          for (const query of ["insert", "raise"] as const) {
            for (let call = 0; call < 5; call++) {
              const error = yield* Effect.flip(refused(`refused ${query}`, query).run({}))
              assert.strictEqual(error._tag === "QueryFailed" ? error.sqlState : error._tag, "25006")
            }
          }
          assert.deepStrictEqual(changes, [])
          assert.deepStrictEqual(yield* pid, before, "and the session is kept")
        })
    )
  })
})

class Single extends Database.Service<Single>()("single", { roles: ["primary"] }) {}

const put = Report.make("put", {
  database: Single.role("primary"),
  params: { id: Schema.Int },
  row: { id: Schema.Int },
  query: (sql, { id }) => sql`insert into moved values (${id}) returning id`,
  deadline: "3 seconds",
  writes: "once"
})

postgres(ownCluster({ replicas: 1 }))("one address", (it) => {
  it.effect(
    "that led to a standby when its sessions were opened: each is lent for one write and no more, once a new one may lead elsewhere",
    () =>
      Effect.gen(function* () {
        const { primary, replica } = yield* PgCluster.PgCluster
        yield* primary.query("create table moved (id int primary key)")
        yield* replica.waitForReplay(primary)
        const proxy = yield* FaultProxy.make({ target: replica })
        const url = Redacted.make(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`)
        yield* Effect.gen(function* () {
          const { sql } = yield* Single.role("primary")
          const open = Effect.forEach([1, 2, 3, 4], () => sql`select pg_sleep(0.05)`, { concurrency: 4 })
          const pool = (yield* Single.role("primary")).nodes[0]!.pool
          const began = performance.now()
          yield* open
          // Those that were opened just now are no reason to open more.
          const early = yield* Effect.forEach([1, 2, 3, 4, 5], (id) => Effect.exit(put.run({ id })))
          assert.deepStrictEqual(new Set(early.map(({ _tag }) => _tag)), new Set(["Failure"]))
          const unfit = (yield* pool.stats).counters.closed.unfit
          if (performance.now() - began < 900) assert.strictEqual(unfit, 0)
          yield* Effect.sleep("1.2 seconds")
          yield* proxy.retarget(primary)
          let failed = 0
          for (let id = 0; id < 50; id++) if ((yield* Effect.exit(put.run({ id })))._tag === "Failure") failed++
          assert.isAtMost(failed, 4)
        }).pipe(Effect.provide(Single.layer({ primary: { url, minConnections: 0, maxConnections: 4 } })))
      })
  )
})
