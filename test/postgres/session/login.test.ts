import { assert, layer } from "@effect/vitest"
import * as PgFailure from "@sluice/sdk/PgFailure"
import { factsOf, type SslMode } from "@sluice/sdk/pool/Session"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as path from "node:path"
import { connect } from "./support.ts"

const cluster = PgCluster.PgCluster

/** Replaces the server's rules of who may come in, and how. */
const rules = (lines: ReadonlyArray<string>) =>
  Effect.flatMap(cluster, ({ primary }) =>
    Effect.gen(function* () {
      fs.writeFileSync(path.join(primary.dataDirectory, "pg_hba.conf"), lines.join("\n") + "\n")
      // Not by a statement: the rules may lock the administrator out.
      process.kill((yield* primary.pid)!, "SIGHUP")
      yield* Effect.sleep("200 millis")
    })
  )

const outcome = (config: Parameters<typeof connect>[1]) =>
  Effect.flatMap(cluster, ({ primary }) =>
    Effect.match(connect(primary, config), {
      onSuccess: (session) => (session.encrypted ? "encrypted" : "plain"),
      onFailure: (error) => factsOf(error)?.sqlState ?? PgFailure.fromSqlError(error).class
    })
  )

const everyone = ["local all all trust", "host all postgres 127.0.0.1/32 trust"]

