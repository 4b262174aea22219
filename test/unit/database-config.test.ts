import * as Database from "@sluice/sdk/Database"
import * as DatabaseConfig from "@sluice/sdk/DatabaseConfig"
import * as DatabaseOptions from "@sluice/sdk/DatabaseOptions"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const load = (env: Record<string, string>, source: DatabaseConfig.Source = {}, overrides?: DatabaseOptions.Options) =>
  DatabaseConfig.load("fleet/primary", { dotEnv: false, ...source }, overrides).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))
  )

describe("configuration", () => {
  it.effect("keeps the numbers that users were promised", () =>
    Effect.gen(function* () {
      const resolved = yield* load({})
      assert.strictEqual(resolved.minConnections, 2)
      assert.strictEqual(resolved.maxConnections, 20)
      assert.strictEqual(resolved.connectionTimeout, 30_000)
      assert.strictEqual(resolved.connectTimeout, 5000)
    })
  )

  it.effect("reads the three variables of the origin system, a bare number being seconds", () =>
    Effect.gen(function* () {
      const resolved = yield* load({
        DB_MIN_CONNECTIONS: "3",
        DB_MAX_CONNECTIONS: "7",
        DB_CONNECTION_TIMEOUT: "12"
      })
      assert.strictEqual(resolved.minConnections, 3)
      assert.strictEqual(resolved.maxConnections, 7)
      assert.strictEqual(resolved.connectionTimeout, 12_000)
    })
  )

  it.effect("tells every wrong variable at once, by name, with what it was and what it may be", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        load({ DB_PORT: "99999", DB_MAX_CONNECTIONS: "many", DB_CONNECTION_TIMEOUT: "0", DB_SSLMODE: "maybe" })
      )
      const told = new Map(error.issues.map(({ name, value }) => [name, value]))
      assert.deepStrictEqual(
        told,
        new Map([
          ["DB_MAX_CONNECTIONS", '"many"'],
          ["DB_PORT", "99999"],
          ["DB_SSLMODE", '"maybe"'],
          ["DB_CONNECTION_TIMEOUT", "0 millis"]
        ])
      )
      assert.include(error.message, "DB_SSLMODE")
      assert.include(error.message, "verify-full")
    })
  )

  it.effect("refuses a minimum above the maximum, naming both variables", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(load({ DB_MIN_CONNECTIONS: "30" }))
      assert.include(error.message, "DB_MIN_CONNECTIONS is 30: must be at most DB_MAX_CONNECTIONS (20)")
    })
  )

  it.effect("never shows a password, not even of a broken URL", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(load({ DATABASE_URL: "postgre://app:hunter2@db/fleet", DB_PORT: "0" }))
      assert.include(error.message, "DATABASE_URL")
      assert.notInclude(error.message, "hunter2")
      assert.notInclude(JSON.stringify(error), "hunter2")
    })
  )

  it.effect("reads a second database behind a prefix", () =>
    Effect.gen(function* () {
      const env = { DB_HOST: "a", REPLICA_DB_HOST: "b", REPLICA_DB_MAX_CONNECTIONS: "x" }
      const error = yield* Effect.flip(load(env, { prefix: "REPLICA" }))
      assert.strictEqual(error.issues[0]?.name, "REPLICA_DB_MAX_CONNECTIONS")
      const resolved = yield* load({ DB_HOST: "a", REPLICA_DB_HOST: "b" }, { prefix: "REPLICA" })
      assert.strictEqual(resolved.host, "b")
    })
  )

  it.effect("fills in from a .env file, the environment winning", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "sluice-env-"))),
      (directory) =>
        Effect.gen(function* () {
          const dotEnv = join(directory, ".env")
          writeFileSync(dotEnv, "DB_HOST=from-file\nDB_PORT=6000\n")
          const resolved = yield* load({ DB_HOST: "from-environment" }, { dotEnv })
          assert.strictEqual(resolved.host, "from-environment")
          assert.strictEqual(resolved.port, 6000)
        }),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
    )
  )

  it.effect("refuses a file that was named and cannot be read, and does without .env", () =>
    Effect.gen(function* () {
      for (const dotEnv of ["/no/such.env", "", 5 as never, true as never, null as never]) {
        const error = yield* Effect.flip(load({}, { dotEnv }))
        assert.match(error.message, /: dotEnv is .*: must be a file that can be read/, String(dotEnv))
      }
      yield* load({}, { dotEnv: undefined })
      yield* load({}, { dotEnv: false })
    })
  )

  it.effect("does not let the environment bend a URL given in code", () =>
    Effect.gen(function* () {
      const url = Redacted.make("postgres://app:secret@db.example:6543/fleet?sslmode=require")
      const resolved = yield* load({ DB_HOST: "elsewhere", DB_MAX_CONNECTIONS: "5" }, {}, { url })
      assert.strictEqual(resolved.host, "db.example")
      assert.strictEqual(resolved.port, 6543)
      assert.strictEqual(resolved.name, "fleet")
      assert.strictEqual(resolved.sslmode, "require")
      assert.strictEqual(resolved.maxConnections, 5)
    })
  )

  it.effect("takes a maximum below the default minimum at its word", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* load({ DB_MAX_CONNECTIONS: "1" })).minConnections, 1)
    })
  )

  it("refuses a URL whose sslmode is misspelt, instead of less security than was asked for", () => {
    for (const query of ["sslmod=require", "sslMode=require", "ssl=true", "sslrootcert=/ca.pem"]) {
      const url = Redacted.make(`postgres://app:secret@db.example/fleet?${query}`)
      const result = DatabaseOptions.resolve("fleet/primary", { url })
      assert.isTrue(Result.isFailure(result), query)
      assert.match(
        Result.isFailure(result) ? result.failure.message : "",
        /url: must be written without the parameter ssl\w+ \(|sslmode/
      )
      assert.notInclude(Result.isFailure(result) ? result.failure.message : "", "secret")
    }
    const url = Redacted.make("postgres://app@db.example/fleet?sslmode=require&client_encoding=utf8")
    assert.isTrue(Result.isSuccess(DatabaseOptions.resolve("fleet/primary", { url })))
  })

  it("checks options in code by the same table, naming the option", () => {
    const result = DatabaseOptions.resolve("fleet/primary", { minConnections: 5, maxConnections: 4, connectTimeout: 0 })
    assert.isTrue(Result.isFailure(result))
    if (Result.isFailure(result)) {
      assert.include(result.failure.message, "connectTimeout is 0")
      assert.include(result.failure.message, "minConnections is 5: must be at most maxConnections (4)")
    }
  })

  it("understands the units that people write", () => {
    const millis = (text: string) => {
      const duration = DatabaseConfig.parseDuration(text)
      return duration === undefined ? undefined : Duration.toMillis(duration)
    }
    assert.deepStrictEqual(["30", "30s", "500ms", "2 minutes", "1.5 s", "1h", "soon", "-3", ""].map(millis), [
      30_000,
      30_000,
      500,
      120_000,
      1500,
      3_600_000,
      undefined,
      undefined,
      undefined
    ])
  })

  it.live("where nobody said where the server is, and nobody is at the default, the variables are named", () =>
    Effect.gen(function* () {
      class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}
      const message = (environment: object) =>
        Fleet.layerConfig({
          primary: { prefix: "FLEET", dotEnv: false, boot: "connect-one", connectionTimeout: "2 seconds" }
        }).pipe(
          Layer.build,
          Effect.scoped,
          Effect.flip,
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(environment)),
          Effect.map((error) => error.message)
        )
      const unset = "localhost is the default: neither FLEET_DATABASE_URL nor FLEET_DB_HOST is set"
      assert.include(yield* message({ FLEET_DB_PORT: "1" }), `nobody listens at localhost:1; ${unset}`)
      assert.notInclude(yield* message({ FLEET_DB_PORT: "1", FLEET_DB_HOST: "localhost" }), "is the default")
    })
  )

  it("a bare number that is too short to be meant is refused in code, with what to write", () => {
    const told = (options: object) => {
      const result = DatabaseOptions.resolve("fleet/primary", options as never)
      return Result.isFailure(result) ? result.failure.message.replace("fleet/primary: ", "") : "taken"
    }
    assert.strictEqual(
      told({ idleTimeout: 30 }),
      'idleTimeout is 30: must be written with its unit, "30 seconds" or "30 millis": a bare number is milliseconds'
    )
    for (const options of [
      { connectTimeout: 5 },
      { connectionTimeout: 30 },
      { maxLifetime: 30 },
      { statementTimeout: 60 },
      { idleInTransactionTimeout: 60 },
      { keepAlive: 30 },
      { maxLag: 5 },
      { shutdown: { graceful: 5 } },
      { shutdown: { hard: 2 } },
      { leakDetection: { threshold: 60 } },
      { lanes: { report: { shared: { silence: 5 } } } }
    ]) {
      assert.include(told(options), "a bare number is milliseconds", JSON.stringify(options))
    }
    const meant = {
      idleTimeout: "30 millis",
      connectTimeout: 5000,
      maxLifetime: Duration.millis(30),
      shutdown: { hard: 0 }
    }
    assert.strictEqual(told(meant), "taken")
  })
})
