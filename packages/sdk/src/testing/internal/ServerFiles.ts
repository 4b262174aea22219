/** The files of a server: its directory, how its data comes to be, and what it logs. */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { type PgBinaries } from "../PgBinaries.ts"
import { type PgServer } from "../PgServer.ts"
import { PgServerError } from "../TestingError.ts"
import * as AdminClient from "./AdminClient.ts"
import { type Certificate } from "./Certificate.ts"
import { clone, copyStopped } from "./Clone.ts"
import { run } from "./Exec.ts"
import { type Guarded } from "./Janitor.ts"
import { asUser, give } from "./ServerUser.ts"
import * as Settings from "./Settings.ts"

/** What the servers of one cluster share. */
export interface Shared {
  readonly binaries: PgBinaries
  readonly guarded: Guarded
  readonly settings: Settings.Settings
  readonly password: string | undefined
  /** A data directory fresh from initdb, to be copied instead of made; `undefined` to make one. */
  readonly template: string | undefined
  /** The server's certificate, which is its own authority, and its key; `undefined` without TLS. */
  readonly certificate: Certificate | undefined
  /** Whether clients must use TLS. */
  readonly tlsRequired: boolean
}

/** The files of one server. */
export interface ServerFiles {
  readonly directory: string
  readonly dataDirectory: string
  readonly logFile: string
  /** The end of the log. */
  readonly tail: (lines: number) => string
  /** An error of this server, with the end of its log. */
  readonly error: (operation: string, problem: string, sqlState?: string) => PgServerError
  /** Work on files, whose failure is an error of this server. */
  readonly attempt: (operation: string, action: () => void) => Effect.Effect<void, PgServerError>
  /** The lines of postmaster.pid; none when the server has not run, or has ended in order. */
  readonly postmasterLines: () => ReadonlyArray<string>
  /** A data directory as initdb leaves it. */
  readonly initdb: Effect.Effect<void, PgServerError>
  /** A data directory that the server can start on: by initdb, or from the template. */
  readonly initialize: Effect.Effect<void, PgServerError>
  /** A data directory that the server can start on as a replica of `primary`. */
  readonly cloneFrom: (primary: PgServer) => Effect.Effect<void, PgServerError>
}

// PGPORT, PGDATA, PGOPTIONS and their like are meant for somebody else's server, and HOME for another user: a replica's
// libpq would look there for certificates.
export const environment = (home: string): NodeJS.ProcessEnv => {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("PG"))
  return { ...Object.fromEntries(own), HOME: home, LC_ALL: "C", TZ: "UTC" }
}

/** Where and as whom the administrator's sessions connect. */
export const addressOf = (
  shared: Shared,
  server: { readonly host: string; readonly port: number },
  database: string
): AdminClient.Address => ({
  host: server.host,
  port: server.port,
  database,
  username: "postgres",
  password: shared.password,
  ...(shared.certificate === undefined ? {} : { ssl: { ca: shared.certificate.certificate, servername: "localhost" } })
})

