/** What is wrong with the configuration of several roles is told at once: nobody mends one role to be told of the next. */
import { assert, describe, it } from "@effect/vitest"
import { Database, type ReportError } from "@sluice/sdk"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const refusal = (
  layer: Layer.Layer<any, Database.DatabaseError>,
  environment: Record<string, string> = {}
): Effect.Effect<ReportError.InvalidConfiguration> =>
  Effect.scoped(Layer.build(layer)).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(environment)),
    Effect.flip,
    Effect.map((error) => {
      assert(error._tag === "InvalidConfiguration", String(error))
      return error
    }),
    Effect.orDie
  )

const quiet = { dotEnv: false } as const

describe("several roles", () => {
  it.effect("options in code: each problem with its role", () =>
    Effect.gen(function* () {
      const error = yield* refusal(Fleet.layer({ primary: { port: 0 }, replica: { port: 0, maxConnections: -1 } }))
      assert.strictEqual(error.subject, "fleet")
      assert.deepStrictEqual(
        error.issues.map(({ name }) => name),
        ["primary.port", "replica.port", "replica.maxConnections"]
      )
    })
  )

  it.effect("variables: each by its name, and one that both read once", () =>
    Effect.gen(function* () {
      const both = yield* refusal(Fleet.layerConfig({ primary: quiet, replica: quiet }), { DB_PORT: "0" })
      assert.strictEqual(both.message, "fleet: DB_PORT is 0: must be a whole number from 1 to 65535")
      const apart = yield* refusal(Fleet.layerConfig({ primary: quiet, replica: { ...quiet, prefix: "REPLICA" } }), {
        DB_PORT: "0",
        REPLICA_DB_BOOT: "soon",
        REPLICA_DATABASE_URL: "postgre://app:hunter2@db/fleet"
      })
      assert.deepStrictEqual(
        apart.issues.map(({ name }) => name),
        ["DB_PORT", "REPLICA_DATABASE_URL", "REPLICA_DB_BOOT"]
      )
      assert.notInclude(JSON.stringify(apart), "hunter2")
    })
  )

  it.effect("one list of servers: what is common once, and what each role says for itself", () =>
    Effect.gen(function* () {
      const error = yield* refusal(
        Fleet.layerServers({
          servers: ["127.0.0.1:1"],
          maxConnections: 0,
          roles: { primary: { maxLag: "soon" as never }, replica: { maxLag: "later" as never } }
        })
      )
      assert.deepStrictEqual(
        error.issues.map(({ name, value }) => `${name} ${value}`),
        ["maxConnections 0", 'primary.maxLag "soon"', 'replica.maxLag "later"']
      )
    })
  )

  it.effect("where only one is wrong, it is told as its own", () =>
    Effect.gen(function* () {
      const lazy = { host: "127.0.0.1", port: 1, minConnections: 0 }
      const error = yield* refusal(Fleet.layer({ primary: lazy, replica: { ...lazy, port: 0 } }))
      assert.strictEqual(error.message, "fleet/replica: port is 0: must be a whole number from 1 to 65535")
    })
  )
})
