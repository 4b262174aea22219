/** One primary, two replicas, and what callers see while servers die, freeze, lag and come back. */
import { assert } from "@effect/vitest"
import { Database, Health, Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { movable } from "../../support/clock.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const where = Report.make("where", {
  database: Fleet.role("replica"),
  params: {},
  row: { port: Schema.Int, standby: Schema.Boolean },
  query: (sql) => sql`select inet_server_port() as port, pg_is_in_recovery() as standby`,
  deadline: "3 seconds",
  retry: Schedule.spaced("20 millis")
})

const whereWritable = Report.make("whereWritable", {
  database: Fleet.role("primary"),
  params: {},
  row: { port: Schema.Int, standby: Schema.Boolean },
  query: (sql) => sql`select inet_server_port() as port, pg_is_in_recovery() as standby`,
  deadline: "3 seconds",
  retry: Schedule.spaced("20 millis")
})

const servers = (cluster: PgCluster.Cluster, more?: object) =>
  Fleet.layerServers({
    servers: cluster.servers.map(({ port }) => `127.0.0.1:${port}`),
    user: "postgres",
    maxConnections: 10,
    minConnections: 1,
    ...more
  })

/** The servers of a cluster as a database, for one test. */
const withFleet = <A, E, R>(self: Effect.Effect<A, E, R>, more?: object) =>
  Effect.flatMap(PgCluster.PgCluster, (cluster) =>
    Effect.provide(
      self,
      servers(cluster, more).pipe(Layer.provideMerge(Health.layer()), Layer.provide(Logger.layer([]))),
      { local: true }
    )
  )

const settled = Effect.gen(function* () {
  const { topology } = yield* Fleet.servers
  yield* expectEventually(
    Effect.sync(() => topology.nodes.map(({ standing, state }) => `${state.phase}/${standing.role}`)),
    (nodes) => nodes.every((node) => node.startsWith("up/"))
  )
})

