/**
 * What a report may declare besides its query, and what each declaration adds to its types.
 *
 * One generic a policy, absent by default. A policy that is only possibly declared counts as declared; a fallback that is
 * only possibly declared handles nothing.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type {
  AcquireTimeout,
  CircuitOpen,
  DatabaseUnavailable,
  DeadlineExceeded,
  InvalidParameters,
  OutcomeUnknown,
  Overloaded,
  QueryFailed,
  RowDecodeError
} from "../ReportError.ts"

/** How a failed attempt is repeated. A bare schedule has the other defaults. */
export interface RetryOptions<out R = never> {
  /** When to come back: delays only, `retries` says how often. Default: exponential from 100 milliseconds. */
  readonly schedule?: Schedule.Schedule<unknown, unknown, never, R> | undefined
  /** Retries after the first attempt. Default 2: three attempts at the most (SRE). */
  readonly retries?: number | undefined
  /** The longest delay. Default 2 seconds. */
  readonly cap?: Duration.Input | undefined
  /** Default `full`. */
  readonly jitter?: "none" | "full" | "equal" | "decorrelated" | undefined
  /** Extra attempts that all reports with this very object may make together. Default: 20 % of the calls in 10 seconds, and 3. */
  readonly budget?: BudgetOptions | undefined
}

/** Extra attempts, retries and hedges together, over a window. */
export interface BudgetOptions {
  /** Extra attempts per call. Default 0.2 (failsafe-go, finagle). */
  readonly ratio?: number | undefined
  /** Extra attempts per window however few calls there are. Default 3 (failsafe-go). */
  readonly minimum?: number | undefined
  /** Default 10 seconds (finagle). */
  readonly window?: Duration.Input | undefined
}

export type Retry<R> = Schedule.Schedule<unknown, any, never, R> | RetryOptions<R>

/** When to stop asking a node that fails. One state for each node; reports that name the same object share it. */
export interface BreakerOptions {
  /** Share of failures that opens. Default 0.5 (resilience4j). */
  readonly failureRate?: number | false | undefined
  /** Calls below which rates mean nothing. Default 10. */
  readonly minimumCalls?: number | undefined
  /** A number of calls (default 50), or a time. */
  readonly window?: number | { readonly time: Duration.Input } | undefined
  /** Failures in a row that open. Default 5 (finagle). */
  readonly consecutiveFailures?: number | false | undefined
  /** Opens when this share of the calls took longer. Default: off. */
  readonly slowCalls?: { readonly longerThan: Duration.Input; readonly rate: number } | undefined
  /** Probes at a time while half-open. Default 1. */
  readonly probes?: number | undefined
  /** How long it stays open. Default: 5 seconds, doubling to 60, with equal jitter (finagle). */
  readonly openFor?: Schedule.Schedule<unknown, unknown> | undefined
}

/** How many calls may be with the database at once, and how many may wait for that. */
export interface BulkheadOptions {
  /** A number, or a share of the pool's sessions (at least one). */
  readonly permits: number | { readonly ofPool: number }
  /** Callers that may wait. Default: twice the permits. */
  readonly queue?: number | undefined
  /** The longest a caller waits. Default: its deadline. */
  readonly maxWait?: Duration.Input | undefined
  /** Finds out how many calls the server can take, up to `permits`. Default: off. For one kind of query: not for reports of 5 ms and of 5 s together. */
  readonly adaptive?: AdaptiveOptions["algorithm"] | AdaptiveOptions | undefined
}

/** How a bulkhead finds its limit. */
export type AdaptiveOptions =
  | {
      /** One more after a limit's worth of good answers, a tenth less after a timeout, an overloaded server or a slow answer. */
      readonly algorithm: "aimd"
      /** Never fewer. Default 1. */
      readonly minimum?: number | undefined
      /** What is left of the limit after a bad answer. Default 0.9 (Netflix concurrency-limits). */
      readonly backoff?: number | undefined
      /** An answer that took longer is a bad one. Default 5 seconds (Netflix). */
      readonly slowerThan?: Duration.Input | undefined
    }
  | {
      /** Fewer as answers get slower than they are on the average. */
      readonly algorithm: "gradient"
      /** Never fewer. Default 1. */
      readonly minimum?: number | undefined
      /** How much slower is still alike. Default 1.5 (Netflix, Gradient2). */
      readonly tolerance?: number | undefined
    }

/** How many calls may begin in a time. */
export interface RateLimitOptions {
  /** Calls per `window`. */
  readonly limit: number
  readonly window: Duration.Input
  /** A limit for each tenant (`Caller`). Default: one for all. */
  readonly perTenant?: boolean | undefined
  /** Waits this long for its turn, and never beyond the deadline. Default 0: refuses at once. */
  readonly maxWait?: Duration.Input | undefined
}

/** Refuses at the door what could not be served anyway, the lowest priority first (SRE book, chapter 21). */
export interface ShedOptions {
  /** Requests per accepted one before anything is refused. Default 2 (SRE). */
  readonly k?: number | undefined
  /** Must be longer than the longest call. Default 2 minutes (SRE). */
  readonly window?: Duration.Input | undefined
  /** Requests in the window below which nothing is refused. Default 20. */
  readonly minimumCalls?: number | undefined
  /** Only tells, as policy events, what it would refuse. Default `false`. */
  readonly dark?: boolean | undefined
}

/** A second attempt on another node, when the first takes unusually long. */
export interface HedgeOptions {
  /** How long to wait before it: a duration, or a percentile (0 to 1) of what calls took lately. Default: 0.95. */
  readonly after?: Duration.Input | { readonly percentile: number } | undefined
  /** Extra attempts, shared with the retry's if that is the same object. Default: the retry's budget, else 5 % of the calls. */
  readonly budget?: BudgetOptions | undefined
}

