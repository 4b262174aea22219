/**
 * The processes of a server, found by name.
 *
 * Every server is started with `-c cluster_name=<id>`, which PostgreSQL also puts into the title of each of its children
 * (`postgres: <id>: checkpointer`). So a server's processes are found whatever their parent is by now: pids change at each
 * restart, and the children of a postmaster that was killed belong to init. A pid out of a file could be a stranger's.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"

const argument = (id: string) => `cluster_name=${id}`
const title = (id: string) => `postgres: ${id}:`

const fromProc = (id: string): ReadonlyArray<number> =>
  fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const line = fs.readFileSync(`/proc/${pid}/cmdline`, "latin1")
        return line.startsWith(title(id)) || line.split("\0").includes(argument(id))
      } catch {
        return false
      }
    })
    .map(Number)

const fromPs = (id: string): ReadonlyArray<number> =>
  spawnSync("ps", ["-axo", "pid=,command="], { encoding: "utf8" })
    .stdout.split("\n")
    .map((line) => /^\s*(\d+) (.*)$/.exec(line))
    .filter((match) => match !== null)
    .filter(([, , command = ""]) => command.startsWith(title(id)) || `${command} `.includes(` ${argument(id)} `))
    .map(([, pid]) => Number(pid))

/** The pids of the server `id`: postmaster, backends and helpers, also orphaned or stopped ones. */
export const list = (id: string): ReadonlyArray<number> =>
  fs.existsSync("/proc/self/cmdline") ? fromProc(id) : fromPs(id)

/** Sends a signal; a process that is gone already is fine. */
export const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

/** Sends a signal to every process of a server, again until no new one turns up. */
export const signalAll = (id: string, name: NodeJS.Signals, first?: number): void => {
  const done = new Set<number>()
  if (first !== undefined) {
    signal(first, name)
    done.add(first)
  }
  for (;;) {
    const fresh = list(id).filter((pid) => !done.has(pid))
    if (fresh.length === 0) return
    for (const pid of fresh) {
      signal(pid, name)
      done.add(pid)
    }
  }
}
