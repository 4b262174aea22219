/**
 * A report in one role: its policies with their state, the statement of a call, and the words for its failures.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { isSqlError } from "effect/sql/SqlError"
import type { RoleService } from "../Database.ts"
import { nearest } from "../options/names.ts"
import { monotonicMillis } from "../internal/Monotonic.ts"
import { lastError } from "../internal/problems.ts"
import * as PgFailure from "../PgFailure.ts"
import * as Caller from "../policy/Caller.ts"
import * as Deadline from "../policy/Deadline.ts"
import {
  AcquireTimeout,
  DatabaseUnavailable,
  DeadlineExceeded,
  type LastError,
  OutcomeUnknown,
  type Overloaded
} from "../ReportError.ts"
import type { Source } from "../ReportResult.ts"
import type * as Route from "../topology/Route.ts"
import type { Declared } from "./Declared.ts"
import { fromSqlError } from "./Failure.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import * as ParamTypes from "./ParamTypes.ts"
import * as Policies from "./Policies.ts"
import * as Template from "./Template.ts"

export interface Bound {
  readonly declared: Declared
  readonly role: RoleService
  readonly policies: Policies.Policies
  readonly overrides: PgFailure.Overrides
  /** Why it cannot run there. */
  readonly refusal: DatabaseUnavailable | undefined
  /** Gives the values of a statement the types of their fields, where one is a number. */
  readonly typed: ReturnType<typeof ParamTypes.make>
}

