/**
 * The way of one call, in the order in which it happens:
 *
 * `span and metrics > fallback > deadline > rate limit and shedding > retry with budget > hedge > breaker (per node) >
 * bulkhead and lane > attempt timeout > injected fault > statement > decode`
 *
 * Freshness and coalescing have their place between the fallback and the deadline. What a report does not declare, its
 * call does not pass through.
 *
 * The deadline of a read is carried (`Deadline.carried`): no fiber watches it, so whatever waits on this way leaves by
 * itself or goes through `Deadline.guard`.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { isThere } from "../internal/there.ts"
import * as Deadline from "../policy/Deadline.ts"
import * as FaultInjection from "../policy/FaultInjection.ts"
import type { DeadlineExceeded } from "../ReportError.ts"
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

/** What a call gives inside of here. */
interface Answer {
  readonly rows: ReadonlyArray<any>
  readonly source: Source
  readonly node: string | undefined
  readonly attempts: number
  /** Milliseconds of the Clock. */
  readonly at: number
  readonly truncated: boolean
}

export const make = (declared: Declared): ((input: unknown) => Effect.Effect<Answer, any, any>) => {
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

  const call = (input: unknown): Effect.Effect<Answer, any, any> =>
    Effect.withFiber((fiber) => {
      const own = begin(name)
      const asked = live(input, own)
      const answered = fallback === undefined ? asked : Effect.catch(asked, fallen)
      return spans.call(fiber, own, measure(fiber, own, onBehalf(answered)))
    })

  const live = (input: unknown, call: Call): Effect.Effect<Answer, any, any> =>
    Effect.withFiber((fiber) => {
      const params = encode(input)
      return isThere(params)
        ? withinDeadline(bind(fiber), params.value, call)
        : Effect.flatMap(params, (params) => withinDeadline(bind(fiber), params, call))
    })

  const withinDeadline = (bound: Bound, params: unknown, call: Call): Effect.Effect<Answer, any, any> => {
    const { carried, deadline } = bound.policies
    const statement = compile(bound, params)
    const answered = Effect.isEffect(statement)
      ? Effect.flatMap(statement, (statement) => admitted(bound, statement, call))
      : admitted(bound, statement, call)
    const told = (carried ?? deadline)(Effect.mapError(answered, (error) => tell(bound, error, call)))
    return writes === undefined ? told : Effect.mapError(told, (error) => tellLate(bound, error, call))
  }

  const admitted = (bound: Bound, statement: Compiled, call: Call): Effect.Effect<Answer, any, any> => {
    const { rateLimit, retry, shed } = bound.policies
    const once = () =>
      writes === undefined
        ? hedged(bound, statement, call)
        : Effect.tapError(attempt(bound, statement, call, "live"), noteDoubt(bound, call))
    const attempts = retry === undefined ? once() : retry.run(once)
    const kept = shed === undefined ? attempts : shed.run(attempts)
    return rateLimit === undefined ? kept : rateLimit.run(kept)
  }

  /** `call` remembers the nodes that this call has been to: a retry and a hedge go elsewhere first. */
  const hedged = (bound: Bound, statement: Compiled, call: Call) => {
    const { hedge } = bound.policies
    if (hedge === undefined || bound.role.nodes.length < 2) return attempt(bound, statement, call, "live")
    return Deadline.guard(
      hedge.run(
        (candidate) => attempt(bound, statement, call, candidate === 0 ? "live" : "hedge"),
        bound.role.nodes.length
      )
    )
  }

  /** One attempt on one node. */
  const attempt = (
    bound: Bound,
    statement: Compiled,
    call: Call,
    source: Source
  ): Effect.Effect<Answer, Policies.AttemptError, any> =>
    spans.attempt(bound, call, source, (phases) =>
      bound.role.route.attempt(call, (node, until) => {
        const { breaker, bulkhead } = bound.policies
        const asked = (begun: () => void) => {
          const started = () => {
            call.sent++
            call.out = true
            phases.statement()
            begun()
          }
          const waits = () => phases.acquire(node.name)
          const lease = leased(bound, node, statement, until, waits, started)
          const read = node.stays === true ? Deadline.guard(lease) : lease
          const answered = Effect.flatMap(read, ({ rows, truncated }) => {
            call.out = false
            phases.decode()
            return answer(decode(rows), source, node.name, call.sent, truncated)
          })
          return bulkhead === undefined ? answered : bulkhead.withPermit(answered)
        }
        return breaker === undefined ? asked(nobody) : breaker.protect(asked, node.name)
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
  ) =>
    Effect.withFiber((fiber) => {
      const { attemptLimit, attemptTimeout } = bound.policies
      const late = Deadline.enterInTimeOf(fiber, "acquire")
      if (late !== undefined) return Effect.fail(late)
      waits()
      return lend(node)({ lane, name, priority, deadline: sessionBy(fiber, until) }, (session) => {
        begun()
        const { params, sql } = statement
        if (FaultInjection.isPlanned(fiber)) {
          if (attemptTimeout === undefined) Deadline.beginAttemptOf(fiber)
          const answer = FaultInjection.inject(session.query(sql, params, statementOptions), name)
          return Deadline.guard(attemptTimeout === undefined ? answer : attemptTimeout(answer))
        }
        Deadline.beginAttemptOf(fiber)
        return session.query(sql, params, statementOptions, (leave: Leave) =>
          Deadline.leave(fiber, leave, attemptLimit)
        )
      })
    })

  const fallen = (error: any): Effect.Effect<Answer, any, any> => {
    const handler = fallback?.[error._tag]
    return handler === undefined
      ? Effect.fail(error)
      : Effect.flatMap(handler(error), (rows) => answer(Effect.succeed(rows), "fallback", undefined, 0, false))
  }

  return call
}

type Leave = Parameters<typeof Deadline.leave>[1]

const nobody = (): void => {}

const answer = <E, R>(
  rows: Effect.Effect<ReadonlyArray<any>, E, R>,
  source: Source,
  node: string | undefined,
  attempts: number,
  truncated: boolean
): Effect.Effect<Answer, E | DeadlineExceeded, R> =>
  Effect.withFiber((fiber) => {
    const of = (rows: ReadonlyArray<any>): Answer => ({ rows, source, node, attempts, at: timeOf(fiber), truncated })
    return isThere(rows) ? Effect.succeed(of(rows.value)) : Effect.map(Deadline.guard(rows), of)
  })

const timeOf = (fiber: Fiber.Fiber<unknown, unknown>): number => fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()

export const rowsOf = ({ rows }: Answer): ReadonlyArray<any> => rows

export const resultOf = ({ at, attempts, node, rows, source, truncated }: Answer): ReportResult<any> => ({
  rows,
  source,
  node,
  attempts,
  asOf: DateTime.makeUnsafe(at),
  ageMillis: 0,
  truncated
})
