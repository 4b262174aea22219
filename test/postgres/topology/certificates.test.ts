/** Certificates of server, client and both authorities, replaced while forty callers go on. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Certificate from "../../../packages/sdk/src/testing/internal/Certificate.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { connect } from "../session/support.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["any"] }) {}

const one = Report.make("one", {
  database: Fleet.role("any"),
  params: {},
  row: { one: Schema.Int },
  query: (sql) => sql`select 1 as one`,
  deadline: "3 seconds"
})

/** An authority, a server's certificate of it, and one of the client. */
const generation = (number: number) => {
  const authority = (commonName: string) => ({ ...Certificate.make({ commonName, names: [] }), commonName })
  const [servers, clients] = [authority(`servers ${number}`), authority(`clients ${number}`)]
  return {
    servers,
    clients,
    server: Certificate.make({ issuer: servers }),
    client: Certificate.make({ commonName: "app", names: [], issuer: clients })
  }
}

type Generation = ReturnType<typeof generation>

const pem = (...certificates: ReadonlyArray<Certificate.Certificate>) =>
  certificates.map(({ certificate }) => certificate).join("")

const material = (trusted: ReadonlyArray<Generation>, { client }: Generation) => ({
  ca: pem(...trusted.map(({ servers }) => servers)),
  cert: client.certificate,
  key: Redacted.make(client.key)
})

/** As administrator, without TLS: what is replaced here must not be in the way. */
const ask = (sql: string) =>
  Effect.scoped(
    Effect.flatMap(PgCluster.PgCluster, ({ primary }) =>
      Effect.flatMap(connect(primary), (session) =>
        Effect.map(session.query(sql), ({ rows }) => rows as ReadonlyArray<Record<string, unknown>>)
      )
    )
  )

/** Who issued the certificates that the server sees. */
const issuers = Effect.map(
  ask("select distinct issuer_dn from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'app'"),
  (rows) => rows.map(({ issuer_dn: issuer }) => String(issuer))
)

/** The server shows its certificate and trusts clients of these authorities, from its next connection on. */
const install = ({ server }: Generation, trusted: ReadonlyArray<Generation>) =>
  Effect.gen(function* () {
    const { primary } = yield* PgCluster.PgCluster
    const write = (file: string, text: string) => fs.writeFileSync(path.join(primary.dataDirectory, file), text)
    write("server.crt", server.certificate)
    write("server.key", server.key)
    write("clients.crt", pem(...trusted.map(({ clients }) => clients)))
    fs.chmodSync(path.join(primary.dataDirectory, "clients.crt"), 0o644)
    yield* ask("select pg_reload_conf()")
    yield* Effect.sleep("100 millis")
  })

const setUp = (first: Generation) =>
  Effect.gen(function* () {
    const { primary } = yield* PgCluster.PgCluster
    const rules = path.join(primary.dataDirectory, "pg_hba.conf")
    if (!fs.readFileSync(rules, "utf8").includes("verify-full")) {
      fs.writeFileSync(
        rules,
        `hostssl all app 127.0.0.1/32 trust clientcert=verify-full\nhostnossl all app 127.0.0.1/32 reject\n${fs.readFileSync(rules, "utf8")}`
      )
      yield* ask("create role app login")
      yield* ask("alter system set ssl_ca_file = 'clients.crt'")
    }
    yield* install(first, [first])
  })

const withFleet = <A, E, R>(self: Effect.Effect<A, E, R>, tls: Database.RoleOptions["tls"]) =>
  Effect.flatMap(PgCluster.PgCluster, ({ primary }) =>
    Effect.provide(
      self,
      Fleet.layerServers({
        servers: [`127.0.0.1:${primary.port}`],
        name: "postgres",
        user: "app",
        sslmode: "verify-full",
        tls,
        maxConnections: 10,
        minConnections: 10,
        boot: "fill"
      }).pipe(Layer.provide(Logger.layer([]))),
      { local: true }
    )
  )

const load = Effect.gen(function* () {
  const outcome = { ok: 0, failed: [] as Array<string> }
  const fiber = yield* Effect.forkChild(
    Effect.forEach(
      Array.from({ length: 40 }),
      () =>
        Effect.forever(
          Effect.match(one.run({}), {
            onSuccess: () => void outcome.ok++,
            onFailure: (error) => void outcome.failed.push(error.message)
          }).pipe(Effect.andThen(Effect.sleep("5 millis")))
        ),
      { concurrency: "unbounded" }
    )
  )
  return { outcome, fiber }
})

postgres(ownCluster({ tls: true }))("certificates under load", (it) => {
  it.effect("all of them are replaced, and no call fails", () =>
    Effect.gen(function* () {
      const [old, fresh] = [generation(1), generation(2)]
      yield* setUp(old)
      let current = material([old], old)
      yield* withFleet(
        Effect.gen(function* () {
          const { rotate } = yield* Fleet.servers
          const { fiber, outcome } = yield* load
          yield* Effect.sleep("200 millis")
          assert.deepStrictEqual(yield* issuers, ["/CN=clients 1"])
          // Both sides trust both; the server's certificate is replaced; then the client's.
          current = material([old, fresh], old)
          yield* install(fresh, [old, fresh])
          yield* rotate
          yield* Effect.sleep("200 millis")
          current = material([old, fresh], fresh)
          yield* rotate
          yield* expectEventually(issuers, (seen) => seen.join() === "/CN=clients 2")
          // Nobody trusts the old ones any more.
          current = material([fresh], fresh)
          yield* install(fresh, [fresh])
          yield* rotate
          yield* Effect.sleep("300 millis")
          const before = outcome.ok
          yield* expectEventually(
            Effect.sync(() => outcome.ok),
            (now) => now > before + 40
          )
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(outcome.failed, [])
        }),
        Effect.sync(() => current)
      )
    })
  )

  it.effect("given as a value they stay as they are, and calls fail once nobody accepts them", () =>
    Effect.gen(function* () {
      const [old, fresh] = [generation(1), generation(2)]
      yield* setUp(old)
      yield* withFleet(
        Effect.gen(function* () {
          const { rotate } = yield* Fleet.servers
          const { fiber, outcome } = yield* load
          yield* Effect.sleep("200 millis")
          assert.deepStrictEqual(outcome.failed, [])
          yield* install(fresh, [fresh])
          yield* rotate
          yield* expectEventually(
            Effect.sync(() => outcome.failed),
            (failed) => failed.length > 0
          )
          yield* Fiber.interrupt(fiber)
          assert.match(outcome.failed[0]!, /TlsRejected/)
        }),
        material([old], old)
      )
    })
  )

  it.effect("replaced without an overlap, a connect that was refused asks once more, and is let in", () =>
    Effect.gen(function* () {
      const [old, fresh] = [generation(1), generation(2)]
      yield* setUp(old)
      // The first answer is that of a moment before.
      let asked = 0
      const tls = Effect.sync(() => (asked++ === 0 ? material([old], old) : material([fresh], fresh)))
      yield* install(fresh, [fresh])
      yield* withFleet(
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* one.run({}), [{ one: 1 }])
        }),
        tls
      )
      assert.isAbove(asked, 1)
    })
  )
})