layer(PgCluster.layer({ tls: true }), { excludeTestServices: true, timeout: "60 seconds" })(
  "a session's login",
  (it) => {
    it.effect("answers SCRAM, MD5 and cleartext, and tells a wrong password", () =>
      Effect.gen(function* () {
        const { primary } = yield* cluster
        yield* primary.query("set password_encryption = 'scram-sha-256'")
        yield* primary.query("create role by_scram login password 'pa''ss wörd'")
        const admin = yield* primary.session()
        yield* admin.query("set password_encryption = 'md5'")
        yield* admin.query("create role by_md5 login password 'secret'")
        yield* admin.query("create role by_cleartext login password 'secret'")
        yield* rules([
          "host all by_scram 127.0.0.1/32 scram-sha-256",
          "host all by_md5 127.0.0.1/32 md5",
          "host all by_cleartext 127.0.0.1/32 password",
          ...everyone
        ])
        const passwords = { by_scram: "pa'ss wörd", by_md5: "secret", by_cleartext: "secret" }
        for (const [username, password] of Object.entries(passwords)) {
          assert.strictEqual(yield* outcome({ username, password: Redacted.make(password) }), "plain", username)
          assert.strictEqual(
            yield* outcome({ username, password: Effect.sync(() => Redacted.make(password)), sslmode: "require" }),
            "encrypted",
            username
          )
          assert.strictEqual(yield* outcome({ username, password: Redacted.make("wrong") }), "28P01", username)
          const error = yield* Effect.flip(connect(primary, { username }))
          assert.strictEqual(error.reason._tag, "AuthenticationError")
          assert.strictEqual(PgFailure.fromSqlError(error).retry, "never")
        }
      })
    )

    it.effect("prepares a password for SCRAM as PostgreSQL does, and uses one that cannot be prepared as it is", () =>
      Effect.gen(function* () {
        const { primary } = yield* cluster
        const passwords = {
          "no-break space": "pass\u00a0word",
          "soft hyphen": "I\u00adX",
          ligature: "\ufb01sh",
          decomposed: "cafe\u0301",
          composed: "caf\u00e9",
          roman: "\u2168",
          // A control character, and a text of both directions.
          prohibited: "a\u0007b\u00e9",
          mixed: "\u0627a\u0628"
        }
        const names = Object.keys(passwords).map((name) => `prepared_${name.replace(/\W/g, "_")}`)
        for (const [index, password] of Object.values(passwords).entries()) {
          yield* primary.query(`create role ${names[index]} login password '${password}'`)
        }
        yield* rules([...names.map((name) => `host all ${name} 127.0.0.1/32 scram-sha-256`), ...everyone])
        for (const [index, [name, password]] of Object.entries(passwords).entries()) {
          const config = { username: names[index]!, database: "postgres" }
          assert.strictEqual(yield* outcome({ ...config, password: Redacted.make(password) }), "plain", name)
          assert.strictEqual(yield* outcome({ ...config, password: Redacted.make(`${password}!`) }), "28P01", name)
        }
      })
    )

    it.effect("goes on in no plain text where its own certificates cannot be used", () =>
      Effect.gen(function* () {
        yield* rules(everyone)
        for (const sslmode of ["prefer", "require", "verify-full"] as const) {
          const ssl = { cert: "nope", key: "nope" }
          assert.strictEqual(yield* outcome({ username: "postgres", sslmode, ssl }), "TlsRejected", sslmode)
          const rotating = Effect.succeed(ssl)
          assert.strictEqual(yield* outcome({ username: "postgres", sslmode, ssl: rotating }), "TlsRejected", sslmode)
        }
      })
    )

    it.effect("means by every sslmode what libpq means", () =>
      Effect.gen(function* () {
        const { certificate } = yield* cluster
        const ca = { ca: certificate! }
        const modes = (config: Parameters<typeof connect>[1]) =>
          Effect.gen(function* () {
            const seen: Record<string, string> = {}
            for (const sslmode of [
              "disable",
              "allow",
              "prefer",
              "require",
              "verify-ca",
              "verify-full"
            ] as ReadonlyArray<SslMode>) {
              seen[sslmode] = yield* outcome({ ...config, sslmode })
            }
            return seen
          })
        const offered = { disable: "plain", allow: "plain", prefer: "encrypted", require: "encrypted" }
        yield* rules(everyone)
        assert.deepStrictEqual(yield* modes({ ssl: ca }), {
          ...offered,
          "verify-ca": "encrypted",
          "verify-full": "encrypted"
        })
        // A certificate that nobody vouches for.
        assert.deepStrictEqual(yield* modes({}), {
          ...offered,
          "verify-ca": "TlsRejected",
          "verify-full": "TlsRejected"
        })
        // The right authority, the wrong name.
        assert.deepStrictEqual(
          yield* modes({ ssl: { ...ca, host: "elsewhere.example", servername: "elsewhere.example" } }),
          {
            ...offered,
            "verify-ca": "encrypted",
            "verify-full": "TlsRejected"
          }
        )
        yield* rules(["hostssl all postgres 127.0.0.1/32 trust", "local all all trust"])
        assert.deepStrictEqual(yield* modes({ ssl: ca }), {
          disable: "28000",
          allow: "encrypted",
          prefer: "encrypted",
          require: "encrypted",
          "verify-ca": "encrypted",
          "verify-full": "encrypted"
        })
      })
    )

    it.effect("falls back to plain text under prefer alone when only that is welcome", () =>
      Effect.gen(function* () {
        yield* rules(["hostnossl all postgres 127.0.0.1/32 trust", "local all all trust"])
        assert.strictEqual(yield* outcome({ sslmode: "prefer" }), "plain")
        assert.strictEqual(yield* outcome({ sslmode: "require" }), "28000")
        yield* rules(everyone)
      })
    )

    it.effect("cancels over TLS where the session is under TLS", () =>
      Effect.gen(function* () {
        const { certificate, primary } = yield* cluster
        const session = yield* connect(primary, { sslmode: "verify-full", ssl: { ca: certificate! } })
        assert.isTrue(session.encrypted)
        for (let round = 0; round < 5; round++) {
          const fiber = yield* Effect.forkChild(session.query("select pg_sleep(30)"), { startImmediately: true })
          yield* Effect.sleep("30 millis")
          yield* Fiber.interrupt(fiber)
          assert.isTrue(yield* session.drain)
          assert.deepStrictEqual((yield* session.query("select 1 as one")).rows, [{ one: 1 }])
        }
      })
    )

    it.effect("sends a cancellation to the server of the session, wherever the name leads by then", () =>
      Effect.gen(function* () {
        const { primary } = yield* cluster
        const proxy = yield* FaultProxy.make({ target: primary })
        const session = yield* connect({ host: "localhost", port: proxy.port })
        assert.deepStrictEqual(session.address, { address: "127.0.0.1", port: proxy.port })
      })
    )

    it.effect("comes in through a unix socket", () =>
      Effect.gen(function* () {
        const { primary } = yield* cluster
        const [row] = yield* primary.query("select split_part(current_setting('unix_socket_directories'), ',', 1) as d")
        const directory = String(row?.["d"])
        if (directory === "") {
          // A server without a unix socket: what is left to show is that the failure is typed.
          const error = yield* Effect.flip(connect({ host: "/nowhere", port: primary.port }))
          assert.strictEqual(PgFailure.fromSqlError(error).class, "Unreachable")
          return
        }
        const session = yield* connect({ host: directory, port: primary.port }, { sslmode: "require" })
        assert.isFalse(session.encrypted, "as libpq, no TLS on a unix socket")
        const fiber = yield* Effect.forkChild(session.query("select pg_sleep(30)"), { startImmediately: true })
        yield* Effect.sleep("30 millis")
        yield* Fiber.interrupt(fiber)
        assert.isTrue(yield* session.drain)
      })
    )
  }
)
