/**
 * The spans of a report: one for each call, a child for each attempt. Names and attributes come from the declaration.
 *
 * A span keeps the error that ends it. Around an attempt that would be the server's own, whose message quotes values: it is
 * sealed while it passes the span.
 */
import * as Effect from "effect/Effect"
import { isSqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as PgFailure from "../PgFailure.ts"
import * as Telemetry from "../Telemetry.ts"
import type { Bound } from "./Bound.ts"
import type { Declared } from "./Declared.ts"
import { fromSqlError, sqlErrorOf } from "./Failure.ts"

type Spanned = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

export interface Spans {
  readonly call: Spanned
  readonly attempt: (bound: Bound) => Spanned
  readonly stream: <A, E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<A, E, R>
}

export const make = ({ lane, name }: Declared): Spans => {
  const options = { attributes: { [Telemetry.attributes.report]: name, [Telemetry.attributes.lane]: lane } }
  const quick = { captureStackTrace: false }
  const call = Effect.withSpan(Telemetry.callSpan(name), options, quick)
  const attempt = Effect.withSpan(Telemetry.attemptSpan(name), undefined, quick)
  return {
    call: (self) => call(self) as typeof self,
    // Nobody sees the spans of Effect's own tracer, and each costs as much as a policy: the call's is enough there.
    attempt: (bound) => (self) =>
      Effect.withFiber((fiber) =>
        fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer
          ? self
          : (Effect.mapError(attempt(Effect.mapError(self, seal(bound))), unseal) as typeof self)
      ),
    stream: (self) => Stream.withSpan(self, Telemetry.callSpan(name), { ...options, ...quick }) as typeof self
  }
}

const seal =
  ({ declared, overrides, role }: Bound) =>
  (error: unknown): unknown =>
    isSqlError(error)
      ? fromSqlError(declared.name, role.name, error, PgFailure.fromSqlError(error, undefined, overrides), false)
      : error

const unseal = (error: unknown): unknown => sqlErrorOf(error) ?? error
