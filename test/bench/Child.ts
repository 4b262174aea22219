/** A process of its own for one measurement: its memory, its imports and its compiled code are nobody else's. */
import { spawn } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..")

/** Runs Node with `args` in the repository's folder and gives what it printed, as JSON. */
export const inChild = <A>(
  args: ReadonlyArray<string>,
  environment: Readonly<Record<string, string>> = {}
): Promise<A> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...args], {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: "", ...environment },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    let errors = ""
    child.stdout.on("data", (chunk) => (output += chunk))
    child.stderr.on("data", (chunk) => (errors += chunk))
    child.on("error", reject)
    child.on("close", (code) =>
      code === 0
        ? resolve(JSON.parse(output) as A)
        : reject(new Error(`a child ended with ${code}: ${errors.slice(-500)}`))
    )
  })
