/**
 * A real PostgreSQL with streaming replicas, thrown away when its scope closes.
 *
 * For the tests of your own reports: what do they do while the primary is killed, frozen, restarted, promoted? Nothing
 * has to be installed (see `PgBinaries`), root and ordinary users both work, and nothing survives: when the scope closes,
 * or Node ends by a throw, SIGINT, SIGTERM or SIGKILL, every process is ended and every file removed.
 *
 * A primary costs about a second, each replica half of one. Waiting is in real time, also under `TestClock`; for tests
 * that sleep themselves use `layer(PgCluster.layer(), { excludeTestServices: true })`. Linux and macOS.
 *
 * @example
 * ```ts
 * import { assert, layer } from "@effect/vitest"
 * import * as Effect from "effect/Effect"
 * import { PgCluster } from "@sluice/sdk/testing"
 *
 * layer(PgCluster.layer({ replicas: 1 }), { excludeTestServices: true })("stoppage", (it) => {
 *   it.effect("answers while the primary is away", () =>
 *     Effect.gen(function* () {
 *       const { primary, replica } = yield* PgCluster.PgCluster
 *       yield* primary.query("create table stops (id int)")
 *       yield* replica.waitForReplay(primary)
 *       yield* primary.kill
 *       assert.deepStrictEqual(yield* replica.query("select * from stops"), [])
 *       yield* primary.start
 *     }))
 * })
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { refuse, tableOf } from "../options/Field.ts"
import * as Fields from "../options/testing.ts"
import * as Certificate from "./internal/Certificate.ts"
import * as Janitor from "./internal/Janitor.ts"
import { poll } from "./internal/RealTime.ts"
import * as Server from "./internal/Server.ts"
import type * as ServerFiles from "./internal/ServerFiles.ts"
import * as PgBinaries from "./PgBinaries.ts"
import { type PgServer } from "./PgServer.ts"
import { PgServerError, type PostgresNotFound } from "./TestingError.ts"

export { PgServerError, PostgresNotFound } from "./TestingError.ts"

export interface Options {
  /** Streaming replicas of the primary, asynchronous. Default 0. */
  readonly replicas?: number | undefined
  /**
   * Lines of `postgresql.conf` for every server, over the defaults of a throw-away server (`fsync = off`,
   * `max_connections = 200`, `shared_buffers = 64MB`, `wal_level = replica`).
   */
  readonly settings?: Readonly<Record<string, string | number | boolean>> | undefined
  /** How clients are let in: anybody from this machine, or by password. Default `trust`. */
  readonly auth?: "trust" | "scram-sha-256" | undefined
  /**
   * The password of `postgres` with `scram-sha-256`. Default: a random one, which the URLs carry. Leave it alone while the
   * cluster lives: the cluster's own statements need it. Rotate the password of a role that you create.
   */
  readonly password?: string | undefined
  /**
   * TLS with a certificate made for the occasion, for `localhost` and 127.0.0.1: offered, or `"required"` of every
   * client. Clients trust it by `ssl: { ca: cluster.certificate }`. Default false.
   */
  readonly tls?: boolean | "required" | undefined
  /** The server to use. Default: what `PgBinaries.find()` finds. */
  readonly binaries?: PgBinaries.PgBinaries | undefined
  /**
   * A directory made by `template`, copied instead of running initdb, which takes a second or more. Default: the
   * environment's `SLUICE_PG_TEMPLATE`. Not used with `scram-sha-256`, nor when it is of another major version.
   */
  readonly template?: string | undefined
  /** Where the data is put. Default: the system's directory for temporary files. */
  readonly directory?: string | undefined
}

const known = tableOf<Options>()(Fields.cluster)
const templateFields = tableOf<Pick<Options, "binaries" | "directory">>()(Fields.template)

/** A database of one's own in the cluster, dropped when the scope closes. */
export interface PgDatabase {
  readonly name: string
  /** On the primary. */
  readonly url: string
  /** On one of the servers. */
  readonly urlOn: (server: PgServer) => string
}

/** The servers of a cluster. */
export interface Cluster {
  /** The server that was made as primary. After a failover it may no longer be one. */
  readonly primary: PgServer
  readonly replicas: ReadonlyArray<PgServer>
  /** The first replica; asking for it when the cluster has none is a defect. */
  readonly replica: PgServer
  /** The primary, then the replicas. */
  readonly servers: ReadonlyArray<PgServer>
  readonly binaries: PgBinaries.PgBinaries
  /** The certificate, in PEM, for a client's `ca`; `undefined` without TLS. */
  readonly certificate: string | undefined
  /** Makes a database with a name of its own, and waits until every running replica has it. */
  readonly createDatabase: (prefix?: string) => Effect.Effect<PgDatabase, PgServerError, Scope.Scope>
}

