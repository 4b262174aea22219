/**
 * A report in one role: its policies with their state, the statement of a call, and the words for its failures.
 */
import * as Effect from "effect/Effect"
import { isSqlError } from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"
import type { RoleService } from "../Database.ts"
import * as PgFailure from "../PgFailure.ts"
import { AcquireTimeout, DeadlineExceeded, type LastError, OutcomeUnknown } from "../ReportError.ts"
import type { Declared } from "./Declared.ts"
import { fromSqlError, lastError } from "./Failure.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import * as Policies from "./Policies.ts"

export interface Bound {
  readonly declared: Declared
  readonly role: RoleService
  readonly policies: Policies.Policies
  readonly overrides: PgFailure.Overrides
}

/** The statement of one call, ready for the wire. */
export interface Compiled {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

/** Binds a report to roles: once for each, at its first call there. */
export const binder = (declared: Declared): ((role: RoleService) => Effect.Effect<Bound>) => {
  const bounds = new WeakMap<RoleService, Effect.Effect<Bound>>()
  return (role) => {
    const known = bounds.get(role)
    if (known !== undefined) return known
    return Effect.map(PgFailure.CurrentOverrides, (overrides) => {
      const bound = { declared, role, policies: Policies.make(declared, role, overrides), overrides }
      bounds.set(role, Effect.succeed(bound))
      return bound
    })
  }
}

/** The statement is built once a call, before a session is asked for. */
export const compile = ({ declared, role }: Bound, params: unknown): Effect.Effect<Compiled, never, any> => {
  const built = declared.query(role.sql, params)
  return "compile" in built ? Effect.succeed(compiled(built)) : Effect.map(built, compiled)
}

const compiled = (statement: Statement.Statement<any>): Compiled => {
  const [sql, params] = statement.compile()
  return { sql, params: ParamsCodec.toDriver(params) }
}

/** The server stops a little before the client does, so that its own word for it arrives and the session stays usable. */
export const serverTimeout = ({ attemptTimeout }: Declared): number =>
  Math.max(1, attemptTimeout - Math.min(250, attemptTimeout / 10))

/** What the caller is told in place of what an attempt failed with. */
export const tell = ({ declared, overrides, role }: Bound, error: any, attempts: number): any => {
  const { lane, name, writes } = declared
  if (isSqlError(error)) {
    const failure = PgFailure.fromSqlError(error, undefined, overrides)
    // The server's timeout is the attempt's, set a little shorter so that the session stays usable.
    if (failure.class === "StatementTimeout") return attemptOver(declared, attempts, lastError(failure))
    return fromSqlError(name, role.name, error, failure, writes !== undefined)
  }
  switch (error._tag) {
    case "AttemptTimeout":
      return writes === undefined
        ? attemptOver(declared, attempts, undefined)
        : new OutcomeUnknown({ key: name, lastError: { tag: error._tag, message: error.message } })
    case "Overloaded":
      return error.policy === "pool" ? queueFull(role, lane, error.waiting) : error
    default:
      return error
  }
}

/** The last attempt took as long as it was allowed to. */
const attemptOver = (
  { attemptTimeout, name }: Declared,
  attempts: number,
  last: LastError | undefined
): DeadlineExceeded =>
  new DeadlineExceeded({
    key: name,
    deadlineMillis: attemptTimeout,
    phase: "attempt",
    attempts,
    ...(last === undefined ? undefined : { lastError: last })
  })

/** A write whose deadline came while its statement was on the wire may have been applied. */
export const tellLate = ({ declared }: Bound, error: any): any =>
  declared.writes !== undefined && error._tag === "DeadlineExceeded" && error.phase === "attempt"
    ? new OutcomeUnknown({ key: declared.name, lastError: { tag: error._tag, message: error.message } })
    : error

const queueFull = (role: RoleService, lane: string, waiting: number): AcquireTimeout => {
  const max = role.options.maxConnections
  const counts = { idle: 0, leased: max, connecting: 0, draining: 0, waiting, max }
  return new AcquireTimeout({ pool: role.name, lane, reason: "queue-full", waitedMillis: 0, counts, holders: [] })
}
