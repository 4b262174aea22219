/** A copy of the SDK's sources and of the unit tests in a temporary folder, in which sources can be replaced. */
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

export const root = fileURLToPath(new URL("../..", import.meta.url))
export const sdk = path.join(root, "packages/sdk/src")

export interface Sandbox {
  readonly folder: string
  /** Puts another text in place of a file of packages/sdk/src. */
  readonly replace: (file: string, text: string) => void
  readonly remove: () => void
}

/** `realVitest`: the tests run in vitest; otherwise what they import of it only collects them (shim.ts). */
export const make = (options: { readonly realVitest: boolean }): Sandbox => {
  const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "sluice-mutants-")))
  const copy = (from: string) =>
    fs.cpSync(path.join(root, from), path.join(folder, from), {
      recursive: true,
      filter: (source) => !/node_modules|[/\\]dist([/\\]|$)|\.tsbuildinfo$/.test(path.relative(root, source))
    })
  for (const each of [
    "packages/sdk",
    "packages/examples",
    "test",
    "package.json",
    "vitest.config.ts",
    "tsconfig.base.json"
  ])
    copy(each)
  const modules = path.join(folder, "node_modules")
  const installed = path.join(root, "node_modules")
  const link = (name: string) => fs.symlinkSync(path.join(installed, name), path.join(modules, name), "junction")
  fs.mkdirSync(path.join(modules, "@sluice"), { recursive: true })
  fs.mkdirSync(path.join(modules, "@effect"))
  for (const name of fs.readdirSync(installed)) {
    if (!["@sluice", "@effect", ".bin", ".vite", ".package-lock.json", ".vitest"].includes(name)) link(name)
  }
  for (const name of fs.readdirSync(path.join(installed, "@effect"))) {
    if (name !== "vitest" || options.realVitest) link(`@effect/${name}`)
  }
  for (const name of ["sdk", "examples"]) {
    fs.symlinkSync(path.join(folder, "packages", name), path.join(modules, "@sluice", name), "junction")
  }
  if (!options.realVitest) {
    // The assertions are vitest's own.
    const chai = createRequire(fs.realpathSync(path.join(installed, "vitest/package.json"))).resolve("chai")
    const shim = path.join(modules, "@effect/vitest")
    fs.mkdirSync(shim)
    fs.writeFileSync(path.join(shim, "package.json"), JSON.stringify({ type: "module", exports: "./index.mjs" }))
    fs.writeFileSync(
      path.join(shim, "index.mjs"),
      `export * from ${JSON.stringify(pathToFileURL(path.join(folder, "test/mutation/shim.ts")).href)}\n` +
        `export { assert, expect } from ${JSON.stringify(pathToFileURL(chai).href)}\n`
    )
  }
  const remove = () => fs.rmSync(folder, { recursive: true, force: true })
  process.once("exit", remove)
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))
  return {
    folder,
    replace: (file, text) => fs.writeFileSync(path.join(folder, "packages/sdk/src", file), text),
    remove
  }
}