/** The cluster as a service. */
export class PgCluster extends Context.Service<PgCluster, Cluster>()("@sluice/sdk/testing/PgCluster") {}

const streaming = (primary: PgServer, replica: PgServer): Effect.Effect<void, PgServerError> =>
  Effect.gen(function* () {
    const sql = "select 1 from pg_stat_replication where application_name = $1 and state = 'streaming'"
    const there = yield* poll(
      Effect.map(primary.query(sql, [replica.name]), (rows) => (rows.length > 0 ? true : undefined)),
      { everyMillis: 10, timeoutMillis: 30_000 }
    )
    if (there === undefined) {
      const log = yield* replica.log(15)
      return yield* new PgServerError({ server: replica.name, operation: "start", problem: "does not stream", log })
    }
  })

const databases =
  (primary: PgServer, replicas: ReadonlyArray<PgServer>): Cluster["createDatabase"] =>
  (prefix = "test") =>
    Effect.gen(function* () {
      const name = `${prefix
        .toLowerCase()
        .replace(/[^a-z0-9_]/g, "_")
        .slice(0, 40)}_${randomBytes(6).toString("hex")}`
      yield* Effect.acquireRelease(primary.query(`create database ${name}`), () =>
        // The primary may be down or demoted by now; then the database goes with the cluster.
        Effect.ignore(primary.query(`drop database if exists ${name} with (force)`))
      )
      yield* Effect.forEach(replicas, (replica) =>
        Effect.flatMap(replica.pid, (pid) => (pid === undefined ? Effect.void : replica.waitForReplay(primary)))
      )
      return { name, url: primary.urlOf(name), urlOn: (server) => server.urlOf(name) }
    })

/** What the servers of one cluster share: the programs, a guarded directory, and how the data begins. */
const prepare = (options: Options | undefined) =>
  Effect.gen(function* () {
    const binaries = options?.binaries ?? (yield* PgBinaries.find())
    const guarded = yield* Janitor.make(options?.directory)
    const password =
      options?.auth === "scram-sha-256" ? (options.password ?? randomBytes(12).toString("hex")) : undefined
    const template = options?.template ?? process.env["SLUICE_PG_TEMPLATE"]
    const shared: ServerFiles.Shared = {
      binaries,
      guarded,
      settings: options?.settings ?? {},
      password,
      template: template !== undefined && password === undefined && fits(template, binaries) ? template : undefined,
      certificate: options?.tls === undefined || options.tls === false ? undefined : Certificate.make(),
      tlsRequired: options?.tls === "required"
    }
    return shared
  })

const fits = (template: string, binaries: PgBinaries.PgBinaries): boolean => {
  try {
    return Number(fs.readFileSync(path.join(template, "PG_VERSION"), "utf8")) === binaries.major
  } catch {
    return false
  }
}

/**
 * Runs initdb once and gives the directory, for the `template` of many clusters; removed when the scope closes. A test
 * run's global setup does this and sets `SLUICE_PG_TEMPLATE`, so that each cluster of the run starts in a fraction of the
 * time.
 */
export const template = (
  options?: Pick<Options, "binaries" | "directory">
): Effect.Effect<string, PostgresNotFound | PgServerError, Scope.Scope> =>
  Effect.gen(function* () {
    refuse("PgCluster.template", templateFields, options ?? {})
    const server = yield* Server.make("template", yield* prepare(options))
    yield* server.initdb
    return server.dataDirectory
  })

/** Starts a cluster. It is gone, processes and files, when the scope closes or Node ends. */
export const make = (options?: Options): Effect.Effect<Cluster, PostgresNotFound | PgServerError, Scope.Scope> =>
  Effect.gen(function* () {
    refuse("PgCluster.make", known, options ?? {})
    const shared = yield* prepare(options)
    const { binaries } = shared
    const primary = yield* Server.make("primary", shared)
    yield* primary.initialize
    yield* primary.start
    const numbers = Array.from({ length: options?.replicas ?? 0 }, (_, index) => index + 1)
    const replicas = yield* Effect.forEach(numbers, (number) =>
      Effect.gen(function* () {
        const replica = yield* Server.make(`replica-${number}`, shared)
        yield* replica.cloneFrom(primary)
        yield* replica.start
        yield* streaming(primary, replica)
        return replica
      })
    )
    return {
      primary,
      replicas,
      get replica() {
        const [first] = replicas
        if (first === undefined)
          throw new Error("this cluster was made without replicas: PgCluster.make({ replicas: 1 })")
        return first
      },
      servers: [primary, ...replicas],
      binaries,
      certificate: shared.certificate?.certificate,
      createDatabase: databases(primary, replicas)
    }
  })

/** A cluster as a layer: made once for a block of tests, gone after the last of them. */
export const layer = (options?: Options): Layer.Layer<PgCluster, PostgresNotFound | PgServerError> =>
  Layer.effect(PgCluster, make(options))
