/**
 * One PostgreSQL server as this process sees it: an address and the pool of sessions to it.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { nameOf, type Place, type Resolved, type TlsMaterial } from "../DatabaseOptions.ts"
import * as PgFailure from "../PgFailure.ts"
import { traits } from "../Profile.ts"
import { Session, type SessionConfig } from "../pool/Session.ts"
import * as SessionPool from "../pool/SessionPool.ts"
import * as SharedLane from "../pool/SharedLane.ts"
import { type DatabaseUnavailable, InvalidConfiguration, type LastError } from "../ReportError.ts"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { fill } from "../options/Field.ts"
import { shared as sharedFields } from "../options/role.ts"
import { lastError } from "../internal/problems.ts"
import * as Look from "./Look.ts"
import type { Observation } from "./NodeState.ts"
import * as PoolMetrics from "./PoolMetrics.ts"

/** A server and the way to it. */
export interface Node {
  /** `host:port`, or `host/address:port` where the name was looked up. */
  readonly name: string
  readonly pool: SessionPool.SessionPool<Session>
  /** Lends a session for one statement that only reads: as `pool.use`, or shared with others where the lane says so. */
  readonly read: SessionPool.SessionPool<Session>["use"]
  /** Waiting for its sessions does not end by itself at a caller's deadline (those of a snapshot). */
  readonly stays?: boolean | undefined
  readonly zone: string | undefined
  /** Its address leads to different servers at different times. */
  readonly switching: boolean
  /** Asks it what it is. */
  readonly look: Effect.Effect<Observation, unknown>
  /** Callers that wait or hold a session. */
  readonly outstanding: () => number
  /** A caller would get a session without waiting. */
  readonly canServeNow: () => boolean
  /** Opens the sessions that the options ask for; until then there are none but those that are used. */
  readonly warm: Effect.Effect<void>
  readonly isWarm: () => boolean
}

/** What a node tells those who watch it. */
export interface Watch {
  /** A session was lost or could not be opened (`refusal` says why): it is worth looking. */
  readonly onTrouble: (refusal?: LastError) => void
  /** What a new session of a switching endpoint leads to. `false`: not to the server in use, and it must not be lent. */
  readonly admit: (seen: Observation) => boolean
}

const connectionOptions = ({ ca, cert, key, servername }: TlsMaterial) => ({
  ...(ca === undefined ? undefined : { ca }),
  ...(cert === undefined ? undefined : { cert }),
  ...(key === undefined ? undefined : { key: Redacted.value(key) }),
  ...(servername === undefined ? undefined : { servername })
})

const sessionConfig = (
  options: Resolved,
  place: Place,
  applicationName: string,
  judge: NonNullable<SessionConfig["judge"]>
): SessionConfig => ({
  host: place.host,
  address: place.address,
  port: place.port,
  database: options.name,
  username: options.user,
  password: options.password,
  applicationName: options.applicationName ?? applicationName,
  sslmode: options.sslmode,
  ssl:
    options.tls === undefined
      ? undefined
      : Effect.isEffect(options.tls)
        ? Effect.map(options.tls, connectionOptions)
        : connectionOptions(options.tls),
  unset: options.unset,
  keepAlive: options.keepAlive ?? traits[options.profile].keepAlive,
  // Only what reads alone may read from a follower.
  readOnly: options.followerReads,
  settings: {
    ...options.startupParameters,
    ...(options.followerReads ? traits[options.profile].followerReads : undefined)
  },
  connectTimeout: options.connectTimeout,
  statementTimeout: options.statementTimeout,
  maxMessageSize: options.maxMessageSize,
  reset: options.reset,
  judge,
  // A transaction whose owner is gone must not hold its locks: the server ends it (slonik's 60 seconds).
  idleInTransactionTimeout: options.idleInTransactionTimeout,
  types: options.types,
  onNotice: options.onNotice,
  pooler: options.pooler === "transaction" ? "transaction" : undefined
})

const classifyConnect =
  (overrides: PgFailure.Overrides, rotating: boolean, alarm: (failure: PgFailure.PgFailure, error: SqlError) => void) =>
  (error: SqlError): ReturnType<SessionPool.PoolOptions<Session>["classifyConnect"]> => {
    const failure = PgFailure.fromSqlError(error, { phase: "connect" }, overrides)
    alarm(failure, error)
    // Certificates that rotate may have been asked for a moment too early, as passwords may.
    if (rotating && (failure.class === "TlsRejected" || failure.sqlState === "28000")) return "password"
    if (failure.class === "Authentication") return failure.sqlState === "28P01" ? "password" : "login"
    return failure.retry === "never" ? "permanent" : "transient"
  }

const describeError =
  (overrides: PgFailure.Overrides) =>
  (error: SqlError): LastError => {
    if (strays.has(error)) return stray
    return lastError(PgFailure.fromSqlError(error, undefined, overrides), error)
  }

