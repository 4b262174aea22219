/** Replicas that lag, servers that swallow everything, servers that come and go, reads after writes. */
import { assert } from "@effect/vitest"
import { Database, Health, ReadAfter, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { servesBesideAHole } from "./support.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const where = Report.make("where", {
  database: Fleet.role("replica"),
  params: {},
  row: { port: Schema.Int, standby: Schema.Boolean },
  query: (sql) => sql`select inet_server_port() as port, pg_is_in_recovery() as standby`,
  deadline: "3 seconds"
})

const counted = Report.make("counted", {
  database: Fleet.role("replica"),
  params: {},
  row: { n: Schema.Int, port: Schema.Int, standby: Schema.Boolean },
  query: (sql) => sql`select count(*)::int as n, inet_server_port() as port, pg_is_in_recovery() as standby from log`,
  deadline: "3 seconds"
})

type Options = Parameters<typeof Fleet.layerServers>[0]

const options: Options = { user: "postgres", maxConnections: 10, minConnections: 1 }

const withServers = <A, E, R>(self: Effect.Effect<A, E, R>, more?: Partial<Options>, names?: ReadonlyArray<string>) =>
  Effect.flatMap(PgCluster.PgCluster, (cluster) =>
    Effect.provide(
      self,
      Fleet.layerServers({
        ...options,
        servers: names ?? cluster.servers.map(({ port }) => `127.0.0.1:${port}`),
        ...more
      }).pipe(Layer.provideMerge(Health.layer()), Layer.provide(Logger.layer([]))),
      { local: true }
    )
  )

const state = (port: number) =>
  Effect.map(Fleet.servers, ({ topology }) => {
    const view = topology.get(`127.0.0.1:${port}`)
    return `${view?.state.phase}/${view?.standing.role}`
  })

const settled = Effect.gen(function* () {
  const { topology } = yield* Fleet.servers
  yield* expectEventually(
    Effect.sync(() => topology.nodes.map(({ standing, state }) => `${state.phase}/${standing.role}`)),
    (nodes) => nodes.every((node) => node.startsWith("up/"))
  )
})

