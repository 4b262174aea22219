/**
 * The way of one call, in the order in which it happens:
 *
 * `span and metrics > fallback > deadline > rate limit and shedding > retry with budget > hedge > breaker (per node) >
 * bulkhead and lane > attempt timeout > injected fault > statement > decode`
 *
 * Freshness and coalescing have their place between the fallback and the deadline. What a report does not declare, its
 * call does not pass through.
 *
 * Inside of a transaction of its role a report runs on the transaction's session (`Joined`).
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
import * as Surrounding from "../pool/Surrounding.ts"
import type { DeadlineExceeded } from "../ReportError.ts"
import type { ReportResult, Source } from "../ReportResult.ts"
import type { Node } from "../topology/Node.ts"
import type { StatementResult } from "../pool/Session.ts"
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
import { failWith } from "./Failure.ts"
import * as Joined from "./Joined.ts"
import * as Meter from "./Meter.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import type * as Policies from "./Policies.ts"
import { atPlace } from "./Place.ts"
import * as RowCodec from "./RowCodec.ts"
import * as Spans from "./Spans.ts"

/** What a caller is given of an answer. */
type Shape = (
  fiber: Fiber.Fiber<unknown, unknown>,
  rows: ReadonlyArray<any>,
  source: Source,
  node: string | undefined,
  attempts: number,
  truncated: boolean,
  changed: number | undefined
) => unknown

export const rowsAlone: Shape = (_, rows) => rows

export const withInfo: Shape = (fiber, rows, source, node, attempts, truncated, changed): ReportResult<any> => ({
  rows,
  source,
  node,
  attempts,
  asOf: DateTime.makeUnsafe(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()),
  ageMillis: 0,
  truncated,
  changed
})

const changes: ReadonlySet<string> = new Set(["INSERT", "UPDATE", "DELETE", "MERGE"])

const changedBy = ({ command, rowCount }: StatementResult): number | undefined =>
  changes.has(command) ? rowCount : undefined

type Answer = Effect.Effect<any, any, any>

/**
 * Functions that are given a fiber run in it, at once: a step of a call that need not wait for its turn is no effect of its
 * own, of which each costs as much as a policy.
 */
