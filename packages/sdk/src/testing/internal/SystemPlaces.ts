/** Where package managers put a PostgreSQL server. */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { run } from "./Exec.ts"

const newestFirst = (directory: string, keep: (name: string) => boolean = () => true): ReadonlyArray<string> => {
  try {
    return fs
      .readdirSync(directory)
      .filter(keep)
      .sort((a, b) => b.localeCompare(a, "en", { numeric: true }))
  } catch {
    return []
  }
}

// A link in /usr/local/bin stands alone: the real directory has initdb beside the server.
const onPath = (): ReadonlyArray<string> =>
  (process.env["PATH"] ?? "").split(path.delimiter).flatMap((directory) => {
    try {
      return directory === "" ? [] : [path.dirname(fs.realpathSync(path.join(directory, "postgres")))]
    } catch {
      return []
    }
  })

/** The candidates, best first. Whether a server is really there is for the caller to try. */
export const directories: Effect.Effect<ReadonlyArray<string>> = Effect.gen(function* () {
  const config = yield* run("pg_config", ["--bindir"], {})
  const isPostgres = (name: string) => name.startsWith("postgresql")
  return [
    ...new Set([
      ...onPath(),
      ...(config.code === 0 ? [config.stdout.trim()] : []),
      ...newestFirst("/usr/lib/postgresql").map((version) => `/usr/lib/postgresql/${version}/bin`),
      ...newestFirst("/usr", (name) => name.startsWith("pgsql-")).map((name) => `/usr/${name}/bin`),
      ...newestFirst("/opt/homebrew/opt", isPostgres).map((name) => `/opt/homebrew/opt/${name}/bin`),
      ...newestFirst("/usr/local/opt", isPostgres).map((name) => `/usr/local/opt/${name}/bin`),
      ...newestFirst("/Applications/Postgres.app/Contents/Versions").map(
        (version) => `/Applications/Postgres.app/Contents/Versions/${version}/bin`
      )
    ])
  ]
})
