/**
 * The spans of a report: one for each call, a child for each attempt, with what became of them and where their time went.
 * Names and attributes come from the declaration.
 *
 * A span keeps the exit that ends it, and exporters write down its error. So it ends without the rows, and an attempt's
 * without the server's own error, whose message quotes values.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { isSqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as PgFailure from "../PgFailure.ts"
import { now } from "../policy/Time.ts"
import type { Source } from "../ReportResult.ts"
import * as Telemetry from "../Telemetry.ts"
import type { Bound, Call } from "./Bound.ts"
import type { Declared } from "./Declared.ts"
import { fromSqlError } from "./Failure.ts"
import { outcomeOf } from "./Meter.ts"

const { attributes } = Telemetry

/** Where an attempt is: told by the attempt as it goes on. */
export interface Phases {
  /** It waits for a session of this server. */
  readonly acquire: (node: string) => void
  /** It has one: the statement goes out. */
  readonly statement: () => void
  /** The rows are here: they are decoded. */
  readonly decode: () => void
}

export interface Spans {
  readonly call: <A, E, R>(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  readonly attempt: <A, E, R>(
    fiber: Fiber.Fiber<unknown, unknown>,
    bound: Bound,
    call: Call,
    source: Source,
    self: (phases: Phases) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  readonly stream: <A, E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<A, E, R>
}

export const make = ({ lane, name, transaction, writes }: Declared): Spans => {
  const declared = { [attributes.report]: name, [attributes.lane]: lane }
  const callName = transaction === undefined ? Telemetry.callSpan(name) : Telemetry.transactionSpan(name)
  const attemptName = Telemetry.attemptSpan(name)
  return {
    call: (fiber, call, self) =>
      isUnseen(fiber)
        ? self
        : spanned(
            callName,
            declared,
            () => self,
            (fiber, span, exit) => {
              span.attribute(attributes.attempts, call.sent)
              if (exit._tag === "Success") span.attribute(attributes.source, call.source)
              end(fiber, span, exit)
            }
          ),
    attempt: (fiber, { overrides, role }, call, source, self) => {
      if (isUnseen(fiber)) return self(untold)
      const known = { ...declared, [attributes.attempt]: ++call.begun, [attributes.source]: source }
      const watch = new Watch(fiber.getRef(Clock.Clock))
      return spanned(
        attemptName,
        known,
        (span) => self((watch.span = span) && watch),
        (_, span, exit) => {
          watch.enter(undefined)
          const error = exit._tag === "Failure" ? Cause.findErrorOption(exit.cause) : undefined
          if (error === undefined || error._tag === "None" || !isSqlError(error.value)) return end(fiber, span, exit)
          const failure = PgFailure.fromSqlError(error.value, undefined, overrides)
          if (failure.sqlState !== undefined) span.attribute(attributes.sqlState, failure.sqlState)
          end(fiber, span, Exit.fail(fromSqlError(name, role.name, error.value, failure, writes !== undefined)))
        }
      )
    },
    stream: (self) => Stream.withSpan(self, callName, { attributes: declared, captureStackTrace: false }) as typeof self
  }
}

/** Nobody sees the spans of Effect's own tracer, and each costs more than a policy. */
export const isUnseen = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer

const untold: Phases = { acquire: () => {}, statement: () => {}, decode: () => {} }

/** Notes on a span how long each phase took, in milliseconds. */
class Watch implements Phases {
  span: Tracer.Span | undefined
  private readonly clock: Clock.Clock
  private since = 0
  private phase: string | undefined

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  acquire(node: string): void {
    this.span?.attribute(attributes.node, node)
    this.enter(attributes.acquireMillis)
  }

  statement(): void {
    this.enter(attributes.statementMillis)
  }

  decode(): void {
    this.enter(attributes.decodeMillis)
  }

  enter(phase: string | undefined): void {
    const at = now(this.clock)
    if (this.phase !== undefined) this.span?.attribute(this.phase, Math.round((at - this.since) * 1000) / 1000)
    this.phase = phase
    this.since = at
  }
}

/** As `Effect.withSpan`, which would end the span with the exit as it is; `onEnd` comes first. */
const spanned = <A, E, R>(
  name: string,
  attributes: Record<string, unknown>,
  self: (span: Tracer.Span) => Effect.Effect<A, E, R>,
  onEnd: (fiber: Fiber.Fiber<unknown, unknown>, span: Tracer.Span, exit: Exit.Exit<A, E>) => void
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Effect.useSpan(name, { attributes }, (span) =>
      Effect.onExitPrimitive(Effect.withParentSpan(self(span), span, { captureStackTrace: false }), (exit) => {
        onEnd(fiber, span, exit)
        return undefined
      })
    )
  ) as Effect.Effect<A, E, R>

const end = (fiber: Fiber.Fiber<unknown, unknown>, span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): void => {
  span.attribute(attributes.outcome, outcomeOf(exit))
  span.end(fiber.getRef(Clock.Clock).currentTimeNanosUnsafe(), exit._tag === "Success" ? Exit.void : exit)
}
