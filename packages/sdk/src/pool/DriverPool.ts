/** The role's pool over the driver's own pool. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Redacted from "effect/Redacted"
import { isSqlError } from "effect/sql/SqlError"
import type * as Scope from "effect/Scope"
import type { RoleService } from "../Database.ts"
import { AcquireTimeout, DatabaseUnavailable } from "../ReportError.ts"

export interface Options {
  readonly url?: Redacted.Redacted | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly database?: string | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  /** Sessions kept open. Default 2. */
  readonly min?: number | undefined
  /** Sessions at most. Default 20. */
  readonly max?: number | undefined
  /** The longest a caller waits for a session, connecting included. Default 30 seconds. */
  readonly connectionTimeout?: Duration.Input | undefined
}

export const make = (
  database: string,
  role: string,
  options: Options
): Effect.Effect<RoleService, DatabaseUnavailable, Scope.Scope> =>
  Effect.gen(function* () {
    const name = `${database}/${role}`
    const { connectionTimeout = "30 seconds", max = 20, min = 2, ...connection } = options
    const timeout = Duration.fromInputUnsafe(connectionTimeout)
    const client = yield* PgClient.make({
      ...connection,
      applicationName: name,
      minConnections: min,
      maxConnections: max
    })
    const node = `${client.config.host ?? "localhost"}:${client.config.port ?? 5432}`
    const use: RoleService["use"] = (request, f) =>
      Effect.scoped(
        Effect.flatMap(
          Effect.timeoutOrElse(
            Effect.mapError(
              client.reserve,
              (error) =>
                new DatabaseUnavailable({
                  pool: name,
                  reason: "unreachable",
                  lastError: { tag: error.reason._tag, message: error.message }
                })
            ),
            {
              duration: timeout,
              orElse: () =>
                Effect.fail(
                  new AcquireTimeout({
                    pool: name,
                    lane: request.lane,
                    reason: "all-leased",
                    waitedMillis: Duration.toMillis(timeout),
                    counts: { idle: 0, leased: max, connecting: 0, draining: 0, waiting: 0, max },
                    holders: []
                  })
                )
            }
          ),
          (session) =>
            f({
              node,
              execute: (sql, params, maxRows) =>
                Effect.map(session.execute(sql, params, undefined), (rows) => {
                  const truncated = maxRows !== undefined && rows.length > maxRows
                  return { rows: truncated ? rows.slice(0, maxRows) : rows, rowCount: rows.length, truncated }
                }),
              stream: (sql, params) => session.executeStream(sql, params, undefined)
            })
        )
      )
    return { database, role, name, sql: client, use }
  }).pipe(
    Effect.catchIf(isSqlError, (error) =>
      Effect.fail(
        new DatabaseUnavailable({
          pool: `${database}/${role}`,
          reason: "configuration",
          lastError: { tag: error.reason._tag, message: error.message }
        })
      )
    ),
    Effect.provide(Reactivity.layer)
  )
