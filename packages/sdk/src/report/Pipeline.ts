/**
 * The way of one call, in the order in which it happens:
 *
 * `span and metrics > fallback > deadline > rate limit > retry with budget > hedge > breaker (per node) > bulkhead and
 * lane > attempt timeout > statement > decode`
 *
 * Freshness and coalescing have their place between the fallback and the deadline.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { isSqlError } from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { RoleService } from "../Database.ts"
import * as PgFailure from "../PgFailure.ts"
import * as Deadline from "../policy/Deadline.ts"
import type { Session } from "../pool/Session.ts"
import { AcquireTimeout, DeadlineExceeded, OutcomeUnknown } from "../ReportError.ts"
import type { ReportResult } from "../ReportResult.ts"
import * as Telemetry from "../Telemetry.ts"
import type { Declared } from "./Declared.ts"
import * as Failure from "./Failure.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import * as Policies from "./Policies.ts"
import * as RowCodec from "./RowCodec.ts"

export interface Pipeline {
  readonly run: (input: unknown) => Effect.Effect<ReportResult<any>, any, any>
  readonly stream: (input: unknown) => Stream.Stream<any, any, any>
}

/** The statement of one call, ready for the wire. */
interface Compiled {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

/** A report in one role: its policies, with their state. Made at the first call there. */
interface Bound {
  readonly role: RoleService
  readonly policies: Policies.Policies
  readonly overrides: PgFailure.Overrides
}

export const make = (declared: Declared): Pipeline => {
  const { fallback, lane, maxRows, name, priority, writes } = declared
  const encode = ParamsCodec.make(name, declared.params)
  const decode = RowCodec.make(name, declared.row)
  const measure = meter(name)
  const bounds = new WeakMap<RoleService, Bound>()
  const statementOptions = { timeout: serverTimeout(declared.attemptTimeout) }

  const bind = (role: RoleService): Effect.Effect<Bound> => {
    const known = bounds.get(role)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.map(PgFailure.CurrentOverrides, (overrides) => {
      const bound = { role, policies: Policies.make(declared, role, overrides), overrides }
      bounds.set(role, bound)
      return bound
    })
  }

  /** The statement is built once a call, before a session is asked for. */
  const compile = (role: RoleService, params: unknown): Effect.Effect<Compiled, never, any> => {
    const built = declared.query(role.sql, params)
    return "compile" in built ? Effect.succeed(compiled(built)) : Effect.map(built, compiled)
  }

  const request = { lane, name, priority }

  /** Lease, attempt timeout, statement. The time in the lane's queue is not the attempt's. */
  const leased = (bound: Bound, statement: Compiled) => {
    const node = bound.role.nodes[0]!
    const { attemptTimeout } = bound.policies
    return Effect.withFiber((fiber) => {
      Deadline.enterOf(fiber, "acquire")
      return node.pool.use(request, (session: Session) => {
        Deadline.enterOf(fiber, "attempt")
        const answer = session.query(statement.sql, statement.params, statementOptions)
        return attemptTimeout === undefined ? answer : attemptTimeout(answer)
      })
    })
  }

  /** One attempt: breaker, bulkhead, lease and statement, decode. */
  const attempt = (bound: Bound, statement: Compiled, number: number) => {
    const { breaker, bulkhead } = bound.policies
    const node = bound.role.nodes[0]!
    const answered = Effect.flatMap(leased(bound, statement), ({ rows }) => {
      const truncated = maxRows !== undefined && rows.length > maxRows
      return Effect.flatMap(decode(truncated ? rows.slice(0, maxRows) : rows), (decoded) =>
        Clock.clockWith((clock) =>
          Effect.succeed<ReportResult<any>>({
            rows: decoded,
            source: "live",
            node: node.name,
            attempts: number,
            asOf: DateTime.makeUnsafe(clock.currentTimeMillisUnsafe()),
            ageMillis: 0,
            truncated
          })
        )
      )
    })
    const admitted = bulkhead === undefined ? answered : bulkhead.withPermit(answered)
    return breaker === undefined ? admitted : breaker.protect(admitted, node.name)
  }

  /** What the caller is told in place of what an attempt failed with. */
  const tell = (bound: Bound, error: any) => {
    const pool = bound.role.name
    if (isSqlError(error)) {
      const failure = PgFailure.fromSqlError(error, undefined, bound.overrides)
      return Failure.fromSqlError(name, pool, error, failure, writes !== undefined)
    }
    switch (error._tag) {
      case "AttemptTimeout":
        return writes === undefined
          ? new DeadlineExceeded({ key: name, deadlineMillis: error.timeoutMillis, phase: "attempt", attempts: 1 })
          : new OutcomeUnknown({ key: name, lastError: { tag: error._tag, message: error.message } })
      case "Overloaded":
        return error.policy === "pool" ? queueFull(bound.role, lane, error.waiting) : error
      default:
        return error
    }
  }

  /** A write whose deadline came while its statement was on the wire may have been applied. */
  const tellLate = (error: any) =>
    writes !== undefined && error._tag === "DeadlineExceeded" && error.phase === "attempt"
      ? new OutcomeUnknown({ key: name, lastError: { tag: error._tag, message: error.message } })
      : error

  const call = (bound: Bound, statement: Compiled): Effect.Effect<ReportResult<any>, any, any> => {
    const { deadline, retry } = bound.policies
    const attempts =
      retry === undefined ? attempt(bound, statement, 1) : retry.run(({ number }) => attempt(bound, statement, number))
    const answered = deadline(Effect.mapError(attempts, (error) => tell(bound, error)))
    return writes === undefined ? answered : Effect.mapError(answered, tellLate)
  }

  const live = (input: unknown): Effect.Effect<ReportResult<any>, any, any> =>
    Effect.flatMap(encode(input), (params) =>
      Effect.flatMap(declared.database, (role) =>
        Effect.flatMap(bind(role), (bound) =>
          Effect.flatMap(compile(role, params), (statement) => call(bound, statement))
        )
      )
    )

  const fallen = (error: any): Effect.Effect<ReportResult<any>, any, any> => {
    const handler = fallback?.[error._tag]
    if (handler === undefined) return Effect.fail(error)
    return Effect.flatMap(handler(error), (rows) =>
      Clock.clockWith((clock) =>
        Effect.succeed<ReportResult<any>>({
          rows,
          source: "fallback",
          node: undefined,
          attempts: 0,
          asOf: DateTime.makeUnsafe(clock.currentTimeMillisUnsafe()),
          ageMillis: 0,
          truncated: false
        })
      )
    )
  }

  const spanOptions = { attributes: { [Telemetry.attributes.report]: name, [Telemetry.attributes.lane]: lane } }
  const span = Effect.withSpan(Telemetry.callSpan(name), spanOptions, { captureStackTrace: false })

  const run = (input: unknown) => {
    const answered = fallback === undefined ? live(input) : Effect.catch(live(input), fallen)
    return span(measure(answered))
  }

  const stream = (input: unknown): Stream.Stream<any, any, any> =>
    Stream.unwrap(
      Effect.flatMap(encode(input), (params) =>
        Effect.flatMap(declared.database, (role) =>
          Effect.flatMap(bind(role), (bound) =>
            Effect.flatMap(compile(role, params), (statement) =>
              Effect.map(bound.role.nodes[0]!.pool.acquire(request), (session) => {
                let seen = 0
                const rows = session.stream(statement.sql, statement.params, statementOptions)
                return (maxRows === undefined ? rows : Stream.take(rows, maxRows)).pipe(
                  Stream.mapError((error) => tell(bound, error)),
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
      )
    )

  return { run, stream }
}

const compiled = (statement: Statement.Statement<any>): Compiled => {
  const [sql, params] = statement.compile()
  return { sql, params: ParamsCodec.toDriver(params) }
}

/** The server stops a little before the client does, so that its own word for it arrives and the session stays usable. */
const serverTimeout = (attemptTimeout: number): number =>
  Math.max(1, attemptTimeout - Math.min(250, attemptTimeout / 10))

const queueFull = (role: RoleService, lane: string, waiting: number): AcquireTimeout =>
  new AcquireTimeout({
    pool: role.name,
    lane,
    reason: "queue-full",
    waitedMillis: 0,
    counts: {
      idle: 0,
      leased: role.options.maxConnections,
      connecting: 0,
      draining: 0,
      waiting,
      max: role.options.maxConnections
    },
    holders: []
  })

/** Duration and outcome of each call, under names that come from the declaration. */
const meter = (name: string) => {
  const outcomes = new Map<string, ReturnType<typeof Telemetry.duration>>()
  const record = (outcome: string, millis: number, context: any): void => {
    let metric = outcomes.get(outcome)
    if (metric === undefined) {
      metric = Telemetry.duration("db.client.operation.duration", {
        [Telemetry.attributes.report]: name,
        [Telemetry.attributes.outcome]: outcome
      })
      outcomes.set(outcome, metric)
    }
    metric.updateUnsafe(millis / 1000, context)
  }
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const begin = clock.currentTimeMillisUnsafe()
      return Effect.onExit(self, (exit) => {
        record(outcomeOf(exit), clock.currentTimeMillisUnsafe() - begin, fiber.context)
        return Effect.void
      })
    })
}

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (exit._tag === "Success") return "ok"
  for (const reason of exit.cause.reasons) {
    if (reason._tag === "Fail") return (reason.error as { readonly _tag?: string })._tag ?? "error"
    if (reason._tag === "Die") return "defect"
  }
  return "interrupted"
}
