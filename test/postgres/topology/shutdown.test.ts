import { assert } from "@effect/vitest"
import { Database } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { runProgram } from "../../support/program.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

postgres(ownCluster({ replicas: 1, settings: { max_connections: 40 } }))("a process and its servers", (it) => {
  it.effect(
    "SIGTERM: what is short finishes, what is long is cancelled, all servers at once, and nothing is left",
    () =>
      Effect.gen(function* () {
        const { servers } = yield* PgCluster.PgCluster
        const addresses = servers.map(({ port }) => `127.0.0.1:${port}`)
        const run = runProgram("draining", [], { env: { ...process.env, SERVERS: addresses.join() } })
        const ended = yield* Effect.promise(async () => {
          assert.strictEqual(await run.firstLine, "ready")
          run.child.kill("SIGTERM")
          return run.ended
        })
        assert.strictEqual(ended.code, 0, ended.stderr)
        const { millis, told } = JSON.parse(ended.stderr) as { told: Array<string>; millis: number }
        assert.includeMembers(told, ["short on primary ok", "short on replica ok"])
        // An error with a name, and not an interruption.
        assert.includeMembers(told, ["long on primary SqlError", "long on replica SqlError", "late SqlError"])
        console.log(`disposed of after ${millis} ms`)
        // One after the other, two servers would take 5 seconds.
        assert.isAtLeast(millis, 1_400)
        assert.isBelow(millis, 4_500)
        for (const server of servers) {
          yield* expectEventually(
            server.query("select 1 from pg_stat_activity where application_name = 'draining'"),
            (rows) => rows.length === 0
          )
        }
      })
  )

  it.effect("what all pools may take is told at the start, and where a server has not so much", () =>
    Effect.gen(function* () {
      const { servers } = yield* PgCluster.PgCluster
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
      yield* Effect.provide(
        expectEventually(
          Effect.sync(() => lines),
          (told) => told.filter((line) => line.endsWith("too many")).length === 2
        ),
        Fleet.layerServers({
          servers: servers.map(({ port }) => `127.0.0.1:${port}`),
          user: "postgres",
          maxConnections: 40
        }).pipe(Layer.provide(Logger.layer([logger]))),
        { local: true }
      )
      // 40 for users, a quarter that drains, and two of the control lane, on each of two.
      assert.include(lines, "Info fleet: at most 104 sessions from this process, on 2 servers")
      assert.include(
        lines,
        `Warn fleet: 127.0.0.1:${servers[0]!.port} allows 40 connections, this process takes at most 52: too many`
      )
    })
  )
})