/** The statement of one call, ready for the wire. */
export interface Compiled {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

/** Binds a report to the role that a fiber is given: once for each, at its first call there. */
export const binder = (declared: Declared): ((fiber: Fiber.Fiber<unknown, unknown>) => Bound) => {
  const bounds = new WeakMap<RoleService, Bound>()
  const typed = ParamTypes.make(declared.params)
  return (fiber) => {
    const role = Context.getUnsafe(fiber.context, declared.database)
    const known = bounds.get(role)
    if (known !== undefined) return known
    const overrides = fiber.getRef(PgFailure.CurrentOverrides)
    const policies = Policies.make(declared, role, overrides)
    const bound = { declared, role, policies, overrides, refusal: refusalOf(declared, role), typed }
    bounds.set(role, bound)
    return bound
  }
}

/** The lanes that presets and defaults name: a pool need not declare them. */
const usual: ReadonlyArray<string> = ["interactive", "report", "batch"]

/** What is wrong with the lane of a report, where its role has none of that name. */
export const laneProblem = (
  { lane }: Declared,
  { name, options }: RoleService
): { readonly problem: string; readonly cure: string } | undefined => {
  const declared = Object.keys(options.lanes)
  if (usual.includes(lane) || declared.includes(lane)) return undefined
  const all = [...new Set([...usual, ...declared])]
  const near = nearest(lane, all)
  const hint = near === undefined ? "" : `; did you mean ${near}?`
  return {
    problem: `${name} has no lane ${lane}${hint}`,
    cure: `declare it in the options of the role, or name one of ${all.join(", ")}`
  }
}

const refusalOf = (declared: Declared, role: RoleService): DatabaseUnavailable | undefined => {
  const wrong = laneProblem(declared, role)
  return wrong === undefined
    ? undefined
    : new DatabaseUnavailable({
        pool: role.name,
        reason: "configuration",
        lastError: { tag: "UndeclaredLane", message: `report ${declared.name}: ${wrong.problem}; ${wrong.cure}` }
      })
}

/** The statement is built once a call, before a session is asked for. At once, unless the query is an effect. */
export const compile = (
  { declared, role, typed }: Bound,
  params: unknown
): Compiled | Effect.Effect<Compiled, any, any> => {
  const sql = Template.remember(role.sql)
  const built: unknown = declared.query(sql, params)
  if (!Template.isCompilable(built)) {
    if (!Effect.isEffect(built)) return noStatement(declared.name, built)
    const statement = Effect.map(built as Effect.Effect<unknown>, (built) =>
      Template.isCompilable(built) ? compiled(built) : noStatement(declared.name, built)
    )
    return Deadline.guard(statement)
  }
  const statement = compiled(built)
  if (typed === undefined) return statement
  const values = typed(params, statement, (params) => {
    const again: unknown = declared.query(sql, params)
    return Template.isCompilable(again) ? compiled(again) : undefined
  })
  return { sql: statement.sql, params: values }
}

/** The value is not told: it may be a statement's text, or rows. */
const noStatement = (report: string, built: unknown): never => {
  const kind =
    built === null || built === undefined
      ? String(built)
      : built instanceof Promise
        ? "a Promise"
        : Array.isArray(built)
          ? "an array (the statement was run: give it back as it is)"
          : `a ${typeof built}`
  throw new Error(`Report "${report}": query must give a statement, as sql\`select ...\` does, not ${kind}`)
}

const compiled = (statement: Template.Compilable): Compiled => {
  const [sql, params] = statement.compile()
  return { sql, params: ParamsCodec.toDriver(params) }
}

/** The server stops a little before the client does, so that its own word for it arrives and the session stays usable. */
export const serverTimeout = ({ attemptTimeout }: Declared): number =>
  Math.max(1, attemptTimeout - Math.min(250, attemptTimeout / 10))

/**
 * Until when a session has to be had, asked only by a caller that has to wait: a little before its deadline, so that it
 * leaves with the pool's explanation (counts, holders, the last real error) and not with a bare `DeadlineExceeded`.
 */
export const sessionBy = (fiber: Fiber.Fiber<unknown, unknown>, until = Infinity): (() => number) => {
  return () => {
    const now = monotonicMillis(fiber.getRef(Clock.Clock))
    const left = Deadline.remainingOf(fiber)
    if (left === Infinity) return until
    // One that is late already is its deadline's, unless it would have to leave by itself.
    if (left === 0) return fiber.getRef(Deadline.Current)?.carried === undefined ? until : now
    return Math.min(until, Math.floor(now + left - Math.min(25, left / 20)))
  }
}

/** What is known of one call while it goes on. */
export interface Call extends Route.Call {
  /** Attempts that have begun. */
  begun: number
  /** Statements that were sent for it. */
  sent: number
  /** A statement is out: sent, and not answered. */
  out: boolean
  /** An attempt before may have been applied. */
  doubt: boolean
  /** Its attempts have ended: a deadline from here on is the last attempt's own. */
  told: boolean
  /** Where its answer came from. */
  source: Source
  /** It belongs to the transaction around it, and runs there: see `Joined`. */
  joined: Pick<Route.Route, "attempt" | "attemptOf"> | undefined
  /** The server that gave the answer. */
  served: string | undefined
}

export const begin = (key: string): Call => ({
  key,
  tried: [],
  left: Deadline.remainingOf,
  guard: Deadline.guard,
  begun: 0,
  sent: 0,
  out: false,
  doubt: false,
  told: false,
  source: "live",
  joined: undefined,
  served: undefined
})

/** A write whose answer was lost may have been applied, whatever becomes of the attempts after it. */
export const noteDoubt =
  ({ overrides }: Bound, call: Call) =>
  (error: any): Effect.Effect<void> =>
    Effect.sync(() => {
      call.out = false
      if (
        isSqlError(error)
          ? PgFailure.fromSqlError(error, undefined, overrides).outcome === "unknown"
          : error._tag === "AttemptTimeout"
      ) {
        call.doubt = true
      }
    })

/** What the caller is told in place of what the last attempt failed with. */
export const tell = (bound: Bound, error: any, call: Call): any => {
  call.told = true
  const told = inWords(bound, error, call)
  return call.doubt ? doubtful(bound, told) : told
}

const inWords = ({ declared, overrides, role }: Bound, error: any, { joined, sent: attempts }: Call): any => {
  const { lane, name, writes } = declared
  if (isSqlError(error)) {
    let failure = PgFailure.fromSqlError(error, undefined, overrides)
    // The transaction around it never came to its COMMIT.
    if (joined !== undefined && failure.outcome === "unknown") failure = { ...failure, outcome: "not-applied" }
    // The server's timeout is the attempt's, set a little shorter so that the session stays usable.
    if (failure.class === "StatementTimeout") return attemptOver(declared, attempts, lastError(failure))
    return fromSqlError(name, role.name, error, failure, writes !== undefined)
  }
  switch (error._tag) {
    case "AttemptTimeout":
      return attemptOver(declared, attempts, undefined)
    case "Overloaded":
      return error.policy === "pool" ? queueFull(lane, error) : error
    default:
      return error
  }
}

/** Rows that came back say that it was applied; any other end leaves the doubt. */
const doubtful = ({ declared }: Bound, told: any): any =>
  told._tag === "OutcomeUnknown" || told._tag === "RowDecodeError"
    ? told
    : new OutcomeUnknown({ key: declared.name, lastError: { tag: told._tag, message: told.message } })

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

/** A write whose deadline came while its statement was on the wire, or after one that was, may have been applied. */
export const tellLate = (bound: Bound, error: any, call: Call): any =>
  !call.told && error._tag === "DeadlineExceeded" && (call.doubt || call.out) ? doubtful(bound, error) : error

/** A pool's refusal tells of its sessions, as it found them then. */
const queueFull = (lane: string, error: Overloaded): AcquireTimeout | Overloaded =>
  error.sessions === undefined
    ? error
    : new AcquireTimeout({ ...error.sessions, lane, reason: "queue-full", waitedMillis: 0 })

/** The report's priority is that of its caller, unless the caller says otherwise. */
export const onBehalfOf =
  (priority: number | undefined) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    priority === undefined
      ? self
      : Effect.withFiber((fiber) =>
          Effect.provideService(self, Caller.Current, { priority, ...fiber.getRef(Caller.Current) })
        )
