/**
 * One connection for administration: the only file of the testing tools that touches the driver.
 *
 * Everything in here is bounded by real time, by destroying the socket: the driver waits for an answer when it is
 * interrupted, and the servers of these tests are frozen and killed.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type * as SqlError from "effect/sql/SqlError"
import * as net from "node:net"
import type * as tls from "node:tls"

export interface Row {
  readonly [column: string]: unknown
}

/** One session of an administrator: its statements run in order on one backend. */
export interface AdminSession {
  readonly pid: number
  readonly query: (sql: string, params?: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<Row>, AdminFailure>
}

export interface AdminFailure {
  readonly problem: string
  readonly sqlState: string | undefined
}

export interface Address {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly username: string
  readonly password: string | undefined
  readonly ssl?: tls.ConnectionOptions | undefined
}

const failure = (error: SqlError.SqlError): AdminFailure => {
  const cause = error.reason.cause
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : undefined
  const detail = cause instanceof Error && cause.message !== "" ? cause.message : error.message
  return { problem: detail, sqlState: code !== undefined && /^[0-9A-Z]{5}$/.test(code) ? code : undefined }
}

/** Connects; every statement must be answered within `timeoutMillis`, else the session ends with an error. */
export const connect = (
  address: Address,
  timeoutMillis = 60_000
): Effect.Effect<AdminSession, AdminFailure, Scope.Scope> =>
  Effect.gen(function* () {
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => net.connect({ host: address.host, port: address.port, noDelay: true })),
      (socket) => Effect.sync(() => socket.destroy())
    )
    // In a fiber and a clock of its own: the caller leaves at once when it is interrupted, and the socket goes with it.
    const bounded = <A>(effect: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, AdminFailure> =>
      Effect.callback((resume) => {
        const late = () => socket.destroy(new Error(`no answer within ${timeoutMillis} ms`))
        const timer = setTimeout(late, timeoutMillis)
        Effect.runFork(Effect.mapError(effect, failure)).addObserver((exit) => {
          clearTimeout(timer)
          resume(exit)
        })
        return Effect.sync(() => {
          clearTimeout(timer)
          socket.destroy()
        })
      })
    const scope = yield* Effect.scope
    const make = PgConnection.make({
      stream: () => socket,
      host: address.host,
      port: address.port,
      database: address.database,
      username: address.username,
      ...(address.password === undefined ? {} : { password: Redacted.make(address.password) }),
      ...(address.ssl === undefined ? {} : { ssl: address.ssl }),
      applicationName: "sluice-testing",
      prepare: false
    })
    const connection = yield* bounded(Effect.provideService(make, Scope.Scope, scope))
    return {
      pid: connection.processId,
      query: (sql, params) => Effect.map(bounded(connection.query(sql, params)), (result) => result.rows)
    }
  })