export const make = (name: string, shared: Shared): ServerFiles => {
  const { binaries, guarded, password, template } = shared
  const { user } = binaries
  const directory = path.join(guarded.root, name)
  const dataDirectory = path.join(directory, "data")
  const logFile = path.join(directory, "log")

  const tail = (lines: number): string => {
    try {
      return fs.readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-lines).join("\n")
    } catch {
      return ""
    }
  }
  const error = (operation: string, problem: string, sqlState?: string): PgServerError =>
    new PgServerError({
      server: name,
      operation,
      problem,
      ...(sqlState === undefined ? {} : { sqlState }),
      log: tail(15)
    })
  const attempt = (operation: string, action: () => void): Effect.Effect<void, PgServerError> =>
    Effect.try({ try: action, catch: (cause) => error(operation, String(cause)) })
  const write = (file: string, text: string): void => {
    const target = path.join(dataDirectory, file)
    fs.writeFileSync(target, text, { mode: 0o600 })
    give(target, user)
  }
  const postmasterFile = path.join(dataDirectory, "postmaster.pid")
  const postmasterLines = (): ReadonlyArray<string> => {
    try {
      return fs.readFileSync(postmasterFile, "utf8").split("\n")
    } catch {
      return []
    }
  }
  const emptyDataDirectory = Effect.gen(function* () {
    // A killed postmaster leaves a segment of shared memory, which its next start on the same data would have removed.
    const segment = /^\s*\d+\s+(\d+)/.exec(postmasterLines()[6] ?? "")?.[1]
    if (segment !== undefined) yield* run("ipcrm", ["-m", segment], {})
    yield* attempt("prepare", () => {
      fs.rmSync(dataDirectory, { recursive: true, force: true })
      fs.mkdirSync(directory, { recursive: true, mode: 0o755 })
      fs.mkdirSync(dataDirectory, { mode: 0o700 })
      give(dataDirectory, user)
    })
  })

  const initdb: Effect.Effect<void, PgServerError> = Effect.gen(function* () {
    yield* emptyDataDirectory
    const passwordFile = path.join(directory, "password")
    if (password !== undefined) {
      yield* attempt("initdb", () => {
        fs.writeFileSync(passwordFile, password, { mode: 0o600 })
        give(passwordFile, user)
      })
    }
    const auth = password === undefined ? ["-A", "trust"] : ["-A", "scram-sha-256", "--pwfile", passwordFile]
    const args = ["-D", dataDirectory, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    const output = yield* run(path.join(binaries.directory, "initdb"), [...args, ...auth], {
      ...asUser(user),
      cwd: directory,
      env: environment(directory)
    })
    if (output.code !== 0) {
      const hint = output.stderr.includes("could not look up effective user ID")
        ? " (this uid has no entry in /etc/passwd; PostgreSQL needs one)"
        : ""
      return yield* Effect.fail(error("initdb", `${output.stderr.trim()}${hint}`))
    }
    yield* attempt("initdb", () => fs.rmSync(passwordFile, { force: true }))
  })
  const copyTemplate = (template: string): Effect.Effect<void, PgServerError> =>
    Effect.andThen(
      emptyDataDirectory,
      Effect.tryPromise({
        try: () => copyStopped(template, dataDirectory, user),
        catch: (cause) => error("copy of the template", String(cause))
      })
    )
  const configure = attempt("configure", () => {
    const { certificate } = shared
    if (certificate !== undefined) {
      write("server.crt", certificate.certificate)
      write("server.key", certificate.key)
    }
    if (shared.tlsRequired) {
      const rules = path.join(dataDirectory, "pg_hba.conf")
      fs.writeFileSync(rules, fs.readFileSync(rules, "utf8").replace(/^host\b/gm, "hostssl"))
    }
    const tls: Settings.Settings = certificate === undefined ? {} : { ssl: true }
    const conf = path.join(dataDirectory, "postgresql.conf")
    fs.appendFileSync(conf, `\n${Settings.render({ ...Settings.defaults, ...tls, ...shared.settings })}`)
  })
  const initialize = Effect.andThen(template === undefined ? initdb : copyTemplate(template), configure)
  const cloneFrom: ServerFiles["cloneFrom"] = (primary) =>
    Effect.gen(function* () {
      yield* emptyDataDirectory
      yield* Effect.scoped(
        Effect.gen(function* () {
          const admin = yield* AdminClient.connect(addressOf(shared, primary, "postgres"))
          yield* clone({ session: admin, from: primary.dataDirectory, to: dataDirectory, user })
        })
      ).pipe(Effect.mapError((failure) => error(`clone of ${primary.name}`, failure.problem, failure.sqlState)))
      yield* attempt("clone", () => {
        write("standby.signal", "")
        const upstream = Settings.conninfo({
          host: primary.host,
          port: primary.port,
          user: "postgres",
          application_name: name,
          ...(password === undefined ? {} : { password })
        })
        write("postgresql.auto.conf", Settings.render({ primary_conninfo: upstream }))
      })
    })

  return { directory, dataDirectory, logFile, tail, error, attempt, postmasterLines, initdb, initialize, cloneFrom }
}
