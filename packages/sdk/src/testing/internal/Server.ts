/** The one implementation of `PgServer`. Processes and files; `PgServer.ts` says what each operation means. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { spawn, type ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { type PgBinaries } from "../PgBinaries.ts"
import { type PgServer, type PgSession, type StopMode } from "../PgServer.ts"
import { PgServerError } from "../TestingError.ts"
import * as AdminClient from "./AdminClient.ts"
import { type Certificate } from "./Certificate.ts"
import { clone, copyStopped } from "./Clone.ts"
import { run } from "./Exec.ts"
import { type Guarded } from "./Janitor.ts"
import * as Ports from "./Ports.ts"
import * as Processes from "./Processes.ts"
import { poll, sleep } from "./RealTime.ts"
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

/** A server, and how its data directory comes to be. `initialize` or `cloneFrom` comes before `start`. */
export interface Server extends PgServer {
  /** A data directory as initdb leaves it. */
  readonly initdb: Effect.Effect<void, PgServerError>
  /** A data directory that the server can start on: by initdb, or from the template. */
  readonly initialize: Effect.Effect<void, PgServerError>
  readonly cloneFrom: (primary: PgServer) => Effect.Effect<void, PgServerError>
}

const signals = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const
const startTimeoutMillis = 60_000
const replayTimeoutMillis = 60_000

// PGPORT, PGDATA, PGOPTIONS and their like are meant for somebody else's server, and HOME for another user: a replica's
// libpq would look there for certificates.
const environment = (home: string): NodeJS.ProcessEnv => {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("PG"))
  return { ...Object.fromEntries(own), HOME: home, LC_ALL: "C", TZ: "UTC" }
}

