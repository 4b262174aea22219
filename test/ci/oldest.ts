/** The oldest peers that the SDK allows, where they are not the installed ones, in a copy of the tracked files. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { execute } from "./Account.ts"

type Versions = Readonly<Record<string, string>>

interface Manifest {
  version: string
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}

const read = (file: string): Manifest => JSON.parse(fs.readFileSync(file, "utf8"))

/** `undefined`: they are the installed ones. */
export const oldestPeers = (): Versions | undefined => {
  const peers = Object.entries(read("packages/sdk/package.json").peerDependencies ?? {})
  const oldest = Object.fromEntries(peers.map(([name, range]) => [name, range.replace(/^\D*/, "")]))
  const isInstalled = ([name, version]: readonly [string, string]) =>
    read(`node_modules/${name}/package.json`).version === version
  return Object.entries(oldest).every(isInstalled) ? undefined : oldest
}

export const copyWith = (peers: Versions, folder: string): boolean => {
  const { stdout } = spawnSync("git", ["ls-files", "-z"], { encoding: "utf8" })
  for (const file of stdout.split("\0").filter((name) => name !== "" && fs.existsSync(name))) {
    fs.mkdirSync(path.join(folder, path.dirname(file)), { recursive: true })
    fs.copyFileSync(file, path.join(folder, file))
  }
  // It is versioned with effect.
  const versions: Versions = { ...peers, "@effect/platform-node": peers["effect"]! }
  for (const name of ["package.json", "packages/examples/package.json"]) {
    const file = path.join(folder, name)
    const manifest = read(file)
    for (const part of [manifest.dependencies ?? {}, manifest.devDependencies ?? {}]) {
      for (const key of Object.keys(part)) if (versions[key] !== undefined) part[key] = versions[key]
    }
    fs.writeFileSync(file, JSON.stringify(manifest, null, 2))
  }
  return (
    execute(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder }) === 0 &&
    execute(["npm", "ls", "effect", "@effect/sql-pg", "--depth=0"], { cwd: folder }) === 0
  )
}
