/**
 * Patroni from the system, with an etcd and PostgreSQL servers of its own, for tests that skip, and say so, where one of
 * them is missing. Nothing survives the test, nor the death of the process.
 */
import { free, host } from "../../packages/sdk/src/testing/internal/Ports.ts"
import { asUser, find, give } from "../../packages/sdk/src/testing/internal/ServerUser.ts"
import * as Effect from "effect/Effect"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

// Debian's Patroni knows the servers of its time, not those of npm.
const binaries = [17, 16, 15]
  .map((major) => `/usr/lib/postgresql/${major}/bin`)
  .find((place) => fs.existsSync(`${place}/postgres`))

/** What Patroni needs and is not there. */
export const missing = [
  ...["patroni", "etcd"].filter((tool) => spawnSync(tool, ["--version"]).status !== 0),
  ...(binaries === undefined ? ["PostgreSQL of the system"] : [])
]
export const installed = missing.length === 0

// Ends what it started, and whatever works on the data directory, when Node closes the pipe or dies. The directory travels
// in the environment and through grep's stdin, so that nobody finds himself.
const leash = `
trap '' HUP INT TERM
"$@" < /dev/null >> "$LOG" 2>&1 &
pid=$!
cat > /dev/null
kill -KILL $pid
[ -z "$DATA" ] && exit
signal=QUIT
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  pids=$(printf '%s' "$DATA" | grep -lF -f - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3)
  [ -z "$pids" ] && exit
  [ $turn -gt 10 ] && signal=KILL
  kill -$signal $pids 2>/dev/null
  sleep 0.1
done`

interface Program {
  readonly command: ReadonlyArray<string>
  readonly log: string
  readonly data?: string
  readonly user?: { readonly uid?: number; readonly gid?: number }
}

const start = ({ command, data = "", log, user }: Program) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn("/bin/sh", ["-c", leash, "leash", ...command], {
        ...user,
        cwd: "/",
        detached: true,
        env: { PATH: process.env["PATH"], HOME: "/", LC_ALL: "C", LOG: log, DATA: data },
        stdio: ["pipe", "ignore", "ignore"]
      })
    ),
    (shell) =>
      Effect.callback<void>((resume) => {
        shell.once("exit", () => resume(Effect.void))
        shell.stdin.end()
      })
  )

export interface Node {
  readonly name: string
  readonly port: number
  /** Of its REST API. */
  readonly rest: number
  readonly dataDirectory: string
  readonly log: string
}

/** Whether a node says that it is this: `primary`, `replica`, `sync`. */
const is = (node: Node, what: string) =>
  Effect.promise(() =>
    fetch(`http://${host}:${node.rest}/${what}`).then(
      ({ status }) => status === 200,
      () => false
    )
  )

const until = <A>(look: Effect.Effect<A | undefined>, what: string): Effect.Effect<A> =>
  Effect.gen(function* () {
    for (const end = performance.now() + 30_000; performance.now() < end; yield* Effect.sleep("50 millis")) {
      const found = yield* look
      if (found !== undefined) return found
    }
    return yield* Effect.die(new Error(`Patroni: ${what}, after 30 seconds`))
  })

/** Three nodes with synchronous replication, all running. */
export const make = Effect.gen(function* () {
  const user = yield* Effect.orDie(find)
  const root = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "sluice-patroni-"))),
    (directory) =>
      Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }))
  )
  give(root, user)
  fs.chmodSync(root, 0o755)
  const [client, peer] = [yield* free, yield* free]
  const at = (port: number) => `http://${host}:${port}`
  yield* start({
    command: [
      "etcd",
      `--data-dir=${path.join(root, "etcd")}`,
      "--unsafe-no-fsync",
      `--initial-cluster=default=${at(peer)}`,
      `--listen-client-urls=${at(client)}`,
      `--advertise-client-urls=${at(client)}`,
      `--listen-peer-urls=${at(peer)}`,
      `--initial-advertise-peer-urls=${at(peer)}`
    ],
    log: path.join(root, "etcd.log"),
    user: asUser(user)
  })
  const nodes: Array<Node> = []
  for (const name of ["n0", "n1", "n2"]) {
    const directory = path.join(root, name)
    fs.mkdirSync(directory)
    give(directory, user)
    const node: Node = {
      name,
      port: yield* free,
      rest: yield* free,
      dataDirectory: path.join(directory, "data"),
      log: path.join(root, `${name}.log`)
    }
    nodes.push(node)
    const config = path.join(root, `${name}.yml`)
    const listen = (port: number) => ({ listen: `${host}:${port}`, connect_address: `${host}:${port}` })
    // JSON is YAML.
    fs.writeFileSync(
      config,
      JSON.stringify({
        scope: "sluice",
        name,
        restapi: listen(node.rest),
        etcd3: { host: `${host}:${client}` },
        bootstrap: {
          dcs: {
            ttl: 20,
            loop_wait: 1,
            retry_timeout: 3,
            synchronous_mode: true,
            // A primary that has crashed is not waited for.
            primary_start_timeout: 0,
            postgresql: {
              use_pg_rewind: false,
              parameters: { fsync: "off", max_connections: 100, shared_buffers: "32MB" }
            }
          },
          initdb: [{ encoding: "UTF8" }, { auth: "trust" }, "no-sync"],
          pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        },
        postgresql: {
          ...listen(node.port),
          data_dir: node.dataDirectory,
          bin_dir: binaries,
          pgpass: path.join(directory, "pgpass"),
          remove_data_directory_on_diverged_timelines: true,
          authentication: { superuser: { username: "postgres" }, replication: { username: "postgres" } },
          parameters: { unix_socket_directories: directory }
        }
      })
    )
    yield* start({ command: ["patroni", config], log: node.log, data: node.dataDirectory, user: asUser(user) })
  }
  const leader = until(
    Effect.map(
      Effect.filter(nodes, (node) => is(node, "primary"), { concurrency: "unbounded" }),
      ([node]) => node
    ),
    "no leader"
  )
  const all = (what: string, count: number) =>
    until(
      Effect.map(
        Effect.filter(nodes, (node) => is(node, what), { concurrency: "unbounded" }),
        (found) => (found.length >= count ? found : undefined)
      ),
      `fewer than ${count} are ${what}`
    )
  yield* leader
  yield* all("replica", 2)
  yield* all("sync", 1)
  return {
    nodes,
    leader,
    /** Its one synchronous standby, whom it would be succeeded by. */
    successor: Effect.map(all("sync", 1), ([node]) => node!),
    /** As an operator asks for it. Returns when the successor leads. */
    switchover: Effect.gen(function* () {
      const [from, [to]] = [yield* leader, yield* all("sync", 1)]
      const body = JSON.stringify({ leader: from.name, candidate: to!.name })
      const answer = yield* Effect.promise(() => fetch(`${at(from.rest)}/switchover`, { method: "POST", body }))
      if (answer.status !== 200)
        return yield* Effect.die(new Error(`Patroni: switchover: ${yield* Effect.promise(() => answer.text())}`))
      return { from, to: to! }
    }),
    /** The postmaster of a node, with -9. */
    kill: (node: Node) =>
      Effect.sync(() =>
        process.kill(
          Number(fs.readFileSync(path.join(node.dataDirectory, "postmaster.pid"), "utf8").split("\n")[0]),
          "SIGKILL"
        )
      )
  }
})
