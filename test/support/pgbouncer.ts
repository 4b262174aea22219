/** PgBouncer from the system, for tests that skip, and say so, where there is none. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { free } from "../../packages/sdk/src/testing/internal/Ports.ts"
import { undoneBy } from "./guarded.ts"

export const installed = spawnSync("pgbouncer", ["--version"]).status === 0

const listening = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const socket = net.connect(port, "127.0.0.1")
    socket.once("connect", () => resume(Effect.sync(() => (socket.destroy(), true))))
    socket.once("error", () => resume(Effect.succeed(false)))
  })

interface Upstream {
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password?: string | undefined
}

/** A PgBouncer in transaction mode, with so many server connections; it can be killed (-9) and started again. */
export const bouncerBefore = ({ database, password, port: upstream, user }: Upstream, connections: number) =>
  Effect.gen(function* () {
    const port = yield* free
    const root = process.getuid?.() === 0
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-pgbouncer-"))
    const pidFile = path.join(directory, "pid")
    yield* undoneBy('[ -s "$DIR/pid" ] && kill -9 "$(cat "$DIR/pid")"; rm -rf "$DIR"', { DIR: directory })
    fs.chmodSync(directory, 0o777)
    const file = path.join(directory, "pgbouncer.ini")
    const secret = password === undefined ? "" : ` password='${password.replaceAll("'", "''")}'`
    fs.writeFileSync(
      file,
      [
        "[databases]",
        `${database} = host=127.0.0.1 port=${upstream} dbname=${database} user=${user}${secret}`,
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
    let child: ChildProcess | undefined
    const start = Effect.gen(function* () {
      child = spawn("pgbouncer", [file], { stdio: "ignore" })
      fs.writeFileSync(pidFile, String(child.pid))
      for (let patience = 0; patience < 200 && !(yield* listening(port)); patience++) yield* Effect.sleep("20 millis")
    })
    const kill = Effect.callback<void>((resume) => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
    yield* start
    yield* Effect.addFinalizer(() => kill)
    return { host: "127.0.0.1", port, start, kill }
  })

/** A PgBouncer in transaction mode before the cluster's primary. */
export const bouncer = (connections: number) =>
  Effect.flatMap(PgCluster.PgCluster, ({ primary }) =>
    bouncerBefore({ port: primary.port, database: "postgres", user: "postgres" }, connections)
  )
