/**
 * Cleans up after a cluster, whatever becomes of Node.
 *
 * The janitor is a shell that waits on a pipe from us. The kernel closes the pipe when Node ends: by a return, a throw,
 * SIGINT, SIGTERM or SIGKILL. The janitor then ends every process of the cluster and removes the cluster's directory. A
 * scope that closes in good order does nothing else: it closes the pipe and waits for the janitor, so that the way that
 * matters after a crash is the one that runs every day.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { PgServerError } from "../TestingError.ts"

// `mine` finds processes as Processes.ts does, by what starts with the cluster's mark. The mark travels in the environment
// and through grep's stdin, never in an argument, so that neither the shell nor grep finds itself.
// 1. Wake what was frozen: a stopped process does not see SIGQUIT before SIGCONT.
// 2. SIGQUIT to postmasters (who have the argument): the immediate shutdown, which gives the shared memory back.
// 3. SIGKILL to what is still there after two seconds; then the shared memory that a killed postmaster left is removed.
const script = String.raw`
trap '' HUP INT TERM QUIT
cat >/dev/null
patterns() { printf '%s\n' "cluster_name=$MARK/" "postgres: $MARK/"; }
mine() {
  if [ -r /proc/self/cmdline ]; then
    patterns | grep -lF -f - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3
  else
    ps -axo pid=,command= | while read -r pid command; do
      case $command in "postgres: $MARK/"*|*"cluster_name=$MARK/"*) echo "$pid" ;; esac
    done
  fi
}
every() { for pid in $(mine); do kill -"$1" "$pid" 2>/dev/null; done; }
segments=$(for file in "$ROOT"/*/data/postmaster.pid; do [ -f "$file" ] && sed -n '7s/^ *[0-9]* *//p' "$file"; done)
every CONT
every QUIT
turn=0
while [ -n "$(mine)" ]; do
  turn=$((turn + 1))
  [ "$turn" -gt 40 ] && { every KILL; every CONT; }
  [ "$turn" -gt 400 ] && break
  sleep 0.05
done
for segment in $segments; do ipcrm -m "$segment" 2>/dev/null; done
turn=0
while rm -rf "$ROOT"; [ -e "$ROOT" ]; do
  turn=$((turn + 1))
  [ "$turn" -gt 50 ] && break
  sleep 0.1
done
exit 0
`

export interface Guarded {
  /** The directory that is removed at the end. Everything of the cluster lives in it. */
  readonly root: string
  /** What the cluster_name of each server begins with, followed by a slash. */
  readonly mark: string
}

/** A directory for a cluster, guarded until the scope closes or Node ends. */
export const make = (parent = os.tmpdir()): Effect.Effect<Guarded, PgServerError, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.try({
        try: () => {
          const root = fs.mkdtempSync(path.join(fs.realpathSync(parent), "sluice-pg-"))
          // The server's user must be able to pass through; its data directories are its own.
          fs.chmodSync(root, 0o755)
          const mark = path.basename(root)
          const janitor = spawn("/bin/sh", ["-c", script, "sluice-janitor"], {
            cwd: "/",
            // A process group of its own: Ctrl-C in a terminal is for Node.
            detached: true,
            // Its few programs are everywhere in these places, whatever the PATH of a test run is.
            env: {
              PATH: `/usr/bin:/bin:/usr/sbin:/sbin:${process.env["PATH"] ?? ""}`,
              LC_ALL: "C",
              ROOT: root,
              MARK: mark
            },
            stdio: ["pipe", "ignore", "ignore"]
          })
          const ended = new Promise<void>((resolve) => {
            janitor.once("exit", () => resolve())
            janitor.once("error", () => resolve())
          })
          janitor.unref()
          // It lets Node end, and then sees the end of the pipe.
          ;(janitor.stdin as unknown as { unref: () => void }).unref()
          janitor.stdin.on("error", () => {})
          return { root, mark, janitor, ended }
        },
        catch: (error) => new PgServerError({ server: "cluster", operation: "prepare", problem: String(error) })
      }),
      ({ janitor, ended }) =>
        Effect.promise(() => {
          janitor.ref()
          janitor.stdin.end()
          return ended
        })
    ),
    ({ root, mark }) => ({ root, mark })
  )
