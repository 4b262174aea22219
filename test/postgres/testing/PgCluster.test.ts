import { assert, describe, it, layer } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { PgCluster, type PgServer } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import { expectEventually } from "../../support/expectEventually.ts"

const count = (table: string) => `select count(*)::int as n from ${table}`

/** The System V segment of a server: the one thing that a killed server leaves outside its directory. */
const sharedMemory = (server: PgServer.PgServer): string => {
  const [, , , , , , line = ""] = fs.readFileSync(`${server.dataDirectory}/postmaster.pid`, "utf8").split("\n")
  return line.trim().split(/\s+/)[1] ?? ""
}
const exists = (segment: string): boolean => {
  assert.match(segment, /^\d+$/)
  return fs.existsSync("/proc/sysvipc/shm")
    ? fs
        .readFileSync("/proc/sysvipc/shm", "utf8")
        .split("\n")
        .some((line) => line.trim().split(/\s+/)[1] === segment)
    : false
}

layer(PgCluster.layer({ replicas: 1 }), { excludeTestServices: true, timeout: "60 seconds" })("a cluster", (it) => {
  it.effect("is UTF-8, and its replica streams and refuses writes", () =>
    Effect.gen(function* () {
      const { primary, replica } = yield* PgCluster.PgCluster
      const [row] = yield* primary.query("select current_setting('server_encoding') as encoding")
      assert.strictEqual(row?.["encoding"], "UTF8")
      yield* primary.query("create table words (word text)")
      yield* primary.query("insert into words values ('Grüße')")
      yield* replica.waitForReplay(primary)
      assert.deepStrictEqual(yield* replica.query("select word from words"), [{ word: "Grüße" }])
      const error = yield* Effect.flip(replica.query("insert into words values ('no')"))
      assert.strictEqual(error.sqlState, "25006")
    })
  )

  it.effect("comes back from kill -9 on the same port with all that was committed", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const before = { pid: yield* primary.pid, port: primary.port }
      yield* primary.query("create table kept (id int)")
      yield* primary.query("insert into kept select generate_series(1, 1000)")
      yield* primary.kill
      assert.isUndefined(yield* primary.pid)
      const error = yield* Effect.flip(primary.query("select 1"))
      assert.match(error.problem, /ECONNREFUSED/)
      yield* primary.start
      assert.strictEqual(primary.port, before.port)
      assert.notStrictEqual(yield* primary.pid, before.pid)
      assert.deepStrictEqual(yield* primary.query(count("kept")), [{ n: 1000 }])
    })
  )

  it.effect("answers nobody while it is frozen, and answers what was asked when it is thawed", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const session = yield* primary.session()
      yield* primary.freeze
      const old = yield* Effect.forkChild(session.query("select 1 as one"), { startImmediately: true })
      const fresh = yield* Effect.forkChild(primary.query("select 2 as two"), { startImmediately: true })
      yield* Effect.sleep("300 millis")
      assert.isUndefined(old.pollUnsafe())
      assert.isUndefined(fresh.pollUnsafe())
      yield* primary.thaw
      assert.deepStrictEqual(yield* Fiber.join(old), [{ one: 1 }])
      assert.deepStrictEqual(yield* Fiber.join(fresh), [{ two: 2 }])
    })
  )

  it.effect("lets a caller leave at once, also while the server is frozen", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const session = yield* primary.session()
      yield* primary.freeze
      const started = performance.now()
      const left = yield* Effect.timeoutOption(session.query("select 1"), "100 millis")
      const took = performance.now() - started
      yield* primary.thaw
      assert.strictEqual(left._tag, "None")
      // The driver alone waits five seconds for the answer.
      assert.isBelow(took, 3000)
    })
  )

  it.effect("is stopped fast while it is frozen, with a session in the middle of a statement", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const session = yield* primary.session()
      const statement = yield* Effect.forkChild(Effect.flip(session.query("select pg_sleep(60)")), {
        startImmediately: true
      })
      yield* expectEventually(
        primary.query("select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"),
        (rows) => rows.length === 1
      )
      yield* primary.freeze
      yield* primary.restart("fast")
      const error = yield* Fiber.join(statement)
      // The server says 57P01; the driver drops that when a statement is under way.
      assert.match(error.problem, /Connection closed|administrator command/)
      assert.deepStrictEqual(yield* primary.query("select 1 as one"), [{ one: 1 }])
    })
  )

  it.effect("smart stop waits for the clients to leave", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const stop = yield* Effect.scoped(
        Effect.gen(function* () {
          const session = yield* primary.session()
          const stop = yield* Effect.forkChild(primary.stop("smart"), { startImmediately: true })
          yield* Effect.sleep("200 millis")
          assert.isUndefined(stop.pollUnsafe())
          assert.deepStrictEqual(yield* session.query("select 1 as one"), [{ one: 1 }])
          return stop
        })
      )
      yield* Fiber.join(stop)
      yield* primary.start
    })
  )

  it.effect("a backend that is killed ends every session, and the server recovers by itself", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const pid = yield* primary.pid
      const victim = yield* primary.session()
      const bystander = yield* primary.session()
      yield* primary.killBackend(victim.pid)
      yield* expectEventually(Effect.option(bystander.query("select 1")), (answer) => answer._tag === "None")
      yield* expectEventually(Effect.option(primary.query("select 1")), (answer) => answer._tag === "Some")
      assert.strictEqual(yield* primary.pid, pid)
      const error = yield* Effect.flip(primary.killBackend(process.pid))
      assert.match(error.message, /not a backend/)
    })
  )

  it.effect("gives each asker a database of its own, and drops it", () =>
    Effect.gen(function* () {
      const { primary, replica, createDatabase } = yield* PgCluster.PgCluster
      const name = yield* Effect.scoped(
        Effect.gen(function* () {
          const database = yield* createDatabase("My Reports")
          assert.match(database.name, /^my_reports_[0-9a-f]{12}$/)
          yield* primary.query("create table mine (id int)", [], { database: database.name })
          yield* replica.waitForReplay(primary)
          const rows = yield* replica.query(count("mine"), [], { database: database.name })
          assert.deepStrictEqual(rows, [{ n: 0 }])
          assert.include(database.urlOn(replica), `:${replica.port}/${database.name}`)
          return database.name
        })
      )
      assert.deepStrictEqual(yield* primary.query("select 1 from pg_database where datname = $1", [name]), [])
    })
  )
})