export const make = (declared: Declared): ((shape: Shape) => (input: unknown) => Answer) => {
  const { fallback, lane, maxRows, name, outside, priority, writes } = declared
  const encode = ParamsCodec.make(name, declared.params, (error) => atPlace(error, declared))
  const decode = RowCodec.make(name, declared.row)
  const bind = binder(declared)
  const meter = Meter.make(name)
  const spans = Spans.make(declared)
  const onBehalf = onBehalfOf(priority)
  // A write has its session to itself: a lost session must not take somebody else's write with it.
  const lend = (node: Node) => (writes === undefined ? node.read : node.pool.use)
  const statementOptions = { timeout: serverTimeout(declared), maxRows, readOnly: writes === undefined }
  // Whether a transaction may write was said when it began.
  const joinedOptions = { timeout: statementOptions.timeout, maxRows }
  const plain = fallback === undefined && priority === undefined

  const ask =
    (shape: Shape) =>
    (input: unknown): Answer =>
      Effect.withFiber((fiber) => {
        const call = begin(name)
        const end = meter.begin(fiber, call)
        const asked =
          plain && Spans.isUnseen(fiber) ? attended(fiber, input, call, shape) : announced(fiber, input, call, shape)
        return end === undefined ? asked : Effect.onExitPrimitive(asked, end)
      })

  const announced = (fiber: Fiber.Fiber<unknown, unknown>, input: unknown, call: Call, shape: Shape): Answer => {
    const asked = Effect.withFiber((fiber) => live(fiber, input, call, shape))
    const answered = fallback === undefined ? asked : Effect.catch(asked, fallen(call, shape))
    return spans.call(fiber, call, onBehalf(answered))
  }

  /** A query that throws is a defect of this call, and counted as one. */
  const attended: typeof announced = (fiber, input, call, shape) => {
    try {
      return live(fiber, input, call, shape)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  const live = (fiber: Fiber.Fiber<unknown, unknown>, input: unknown, call: Call, shape: Shape): Answer => {
    const params = encode(input)
    return isThere(params)
      ? withinDeadline(fiber, params.value, call, shape)
      : Effect.flatMap(params, (params) => Effect.withFiber((fiber) => withinDeadline(fiber, params, call, shape)))
  }

  const withinDeadline = (fiber: Fiber.Fiber<unknown, unknown>, params: unknown, call: Call, shape: Shape): Answer => {
    const bound = bind(fiber)
    if (bound.refusal !== undefined) return failWith(bound.refusal, declared)
    const { carried, deadline } = bound.policies
    const around = fiber.getRef(Surrounding.Current)
    if (around !== undefined && outside !== true) {
      const own = Joined.join(name, bound.role, fiber, around)
      if (Joined.isRefused(own)) return failWith(own, declared)
      call.joined = Joined.routeOf(name, own)
    }
    const statement = compile(bound, params)
    const answered = (fiber: Fiber.Fiber<unknown, unknown>): Answer =>
      Effect.catch(
        Effect.isEffect(statement)
          ? Effect.flatMap(statement, (statement) =>
              Effect.withFiber((fiber) => admitted(fiber, bound, statement, call, shape))
            )
          : admitted(fiber, bound, statement, call, shape),
        (error) => failWith(tell(bound, error, call), declared)
      )
    const told = carried === undefined ? deadline(Effect.withFiber(answered)) : carried(fiber, answered)
    return writes === undefined || call.joined !== undefined
      ? told
      : Effect.mapError(told, (error) => tellLate(bound, error, call))
  }

  const admitted = (
    fiber: Fiber.Fiber<unknown, unknown>,
    bound: Bound,
    statement: Compiled,
    call: Call,
    shape: Shape
  ): Answer => {
    const { hedge, rateLimit, shed } = bound.policies
    const isJoined = call.joined !== undefined
    const retry = isJoined ? undefined : bound.policies.retry
    const isHedged = hedge !== undefined && writes === undefined && !isJoined && bound.role.nodes.length > 1
    const once = (fiber: Fiber.Fiber<unknown, unknown>) => {
      if (isHedged) return hedged(bound, hedge, statement, call, shape)
      const tried = attempt(fiber, bound, statement, call, "live", shape)
      return writes === undefined || isJoined ? tried : Effect.tapError(tried, noteDoubt(bound, call))
    }
    if (retry === undefined && shed === undefined && rateLimit === undefined) return once(fiber)
    const later = Effect.withFiber(once)
    const attempts = retry === undefined ? later : retry.run(later)
    const kept = shed === undefined ? attempts : shed.run(attempts)
    return rateLimit === undefined ? kept : rateLimit.run(kept)
  }

  /** `call` remembers the nodes that this call has been to: a retry and a hedge go elsewhere first. */
  const hedged = (
    bound: Bound,
    hedge: NonNullable<Policies.Policies["hedge"]>,
    statement: Compiled,
    call: Call,
    shape: Shape
  ): Effect.Effect<any, Policies.AttemptError, any> =>
    Deadline.guard(
      hedge.run(
        (candidate) =>
          Effect.withFiber((fiber) =>
            attempt(fiber, bound, statement, call, candidate === 0 ? "live" : "hedge", shape)
          ),
        bound.role.nodes.length
      )
    )

  /** One attempt on one node. */
  const attempt = (
    fiber: Fiber.Fiber<unknown, unknown>,
    bound: Bound,
    statement: Compiled,
    call: Call,
    source: Source,
    shape: Shape
  ): Effect.Effect<any, Policies.AttemptError, any> =>
    spans.attempt(fiber, bound, call, source, (phases) =>
      (call.joined ?? bound.role.route).attemptOf(fiber, call, (node, until) => {
        const { breaker, bulkhead } = bound.policies
        const answered = (read: Effect.Effect<StatementResult, Policies.AttemptError>) =>
          Effect.flatMap(read, (result) => {
            const { fields, repeated, rows, truncated } = result
            call.out = false
            if (repeated) call.sent++
            phases.decode()
            return shaped(
              fiber,
              decode(rows, 0, fields),
              call,
              shape,
              source,
              node.name,
              call.sent,
              truncated,
              writes === undefined ? undefined : changedBy(result)
            )
          })
        if (breaker === undefined && bulkhead === undefined && node.stays !== true) {
          return answered(leased(fiber, bound, node, statement, until, call, phases, nobody))
        }
        const asked = (begun: () => void) => {
          const lease = Effect.withFiber((fiber) => leased(fiber, bound, node, statement, until, call, phases, begun))
          const read = answered(node.stays === true ? Deadline.guard(lease) : lease)
          return bulkhead === undefined ? read : bulkhead.withPermit(read)
        }
        return breaker === undefined ? asked(nobody) : breaker.protect(asked, node.name)
      })
    )

  /** The time in a queue is not the attempt's: its timeout, and what the breaker measures, begin with the lease. */
  const leased = (
    fiber: Fiber.Fiber<unknown, unknown>,
    bound: Bound,
    node: Node,
    statement: Compiled,
    until: number | undefined,
    call: Call,
    phases: Spans.Phases,
    begun: () => void
  ): Effect.Effect<StatementResult, Policies.AttemptError> => {
    const { attemptLimit, attemptTimeout } = bound.policies
    const late = Deadline.enterInTimeOf(fiber, "acquire")
    if (late !== undefined) return Effect.fail(late)
    phases.acquire(node.name)
    return lend(node)({ lane, name, priority, deadline: sessionBy(fiber, until) }, (session) => {
      call.sent++
      call.out = true
      phases.statement()
      begun()
      const { params, sql } = statement
      const options = call.joined === undefined ? statementOptions : joinedOptions
      if (FaultInjection.isPlanned(fiber)) {
        if (attemptTimeout === undefined) Deadline.beginAttemptOf(fiber)
        const answer = FaultInjection.inject(session.query(sql, params, options), name)
        return Deadline.guard(attemptTimeout === undefined ? answer : attemptTimeout(answer))
      }
      Deadline.beginAttemptOf(fiber)
      return session.query(sql, params, options, (leave: Leave) => Deadline.leave(fiber, leave, attemptLimit))
    })
  }

  const fallen =
    (call: Call, shape: Shape) =>
    (error: any): Answer => {
      const handler = fallback?.[error._tag]
      return handler === undefined
        ? Effect.fail(error)
        : Effect.flatMap(handler(error), (rows) =>
            Effect.withFiber((fiber) =>
              shaped(fiber, Effect.succeed(rows), call, shape, "fallback", undefined, 0, false, undefined)
            )
          )
    }

  return ask
}

type Leave = Parameters<typeof Deadline.leave>[1]

const nobody = (): void => {}

const shaped = <E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  rows: Effect.Effect<ReadonlyArray<any>, E, R>,
  call: Call,
  shape: Shape,
  source: Source,
  node: string | undefined,
  attempts: number,
  truncated: boolean,
  changed: number | undefined
): Effect.Effect<any, E | DeadlineExceeded, R> => {
  const answer = (rows: ReadonlyArray<any>): unknown => {
    call.source = source
    call.served = node
    return shape(fiber, rows, source, node, attempts, truncated, changed)
  }
  return isThere(rows) ? Effect.succeed(answer(rows.value)) : Effect.map(Deadline.guard(rows), answer)
}
