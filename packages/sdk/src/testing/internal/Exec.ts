/** Runs a program to its end. */
import * as Effect from "effect/Effect"
import { spawn, type SpawnOptions } from "node:child_process"

export interface Output {
  /** `undefined` when the program could not be started or died by a signal. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Never fails: a program that cannot be started has no `code`, and the reason in `stderr`. Killed on interruption. */
export const run = (command: string, args: ReadonlyArray<string>, options: SpawnOptions): Effect.Effect<Output> =>
  Effect.callback((resume) => {
    let stdout = ""
    let stderr = ""
    const done = (code: number | undefined) => resume(Effect.succeed({ code, stdout, stderr }))
    const failed = (error: Error) => {
      stderr += error.message
      done(undefined)
    }
    try {
      const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] })
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk))
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk))
      child.once("error", failed)
      child.once("close", (code, signal) => {
        if (signal !== null) stderr += `killed by ${signal}`
        done(code ?? undefined)
      })
      return Effect.sync(() => void child.kill("SIGKILL"))
    } catch (error) {
      // `spawn` throws what it finds at once, for instance EPERM for a uid switch.
      failed(error instanceof Error ? error : new Error(String(error)))
      return
    }
  })
