/**
 * A declaration at run time: checked, filled in, its types forgotten. What the pipeline executes and `explain` prints.
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import type { RoleService } from "../Database.ts"
import { millisOf } from "../policy/Time.ts"
import * as ReportError from "../ReportError.ts"
import { check, checkFallback, checkTransaction } from "./Checked.ts"
import type * as Declaration from "./Declaration.ts"

/** Durations in milliseconds. */
export interface Declared {
  readonly name: string
  readonly database: Context.Key<any, RoleService>
  readonly params: Schema.Top
  readonly row: Schema.Top
  readonly query: (
    sql: SqlClient.SqlClient,
    params: any
  ) => Statement.Statement<any> | Effect.Effect<Statement.Statement<any>, never, any>
  readonly deadline: number
  readonly attemptTimeout: number
  readonly lane: string
  readonly priority: number | undefined
  readonly maxRows: number | undefined
  readonly writes: Declaration.Writes | undefined
  readonly outside: boolean | undefined
  readonly retry: DeclaredRetry | undefined
  readonly breaker: Declaration.BreakerOptions | undefined
  readonly bulkhead: Declaration.BulkheadOptions | undefined
  readonly rateLimit: Declaration.RateLimitOptions | undefined
  readonly shed: Declaration.ShedOptions | undefined
  readonly hedge: Declaration.HedgeOptions | undefined
  readonly fallback: Readonly<Record<string, ((error: any) => Effect.Effect<any, never, any>) | undefined>> | undefined
  /** It is no report, but a transaction around some. */
  readonly transaction?: DeclaredTransaction | undefined
}

export interface DeclaredTransaction extends Pick<
  Declaration.TransactionOptions,
  "isolation" | "readOnly" | "deferrable"
> {
  /** The statement that begins it. */
  readonly begin: string
}

export interface DeclaredRetry {
  readonly schedule: Schedule.Schedule<unknown, unknown, never, any>
  readonly retries: number
  readonly cap: number
  readonly jitter: NonNullable<Declaration.RetryOptions["jitter"]>
  /** The object that was named: reports that name the same one share its budget. */
  readonly budget: Declaration.BudgetOptions
}

interface Options extends Pick<Declared, "database" | "query" | "maxRows"> {
  readonly params: Schema.Struct.Fields | Schema.Top
  readonly row: Schema.Struct.Fields | Schema.Top
  readonly deadline: Duration.Input
}

const defaultSchedule = Schedule.exponential("100 millis")

/** Reports that declare a retry without a budget share this one, per role. */
const defaultBudget: Declaration.BudgetOptions = {}

/** A mistake in a declaration is one of the program, found where the report is declared: it throws. */
export const make = (name: string, options: any): Declared => {
  const given: Options & Partial<Omit<Declared, keyof Options>> = options
  check(name, options)
  const deadline = millisOf(given.deadline)
  const attemptTimeout = options.attemptTimeout === undefined ? deadline : millisOf(options.attemptTimeout)
  const declared: Declared = {
    name,
    database: given.database,
    params: toSchema(given.params),
    row: toSchema(given.row),
    query: given.query,
    deadline,
    attemptTimeout: Math.min(attemptTimeout, deadline),
    lane: given.lane ?? "report",
    priority: given.priority,
    maxRows: given.maxRows,
    writes: given.writes,
    outside: given.outside,
    retry: options.retry === undefined ? undefined : retryOf(options.retry),
    breaker: given.breaker,
    bulkhead: given.bulkhead,
    rateLimit: given.rateLimit,
    shed: given.shed,
    hedge: given.hedge,
    fallback: undefined
  }
  checkFallback(name, given.fallback, Array.from(errors(declared).keys()))
  return { ...declared, fallback: given.fallback }
}

/** A transaction has the policies of a report, and no statement of its own. */
export const makeTransaction = (
  database: Context.Key<any, RoleService>,
  given: Declaration.TransactionOptions<any, any, any>
): Declared => {
  const options: typeof given = Object(given)
  const { bulkhead, deferrable, isolation, outside, readOnly, retry } = options
  const name = options.name ?? `transaction on ${roleNameOf(database)}`
  checkTransaction(name, database, options)
  const deadline = millisOf(options.deadline)
  return {
    name,
    database,
    params: Schema.Void,
    row: Schema.Void,
    query: (sql) => sql``,
    deadline,
    attemptTimeout: deadline,
    lane: options.lane ?? "report",
    priority: undefined,
    maxRows: undefined,
    writes: readOnly === true ? undefined : "once",
    outside,
    retry: retry === undefined ? undefined : retryOf(retry),
    breaker: undefined,
    bulkhead,
    rateLimit: undefined,
    shed: undefined,
    hedge: undefined,
    fallback: undefined,
    transaction: { isolation, readOnly, deferrable, begin: beginOf(options) }
  }
}

/** `database/role`. */
export const roleNameOf = (database: Context.Key<any, RoleService>): string =>
  String(database?.key).replace("@sluice/sdk/Database/", "")

const beginOf = ({ deferrable, isolation, readOnly }: Declaration.TransactionOptions): string =>
  [
    "BEGIN",
    isolation !== undefined && `ISOLATION LEVEL ${isolation.toUpperCase()}`,
    readOnly !== undefined && (readOnly ? "READ ONLY" : "READ WRITE"),
    deferrable === true && "DEFERRABLE"
  ]
    .filter((part) => part !== false)
    .join(" ")

/** Permits as a number, in a pool of `max` sessions. */
export const permitsIn = ({ permits }: Declaration.BulkheadOptions, max: number): number =>
  typeof permits === "number" ? permits : Math.max(1, Math.floor(permits.ofPool * max))

const retryOf = (declared: Declaration.Retry<any>): DeclaredRetry => {
  const options: Declaration.RetryOptions<any> = Schedule.isSchedule(declared) ? { schedule: declared } : declared
  return {
    schedule: options.schedule ?? defaultSchedule,
    retries: options.retries ?? 2,
    cap: millisOf(options.cap ?? "2 seconds"),
    jitter: options.jitter ?? "full",
    budget: options.budget ?? defaultBudget
  }
}

const toSchema = (fields: Schema.Struct.Fields | Schema.Top): Schema.Top =>
  Schema.isSchema(fields) ? fields : Schema.Struct(fields as Schema.Struct.Fields)

/** The schemas of everything that `run` can fail with, by tag: the type's twin at run time. */
export const errors = (declared: Declared): ReadonlyMap<string, Schema.Top> => {
  const isReport = declared.transaction === undefined
  const all: Record<string, Schema.Top | false> = {
    InvalidParameters: isReport && ReportError.InvalidParameters,
    QueryFailed: ReportError.QueryFailed,
    RowDecodeError: isReport && ReportError.RowDecodeError,
    DatabaseUnavailable: ReportError.DatabaseUnavailable,
    AcquireTimeout: ReportError.AcquireTimeout,
    DeadlineExceeded: ReportError.DeadlineExceeded,
    CircuitOpen: declared.breaker !== undefined && ReportError.CircuitOpen,
    Overloaded:
      (declared.bulkhead !== undefined || declared.rateLimit !== undefined || declared.shed !== undefined) &&
      ReportError.Overloaded,
    OutcomeUnknown: declared.writes !== undefined && ReportError.OutcomeUnknown
  }
  const handled = declared.fallback ?? {}
  const left = new Map<string, Schema.Top>()
  for (const [tag, schema] of Object.entries(all)) {
    if (schema !== false && handled[tag] === undefined) left.set(tag, schema)
  }
  return left
}
