/**
 * The way of one call, in the order in which it happens:
 *
 * `span and metrics > fallback > deadline > rate limit and shedding > retry with budget > hedge > breaker (per node) >
 * bulkhead and lane > attempt timeout > injected fault > statement > decode`
 *
 * Freshness and coalescing have their place between the fallback and the deadline. What a report does not declare, its
 * call does not pass through.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Deadline from "../policy/Deadline.ts"
import * as FaultInjection from "../policy/FaultInjection.ts"
import type { ReportResult, Source } from "../ReportResult.ts"
import type { Node } from "../topology/Node.ts"
import {
  begin,
  binder,
  type Bound,
  type Call,
  compile,
  type Compiled,
  noteDoubt,
  onBehalfOf,
  serverTimeout,
  sessionBy,
  tell,
  tellLate
} from "./Bound.ts"
import type { Declared } from "./Declared.ts"
import * as Meter from "./Meter.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import type * as Policies from "./Policies.ts"
import * as RowCodec from "./RowCodec.ts"
import * as Spans from "./Spans.ts"

type Result = ReportResult<any>

export const make = (declared: Declared): ((input: unknown) => Effect.Effect<Result, any, any>) => {
  const { fallback, lane, maxRows, name, priority, writes } = declared
  const encode = ParamsCodec.make(name, declared.params)
  const decode = RowCodec.make(name, declared.row)
  const bind = binder(declared)
  const { measure } = Meter.make(name)
  const spans = Spans.make(declared)
  const onBehalf = onBehalfOf(priority)
  // A write has its session to itself: a lost session must not take somebody else's write with it.
  const lend = (node: Node) => (writes === undefined ? node.read : node.pool.use)
  const statementOptions = { timeout: serverTimeout(declared), maxRows, readOnly: writes === undefined }

  const call = (input: unknown): Effect.Effect<Result, any, any> =>
    Effect.suspend(() => {
      const own = begin(name)
      const answered = fallback === undefined ? live(input, own) : Effect.catch(live(input, own), fallen)
      return spans.call(own, measure(own, onBehalf(answered)))
    })

  const live = (input: unknown, call: Call): Effect.Effect<Result, any, any> =>
    Effect.flatMap(encode(input), (params) =>
      Effect.flatMap(declared.database, (role) =>
        Effect.flatMap(bind(role), (bound) => withinDeadline(bound, params, call))
      )
    )

  const withinDeadline = (bound: Bound, params: unknown, call: Call): Effect.Effect<Result, any, any> => {
    const { deadline, rateLimit, retry, shed } = bound.policies
    const answered = Effect.flatMap(compile(bound, params), (statement) => {
      const once = () =>
        writes === undefined
          ? hedged(bound, statement, call)
          : Effect.tapError(attempt(bound, statement, call, "live"), noteDoubt(bound, call))
      const attempts = retry === undefined ? once() : retry.run(once)
      const kept = shed === undefined ? attempts : shed.run(attempts)
      return rateLimit === undefined ? kept : rateLimit.run(kept)
    })
    const told = deadline(Effect.mapError(answered, (error) => tell(bound, error, call)))
    return writes === undefined ? told : Effect.mapError(told, (error) => tellLate(bound, error, call))
  }

  /** `call` remembers the nodes that this call has been to: a retry and a hedge go elsewhere first. */
  const hedged = (bound: Bound, statement: Compiled, call: Call) => {
    const { hedge } = bound.policies
    if (hedge === undefined || bound.role.nodes.length < 2) return attempt(bound, statement, call, "live")
    return hedge.run(
      (candidate) => attempt(bound, statement, call, candidate === 0 ? "live" : "hedge"),
      bound.role.nodes.length
    )
  }

  /** One attempt on one node. */
  const attempt = (
    bound: Bound,
    statement: Compiled,
    call: Call,
    source: Source
  ): Effect.Effect<Result, Policies.AttemptError, any> =>
    spans.attempt(bound, call, source, (phases) =>
      bound.role.route.attempt(call, (node, until) => {
        const { breaker, bulkhead } = bound.policies
        const admitted = (begun: () => void) => {
          const started = () => {
            call.sent++
            call.out = true
            phases.statement()
            begun()
          }
          const waits = () => phases.acquire(node.name)
          const read = leased(bound, node, statement, until, waits, started)
          const answered = Effect.flatMap(read, ({ rows, truncated }) => {
            call.out = false
            phases.decode()
            return Effect.flatMap(decode(rows), (decoded) => result(decoded, source, node.name, call.sent, truncated))
          })
          return bulkhead === undefined ? answered : bulkhead.withPermit(answered)
        }
        return breaker === undefined ? admitted(nobody) : breaker.protect(admitted, node.name)
      })
    )

  /** The time in a queue is not the attempt's: its timeout, and what the breaker measures, begin with the lease. */
  const leased = (
    bound: Bound,
    node: Node,
    statement: Compiled,
    until: number | undefined,
    waits: () => void,
    begun: () => void
  ) => {
    const { attemptTimeout } = bound.policies
    return Effect.withFiber((fiber) => {
      Deadline.enterOf(fiber, "acquire")
      waits()
      return lend(node)({ lane, name, priority, deadline: sessionBy(fiber, until) }, (session) => {
        begun()
        if (attemptTimeout === undefined) Deadline.beginAttemptOf(fiber)
        const answer = FaultInjection.inject(session.query(statement.sql, statement.params, statementOptions), name)
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

const nobody = (): void => {}

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