export const make = (name: string, shared: Shared): Effect.Effect<Server> =>
  Effect.gen(function* () {
    const { binaries, guarded, password } = shared
    const { user } = binaries
    const id = `${guarded.mark}/${name}`
    const directory = path.join(guarded.root, name)
    const dataDirectory = path.join(directory, "data")
    const logFile = path.join(directory, "log")
    const host = Ports.host
    let port = yield* Ports.free
    let everStarted = false
    let running: { readonly process: ChildProcess; readonly exited: Promise<void> } | undefined
    // One operation at a time on the process; `kill`, `freeze` and `thaw` may come in between, as in life.
    const lock = Semaphore.makeUnsafe(1)

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
    const files = (operation: string, action: () => void): Effect.Effect<void, PgServerError> =>
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
      yield* files("prepare", () => {
        fs.rmSync(dataDirectory, { recursive: true, force: true })
        fs.mkdirSync(directory, { recursive: true, mode: 0o755 })
        fs.mkdirSync(dataDirectory, { mode: 0o700 })
        give(dataDirectory, user)
      })
    })

    // --- talking to it

    const urlOf = (database: string): string => {
      const credentials = password === undefined ? "postgres" : `postgres:${encodeURIComponent(password)}`
      return `postgres://${credentials}@${host}:${port}/${encodeURIComponent(database)}`
    }
    const addressOf = (server: { readonly host: string; readonly port: number }, database: string) => ({
      host: server.host,
      port: server.port,
      database,
      username: "postgres",
      password,
      ...(shared.certificate === undefined
        ? {}
        : { ssl: { ca: shared.certificate.certificate, servername: "localhost" } })
    })
    const session: PgServer["session"] = (options) =>
      Effect.map(
        Effect.mapError(AdminClient.connect(addressOf({ host, port }, options?.database ?? "postgres")), (failure) =>
          error("connect", failure.problem, failure.sqlState)
        ),
        (admin): PgSession => ({
          pid: admin.pid,
          query: (sql, params) =>
            Effect.mapError(admin.query(sql, params), (failure) => error("query", failure.problem, failure.sqlState))
        })
      )
    const query: PgServer["query"] = (sql, params, options) =>
      Effect.scoped(Effect.flatMap(session(options), (one) => one.query(sql, params)))

    // --- its process

    const spawnPostgres = (): void => {
      // A file, never a pipe: the server must not wait for a reader.
      const log = fs.openSync(logFile, "a", 0o644)
      const args = ["-D", dataDirectory, "-p", String(port), "-c", `cluster_name=${id}`]
      const child = spawn(path.join(binaries.directory, "postgres"), args, {
        ...asUser(user),
        cwd: dataDirectory,
        env: environment(directory),
        // Ctrl-C in a terminal is for Node, which then decides.
        detached: true,
        stdio: ["ignore", log, log]
      })
      fs.closeSync(log)
      // Node may end while the server runs: the janitor sees to it.
      child.unref()
      const exited = new Promise<void>((resolve) => {
        const gone = () => {
          if (running?.process === child) running = undefined
          resolve()
        }
        child.once("exit", gone)
        child.once("error", gone)
      })
      running = { process: child, exited }
    }
    const exit = (one: NonNullable<typeof running>): Effect.Effect<void> =>
      Effect.suspend(() => {
        one.process.ref()
        return Effect.promise(() => one.exited)
      })

    // Line 8 of postmaster.pid, which `pg_ctl --wait` reads too.
    const readiness = (pid: number | undefined): boolean => {
      const lines = postmasterLines()
      return Number(lines[0]) === pid && /^(ready|standby)/.test(lines[7] ?? "")
    }
    const startOnce: Effect.Effect<"ready" | "exited" | undefined, PgServerError> = Effect.gen(function* () {
      yield* files("start", () => {
        // Orphans of a postmaster that somebody else killed hold its shared memory.
        Processes.signalAll(id, "SIGKILL")
        spawnPostgres()
      })
      return yield* poll(
        Effect.sync(() => {
          if (running === undefined) return "exited" as const
          return readiness(running.process.pid) ? ("ready" as const) : undefined
        }),
        { everyMillis: 5, timeoutMillis: startTimeoutMillis }
      )
    })
    const startNow: Effect.Effect<void, PgServerError> = Effect.gen(function* () {
      if (running !== undefined) return
      for (let turn = 1; ; turn++) {
        const outcome = yield* startOnce
        if (outcome === "ready") {
          everStarted = true
          return
        }
        if (outcome === undefined) return yield* Effect.fail(error("start", "not ready within a minute"))
        const lastWords = tail(5)
        const portTaken = lastWords.includes("could not create any TCP/IP sockets")
        const memoryHeld = lastWords.includes("shared memory block")
        if (!(portTaken || memoryHeld) || turn >= 10)
          return yield* Effect.fail(error("start", "postgres ended at its start"))
        // Somebody was quicker on a port that nobody knows yet: take another. A known one is waited for.
        if (portTaken && !everStarted) port = yield* Ports.free
        else yield* sleep(200)
      }
    })
    const thawNow = Effect.sync(() => Processes.signalAll(id, "SIGCONT"))
    const stopNow = (mode: StopMode): Effect.Effect<void, PgServerError> =>
      Effect.suspend(() => {
        const one = running
        if (one === undefined) return Effect.void
        one.process.kill(signals[mode])
        return Effect.andThen(thawNow, exit(one))
      })
    const kill: Effect.Effect<void> = Effect.suspend(() => {
      const one = running
      // The postmaster first, lest it answers the death of a child with an orderly restart.
      Processes.signalAll(id, "SIGKILL", one?.process.pid)
      const gone = poll(
        Effect.sync(() => (Processes.list(id).length === 0 ? true : undefined)),
        { everyMillis: 5, timeoutMillis: 5000 }
      )
      return one === undefined ? Effect.asVoid(gone) : Effect.andThen(exit(one), gone).pipe(Effect.asVoid)
    })

    // --- its data

    const initdb: Effect.Effect<void, PgServerError> = Effect.gen(function* () {
      yield* emptyDataDirectory
      const passwordFile = path.join(directory, "password")
      if (password !== undefined) {
        yield* files("initdb", () => {
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
      yield* files("initdb", () => fs.rmSync(passwordFile, { force: true }))
    })
    const copyTemplate = (template: string): Effect.Effect<void, PgServerError> =>
      Effect.andThen(
        emptyDataDirectory,
        Effect.tryPromise({
          try: () => copyStopped(template, dataDirectory, user),
          catch: (cause) => error("copy of the template", String(cause))
        })
      )
    const configure = files("configure", () => {
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
    const { template } = shared
    const initialize = Effect.andThen(template === undefined ? initdb : copyTemplate(template), configure)
    const cloneFrom: Server["cloneFrom"] = (primary) =>
      Effect.gen(function* () {
        yield* emptyDataDirectory
        yield* Effect.scoped(
          Effect.gen(function* () {
            const admin = yield* AdminClient.connect(addressOf(primary, "postgres"))
            yield* clone({ session: admin, from: primary.dataDirectory, to: dataDirectory, user })
          })
        ).pipe(Effect.mapError((failure) => error(`clone of ${primary.name}`, failure.problem, failure.sqlState)))
        yield* files("clone", () => {
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
    const waitForReplay: PgServer["waitForReplay"] = (primary) =>
      Effect.scoped(
        Effect.gen(function* () {
          const [written] = yield* primary.query("select pg_current_wal_lsn()::text as lsn")
          const lsn = String(written?.["lsn"])
          const replica = yield* session()
          const sql = "select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false) as there"
          const there = yield* poll(
            Effect.map(replica.query(sql, [lsn]), ([row]) => (row?.["there"] === true ? true : undefined)),
            { everyMillis: 5, timeoutMillis: replayTimeoutMillis }
          )
          if (there === undefined)
            return yield* Effect.fail(error("waitForReplay", `${lsn} not replayed within a minute`))
        })
      )
    const promote: Effect.Effect<void, PgServerError> = Effect.scoped(
      Effect.gen(function* () {
        const admin = yield* session()
        yield* admin.query("select pg_promote(true, 60)")
        const done = yield* poll(
          // Not the timeline: the control file still names the old one for a while.
          Effect.map(admin.query("select pg_is_in_recovery() as standby"), ([row]) =>
            row?.["standby"] === false ? true : undefined
          ),
          { everyMillis: 10, timeoutMillis: 60_000 }
        )
        if (done === undefined) return yield* Effect.fail(error("promote", "still in recovery after a minute"))
      })
    )

    const locked = lock.withPermits(1)
    const server: Server = {
      name,
      host,
      dataDirectory,
      get port() {
        return port
      },
      get url() {
        return urlOf("postgres")
      },
      urlOf,
      pid: Effect.sync(() => running?.process.pid),
      start: locked(startNow),
      stop: (mode = "fast") => locked(stopNow(mode)),
      restart: (mode = "fast") => locked(Effect.andThen(stopNow(mode), startNow)),
      kill,
      killBackend: (pid) =>
        Effect.suspend(() => {
          if (pid === running?.process.pid || !Processes.list(id).includes(pid)) {
            return Effect.fail(error("killBackend", `${pid} is not a backend of this server`))
          }
          Processes.signal(pid, "SIGKILL")
          return Effect.asVoid(
            poll(
              Effect.sync(() => (Processes.list(id).includes(pid) ? undefined : true)),
              { everyMillis: 5, timeoutMillis: 5000 }
            )
          )
        }),
      freeze: Effect.sync(() => Processes.signalAll(id, "SIGSTOP", running?.process.pid)),
      thaw: thawNow,
      promote,
      rejoin: (primary) =>
        primary.name === name
          ? Effect.fail(error("rejoin", "a server cannot follow itself"))
          : locked(stopNow("immediate").pipe(Effect.andThen(cloneFrom(primary)), Effect.andThen(startNow))),
      waitForReplay,
      query,
      session,
      log: (lines = 40) => Effect.sync(() => tail(lines)),
      initdb,
      initialize,
      cloneFrom
    }
    return server
  })
