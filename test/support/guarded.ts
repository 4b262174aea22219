/**
 * Something that has to be undone however this process ends, SIGKILL included: a shell waits on a pipe from us, which the
 * kernel closes when we are gone, and then runs the script. A scope that closes does nothing else.
 */
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"

export const undoneBy = (script: string, env: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const guard = spawn("/bin/sh", ["-c", `trap '' HUP INT TERM\ncat >/dev/null\n${script}`], {
        cwd: "/",
        // A group of its own: Ctrl-C is for us.
        detached: true,
        env: { PATH: `/usr/bin:/bin:/usr/sbin:/sbin:${process.env["PATH"] ?? ""}`, ...env },
        stdio: ["pipe", "ignore", "ignore"]
      })
      const ended = new Promise<void>((resolve) => {
        guard.once("exit", () => resolve())
        guard.once("error", () => resolve())
      })
      guard.unref()
      ;(guard.stdin as unknown as { unref: () => void }).unref()
      guard.stdin.on("error", () => {})
      return { guard, ended }
    }),
    ({ ended, guard }) =>
      Effect.promise(() => {
        guard.ref()
        guard.stdin.end()
        return ended
      })
  )
