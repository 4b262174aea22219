/** Runs one of `test/support/programs` in a Node of its own, from the sources. */
import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const here = path.dirname(fileURLToPath(import.meta.url))

export const repository = path.dirname(path.dirname(here))

export interface Run {
  readonly child: ChildProcess
  /** The first line that it prints; fails with its stderr when it ends before. */
  readonly firstLine: Promise<string>
  readonly ended: Promise<{
    readonly code: number | null
    readonly signal: NodeJS.Signals | null
    readonly stderr: string
  }>
}

export const runProgram = (name: string, args: ReadonlyArray<string> = [], options: SpawnOptions = {}): Run => {
  const tsx = import.meta.resolve("tsx")
  const file = path.join(here, "programs", `${name}.ts`)
  const child = spawn(process.execPath, ["--conditions=@sluice/source", "--import", tsx, file, ...args], {
    cwd: repository,
    ...options,
    stdio: ["ignore", "pipe", "pipe"]
  })
  let stdout = ""
  let stderr = ""
  child.stderr.on("data", (chunk) => (stderr += String(chunk)))
  const ended: Run["ended"] = new Promise((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal, stderr }))
  )
  const firstLine = new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk)
      if (stdout.includes("\n")) resolve(stdout.slice(0, stdout.indexOf("\n")))
    })
    child.once("error", reject)
    void ended.then(() => reject(new Error(`${name} ended without a word\n${stderr}`)))
  })
  firstLine.catch(() => {})
  return { child, firstLine, ended }
}

/** Somebody who is not root, for tests that run as root. */
export const nobody = { uid: 65_534, gid: 65_534 }

/**
 * Whether we are root and can run programs as nobody: Node and the sources may lie where only root can go (an npx cache,
 * a checkout under /root). An ordinary user has no need of it.
 */
export const canBeNobody =
  process.getuid?.() === 0 &&
  spawnSync(process.execPath, ["-e", "fs.readFileSync(process.argv[1])", path.join(repository, "package.json")], {
    ...nobody,
    cwd: "/"
  }).status === 0
