/**
 * One PostgreSQL server as this process sees it: an address and the pool of sessions to it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { Resolved } from "../DatabaseOptions.ts"
import * as PgFailure from "../PgFailure.ts"
import { Session, type SessionConfig } from "../pool/Session.ts"
import * as SessionPool from "../pool/SessionPool.ts"
import * as SharedLane from "../pool/SharedLane.ts"
import { type DatabaseUnavailable, InvalidConfiguration, type LastError } from "../ReportError.ts"
import { problemOf } from "../internal/problems.ts"
import * as PoolMetrics from "./PoolMetrics.ts"

/** A server and the way to it. */
export interface Node {
  /** `host:port`. */
  readonly name: string
  readonly pool: SessionPool.SessionPool<Session>
  /** Lends a session for one statement that only reads: as `pool.use`, or shared with others where the lane says so. */
  readonly read: SessionPool.SessionPool<Session>["use"]
  readonly zone: string | undefined
  /** Callers that wait or hold a session. */
  readonly outstanding: () => number
  /** A caller would get a session without waiting. */
  readonly canServeNow: () => boolean
  /** Opens the sessions that the options ask for; until then there are none but those that are used. */
  readonly warm: Effect.Effect<void>
}

/** What a node tells those who watch it. */
export interface Watch {
  /** A session was lost or could not be opened (`refusal` says why): it is worth looking. */
  readonly onTrouble: (refusal?: LastError) => void
}

const sessionConfig = (
  options: Resolved,
  address: Resolved["hosts"][number],
  applicationName: string
): SessionConfig => ({
  host: address.host,
  port: address.port,
  database: options.name,
  username: options.user,
  password: options.password,
  applicationName: options.applicationName ?? applicationName,
  sslmode: options.sslmode,
  ssl:
    options.tls === undefined
      ? undefined
      : {
          ca: options.tls.ca,
          cert: options.tls.cert,
          key: options.tls.key === undefined ? undefined : Redacted.value(options.tls.key),
          servername: options.tls.servername
        },
  connectTimeout: options.connectTimeout,
  statementTimeout: options.statementTimeout,
  // A transaction whose owner is gone must not hold its locks: the server ends it (slonik's 60 seconds).
  idleInTransactionTimeout: 60_000,
  pooler: options.pooler === "transaction" ? "transaction" : undefined
})

const classifyConnect =
  (overrides: PgFailure.Overrides) =>
  (error: SqlError): "transient" | "permanent" | "password" => {
    const failure = PgFailure.fromSqlError(error, { phase: "connect" }, overrides)
    if (failure.class === "Authentication") return failure.sqlState === "28P01" ? "password" : "permanent"
    return failure.retry === "never" ? "permanent" : "transient"
  }

const describeError =
  (overrides: PgFailure.Overrides) =>
  (error: SqlError): LastError => {
    const failure = PgFailure.fromSqlError(error, undefined, overrides)
    return {
      tag: failure.class,
      message: problemOf(failure.class),
      ...(failure.sqlState === undefined ? undefined : { sqlState: failure.sqlState })
    }
  }

/** A shared session that has not answered for this long gets no more statements. */
const slowMillis = 20

/** A shared session is given back after this long, so that lifetimes and evictions reach it. */
const holdMillis = 60_000

/** Makes the node and its pool; they live as long as the scope. */
export const make = Effect.fnUntraced(function* (
  role: string,
  options: Resolved,
  address: Resolved["hosts"][number] = options.hosts[0]!,
  watch?: Watch
): Effect.fn.Return<Node, DatabaseUnavailable | InvalidConfiguration, Scope.Scope> {
  const name = `${address.host}:${address.port}`
  const poolName = `${role}@${name}`
  const overrides = yield* PgFailure.CurrentOverrides
  const config = sessionConfig(options, address, role)
  const pool = yield* SessionPool.make<Session>({
    name: poolName,
    connect: Session.connect(config),
    classifyConnect: classifyConnect(overrides),
    describeError: describeError(overrides),
    // A password that is an Effect is asked again by the next attempt: one more, at once, for one that has just rotated.
    refreshPassword: Effect.isEffect(options.password) ? Effect.void : undefined,
    // A node that nobody uses yet has no sessions but the one it is watched through.
    min: watch === undefined ? options.minConnections : 0,
    max: options.maxConnections,
    maxWaiting: options.maxWaiting,
    acquireTimeout: options.connectionTimeout,
    idleTimeout: options.idleTimeout,
    maxLifetime: options.maxLifetime,
    lanes: options.lanes,
    boot: { mode: watch === undefined ? options.boot : "lazy" },
    leakDetection: options.leakDetection,
    listener: watched(PoolMetrics.listener(poolName, yield* Effect.context()), watch)
  }).pipe(
    Effect.catchTag("InvalidPoolOptions", (error) =>
      Effect.fail(
        new InvalidConfiguration({
          subject: poolName,
          issues: error.issues.map((issue) => ({ name: "pool", expected: issue }))
        })
      )
    )
  )
  yield* PoolMetrics.sample(pool)
  const shared = new Map<string, typeof pool.use>()
  for (const [lane, { cap, maxWaiting, shared: sharing }] of Object.entries(options.lanes)) {
    if (sharing === undefined) continue
    const use = yield* SharedLane.make(pool, {
      lane,
      sessions: sharing.sessions ?? cap ?? Math.max(1, Math.floor(options.maxConnections / 2)),
      statements: sharing.statements ?? 16,
      maxWaiting: maxWaiting ?? options.maxWaiting,
      silence: Duration.toMillis(Duration.fromInputUnsafe(sharing.silence ?? "5 seconds")),
      slow: slowMillis,
      hold: Math.min(holdMillis, options.maxLifetime / 2)
    })
    shared.set(lane, use)
  }
  let warm = watch === undefined
  return {
    name,
    pool,
    read: shared.size === 0 ? pool.use : (request, f) => (shared.get(request.lane) ?? pool.use)(request, f),
    zone: address.zone,
    outstanding: pool.outstanding,
    canServeNow: pool.canServeNow,
    warm: Effect.suspend(() => {
      if (warm) return Effect.void
      warm = true
      return Effect.ignore(pool.resize({ min: options.minConnections }))
    })
  }
})

const watched = (metrics: SessionPool.PoolListener, watch: Watch | undefined): SessionPool.PoolListener =>
  watch === undefined
    ? metrics
    : {
        ...metrics,
        onEvent: (event) => {
          metrics.onEvent?.(event)
          if (event._tag === "ConnectFailed") watch.onTrouble(event.error)
          else if (
            event._tag === "SessionClosed" &&
            (event.reason === "died" || event.reason === "validation-failed")
          ) {
            watch.onTrouble()
          }
        }
      }
