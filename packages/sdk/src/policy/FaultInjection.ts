/**
 * Faults on purpose, to see what the declarations around them are worth. The innermost policy; off unless a plan is provided.
 *
 * @example
 * ```ts
 * const chaos = FaultInjection.layer([
 *   { keys: ["stoppage"], rate: 0.1, latency: "3 seconds" },
 *   { rate: 0.01, error: () => new DatabaseUnavailable({ pool: "fleet", reason: "lost" }) }
 * ])
 * ```
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { group, list, refuse, tableOf } from "../options/Field.ts"
import { fault as table } from "../options/policies.ts"
import { emit } from "./PolicyEvents.ts"

export interface Fault {
  /** Names it in events. Default: what it does. */
  readonly name?: string | undefined
  /** The work it befalls. Default: all. */
  readonly keys?: ReadonlyArray<string> | undefined
  /** How often, from 0 to 1. */
  readonly rate: number
  /** Delays the work. */
  readonly latency?: Duration.Input | undefined
  /** Fails in place of the work, with an error that the work itself can fail with. */
  readonly error?: (() => unknown) | undefined
  /** Never answers. */
  readonly hang?: boolean | undefined
}

const fields = tableOf<Fault>()(table)

/** The plan in force. Default: none. */
export const Current: Context.Reference<ReadonlyArray<Fault> | undefined> = Context.Reference(
  "@sluice/sdk/policy/FaultInjection",
  { defaultValue: (): ReadonlyArray<Fault> | undefined => undefined }
)

/** Puts a plan into force. Faults are rolled in order; delays add up, the first error or hang ends it. */
export const layer = (faults: ReadonlyArray<Fault>): Layer.Layer<never> => {
  refuse(
    "FaultInjection.layer",
    { faults: list(group(fields, "{ rate: 0.1, hang: true }").check, "", { empty: true }) },
    { faults }
  )
  return Layer.succeed(Current, faults)
}

/** Whether anything may befall the work of a fiber. */
export const isPlanned = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.getRef(Current) !== undefined

const nameOf = (fault: Fault): string =>
  fault.name ?? (fault.hang === true ? "hang" : fault.error === undefined ? "latency" : "error")

/** Where faults may happen. */
export const inject: {
  (key: string): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const plan = fiber.getRef(Current)
    if (plan === undefined) return self
    const random = fiber.getRef(Random.Random)
    let work = self
    // The last is put on first: what a caller meets is the order of the plan.
    const befallen = plan.filter(
      (fault) => (fault.keys === undefined || fault.keys.includes(key)) && random.nextDoubleUnsafe() < fault.rate
    )
    for (const fault of befallen.reverse()) {
      const { error, latency } = fault
      if (fault.hang === true) work = Effect.never
      else if (error !== undefined) work = Effect.suspend(() => Effect.fail(error() as E))
      if (latency !== undefined) work = Effect.andThen(Effect.sleep(latency), work)
      emit(fiber, "fault-injection", key, nameOf(fault))
    }
    return work
  })
)
