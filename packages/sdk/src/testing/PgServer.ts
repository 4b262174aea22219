/**
 * One PostgreSQL server of a `PgCluster`: what it can be told, and what can be done to it.
 *
 * Waiting in here is in real time, also under `TestClock`: a server does not follow a test's clock.
 *
 * What takes nothing is an Effect (`yield* primary.kill`), what may take something a function (`yield* primary.stop()`).
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { PgCluster } from "@sluice/sdk/testing"
 *
 * const failover = Effect.gen(function* () {
 *   const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
 *   yield* primary.query("create table stops (id int)")
 *   yield* replica.waitForReplay(primary)
 *   yield* primary.kill                          // as a container that is killed
 *   yield* replica.promote
 *   yield* replica.query("insert into stops values (1)")
 *   yield* primary.rejoin(replica)               // the old primary comes back, as a replica of the new one
 * })
 *
 * const mistreated = Effect.gen(function* () {
 *   const { primary } = yield* PgCluster.make()
 *   yield* primary.freeze                        // connects are accepted, nothing answers
 *   yield* primary.thaw
 *   yield* primary.stop("immediate")             // the next start recovers
 *   yield* primary.start
 *   yield* primary.restart()
 *   const { pid, query } = yield* primary.session({ database: "postgres" })
 *   yield* query("begin")                        // holds what it locks until it is closed, or killed
 *   yield* primary.killBackend(pid)
 *   const alive = (yield* primary.pid) !== undefined
 *   return { alive, url: primary.urlOf("fleet"), log: yield* primary.log(5) }
 * })
 * ```
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type PgServerError } from "./TestingError.ts"

export { PgServerError } from "./TestingError.ts"

/**
 * How a server is stopped. `smart` waits until the clients have left, `fast` ends their sessions (57P01), `immediate`
 * ends them without a checkpoint, so that the next start recovers as after a crash (57P02).
 */
export type StopMode = "smart" | "fast" | "immediate"

/** A row as the driver gives it. */
export interface Row {
  readonly [column: string]: unknown
}

/** One administrator's session: its statements run in order on one backend. */
export interface PgSession {
  /** The pid of the backend. */
  readonly pid: number
  readonly query: (sql: string, params?: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<Row>, PgServerError>
}

/** A running, stopped or mistreated server. */
export interface PgServer {
  /** `primary`, `replica-1`, `replica-2`, ...: what it was made as, whatever it is by now. */
  readonly name: string
  /** Always `127.0.0.1`. */
  readonly host: string
  /** Kept over restarts and `rejoin`. */
  readonly port: number
  /** The superuser's URL of the database `postgres`, with the password where there is one. */
  readonly url: string
  /** The superuser's URL of another database. */
  readonly urlOf: (database: string) => string
  /** The data directory. */
  readonly dataDirectory: string

  /** The pid of the postmaster; `undefined` when it does not run. It changes at each start. */
  readonly pid: Effect.Effect<number | undefined>
  /** Starts it and waits until it accepts sessions. Does nothing when it runs. Recovers first, after a crash. */
  readonly start: Effect.Effect<void, PgServerError>
  /** Stops it and waits until it is gone. Default `fast`. A frozen server is thawed. */
  readonly stop: (mode?: StopMode) => Effect.Effect<void, PgServerError>
  /** Stops and starts. */
  readonly restart: (mode?: StopMode) => Effect.Effect<void, PgServerError>
  /**
   * SIGKILL to the postmaster and then to its children, as when a container is killed: no shutdown, no goodbye to the
   * clients, whose sockets the kernel closes. `start` recovers.
   */
  readonly kill: Effect.Effect<void>
  /** SIGKILL to one backend. PostgreSQL then ends every session (57P02) and recovers by itself. */
  readonly killBackend: (pid: number) => Effect.Effect<void, PgServerError>
  /**
   * SIGSTOP to the postmaster and all its children: sockets stay open, connects are accepted by the kernel, nothing
   * answers. As a machine that is out of breath.
   */
  readonly freeze: Effect.Effect<void>
  /** SIGCONT to all: what was asked meanwhile is answered now. */
  readonly thaw: Effect.Effect<void>

  /** Makes a replica a primary and waits until it is one (`pg_is_in_recovery()` is false). */
  readonly promote: Effect.Effect<void, PgServerError>
  /**
   * Throws this server's data away and makes it a streaming replica of `primary`, on its old port: how a former primary
   * comes back after a failover.
   */
  readonly rejoin: (primary: PgServer) => Effect.Effect<void, PgServerError>
  /** Waits until this replica has replayed all that `primary` has written up to now. At most a minute. */
  readonly waitForReplay: (primary: PgServer) => Effect.Effect<void, PgServerError>

  /** Runs one statement as the superuser, in a session of its own. At most a minute. Cast LSNs to text. */
  readonly query: (
    sql: string,
    params?: ReadonlyArray<unknown>,
    options?: { readonly database?: string | undefined }
  ) => Effect.Effect<ReadonlyArray<Row>, PgServerError>
  /** A superuser's session until the scope closes: for locks, open transactions, settings. */
  readonly session: (options?: {
    readonly database?: string | undefined
  }) => Effect.Effect<PgSession, PgServerError, Scope.Scope>
  /** The last lines of the server's log. Default 40. */
  readonly log: (lines?: number) => Effect.Effect<string>
}
