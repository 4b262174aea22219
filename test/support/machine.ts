/** What a figure was measured on, for the head of every report. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..")

/** The version of an installed package. */
export const versionOf = (name: string): string => {
  const manifest = fs.readFileSync(path.join(root, "node_modules", name, "package.json"), "utf8")
  return (JSON.parse(manifest) as { readonly version: string }).version
}

/** Two lines: the machine and the versions. */
export const describe = (packages: ReadonlyArray<string>, postgres: string): string => {
  const cpus = os.cpus()
  const memory = `${Math.round(os.totalmem() / 2 ** 30)} GiB`
  const load = os
    .loadavg()
    .map((value) => value.toFixed(1))
    .join(" ")
  return [
    `${cpus[0]?.model ?? "unknown processor"}, ${cpus.length} cores, ${memory}, ${os.type()} ${os.release()}, load ${load}`,
    `${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}, PostgreSQL ${postgres}, ` +
      packages.map((name) => `${name} ${versionOf(name)}`).join(", ")
  ].join("\n")
}

/** Columns of equal width, numbers to the right. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}
