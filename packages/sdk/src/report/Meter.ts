/**
 * The duration and the outcome of each call, under names that come from the declaration.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { monotonicMillis } from "../internal/Monotonic.ts"
import * as Telemetry from "../Telemetry.ts"
import type { Call } from "./Bound.ts"

export interface Meter {
  /** From now, in the fiber of the call, until what is given here is told of its end. Nothing where nobody measures. */
  readonly begin: (
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Sent
  ) => ((exit: Exit.Exit<unknown, unknown>) => undefined) | undefined
  /** From now until the scope closes. */
  readonly measureScope: (call: Sent) => Effect.Effect<void, never, Scope.Scope>
}

type Sent = Pick<Call, "sent" | "served" | "tried">

export const make = (report: string): Meter => {
  const attempts = Telemetry.distribution("sluice.report.attempts", { [Telemetry.attributes.report]: report })
  const outcomes = new Map<string, ReturnType<typeof Telemetry.duration>>()
  /** By the server that gave the answer; if there is none, by the one that was asked last. */
  const record = (outcome: string, node: string | undefined, millis: number, context: Context.Context<never>): void => {
    const id = node === undefined ? outcome : `${outcome} ${node}`
    let metric = outcomes.get(id)
    if (metric === undefined) {
      // Servers come and go.
      if (outcomes.size >= 256) outcomes.clear()
      metric = Telemetry.duration("db.client.operation.duration", {
        [Telemetry.attributes.report]: report,
        [Telemetry.attributes.outcome]: outcome,
        ...(node === undefined ? undefined : { [Telemetry.attributes.node]: node })
      })
      outcomes.set(id, metric)
    }
    metric.updateUnsafe(millis / 1000, context)
  }
  const begin: Meter["begin"] = (fiber, call) => {
    if (!fiber.getRef(Telemetry.Enabled)) return undefined
    const clock = fiber.getRef(Clock.Clock)
    const at = monotonicMillis(clock)
    return (exit) => {
      record(outcomeOf(exit), call.served ?? call.tried.at(-1), monotonicMillis(clock) - at, fiber.context)
      attempts.updateUnsafe(call.sent, fiber.context)
      return undefined
    }
  }
  return {
    begin,
    measureScope: (call) =>
      Effect.withFiber((fiber) => {
        const end = begin(fiber, call)
        return end === undefined
          ? Effect.void
          : Effect.flatMap(Effect.scope, (scope) =>
              Scope.addFinalizerExit(scope, (exit) => Effect.sync(() => end(exit)))
            )
      })
  }
}

/** `ok`, the tag of the error, `interrupted`, or `defect`. */
export const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (exit._tag === "Success") return "ok"
  for (const reason of exit.cause.reasons) {
    if (reason._tag === "Fail") return (reason.error as { readonly _tag?: string } | null | undefined)?._tag ?? "error"
    if (reason._tag === "Die") return "defect"
  }
  return "interrupted"
}