postgres(ownCluster({ replicas: 2 }))("replicas and their neighbours", (it) => {
  it.effect("what is seen of a server needs no privilege, except for the timeline of a replica", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* primary.query("create role reader login")
      yield* primary.query("create role monitor login in role pg_monitor")
      const seenBy = (user: string) =>
        withServers(
          Effect.gen(function* () {
            yield* settled
            const { topology } = yield* Fleet.servers
            return topology.nodes.map(({ state }) => state.observation!)
          }),
          { user, name: "postgres" }
        )
      for (const [user, timeline] of [
        ["reader", undefined],
        ["monitor", 1]
      ] as const) {
        const [written, ...replayed] = yield* seenBy(user)
        assert.deepStrictEqual([written!.timeline, ...replayed.map((seen) => seen.timeline)], [1, timeline, timeline])
        for (const seen of [written!, ...replayed]) {
          assert.isDefined(seen.lsn)
          assert.isDefined(seen.systemId)
          assert.strictEqual(seen.systemId, written!.systemId)
          assert.isAbove(seen.serverVersion!, 120_000)
          assert.isAbove(seen.maxConnections!, 10)
        }
        assert.strictEqual(new Set([written!, ...replayed].map(({ instance }) => instance)).size, 3)
      }
    })
  )

  it.effect("a replica that does not replay is left once it is too far behind; the primary serves if it may", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      yield* primary.query("create table if not exists log (id bigint generated always as identity, at timestamptz)")
      yield* withServers(
        Effect.gen(function* () {
          yield* settled
          for (const replica of replicas) yield* replica.query("select pg_wal_replay_pause()")
          yield* primary.query("insert into log (at) values (now())")
          const served = yield* expectEventually(where.run({}), ([row]) => row?.standby === false, 15_000)
          assert.strictEqual(served[0]?.port, primary.port)
          const health = yield* Health.Health
          yield* expectEventually(
            health.status,
            ({ nodes, roles }) =>
              nodes.some(({ lagMillis = 0 }) => lagMillis > 500) &&
              roles["fleet/replica"]?.degraded === "served by the primary"
          )
          for (const replica of replicas) yield* replica.query("select pg_wal_replay_resume()")
          yield* expectEventually(where.run({}), ([row]) => row?.standby === true)
        }),
        { roles: { replica: { maxLag: "500 millis", fallback: "primary" } } }
      )
    }).pipe(
      Effect.ensuring(
        Effect.flatMap(PgCluster.PgCluster, ({ replicas }) =>
          Effect.forEach(replicas, (replica) => Effect.ignore(replica.query("select pg_wal_replay_resume()")))
        )
      )
    )
  )

  it.effect("a report reads the caller's own write: from a replica that has it, or after waiting for one", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      yield* primary.query("create table if not exists log (id bigint generated always as identity, at timestamptz)")
      yield* withServers(
        Effect.gen(function* () {
          yield* settled
          const { sql } = yield* Fleet.role("primary")
          const { token } = yield* Fleet.servers
          for (let round = 0; round < 20; round++) {
            yield* sql`insert into log (at) values (now())`
            const [{ n }] = (yield* sql<{ n: number }>`select count(*)::int as n from log`) as [{ n: number }]
            const [row] = yield* counted.run({}).pipe(Effect.provideService(ReadAfter, yield* token))
            assert.strictEqual(row?.n, n)
            assert.isTrue(row?.standby)
          }
          // One replica stands still: the other one serves.
          yield* replicas[0]!.query("select pg_wal_replay_pause()")
          yield* sql`insert into log (at) values (now())`
          const [row] = yield* counted.run({}).pipe(Effect.provideService(ReadAfter, yield* token))
          assert.strictEqual(row?.port, replicas[1]!.port)
          // Both stand still: the report waits for one of them.
          yield* replicas[1]!.query("select pg_wal_replay_pause()")
          yield* sql`insert into log (at) values (now())`
          const waiting = yield* Effect.forkChild(counted.run({}).pipe(Effect.provideService(ReadAfter, yield* token)))
          yield* Effect.sleep("300 millis")
          assert.isUndefined(waiting.pollUnsafe())
          yield* replicas[1]!.query("select pg_wal_replay_resume()")
          assert.strictEqual((yield* Fiber.join(waiting))[0]?.port, replicas[1]!.port)
        })
      )
    }).pipe(
      Effect.ensuring(
        Effect.flatMap(PgCluster.PgCluster, ({ replicas }) =>
          Effect.forEach(replicas, (replica) => Effect.ignore(replica.query("select pg_wal_replay_resume()")))
        )
      )
    )
  )

  it.effect("one of three servers swallows everything from the start: boot and calls stay within their deadlines", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { primary, replicas } = yield* PgCluster.PgCluster
        const hole = yield* FaultProxy.make({ target: { host: "127.0.0.1", port: replicas[0]!.port } })
        yield* hole.blackHole
        const names = [hole.port, replicas[1]!.port, primary.port].map((port) => `127.0.0.1:${port}`)
        const began = performance.now()
        yield* withServers(
          servesBesideAHole(where.run({}), { began, port: replicas[1]!.port }),
          { boot: "connect-one" },
          names
        )
      })
    )
  )

  it.effect("servers are added and removed while calls run, and none fails", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      const [first, second] = replicas
      yield* withServers(
        Effect.gen(function* () {
          yield* settled
          const cluster = yield* Fleet.servers
          const failed: Array<string> = []
          const ports = new Set<number>()
          const load = yield* Effect.forkChild(
            Effect.forEach(
              Array.from({ length: 8 }),
              () =>
                Effect.forever(
                  Effect.match(where.run({}), {
                    onSuccess: ([row]) => void ports.add(row!.port),
                    onFailure: (error) => void failed.push(error.message)
                  })
                ),
              { concurrency: "unbounded" }
            )
          )
          yield* cluster.add({ host: "127.0.0.1", port: second!.port, zone: undefined })
          yield* expectEventually(
            Effect.sync(() => ports.has(second!.port)),
            (there) => there
          )
          yield* cluster.remove(`127.0.0.1:${first!.port}`)
          ports.clear()
          yield* Effect.sleep("200 millis")
          assert.deepStrictEqual([...ports], [second!.port])
          yield* Fiber.interrupt(load)
          assert.deepStrictEqual(failed, [])
          const [left] = yield* first!.query(
            "select count(*)::int as n from pg_stat_activity where application_name = 'fleet'"
          )
          assert.strictEqual(left?.["n"], 0, "a removed server has no session of ours left")
        }),
        undefined,
        [first!, primary].map(({ port }) => `127.0.0.1:${port}`)
      )
    })
  )

  it.effect("sessions are rotated under load, and no call fails", () =>
    withServers(
      Effect.gen(function* () {
        yield* settled
        const cluster = yield* Fleet.servers
        const failed: Array<string> = []
        const load = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 8 }),
            () =>
              Effect.forever(
                Effect.match(where.run({}), {
                  onSuccess: () => {},
                  onFailure: (error) => void failed.push(error.message)
                })
              ),
            { concurrency: "unbounded" }
          )
        )
        const { replicas } = yield* PgCluster.PgCluster
        const pids = Effect.map(
          replicas[0]!.query(
            "select pid from pg_stat_activity where application_name = 'fleet' and query not like '%pg_control_system%'"
          ),
          (rows) => rows.map((row) => row["pid"])
        )
        yield* Effect.sleep("200 millis")
        const before = yield* pids
        assert.isNotEmpty(before)
        for (let round = 0; round < 3; round++) {
          yield* cluster.rotate
          yield* Effect.sleep("100 millis")
        }
        yield* expectEventually(pids, (after) => after.length > 0 && !after.some((pid) => before.includes(pid)))
        yield* Fiber.interrupt(load)
        assert.deepStrictEqual(failed, [])
      })
    )
  )

  it.effect("all servers down and back: calls fail at once with the reason, and succeed again", () =>
    withServers(
      Effect.gen(function* () {
        yield* settled
        const { servers } = yield* PgCluster.PgCluster
        const health = yield* Health.Health
        assert.deepInclude(yield* health.readiness, { ready: true, status: "up" })
        yield* Effect.forEach(servers, (server) => server.kill, { concurrency: "unbounded" })
        yield* expectEventually(health.readiness, ({ status }) => status === "down")
        const [took, exit] = yield* Effect.timed(Effect.exit(where.run({})))
        assert.strictEqual(exit._tag, "Failure")
        assert.isBelow(Duration.toMillis(took), 2_500)
        const error = yield* Effect.flip(where.run({}))
        assert.strictEqual(error._tag, "DatabaseUnavailable")
        assert.include(error.message, "Unreachable")
        yield* Effect.forEach(servers, (server) => server.start)
        yield* expectEventually(Effect.exit(where.run({})), (again) => again._tag === "Success", 20_000)
        yield* expectEventually(health.readiness, ({ status }) => status === "up", 20_000)
        for (const { port } of servers) assert.match(yield* state(port), /^up\//)
      })
    )
  )
})
