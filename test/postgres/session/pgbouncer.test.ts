import { assert, layer } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { connect, driver } from "./support.ts"

const installed = spawnSync("pgbouncer", ["--version"]).status === 0
if (!installed) console.warn("pgbouncer is not installed: its tests are skipped")

const freePort = Effect.callback<number>((resume) => {
  const server = net.createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

const listening = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = net.connect(port, "127.0.0.1")
    socket.once("connect", () => resume(Effect.sync(() => (socket.destroy(), true))))
    socket.once("error", () => resume(Effect.succeed(false)))
  })

/** A PgBouncer in transaction mode with four server connections. */
const bouncer = Effect.gen(function* () {
  const { primary } = yield* PgCluster.PgCluster
  const port = yield* freePort
  const root = process.getuid?.() === 0
  yield* Effect.acquireRelease(
    Effect.sync((): { readonly directory: string; readonly child: ChildProcess } => {
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-pgbouncer-"))
      fs.chmodSync(directory, 0o777)
      const file = path.join(directory, "pgbouncer.ini")
      fs.writeFileSync(
        file,
        [
          "[databases]",
          `postgres = host=127.0.0.1 port=${primary.port} dbname=postgres user=postgres`,
          "[pgbouncer]",
          "listen_addr = 127.0.0.1",
          `listen_port = ${port}`,
          "unix_socket_dir =",
          "auth_type = any",
          "pool_mode = transaction",
          "default_pool_size = 4",
          root ? "user = nobody" : ""
        ].join("\n")
      )
      return { directory, child: spawn("pgbouncer", [file], { stdio: "ignore" }) }
    }),
    ({ child, directory }) =>
      Effect.sync(() => {
        child.kill("SIGKILL")
        fs.rmSync(directory, { recursive: true, force: true })
      })
  )
  for (let patience = 0; patience < 200 && !(yield* listening(port)); patience++) yield* Effect.sleep("20 millis")
  return { host: "127.0.0.1", port }
})

layer(PgCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a session behind PgBouncer", (it) => {
  it.effect.skipIf(!installed)("runs statements and transactions that the driver's named statements break", () =>
    Effect.gen(function* () {
      const target = yield* bouncer
      const work = (run: (n: number) => Effect.Effect<number, unknown>) =>
        Effect.map(
          Effect.forEach(
            Array.from({ length: 25 }, (_, n) => n),
            (n) => Effect.map(Effect.result(run(n)), (result) => result._tag === "Success" && result.success === n)
          ),
          (all) => all.filter((right) => !right).length
        )
      const wrong = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () =>
          Effect.gen(function* () {
            const session = yield* connect(target, { pooler: "transaction", statementTimeout: "5 seconds" })
            return yield* work((n) =>
              Effect.gen(function* () {
                if (n % 2 === 0) yield* session.begin()
                const { rows } = yield* session.query("select $1::int4 as n, int4range(1, 2) as r", [n])
                if (n % 2 === 0) yield* session.commit
                return rows[0].n as number
              })
            )
          }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        wrong,
        wrong.map(() => 0)
      )
      const bare = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () =>
          Effect.gen(function* () {
            const connection = yield* driver(target)
            return yield* work((n) =>
              Effect.gen(function* () {
                if (n % 2 === 0) yield* connection.query("begin")
                const { rows } = yield* connection.query("select $1::int4 as n", [n])
                if (n % 2 === 0) yield* connection.query("commit")
                return rows[0]?.["n"] as number
                // What fails in between would hold one of the four server connections for ever.
              }).pipe(Effect.tapError(() => Effect.ignore(connection.query("rollback", [], false))))
            )
          }),
        { concurrency: "unbounded" }
      )
      assert.isAbove(
        bare.reduce((sum, n) => sum + n, 0),
        0
      )
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(!installed)("is not handed on after a cancellation, which the pooler may deliver late", () =>
    Effect.gen(function* () {
      const session = yield* connect(yield* bouncer, { pooler: "transaction" })
      const fiber = yield* Effect.forkChild(session.query("select pg_sleep(20)"), { startImmediately: true })
      yield* Effect.sleep("100 millis")
      yield* Fiber.interrupt(fiber)
      assert.isFalse(yield* session.drain)
      assert.isDefined(session.dead)
    }).pipe(Effect.scoped)
  )
})
