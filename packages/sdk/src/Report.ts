/**
 * A report: a typed query that declares what it may use and how it may fail.
 *
 * The declaration is a value. `run` gives the rows, `runWithInfo` the rows with their provenance, `stream` the rows one
 * chunk at a time. What can go wrong and which databases must be there stands in the type; the order in which policies
 * apply is fixed, whatever the order in which they are written.
 *
 * ```ts
 * import { Database, Report } from "@sluice/sdk"
 * import * as Schema from "effect/Schema"
 *
 * class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
 *
 * const fastest = Report.make("fastest", {
 *   database: Fleet.role("replica"),
 *   params: { above: Schema.Finite },
 *   row: { vehicle: Schema.String, speed: Schema.Finite },
 *   query: (sql, { above }) => sql`select vehicle, speed from positions where speed > ${above}`,
 *   deadline: "2 seconds"
 * })
 *
 * const program = fastest.run({ above: 130 })
 * ```
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"
import type * as Stream from "effect/Stream"
import type { RoleService } from "./Database.ts"
import type * as Declaration from "./report/Declaration.ts"
import * as Declared from "./report/Declared.ts"
import * as Explain from "./report/Explain.ts"
import * as Pipeline from "./report/Pipeline.ts"
import { notePlace } from "./report/Place.ts"
import * as Streaming from "./report/Streaming.ts"
import * as Transacting from "./report/Transaction.ts"
import type { OutcomeUnknown } from "./ReportError.ts"
import type { ReportResult, StreamInfo } from "./ReportResult.ts"

export { excerptOf, sqlErrorOf } from "./report/Failure.ts"
export type { Explanation } from "./report/Explain.ts"
export type { Isolation, TransactionOptions } from "./report/Declaration.ts"
export * as presets from "./report/Presets.ts"

const TypeId = "~@sluice/sdk/Report"

/** A one-line title for catalogues, HTTP documents and tools. */
export const Title = Context.Reference<string | undefined>("@sluice/sdk/Report/Title", {
  defaultValue: () => undefined
})

/** What the report answers, for people. */
export const Description = Context.Reference<string | undefined>("@sluice/sdk/Report/Description", {
  defaultValue: () => undefined
})

/** A declared report. `Error` is the union of error *schemas*, so that the type and the documents cannot diverge. */
export interface Report<
  out Name extends string,
  out Params extends Schema.Top,
  out Row extends Schema.Top,
  out Error extends Schema.Top,
  out Requires,
  out RoleId = unknown,
  Unhandled extends Schema.Top = Error
> extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly "~Error": Error
  readonly "~Requires": Requires
  readonly "~Role": RoleId
  readonly name: Name
  readonly params: Params
  readonly row: Row
  /** Everything that `run` can fail with. */
  readonly errors: ReadonlySet<Schema.Top>
  readonly declared: Declared.Declared
  readonly annotations: Context.Context<never>
  /** The rows. An error is never an empty result. */
  run(
    params: Params["~type.make.in"]
  ): Effect.Effect<
    ReadonlyArray<Row["Type"]>,
    Error["Type"],
    Requires | Params["EncodingServices"] | Row["DecodingServices"]
  >
  /** The rows with their provenance. */
  runWithInfo(
    params: Params["~type.make.in"]
  ): Effect.Effect<
    ReportResult<Row["Type"]>,
    Error["Type"],
    Requires | Params["EncodingServices"] | Row["DecodingServices"]
  >
  /**
   * The rows in chunks, with backpressure to the socket, on one session. The deadline holds for the first rows and for
   * each chunk that is asked for. `onEnd` is told at the end, when nothing failed, whether `maxRows` cut it.
   *
   * Rows that were given cannot be replaced: a stream has no fallback, and its type says so. Nor can a consumer that leaves
   * know what was written: a report that writes has no stream.
   */
  stream<R2 = never>(
    params: typeof OutcomeUnknown extends Unhandled ? NoStream : Params["~type.make.in"],
    onEnd?: (info: StreamInfo) => Effect.Effect<void, never, R2>
  ): Stream.Stream<Row["Type"], Unhandled["Type"], Requires | Params["EncodingServices"] | Row["DecodingServices"] | R2>
  annotate<I, S>(
    key: Context.Key<I, S>,
    value: NoInfer<S>
  ): Report<Name, Params, Row, Error, Requires, RoleId, Unhandled>
}

/** What the compiler says of a stream of a report that writes. */
type NoStream = "a report that writes has no stream: who leaves it cannot know what was written; use run or runWithInfo"

