/** The one implementation of `PgServer`: its process and its sessions, over its files. `PgServer.ts` says what each operation means. */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { spawn, type ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { type PgServer, type PgSession, type StopMode } from "../PgServer.ts"
import { type PgServerError } from "../TestingError.ts"
import { readOf } from "../../options/Field.ts"
import { connection } from "../../options/testing.ts"
import * as AdminClient from "./AdminClient.ts"
import * as Ports from "./Ports.ts"
import * as Processes from "./Processes.ts"
import { poll, sleep } from "./RealTime.ts"
import * as ServerFiles from "./ServerFiles.ts"
import { asUser } from "./ServerUser.ts"

/** A server, and how its data directory comes to be. `initialize` or `cloneFrom` comes before `start`. */
export interface Server extends PgServer, Pick<ServerFiles.ServerFiles, "initdb" | "initialize" | "cloneFrom"> {}

const signals = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const
const startTimeoutMillis = 60_000
const replayTimeoutMillis = 60_000

export const make = (name: string, shared: ServerFiles.Shared): Effect.Effect<Server> =>
  Effect.gen(function* () {
    const { binaries, guarded, password } = shared
    const { user } = binaries
    const id = `${guarded.mark}/${name}`
    const files = ServerFiles.make(name, shared)
    const { dataDirectory, error, tail } = files
    const host = Ports.host
    let port = yield* Ports.free
    let everStarted = false
    let running: { readonly process: ChildProcess; readonly exited: Promise<void> } | undefined
    // One operation at a time on the process; `kill`, `freeze` and `thaw` may come in between, as in life.
    const lock = Semaphore.makeUnsafe(1)

    // --- talking to it

    const urlOf = (database: string): string => {
      const credentials = password === undefined ? "postgres" : `postgres:${encodeURIComponent(password)}`
      return `postgres://${credentials}@${host}:${port}/${encodeURIComponent(database)}`
    }
    const session: PgServer["session"] = (options = {}) =>
      Effect.map(
        Effect.mapError(
          Effect.suspend(() => {
            const { database } = readOf("PgServer", connection, options)
            return AdminClient.connect(ServerFiles.addressOf(shared, { host, port }, database))
          }),
          (failure) => error("connect", failure.problem, failure.sqlState)
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
      const log = fs.openSync(files.logFile, "a", 0o644)
      const args = ["-D", dataDirectory, "-p", String(port), "-c", `cluster_name=${id}`]
      const child = spawn(path.join(binaries.directory, "postgres"), args, {
        ...asUser(user),
        cwd: dataDirectory,
        env: ServerFiles.environment(files.directory),
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
      const lines = files.postmasterLines()
      return Number(lines[0]) === pid && /^(ready|standby)/.test(lines[7] ?? "")
    }
    const startOnce: Effect.Effect<"ready" | "exited" | undefined, PgServerError> = Effect.gen(function* () {
      yield* files.attempt("start", () => {
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

    // --- its part in replication

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
          : locked(stopNow("immediate").pipe(Effect.andThen(files.cloneFrom(primary)), Effect.andThen(startNow))),
      waitForReplay,
      query,
      session,
      log: (lines = 40) => Effect.sync(() => tail(lines)),
      initdb: files.initdb,
      initialize: files.initialize,
      cloneFrom: files.cloneFrom
    }
    return server
  })
