/**
 * Work that goes on behind a caller who has left: cancellations on their way, losers of a hedge.
 *
 * Nothing of it is lost: it holds the permits that it used ({@link Holder}), is counted, and whoever shuts down can wait
 * for it ({@link layer}, {@link idle}).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { readOf, tableOf } from "../options/Field.ts"
import { background as table } from "../options/policies.ts"
import { emit } from "./PolicyEvents.ts"
import { after, millisOf } from "./Time.ts"

/** What is given back only when background work has ended: a permit of a bulkhead. */
export interface Holder {
  /** Gives what lets go. */
  readonly hold: () => () => void
}

/** What the work of a fiber occupies. A bulkhead provides it; {@link abandon} holds it. */
export const CurrentHolder: Context.Reference<Holder | undefined> = Context.Reference(
  "@sluice/sdk/policy/Background/Holder",
  { defaultValue: (): Holder | undefined => undefined }
)

/** The fibers that work behind their callers. */
export interface Supervisor {
  readonly running: ReadonlySet<Fiber.Fiber<unknown, unknown>>
  readonly add: (fiber: Fiber.Fiber<unknown, unknown>) => void
}

export const makeSupervisor = (): Supervisor => {
  const running = new Set<Fiber.Fiber<unknown, unknown>>()
  return {
    running,
    add: (fiber) => {
      running.add(fiber)
      fiber.addObserver(() => void running.delete(fiber))
    }
  }
}

/** Who supervises. Default: one for the process. */
export const CurrentSupervisor: Context.Reference<Supervisor> = Context.Reference(
  "@sluice/sdk/policy/Background/Supervisor",
  { defaultValue: makeSupervisor }
)

/**
 * Interrupts the work of a caller who leaves, and does not wait for it. What the work occupies stays occupied until it has
 * really ended.
 */
export const abandon = (caller: Fiber.Fiber<unknown, unknown>, work: Fiber.Fiber<unknown, unknown>): void => {
  caller.getRef(CurrentSupervisor).add(work)
  const release = caller.getRef(CurrentHolder)?.hold()
  work.addObserver((exit) => {
    release?.()
    // By its own context: its caller may be elsewhere by then. A fiber has none any more once its observers were told.
    if (exit._tag === "Failure" && Cause.hasDies(exit.cause)) emit(work, "background", "abandoned", "defect")
  })
  work.interruptUnsafe(caller.id)
}

/** Waits until nothing works behind its caller any more, `grace` at the longest. Gives the number of those left. */
export const idle = (grace: Duration.Input): Effect.Effect<number> =>
  Effect.withFiber((fiber) => {
    const { running } = fiber.getRef(CurrentSupervisor)
    if (running.size === 0) return Effect.succeed(0)
    return Effect.callback<number>((resume) => {
      const watched = new Set(running)
      const cancel = after(fiber, millisOf(grace), () => resume(Effect.succeed(running.size)))
      for (const work of watched) {
        work.addObserver(() => {
          watched.delete(work)
          if (watched.size > 0) return
          cancel()
          resume(Effect.succeed(running.size))
        })
      }
      return Effect.sync(cancel)
    })
  })

export interface Options {
  readonly grace?: Duration.Input | undefined
}

const fields = tableOf<Options>()(table)

/**
 * A supervisor for a part of the process. When the layer closes, it waits for the work behind the callers.
 *
 * @param options.grace how long at the most (default 5 seconds: the driver's bound for draining a cancelled query)
 */
export const layer = (options: Options = {}): Layer.Layer<never> => {
  const { grace } = readOf("Background.layer", fields, options)
  return Layer.effect(
    CurrentSupervisor,
    Effect.acquireRelease(Effect.sync(makeSupervisor), (supervisor) =>
      Effect.provideService(idle(grace), CurrentSupervisor, supervisor)
    )
  )
}
