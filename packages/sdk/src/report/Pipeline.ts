/**
 * The way of one call, in the order in which it happens.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { RoleService } from "../Database.ts"
import * as PgFailure from "../PgFailure.ts"
import { DeadlineExceeded } from "../ReportError.ts"
import type { ReportResult } from "../ReportResult.ts"
import type { Declared } from "./Declared.ts"
import * as Failure from "./Failure.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import * as RowCodec from "./RowCodec.ts"

export interface Pipeline {
  readonly run: (input: unknown) => Effect.Effect<ReportResult<any>, any, any>
  readonly stream: (input: unknown) => Stream.Stream<any, any, any>
}

interface Compiled {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

export const make = (declaration: Declared): Pipeline => {
  const { database, lane, maxRows, name } = declaration
  const encode = ParamsCodec.make(name, declaration.params)
  const decode = RowCodec.make(name, declaration.row)
  const deadlineMillis = declaration.deadline

  /** The statement is built once a call, before a session is asked for. */
  const compile = (role: RoleService, params: unknown): Effect.Effect<Compiled, never, any> => {
    const built = declaration.query(role.sql, params)
    return "compile" in built ? Effect.succeed(compiled(built)) : Effect.map(built, compiled)
  }

  const toError = (role: RoleService, error: SqlError) =>
    Failure.fromSqlError(name, role.name, error, PgFailure.fromSqlError(error), false)

  const late = Effect.suspend(() =>
    Effect.fail(new DeadlineExceeded({ key: name, deadlineMillis, phase: "attempt", attempts: 1 }))
  )

  const run = (input: unknown): Effect.Effect<ReportResult<any>, any, any> =>
    Effect.flatMap(encode(input), (params) =>
      Effect.flatMap(database, (role) =>
        Effect.flatMap(compile(role, params), (statement) =>
          role
            .use({ name, lane }, (lease) =>
              Effect.map(lease.execute(statement.sql, statement.params, maxRows), (result) => ({
                result,
                node: lease.node
              }))
            )
            .pipe(
              Effect.mapError((error) => (isSqlError(error) ? toError(role, error) : error)),
              Effect.flatMap(({ node, result }) =>
                Effect.flatMap(decode(result.rows), (rows) =>
                  Effect.map(Clock.currentTimeMillis, (now): ReportResult<any> => ({
                    rows,
                    source: "live",
                    node,
                    attempts: 1,
                    asOf: DateTime.makeUnsafe(now),
                    ageMillis: 0,
                    truncated: result.truncated
                  }))
                )
              ),
              Effect.timeoutOrElse({ duration: declaration.deadline, orElse: () => late })
            )
        )
      )
    ).pipe(Effect.withSpan(`report ${name}`, { attributes: { "sluice.report": name } }, { captureStackTrace: false }))

  const stream = (input: unknown): Stream.Stream<any, any, any> =>
    Stream.unwrap(
      Effect.flatMap(encode(input), (params) =>
        Effect.flatMap(database, (role) =>
          Effect.map(compile(role, params), (statement) => {
            const rows = role.sql.unsafe(statement.sql, statement.params).stream
            let seen = 0
            return (maxRows === undefined ? rows : Stream.take(rows, maxRows)).pipe(
              Stream.mapError((error) => toError(role, error)),
              Stream.mapArrayEffect((chunk) => {
                const first = seen
                seen += chunk.length
                return decode(chunk, first) as Effect.Effect<any, any, any>
              })
            )
          })
        )
      )
    )

  return { run, stream }
}

const compiled = (statement: Statement.Statement<any>): Compiled => {
  const [sql, params] = statement.compile()
  return { sql, params: ParamsCodec.toDriver(params) }
}