describe("failover", () => {
  it.live("a replica is promoted after the primary's crash, and the old primary comes back as its replica", () =>
    Effect.gen(function* () {
      const cluster = yield* PgCluster.make({ replicas: 1 })
      const { primary: old, replica: next } = cluster
      yield* old.query("create table kept (id int)")
      yield* old.query("insert into kept values (1)")
      yield* next.waitForReplay(old)
      yield* old.kill
      yield* next.promote
      yield* next.query("insert into kept values (2)")

      // Split brain first, because tests need that too: both take writes.
      yield* old.start
      yield* old.query("insert into kept values (3)")
      const port = old.port
      yield* old.kill
      const segment = sharedMemory(old)
      yield* old.rejoin(next)
      assert.isFalse(exists(segment))
      assert.strictEqual(old.port, port)
      yield* old.waitForReplay(next)
      assert.deepStrictEqual(yield* old.query("select id from kept order by id"), [{ id: 1 }, { id: 2 }])
      const error = yield* Effect.flip(old.query("insert into kept values (4)"))
      assert.strictEqual(error.sqlState, "25006")
      assert.match(yield* old.log(), /started streaming WAL/)
    })
  )
})

describe("what a cluster is made of", () => {
  it.live("leaves no process and no file when its scope closes, whatever state its servers are in", () =>
    Effect.gen(function* () {
      const { directory, segments } = yield* Effect.scoped(
        Effect.gen(function* () {
          const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
          yield* primary.freeze
          yield* replica.kill
          const segments = [sharedMemory(primary), sharedMemory(replica)]
          return { directory: primary.dataDirectory, segments }
        })
      )
      assert.isFalse(fs.existsSync(directory))
      assert.deepStrictEqual(segments.filter(exists), [])
    })
  )

  it.live("lets in by password only, when told to, and replicates all the same", () =>
    Effect.gen(function* () {
      const { primary, replica } = yield* PgCluster.make({ replicas: 1, auth: "scram-sha-256", password: "p'a s%s" })
      assert.deepStrictEqual(yield* primary.query("select 1 as one"), [{ one: 1 }])
      yield* replica.waitForReplay(primary)
      const [rule] = yield* primary.query(
        "select count(*)::int as n from pg_hba_file_rules where auth_method = 'trust'"
      )
      assert.deepStrictEqual(rule, { n: 0 })
      assert.strictEqual(decodeURIComponent(new URL(primary.url).password), "p'a s%s")
    })
  )

  it.live("speaks TLS with a certificate that clients can verify, and only TLS when that is required", () =>
    Effect.gen(function* () {
      const { primary, replica, certificate } = yield* PgCluster.make({ replicas: 1, tls: "required" })
      const encrypted = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
      assert.deepStrictEqual(yield* primary.query(encrypted), [{ ssl: true, version: "TLSv1.3" }])
      yield* replica.waitForReplay(primary)

      const connect = (ssl: { readonly ca?: string } | undefined) =>
        PgConnection.make({ url: Redacted.make(primary.url), ...(ssl === undefined ? {} : { ssl }) })
      assert.isDefined(certificate)
      const session = yield* connect({ ca: certificate ?? "" })
      assert.deepStrictEqual((yield* session.query(encrypted)).rows, [{ ssl: true, version: "TLSv1.3" }])
      const stranger = yield* Effect.flip(connect({}))
      assert.match(String(stranger.reason.cause), /self-signed certificate/)
      const plain = yield* Effect.flip(connect(undefined))
      assert.match(String(plain.reason.cause), /no pg_hba.conf entry|no encryption/)
    })
  )

  it.live("takes settings, and says what the server says of a bad one", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.make({ settings: { max_connections: 17, application_name: "it's me" } })
      const rows = yield* primary.query("select current_setting('max_connections') as max")
      assert.deepStrictEqual(rows, [{ max: "17" }])
      const error = yield* Effect.flip(PgCluster.make({ settings: { shared_buffers: "a lot" } }))
      assert.strictEqual(error._tag, "PgServerError")
      assert.match(error.message, /invalid value for parameter "shared_buffers"/)
    })
  )
})

describe("under a virtual clock", () => {
  it.effect("a cluster starts, is stopped and closes all the same", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.make()
      yield* primary.restart("immediate")
      assert.deepStrictEqual(yield* primary.query("select 1 as one"), [{ one: 1 }])
    })
  )
})