/** Somebody should know, once a minute: a log line for what no retry mends (a disk, a credential, corrupted data). */
const alarmOf = (pool: string, context: Context.Context<never>, clock: Clock.Clock) => {
  const last = new Map<string, number>()
  return (failure: PgFailure.PgFailure, error: SqlError): void => {
    if (!failure.alarm) return
    const now = monotonicMillis(clock)
    if (now - (last.get(failure.class) ?? -Infinity) < 60_000) return
    last.set(failure.class, now)
    const code = failure.sqlState === undefined ? "" : ` (SQLSTATE ${failure.sqlState})`
    const line = `${pool}: ${lastError(failure, error).message}${code}. Somebody has to look: no retry mends it.`
    Effect.runForkWith(context)(Effect.logError(line))
  }
}

/** Refusals of sessions that lead to another server than the one in use. */
const strays = new WeakSet<SqlError>()
const stray: LastError = { tag: "WrongServer", message: "the address leads to another server than the one in use" }

/** Looks at every new session of a switching endpoint before anybody gets it. */
const admitted = (
  connect: Effect.Effect<Session, SqlError>,
  ask: ReturnType<typeof Look.asker>,
  admit: Watch["admit"]
): Effect.Effect<Session, SqlError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(connect), (session) =>
      Effect.onError(
        Effect.flatMap(restore(ask(session)), (seen) => {
          if (admit(seen)) return Effect.succeed(session)
          const error = new SqlError({
            reason: new ConnectionError({
              cause: new Error(stray.message),
              message: stray.message,
              operation: "connect"
            })
          })
          strays.add(error)
          return Effect.fail(error)
        }),
        () => Effect.sync(() => session.destroy())
      )
    )
  )

/** A shared session that has not answered for this long gets no more statements. */
const slowMillis = 20

/** A shared session is given back after this long, so that lifetimes and evictions reach it. */
const holdMillis = 60_000

/** Makes the node and its pool; they live as long as the scope. */
export const make = Effect.fnUntraced(function* (
  role: string,
  options: Resolved,
  place: Place = options.hosts[0]!,
  watch?: Watch
): Effect.fn.Return<Node, DatabaseUnavailable | InvalidConfiguration, Scope.Scope> {
  const name = nameOf(place)
  const { look: kind, switching } = traits[options.profile]
  const poolName = `${role}@${name}`
  const overrides = yield* PgFailure.CurrentOverrides
  const alarm = alarmOf(poolName, yield* Effect.context<never>(), yield* Clock.Clock)
  const judge = (error: SqlError): PgFailure.PgFailure["session"] => {
    const failure = PgFailure.fromSqlError(error, undefined, overrides)
    alarm(failure, error)
    return failure.session
  }
  const bare = Session.connect(sessionConfig(options, place, role, judge))
  const ask = Look.asker(kind)
  const rotating = Effect.isEffect(options.tls)
  const standby = new WeakMap<Session, string | undefined>()
  const standbyNow = (session: Session) => session.parameters.get("in_hot_standby")
  yield* PoolMetrics.endWithScope("pool", poolName)
  const pool = yield* SessionPool.make<Session>({
    name: poolName,
    connect: switching && watch !== undefined ? admitted(bare, ask, watch.admit) : bare,
    classifyConnect: classifyConnect(overrides, rotating, alarm),
    describeError: describeError(overrides),
    // What is an Effect is asked again by the next attempt: one more, at once, for what has just rotated.
    refreshPassword: Effect.isEffect(options.password) || rotating ? Effect.void : undefined,
    // PostgreSQL tells a session when its standby was promoted: it belongs to another role then.
    hooks: switching
      ? {
          afterConnect: (session) => Effect.sync(() => void standby.set(session, standbyNow(session))),
          beforeReuse: (session) => standbyNow(session) === standby.get(session)
        }
      : undefined,
    // A node that nobody uses yet has no sessions but the one it is watched through.
    min: watch === undefined ? options.minConnections : 0,
    max: options.maxConnections,
    maxWaiting: options.maxWaiting,
    acquireTimeout: options.connectionTimeout,
    idleTimeout: options.idleTimeout,
    maxLifetime: options.maxLifetime,
    closeGraceful: options.shutdown.graceful,
    closeHard: options.shutdown.hard,
    lanes: options.lanes,
    boot: { mode: watch === undefined ? options.boot : "lazy" },
    leakDetection: options.leakDetection,
    listener: watched(PoolMetrics.listener(poolName, yield* Effect.context()), watch)
  }).pipe(
    Effect.catchTag("InvalidPoolOptions", (error) =>
      Effect.fail(
        new InvalidConfiguration({
          subject: poolName,
          issues: error.issues.map((issue) => ({
            name: "pool",
            expected: "options that hold together",
            problem: issue
          }))
        })
      )
    )
  )
  yield* PoolMetrics.sample(pool)
  const shared = new Map<string, typeof pool.use>()
  for (const [lane, { cap, maxWaiting, shared: given }] of Object.entries(options.lanes)) {
    if (given === undefined) continue
    const sharing = fill(sharedFields, given)
    const use = yield* SharedLane.make(pool, {
      lane,
      sessions: sharing.sessions ?? cap ?? Math.max(1, Math.floor(options.maxConnections / 2)),
      statements: sharing.statements,
      maxWaiting: maxWaiting ?? options.maxWaiting,
      silence: sharing.silence,
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
    zone: place.zone,
    switching,
    look: switching ? Look.anew(bare, ask) : Look.through(pool, ask),
    outstanding: pool.outstanding,
    canServeNow: pool.canServeNow,
    isWarm: () => warm,
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
