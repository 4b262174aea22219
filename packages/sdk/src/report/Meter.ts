/**
 * The duration and the outcome of each call, under names that come from the declaration.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Telemetry from "../Telemetry.ts"

export const make = (report: string): (<A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) => {
  const outcomes = new Map<string, ReturnType<typeof Telemetry.duration>>()
  const record = (outcome: string, millis: number, context: Context.Context<never>): void => {
    let metric = outcomes.get(outcome)
    if (metric === undefined) {
      metric = Telemetry.duration("db.client.operation.duration", {
        [Telemetry.attributes.report]: report,
        [Telemetry.attributes.outcome]: outcome
      })
      outcomes.set(outcome, metric)
    }
    metric.updateUnsafe(millis / 1000, context)
  }
  return (self) =>
    Effect.withFiber((fiber) => {
      if (!fiber.getRef(Telemetry.Enabled)) return self
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
