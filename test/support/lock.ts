/**
 * Completes package-lock.json: `npm run lock`, after every change of a dependency.
 *
 * Native tools come as one optional package per platform. Where a registry lacks some of them npm leaves them out of
 * the lock file, and `npm ci` then refuses it ("Missing: … from lock file"), here and on the platforms left out. Their
 * version is known from the package that asks for them, and their platform from their name.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

interface Entry {
  readonly version?: string
  readonly dev?: boolean
  readonly optional?: boolean
  readonly resolved?: string
  readonly optionalDependencies?: Record<string, string>
  readonly os?: ReadonlyArray<string>
  readonly cpu?: ReadonlyArray<string>
  readonly libc?: ReadonlyArray<string>
}

export interface Lock {
  packages: Record<string, Entry>
}

const systems: Record<string, string> = { windows: "win32" }
const oses = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const cpus = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"]

const platformOf = (name: string): Pick<Entry, "os" | "cpu" | "libc"> => {
  const words = name.split(/[/-]/).map((word) => systems[word] ?? word)
  const os = oses.filter((each) => words.includes(each))
  // `arm` is also written with its ABI: linux-arm-gnueabihf, linux-arm-musleabihf, android-arm-eabi.
  const cpu = cpus.filter((each) => words.includes(each))
  const libc = words.some((word) => word.startsWith("gnu"))
    ? ["glibc"]
    : words.some((word) => word.startsWith("musl"))
      ? ["musl"]
      : []
  return { ...(os.length > 0 && { os }), ...(cpu.length > 0 && { cpu }), ...(libc.length > 0 && { libc }) }
}

/** Where npm would look for `name` when the package at `from` asks for it. */
const find = (lock: Lock, from: string, name: string): string | undefined => {
  for (let at = from; ; at = at.replace(/(^|\/)node_modules\/(@[^/]+\/)?[^/]+$/, "")) {
    const place = at === "" ? `node_modules/${name}` : `${at}/node_modules/${name}`
    if (place in lock.packages) return place
    if (at === "") return undefined
  }
}

/** The optional packages that the lock file does not know, with the exact version asked for. */
export const missing = (lock: Lock) =>
  Object.entries(lock.packages).flatMap(([from, entry]) =>
    Object.entries(entry.optionalDependencies ?? {})
      .filter(([name]) => find(lock, from, name) === undefined)
      .map(([name, version]) => ({ from, name, version, dev: entry.dev === true }))
  )

const exact = /^\d+\.\d+\.\d+[\w.+-]*$/

const complete = (lock: Lock): ReadonlyArray<string> => {
  const added: Array<string> = []
  for (const { name, version, dev } of missing(lock)) {
    const platform = platformOf(name)
    if (!exact.test(version) || platform.os === undefined) {
      throw new Error(
        `${name}@${version} is not in the lock file, and neither its version nor its platform can be told`
      )
    }
    const place = `node_modules/${name}`
    if (place in lock.packages) continue
    lock.packages[place] = {
      version,
      ...(platform.cpu && { cpu: platform.cpu }),
      ...(dev && { dev }),
      ...(platform.libc && { libc: platform.libc }),
      optional: true,
      os: platform.os
    }
    added.push(`${name}@${version}`)
  }
  lock.packages = Object.fromEntries(Object.entries(lock.packages).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  return added
}

export const file = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../package-lock.json")

if (process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const lock = JSON.parse(fs.readFileSync(file, "utf8")) as Lock
  const added = complete(lock)
  fs.writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
  console.log(added.length === 0 ? "the lock file was complete" : `added ${added.join(", ")}`)
}