/** Any report, for code that handles many. */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly "~Error": Schema.Top
  readonly "~Requires": unknown
  readonly "~Role": unknown
  readonly name: string
  readonly params: Schema.Top
  readonly row: Schema.Top
  readonly errors: ReadonlySet<Schema.Top>
  readonly declared: Declared.Declared
  readonly annotations: Context.Context<never>
  run(params: any): Effect.Effect<any, any, any>
  runWithInfo(params: any): Effect.Effect<any, any, any>
  stream(params: any, onEnd?: (info: StreamInfo) => Effect.Effect<void, never, any>): Stream.Stream<any, any, any>
}

/**
 * Declares a report.
 *
 * The order of the options means nothing: policies apply in one fixed order (see `explain`).
 */
export const make = <
  const Name extends string,
  const Params extends Declaration.Fields | Schema.Top,
  const Row extends Declaration.Fields | Schema.Top,
  RoleId,
  QueryR = never,
  Retry extends Declaration.Retry<any> | undefined = undefined,
  Breaker extends Declaration.BreakerOptions | undefined = undefined,
  Bulkhead extends Declaration.BulkheadOptions | undefined = undefined,
  RateLimit extends Declaration.RateLimitOptions | undefined = undefined,
  Shed extends Declaration.ShedOptions | undefined = undefined,
  Hedge extends Declaration.HedgeOptions | undefined = undefined,
  Write extends Declaration.Writes | undefined = undefined,
  Handled extends object = {}
>(
  name: Name,
  options: {
    /** The role it reads from: it becomes the requirement of the report. */
    readonly database: Context.Key<RoleId, RoleService>
    /** What a caller gives: fields of a struct, or a schema. */
    readonly params: Params
    /** What a row is: fields of a struct, or a schema (`Schema.Struct`: a `Schema.Class` costs four times as much). */
    readonly row: Row
    /** Builds the statement from the *encoded* parameters. It may use services, it cannot fail, and it runs nothing. */
    readonly query: (
      sql: SqlClient.SqlClient,
      params: Declaration.ToSchema<Params>["Encoded"]
    ) =>
      | Statement.Statement<any>
      | Effect.Effect<Statement.Statement<any>, never, QueryR>
      | Declaration.Refused<"a query gives a statement: sql`select ...`">
    /** The longest a caller waits for an answer, whatever happens. */
    readonly deadline: Duration.Input | Declaration.WrittenAs<"2 seconds", "500 millis">
    /** The longest one attempt may take. Default: the deadline. */
    readonly attemptTimeout?: Duration.Input | Declaration.WrittenAs<"2 seconds", "500 millis"> | undefined
    /** The share of the pool it runs in. Default `"report"`. */
    readonly lane?: string | undefined
    /** Who is served first in the pool and in the bulkhead, and shed last; higher is sooner. Default: the lane's. */
    readonly priority?: number | undefined
    /** Rows at most; what lies beyond is cut and `truncated` says so. Default: no limit. */
    readonly maxRows?: number | undefined
    /**
     * Must be declared by a report whose statement changes data. Default: it does not, and the server refuses it with 25006
     * (except behind a pooler in transaction mode, where a session cannot be told).
     */
    readonly writes?: Write
    /**
     * Inside of a transaction (`withTransaction`, {@link transaction}) it runs on a lease of its own, as outside of one. Default
     * `false`: it runs on the transaction's session, and is refused in a transaction of another role.
     */
    readonly outside?: boolean | undefined
    /** Repeats attempts that repeating can mend. Default: none. */
    readonly retry?: Retry
    /** Stands in `retry`. */
    readonly retries?: Declaration.Refused<"retries stand in retry: { retries: 2 }">
    /** Stops asking a node that fails; adds `CircuitOpen`. Default: none. */
    readonly breaker?: Breaker
    /** Bounds how many run at once; adds `Overloaded`. Default: only the lane does. */
    readonly bulkhead?: Bulkhead
    /** Bounds how many begin in a time; adds `Overloaded`. Default: none. */
    readonly rateLimit?: RateLimit
    /** Refuses at the door what could not be served anyway; adds `Overloaded`. Default: none. */
    readonly shed?: Shed
    /** A second attempt on another node. Default: none. Reports that write cannot have one. */
    readonly hedge?: [Write] extends [undefined]
      ? Hedge
      : Declaration.Refused<"a report that writes has no hedge: a second attempt would write twice">
    /** Rows in place of an error, by the error's tag. Exactly the tags that are named here leave the type. */
    readonly fallback?: Declaration.Fallback<
      Declaration.Failures<Breaker, Bulkhead, RateLimit, Shed, Write>,
      Declaration.ToSchema<Row>["Type"],
      Handled
    >
  }
): Report<
  Name,
  Declaration.ToSchema<Params>,
  Declaration.ToSchema<Row>,
  Declaration.AfterFallback<Declaration.Failures<Breaker, Bulkhead, RateLimit, Shed, Write>, Handled>,
  RoleId | QueryR | Declaration.RetryServices<Retry> | Handled[keyof Handled],
  RoleId,
  Declaration.Failures<Breaker, Bulkhead, RateLimit, Shed, Write>