/**
 * What a write may suffer. `idempotent`: repeating it changes nothing. `once`: it must not happen twice. A retry of a `once`
 * repeats only what certainly was not applied (never sent, or rolled back by the server's own word); a `ReportGroup` refuses
 * the two together, and `explain` says so.
 */
export type Writes = "idempotent" | "once"

/** What every report can fail with. */
export type BaseErrors =
  | typeof InvalidParameters
  | typeof QueryFailed
  | typeof RowDecodeError
  | typeof DatabaseUnavailable
  | typeof AcquireTimeout
  | typeof DeadlineExceeded

/** How a transaction begins, and what it may use. */
export interface TransactionOptions<Retry = unknown, Bulkhead = unknown, ReadOnly = boolean | undefined> {
  /** Names it in errors, spans and metrics. Default: `transaction on database/role`. */
  readonly name?: string | undefined
  /** The longest a caller waits for its end, whatever happens; repeats and COMMIT are included. */
  readonly deadline: Duration.Input
  /** Default: the server's (PostgreSQL: `read committed`). */
  readonly isolation?: Isolation | undefined
  /** The server refuses writes with 25006. Default: the server's (PostgreSQL: `false`). */
  readonly readOnly?: ReadOnly
  /** With `serializable` and `readOnly: true`: waits for a snapshot that cannot fail. Default `false`. */
  readonly deferrable?: boolean | undefined
  /** The share of the pool that its session comes from. Default `"report"`. */
  readonly lane?: string | undefined
  /**
   * Runs the whole again when the server says that it was in another one's way (40001, 40P01), and when no session could be
   * had: what the effect does elsewhere is then done again. Default: none.
   */
  readonly retry?: Retry
  /** Bounds how many run at once; adds `Overloaded`. Default: only the lane does. */
  readonly bulkhead?: Bulkhead
  /** Inside of another transaction it is one of its own. Default `false`: a savepoint in its role's, refused in another role's. */
  readonly outside?: boolean | undefined
}

export type Isolation = "read committed" | "repeatable read" | "serializable"

/** What a transaction can fail with, besides what runs in it. */
export type TransactionFailures<Bulkhead, ReadOnly> =
  | typeof QueryFailed
  | typeof DatabaseUnavailable
  | typeof AcquireTimeout
  | typeof DeadlineExceeded
  | IfDeclared<Bulkhead, typeof Overloaded>
  | UnlessReadOnly<ReadOnly, typeof OutcomeUnknown>

/** Only what certainly reads alone has nothing to apply. */
type UnlessReadOnly<ReadOnly, Adds> = [ReadOnly] extends [true] ? never : Adds

/** A policy contributes unless it is certainly absent. */
export type IfDeclared<Policy, Adds> = [Policy] extends [undefined] ? never : Adds

/** The errors of a declaration before its fallback. */
export type Failures<Breaker, Bulkhead, RateLimit, Shed, Write> =
  | BaseErrors
  | IfDeclared<Breaker, typeof CircuitOpen>
  | IfDeclared<Bulkhead, typeof Overloaded>
  | IfDeclared<RateLimit, typeof Overloaded>
  | IfDeclared<Shed, typeof Overloaded>
  | IfDeclared<Write, typeof OutcomeUnknown>

/** The services of a retry's schedule. */
export type RetryServices<R> =
  R extends Schedule.Schedule<any, any, any, any>
    ? ScheduleServices<R>
    : R extends { readonly schedule?: infer S }
      ? ScheduleServices<S>
      : never

type ScheduleServices<S> = S extends Schedule.Schedule<infer _Output, infer _Input, infer _Error, infer R> ? R : never

type TagOf<E> = E extends { readonly Type: { readonly _tag: infer Tag extends string } } ? Tag : never

type ErrorWithTag<E, Tag> = E extends { readonly Type: infer Error extends { readonly _tag: Tag } } ? Error : never

/** A handler for each tag that it names; `Handled` maps the tags to the services of their handlers. */
export type Fallback<E, Row, Handled> = {
  readonly [Tag in keyof Handled]: (
    error: ErrorWithTag<E, Tag>
  ) => Effect.Effect<ReadonlyArray<Row>, never, Handled[Tag]>
} & { readonly [Tag in Exclude<keyof Handled, TagOf<E>>]: CannotFailWith<Tag> }

/** What the compiler says of a handler for an error that cannot occur: no handler is that text. */
type CannotFailWith<Tag> = `this report cannot fail with '${Tag & string}'`

/** Exactly what is handled is gone. */
export type AfterFallback<E, Handled> = E extends { readonly Type: { readonly _tag: keyof Handled } } ? never : E

declare const told: unique symbol

/** No value is one: the compiler shows the text. */
export interface Refused<out Why extends string> {
  readonly [told]: Why
}

/** No value is one: the compiler shows how a duration is written. */
export interface WrittenAs<out Example extends string, out Other extends string> {
  readonly [told]: readonly [Example, Other]
}

/** No value is one: the compiler shows what a field is. */
export interface FieldIs<out Example extends string, out Other extends string> {
  readonly [told]: readonly [Example, Other]
}

/** Fields of a struct. */
export type Fields = {
  readonly [name: PropertyKey]: Schema.Struct.Fields[PropertyKey] | FieldIs<"Schema.String", "Schema.Finite">
}

/** Fields are a struct; a schema is itself. */
export type ToSchema<S> = S extends Schema.Top ? S : S extends Schema.Struct.Fields ? Schema.Struct<S> : never
