/** What a profile decides, and what a session says at its start because of it. */
import { assert, describe, it } from "@effect/vitest"
import { Database, DatabaseConfig, DatabaseOptions, Profile } from "@sluice/sdk"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Result from "effect/Result"
import * as net from "node:net"

const resolved = (options: DatabaseOptions.Options) =>
  Result.getOrThrow(DatabaseOptions.resolve("fleet", { host: "db.test", ...options }))
const refused = (options: DatabaseOptions.Options) =>
  Result.match(DatabaseOptions.resolve("fleet", { host: "db.test", ...options }), {
    onSuccess: () => [],
    onFailure: ({ issues }) => issues.map(({ expected, name }) => `${name}: ${expected}`)
  })

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

/** What the first session says before anybody answers. */
const startup = (options: Database.RoleOptions) =>
  Effect.gen(function* () {
    let heard = Buffer.alloc(0)
    const server = yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const listener = net.createServer((socket) => {
          socket.on("error", () => {})
          socket.on("data", (chunk) => (heard = Buffer.concat([heard, chunk])))
        })
        listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
      }),
      (listener) => Effect.sync(() => listener.close())
    )
    const { port } = server.address() as net.AddressInfo
    const layer = Fleet.layerRole("replica", {
      host: "127.0.0.1",
      port,
      user: "app",
      sslmode: "disable",
      connectTimeout: "200 millis",
      connectionTimeout: "300 millis",
      ...options
    })
    const call = Effect.flatMap(Fleet.role("replica"), ({ sql }) => sql`select 1`)
    yield* Effect.exit(Effect.provide(call, layer.pipe(Layer.provide(Logger.layer([])))))
    // Length and version, then names and values.
    const [words] = [heard.subarray(8, heard.readInt32BE(0)).toString().split("\0")]
    return Object.fromEntries(
      Array.from({ length: words.length >> 1 }, (_, index) => [words[2 * index], words[2 * index + 1]])
    )
  }).pipe(Effect.scoped)

describe("a profile", () => {
  it("gives defaults, and options win over them", () => {
    assert.strictEqual(resolved({}).pooler, "none")
    assert.strictEqual(resolved({ profile: "pgbouncer" }).pooler, "transaction")
    assert.strictEqual(resolved({ profile: "pgbouncer", pooler: "none" }).pooler, "none")
    assert.strictEqual(resolved({ profile: "aurora" }).connectTimeout, 2_000)
    assert.strictEqual(resolved({ profile: "aurora", connectTimeout: "7 seconds" }).connectTimeout, 7_000)
    assert.strictEqual(resolved({ profile: "haproxy" }).connectTimeout, DatabaseOptions.defaults.connectTimeout)
  })

  it("decides what a name with several addresses is, unless it cannot be both", () => {
    assert.strictEqual(resolved({}).addresses, "any")
    assert.strictEqual(resolved({ host: "a.test,b.test" }).addresses, "each")
    assert.strictEqual(resolved({ host: "a.test,b.test", addresses: "any" }).addresses, "any")
    assert.strictEqual(resolved({ host: "a.test,b.test", profile: "aurora" }).addresses, "any")
    assert.match(refused({ addresses: "each", profile: "aurora" }).join(), /^addresses: any/)
    assert.match(refused({ addresses: "some" as never }).join(), /^addresses: one of/)
  })

  it("that nobody knows, or that has no follower reads, is refused by name", () => {
    assert.match(refused({ profile: "oracle" as never }).join(), /^profile: one of postgres, /)
    assert.match(refused({ followerReads: true }).join(), /^followerReads: .*cockroachdb, yugabytedb/)
    for (const profile of Profile.profiles) {
      const able = Profile.traits[profile].followerReads !== undefined
      assert.strictEqual(refused({ profile, followerReads: true }).length, able ? 0 : 1, profile)
    }
  })

  it.effect("is read from the environment, and a wrong one is told by its variable", () =>
    Effect.gen(function* () {
      const load = (value: string) =>
        DatabaseConfig.load("fleet/primary", { dotEnv: false }).pipe(
          Effect.provideService(
            ConfigProvider.ConfigProvider,
            ConfigProvider.fromEnvRecord({ DB_HOST: "db.test", DB_PROFILE: value })
          )
        )
      const { pooler, profile } = yield* load("pgbouncer")
      assert.deepStrictEqual({ pooler, profile }, { pooler: "transaction", profile: "pgbouncer" })
      assert.include((yield* Effect.flip(load("oracle"))).message, "DB_PROFILE")
    })
  )

  it.live("reads from followers by settings of sessions that only read", () =>
    Effect.gen(function* () {
      const cockroach = yield* startup({ profile: "cockroachdb", followerReads: true })
      assert.deepInclude(cockroach, {
        default_transaction_use_follower_reads: "on",
        default_transaction_read_only: "on"
      })
      const yugabyte = yield* startup({ profile: "yugabytedb", followerReads: true })
      assert.deepInclude(yugabyte, { yb_read_from_followers: "on", default_transaction_read_only: "on" })
      const plain = yield* startup({ profile: "cockroachdb" })
      assert.notProperty(plain, "default_transaction_use_follower_reads")
      assert.notProperty(plain, "default_transaction_read_only")
      assert.property(plain, "statement_timeout")
    })
  )

  it.live("of a pooler in transaction mode sets nothing at a session's start", () =>
    Effect.gen(function* () {
      const said = Object.keys(yield* startup({ profile: "pgbouncer" })).filter((name) => name !== "")
      assert.sameMembers(said, ["user", "database", "application_name", "client_encoding"])
    })
  )
})
