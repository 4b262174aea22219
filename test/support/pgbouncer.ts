/** PgBouncer from the system, for tests that skip, and say so, where there is none. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"

export const installed = spawnSync("pgbouncer", ["--version"]).status === 0
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

/** A PgBouncer in transaction mode before the cluster's primary, with so many server connections. */
export const bouncer = (connections: number) =>
  Effect.gen(function* () {
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
            `default_pool_size = ${connections}`,
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