postgres(ownCluster({ replicas: 2 }))("servers found by what they are", (it) => {
  it.effect("reads go to replicas, writes to the primary, in whatever order they are named", () =>
    withFleet(
      Effect.gen(function* () {
        const { primary, replicas } = yield* PgCluster.PgCluster
        yield* settled
        const { sql } = yield* Fleet.role("primary")
        yield* sql`create table if not exists log (id bigint primary key, at timestamptz default now())`
        const ports = new Set<number>()
        for (let call = 0; call < 40; call++) {
          const [row] = yield* where.run({})
          assert.isTrue(row?.standby)
          ports.add(row!.port)
        }
        assert.deepStrictEqual([...ports].sort(), replicas.map(({ port }) => port).sort(), "both replicas serve")
        assert.strictEqual((yield* whereWritable.run({}))[0]?.port, primary.port)
      })
    )
  )

  it.effect("the first call waits for what the servers say, and for no more", () =>
    withFleet(
      Effect.gen(function* () {
        const [rows, took] = yield* Effect.timed(where.run({})).pipe(
          Effect.map(([duration, rows]) => [rows, duration] as const)
        )
        assert.isTrue(rows[0]?.standby)
        assert.isBelow(Duration.toMillis(took), 1_500)
      })
    )
  )

  it.effect("a wall clock that goes back by an hour hides no server that dies, and none that comes back", () =>
    Effect.gen(function* () {
      const { clock, jump } = movable()
      const died = Effect.gen(function* () {
        const { replicas } = yield* PgCluster.PgCluster
        const [replica] = replicas
        yield* settled
        const { topology } = yield* Fleet.servers
        const phase = Effect.sync(() => topology.get(`127.0.0.1:${replica!.port}`)?.state.phase)
        jump(-3_600_000)
        yield* replica!.kill
        yield* expectEventually(phase, (now) => now === "down")
        yield* replica!.start
        yield* expectEventually(phase, (now) => now === "up")
        const { nodes } = yield* (yield* Health.Health).status
        const now = clock.currentTimeMillisUnsafe()
        for (const { since } of nodes) assert.approximately(since, now, 120_000, "told by the wall clock of now")
      })
      yield* Effect.provideService(withFleet(died), Clock.Clock, clock)
    })
  )

  it.effect("a replica that is frozen is left within one attempt, and comes back with a growing share", () =>
    withFleet(
      Effect.gen(function* () {
        const { replicas } = yield* PgCluster.PgCluster
        yield* settled
        const [frozen] = replicas
        const loop = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 40 }), () => Effect.exit(where.run({})), { concurrency: 8 })
        )
        yield* frozen!.freeze
        const { topology } = yield* Fleet.servers
        const name = `127.0.0.1:${frozen!.port}`
        yield* Fiber.join(loop)
        yield* expectEventually(
          Effect.sync(() => topology.get(name)?.state.phase),
          (phase) => phase === "down"
        )
        const answers = yield* Effect.forEach(Array.from({ length: 40 }), () => where.run({}), { concurrency: 8 })
        for (const [row] of answers) assert.strictEqual(row?.port, replicas[1]!.port)
        yield* frozen!.thaw
        yield* expectEventually(
          Effect.sync(() => topology.get(name)?.state.phase),
          (phase) => phase === "up"
        )
        assert.isDefined(topology.get(name)?.state.rampSince)
        yield* expectEventually(where.run({}), ([row]) => row?.port === frozen!.port)
      }).pipe(Effect.ensuring(Effect.flatMap(PgCluster.PgCluster, ({ replicas }) => replicas[0]!.thaw)))
    )
  )

  it.effect(
    "primary killed and a replica promoted: reads never fail, writes go on, the old primary is never written to",
    () =>
      withFleet(
        Effect.gen(function* () {
          const { primary, replicas } = yield* PgCluster.PgCluster
          yield* settled
          const { sql } = yield* Fleet.role("primary")
          const health = yield* Health.Health
          const transitions: Array<string> = []
          yield* Effect.forkChild(
            Stream.runForEach(health.changes, (change) => Effect.sync(() => transitions.push(Health.format(change)))),
            { startImmediately: true }
          )
          let reading = true
          const reads = { ok: 0, failed: [] as Array<string> }
          const readers = yield* Effect.forkChild(
            Effect.forEach(
              Array.from({ length: 8 }),
              () =>
                Effect.whileLoop({
                  while: () => reading,
                  body: () =>
                    Effect.match(where.run({}), {
                      onSuccess: () => void reads.ok++,
                      onFailure: (error) => void reads.failed.push(error.message)
                    }),
                  step: () => {}
                }),
              { concurrency: "unbounded" }
            )
          )
          yield* Effect.sleep("100 millis")
          yield* primary.kill
          yield* replicas[0]!.promote
          const promoted = performance.now()
          yield* expectEventually(Effect.exit(sql`insert into log values (1)`), (exit) => exit._tag === "Success")
          const recovery = performance.now() - promoted
          console.log(`writes again ${Math.round(recovery)} ms after the promotion; ${reads.ok} reads meanwhile`)
          assert.isBelow(recovery, 3_000)
          assert.strictEqual((yield* whereWritable.run({}))[0]?.port, replicas[0]!.port)

          // The old primary comes back as if nothing had happened.
          yield* primary.start
          const { topology } = yield* Fleet.servers
          yield* expectEventually(
            Effect.sync(() => topology.get(`127.0.0.1:${primary.port}`)?.standing.fenced?.reason),
            (reason) => reason === "old-timeline"
          )
          for (let id = 2; id < 30; id++) yield* sql`insert into log values (${id})`
          const [old] = yield* primary.query("select count(*)::int as n from log where id > 0")
          const [current] = yield* replicas[0]!.query("select count(*)::int as n from log")
          assert.strictEqual(old?.["n"], 0)
          assert.strictEqual(current?.["n"], 29)
          reading = false
          yield* Fiber.join(readers)
          assert.deepStrictEqual(reads.failed, [])

          // What Health told: each thing once, in order, and nothing else.
          const told = (name: string) => transitions.filter((line) => line.includes(name))
          console.log(transitions.join("\n"))
          assert.deepStrictEqual(
            told(`${primary.port}`).map((line) => line.split(" -> ")[1]),
            ["suspect/unknown", "down/unknown", "fenced/primary"]
          )
          assert.deepStrictEqual(told(`${replicas[0]!.port}`), [
            `node 127.0.0.1:${replicas[0]!.port}: up/replica -> up/primary`
          ])
          assert.deepStrictEqual(told(`${replicas[1]!.port}`), [])
          assert.deepStrictEqual(told("fleet/replica"), [], "the role never stopped serving")
        }),
        // A machine that is busy with other tests must not look like a server that is down.
        { watch: { timeout: "3 seconds" } }
      )
  )
})
