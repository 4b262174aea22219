/**
 * The way of one call, in the order in which it happens:
 *
 * `span and metrics > fallback > deadline > rate limit > retry with budget > hedge > breaker (per node) > bulkhead and
 * lane > attempt timeout > statement > decode`
 *
 * Freshness and coalescing have their place between the fallback and the deadline. What a report does not declare, its
 * call does not pass through.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Deadline from "../policy/Deadline.ts"
import type { Session } from "../pool/Session.ts"
import type { ReportResult, Source } from "../ReportResult.ts"
import * as Telemetry from "../Telemetry.ts"
import { binder, type Bound, compile, type Compiled, serverTimeout, tell, tellLate } from "./Bound.ts"
import type { Declared } from "./Declared.ts"
import * as Meter from "./Meter.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import * as RowCodec from "./RowCodec.ts"

type Result = ReportResult<any>

export const make = (declared: Declared): ((input: unknown) => Effect.Effect<Result, any, any>) => {
  const { fallback, lane, maxRows, name, priority, writes } = declared
  const encode = ParamsCodec.make(name, declared.params)
  const decode = RowCodec.make(name, declared.row)
  const bind = binder(declared)
  const measure = Meter.make(name)
  const span = Effect.withSpan(
    Telemetry.callSpan(name),
    { attributes: { [Telemetry.attributes.report]: name, [Telemetry.attributes.lane]: lane } },
    { captureStackTrace: false }
  )
  const request = { lane, name, priority }
  const statementOptions = { timeout: serverTimeout(declared) }

  const call = (input: unknown): Effect.Effect<Result, any, any> => {
    const answered = fallback === undefined ? live(input) : Effect.catch(live(input), fallen)
    return span(measure(answered))
  }

  const live = (input: unknown): Effect.Effect<Result, any, any> =>
    Effect.flatMap(encode(input), (params) =>
      Effect.flatMap(declared.database, (role) =>
        Effect.flatMap(bind(role), (bound) =>
          Effect.flatMap(compile(bound, params), (statement) => withinDeadline(bound, statement))
        )
      )
    )

  const withinDeadline = (bound: Bound, statement: Compiled): Effect.Effect<Result, any, any> => {
    const { deadline, retry } = bound.policies
    const attempts =
      retry === undefined ? attempt(bound, statement, 1) : retry.run(({ number }) => attempt(bound, statement, number))
    const answered = deadline(Effect.mapError(attempts, (error) => tell(bound, error)))
    return writes === undefined ? answered : Effect.mapError(answered, (error) => tellLate(bound, error))
  }

  /** One attempt on one node. */
  const attempt = (bound: Bound, statement: Compiled, number: number) => {
    const { breaker, bulkhead } = bound.policies
    const node = bound.role.nodes[0]!
    const answered = Effect.flatMap(leased(bound, statement), ({ rows }) => {
      const truncated = maxRows !== undefined && rows.length > maxRows
      return Effect.flatMap(decode(truncated ? rows.slice(0, maxRows) : rows), (decoded) =>
        result(decoded, "live", node.name, number, truncated)
      )
    })
    const admitted = bulkhead === undefined ? answered : bulkhead.withPermit(answered)
    return breaker === undefined ? admitted : breaker.protect(admitted, node.name)
  }

  /** The time in the lane's queue is not the attempt's: its timeout begins with the lease. */
  const leased = (bound: Bound, statement: Compiled) => {
    const { attemptTimeout } = bound.policies
    return Effect.withFiber((fiber) => {
      Deadline.enterOf(fiber, "acquire")
      return bound.role.nodes[0]!.pool.use(request, (session: Session) => {
        Deadline.enterOf(fiber, "attempt")
        const answer = session.query(statement.sql, statement.params, statementOptions)
        return attemptTimeout === undefined ? answer : attemptTimeout(answer)
      })
    })
  }

  const fallen = (error: any): Effect.Effect<Result, any, any> => {
    const handler = fallback?.[error._tag]
    return handler === undefined
      ? Effect.fail(error)
      : Effect.flatMap(handler(error), (rows) => result(rows, "fallback", undefined, 0, false))
  }

  return call
}

const result = (
  rows: ReadonlyArray<unknown>,
  source: Source,
  node: string | undefined,
  attempts: number,
  truncated: boolean
): Effect.Effect<Result> =>
  Clock.clockWith((clock) => {
    const asOf = DateTime.makeUnsafe(clock.currentTimeMillisUnsafe())
    return Effect.succeed({ rows, source, node, attempts, asOf, ageMillis: 0, truncated })
  })