> => {
  const declared = notePlace(Declared.make(name, options))
  const call = Pipeline.make(declared)
  return makeProto({
    name,
    params: declared.params,
    row: declared.row,
    errors: new Set(Declared.errors(declared).values()),
    declared,
    annotations: Context.empty(),
    runWithInfo: call(Pipeline.withInfo),
    run: call(Pipeline.rowsAlone),
    stream: Streaming.make(declared)
  })
}

/** A declared transaction: a function around what runs in it. */
export interface Transaction<out Error extends Schema.Top, out Requires> {
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Error["Type"], R | Requires>
  readonly "~Error": Error
  readonly "~Requires": Requires
  /** Everything that it can fail with, besides what runs in it. */
  readonly errors: ReadonlySet<Schema.Top>
  readonly declared: Declared.Declared
}

/** Any declared transaction. */
export interface AnyTransaction {
  readonly errors: ReadonlySet<Schema.Top>
  readonly declared: Declared.Declared
}

/**
 * Declares a transaction: everything of the role that happens in an effect, reports and statements (`sql` of the role's
 * service), on one session, committed together or not at all. The effect's own failures pass through unchanged and roll
 * back.
 *
 * BEGIN travels with the first statement. With `retry` the whole is run again when the server says that it was in another
 * one's way; a COMMIT whose answer is lost is `OutcomeUnknown`, and is never repeated. Inside of a transaction of its role it
 * is a savepoint.
 *
 * @example
 * ```ts
 * class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
 *
 * const unit = Report.transaction(Fleet.role("primary"), {
 *   deadline: "5 seconds",
 *   isolation: "serializable",
 *   retry: { retries: 3 }
 * })
 *
 * const both = unit(Effect.all([stoppage.run({}), trips.run({})]))
 * ```
 */
export const transaction: {
  <
    RoleId,
    const Retry extends Declaration.Retry<any> | undefined = undefined,
    const Bulkhead extends Declaration.BulkheadOptions | undefined = undefined,
    const ReadOnly extends boolean | undefined = undefined
  >(
    role: Context.Key<RoleId, RoleService>,
    options: Declaration.TransactionOptions<Retry, Bulkhead, ReadOnly>
  ): Transaction<Declaration.TransactionFailures<Bulkhead, ReadOnly>, RoleId | Declaration.RetryServices<Retry>>
  <
    A,
    E,
    R,
    RoleId,
    const Retry extends Declaration.Retry<any> | undefined = undefined,
    const Bulkhead extends Declaration.BulkheadOptions | undefined = undefined,
    const ReadOnly extends boolean | undefined = undefined
  >(
    self: Effect.Effect<A, E, R>,
    role: Context.Key<RoleId, RoleService>,
    options: Declaration.TransactionOptions<Retry, Bulkhead, ReadOnly>
  ): Effect.Effect<
    A,
    E | Declaration.TransactionFailures<Bulkhead, ReadOnly>["Type"],
    R | RoleId | Declaration.RetryServices<Retry>
  >
} = (...args: ReadonlyArray<any>): any => {
  if (args.length > 2) return transaction(args[1], args[2])(args[0])
  const declared = notePlace(Declared.makeTransaction(args[0], args[1]))
  const run = Transacting.make(declared as Parameters<typeof Transacting.make>[0])
  return Object.assign((self: Effect.Effect<any, any, any>) => run(self), {
    declared,
    errors: new Set(Declared.errors(declared).values())
  })
}

/** What a report, or a transaction, can cost at worst and how it may fail, from its declaration alone: as data. */
export const explain = (report: Any | AnyTransaction): Explain.Explanation =>
  Explain.explain(report.declared, Declared.errors(report.declared).keys())

/** {@link explain} for a terminal. */
export const explainText = (report: Any | AnyTransaction): string => Explain.toText(explain(report))

/** {@link explain} as Markdown, for a catalogue. */
export const explainMarkdown = (report: Any | AnyTransaction): string => Explain.toMarkdown(explain(report))

const Proto = {
  [TypeId]: TypeId,
  annotate(this: Any, key: Context.Key<never, unknown>, value: unknown) {
    return makeProto({ ...this, annotations: Context.add(this.annotations, key, value) })
  },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

// The type of a report is computed by `make`; the fields were just put together to it.
const makeProto = (fields: object): any => Object.assign(Object.create(Proto), fields)
