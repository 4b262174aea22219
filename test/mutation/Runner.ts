/** The processes that try the mutants (worker.ts): started anew when one hangs, breaks, or has run long enough. */
import { type ChildProcess, fork } from "node:child_process"
import * as path from "node:path"
import { root } from "./Sandbox.ts"

export interface Baseline {
  /** Mutants that were met while the modules were loaded. */
  readonly atLoad: ReadonlyArray<number>
  readonly tests: ReadonlyArray<{
    readonly index: number
    readonly name: string
    readonly millis: number
    readonly covers: ReadonlyArray<number>
    /** Switches that it passed. */
    readonly hits: number
    readonly problem?: string
  }>
}

export interface Ask {
  readonly mutant: number
  readonly tests: ReadonlyArray<number>
  /** Milliseconds that each of them may take. */
  readonly patience: ReadonlyArray<number>
  /** Switches that each of them may pass. */
  readonly hits: ReadonlyArray<number>
}

export interface Outcome {
  readonly mutant: number
  /** The test that noticed; absent when every test passed. */
  readonly killedBy?: number
  /** It noticed by not coming to an end. */
  readonly hung?: boolean
}

export class Worker {
  readonly #child: ChildProcess
  readonly #loaded: Promise<unknown>

  constructor(folder: string, files: ReadonlyArray<string>, mutant?: number) {
    this.#child = fork(path.join(folder, "test/mutation/worker.ts"), [], {
      cwd: folder,
      execArgv: [
        "--max-old-space-size=1500",
        "--conditions=@sluice/source",
        "--import",
        new URL(`file://${path.join(root, "node_modules/tsx/dist/loader.mjs")}`).href
      ],
      env: {
        // What two hundred random histories find of a mutant, twenty find very nearly.
        SLUICE_POOL_RUNS: "20",
        ...process.env,
        SLUICE_MUTANT_TESTS: JSON.stringify(files.map((file) => path.join(folder, file))),
        ...(mutant !== undefined && { SLUICE_MUTANT: String(mutant) })
      },
      stdio: ["ignore", "ignore", "pipe", "ipc"]
    })
    this.#child.stderr!.on("data", (bytes: Buffer) => (this.stderr = (this.stderr + bytes.toString()).slice(-4000)))
    this.#loaded = this.#answer(60_000)
    this.#loaded.catch(() => {})
  }

  stderr = ""

  #answer<A>(timeout: number): Promise<A> {
    const child = this.#child
    return new Promise<A>((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer)
        child.off("message", onMessage)
        child.off("exit", onExit)
        act()
      }
      const onMessage = (message: unknown) => settle(() => resolve(message as A))
      const onExit = () =>
        settle(() => reject(new Error(`the process ended (${child.exitCode ?? child.signalCode}): ${this.stderr}`)))
      const timer = setTimeout(() => {
        child.kill("SIGKILL")
        settle(() => reject(new Error("timeout")))
      }, timeout)
      child.once("message", onMessage)
      child.once("exit", onExit)
      if (child.exitCode !== null || child.signalCode !== null) onExit()
    })
  }

  /** Fails when the process hangs or ends instead. */
  async ask<A>(what: Ask | "baseline" | "names", timeout: number): Promise<A> {
    await this.#loaded
    const answer = this.#answer<A>(timeout)
    this.#child.send(what)
    return answer
  }

  close(): void {
    this.#child.kill("SIGKILL")
  }
}
