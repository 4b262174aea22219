/** Programs that only some tests need. Those tests say that they are skipped, and why, where one is missing. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"

/** Each with Debian's packages that bring it. */
const programs: Readonly<Record<string, ReadonlyArray<string>>> = {
  pgbouncer: ["pgbouncer"],
  haproxy: ["haproxy"],
  patroni: ["patroni", "python3-etcd"],
  etcd: ["etcd-server"]
}

const isThere = (program: string) =>
  (process.env["PATH"] ?? "").split(path.delimiter).some((folder) => fs.existsSync(path.join(folder, program)))

/** Patroni knows the system's servers only. */
const hasSystemServer = () => {
  const root = "/usr/lib/postgresql"
  return fs.existsSync(root) && fs.readdirSync(root).some((version) => fs.existsSync(`${root}/${version}/bin/postgres`))
}

/** A PATH on which each of them fails, as a missing one does. */
export const withoutExtras = (folder: string): string => {
  fs.mkdirSync(folder)
  for (const program of Object.keys(programs)) {
    fs.writeFileSync(path.join(folder, program), "#!/bin/sh\nexit 127\n", { mode: 0o755 })
  }
  return `${folder}${path.delimiter}${process.env["PATH"] ?? ""}`
}

/** Installs what is missing where that can be done, and says what came of it. */
export const installExtras = (): string => {
  const missing = Object.entries(programs).flatMap(([program, packages]) => (isThere(program) ? [] : packages))
  if (!hasSystemServer()) missing.push("postgresql")
  if (missing.length === 0) return "every program that a test needs is there"
  if (process.getuid?.() !== 0 || !isThere("apt-get")) {
    return `not installed: ${missing.join(" ")} (needs root and apt-get)`
  }
  // RUNLEVEL=1: the packages do not start their services.
  const env = { ...process.env, RUNLEVEL: "1", DEBIAN_FRONTEND: "noninteractive" }
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", ...missing]]) {
    const { error, status, stderr } = spawnSync("apt-get", ["-qq", ...args], { encoding: "utf8", env })
    if (status !== 0) return `not installed: ${missing.join(" ")} (apt-get: ${(error?.message ?? stderr).trim()})`
  }
  return `installed: ${missing.join(" ")}`
}
