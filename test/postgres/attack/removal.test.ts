/** Servers that are removed and shut down more than once, and at bad times. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("removal", { roles: ["primary", "replica"] }) {}

const sleeping = Report.make("sleeping", {
  database: Fleet.role("primary"),
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select 1 as n from (select pg_sleep(1.5)) as slept`,
  deadline: "10 seconds"
})

const layer = (servers: ReadonlyArray<{ readonly host: string; readonly port: number }>) =>
  Fleet.layerServers({
    servers: servers.map(({ host, port }) => `${host}:${port}`),
    user: "postgres",
    maxConnections: 4,
    minConnections: 0
  }).pipe(Layer.provide(Logger.layer([])))

postgres(ownCluster({ replicas: 1 }))("servers that go", (it) => {
  it.effect("removed twice at once and added again: both wait for its work, and the new one stays", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const cluster = yield* Fleet.servers
        const own = `${primary.host}:${primary.port}`
        const pool = cluster.topology.get(own)!.member.pool
        const call = yield* Effect.forkChild(sleeping.run({}), { startImmediately: true })
        yield* expectEventually(pool.stats, ({ leased }) => leased > 0)
        const remove = Effect.andThen(
          cluster.remove(own),
          Effect.sync(() => call.pollUnsafe() !== undefined)
        )
        const first = yield* Effect.forkChild(remove, { startImmediately: true })
        const second = yield* Effect.forkChild(remove, { startImmediately: true })
        const ended = [yield* Fiber.join(first), yield* Fiber.join(second)]
        assert.deepStrictEqual(ended, [true, true])
        assert.deepStrictEqual(yield* Fiber.join(call), [{ n: 1 }])
        assert.isUndefined(cluster.topology.get(own))
        yield* cluster.add({ host: primary.host, port: primary.port } as never)
        yield* Effect.sleep("200 millis")
        assert.isDefined(cluster.topology.get(own))
        assert.deepStrictEqual(yield* sleeping.run({}), [{ n: 1 }])
      }).pipe(Effect.provide(layer([primary, ...replicas]), { local: true }))
    })
  )

  it.effect("shut down twice, while it works and while servers are removed: nothing is left on the servers", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      yield* Effect.gen(function* () {
        const cluster = yield* Fleet.servers
        const call = yield* Effect.forkChild(Effect.exit(sleeping.run({})), { startImmediately: true })
        const own = `${primary.host}:${primary.port}`
        const pool = cluster.topology.get(own)!.member.pool
        yield* expectEventually(pool.stats, ({ leased }) => leased > 0)
        yield* Effect.sleep("100 millis")
        yield* Effect.all([Fleet.shutdown, cluster.remove(own), Fleet.shutdown, cluster.shutdown], {
          concurrency: "unbounded"
        })
        assert.strictEqual((yield* Fiber.join(call))._tag, "Success")
        const error = yield* Effect.flip(sleeping.run({}))
        assert.deepInclude(error, { _tag: "DatabaseUnavailable", reason: "closed" })
        yield* Fleet.shutdown
      }).pipe(Effect.provide(layer([primary, ...replicas]), { local: true }))
      yield* expectEventually(
        primary.query("select 1 from pg_stat_activity where application_name like 'removal%'"),
        (rows) => rows.length === 0
      )
    })
  )

  it.effect("a layer that is left while it boots leaves nothing on the servers", () =>
    Effect.gen(function* () {
      const { primary, replicas } = yield* PgCluster.PgCluster
      for (const millis of [0, 1, 5, 10, 20, 40, 80]) {
        const booting = yield* Effect.forkChild(
          Effect.scoped(Effect.andThen(Layer.build(Layer.fresh(layer([primary, ...replicas]))), Effect.never)),
          { startImmediately: true }
        )
        yield* Effect.sleep(millis)
        yield* Fiber.interrupt(booting)
      }
      yield* expectEventually(
        primary.query("select 1 from pg_stat_activity where application_name like 'removal%'"),
        (rows) => rows.length === 0
      )
    })
  )
})
