/**
 * What policies tell about what they did: refusals, retries, trips, hedges: to a listener, and as the counter
 * `sluice.policy.events`. Successful calls say nothing, so that nobody pays for events that nobody wants.
 *
 * @example
 * ```ts
 * const program = Effect.gen(function* () {
 *   const events = yield* PolicyEvents.hub
 *   yield* Effect.forkChild(Stream.runForEach(events.stream, (event) => Effect.logInfo(event)))
 *   yield* call.pipe(Effect.provideService(PolicyEvents.CurrentListener, events.listener))
 * })
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import * as Telemetry from "../Telemetry.ts"
import { clockOf } from "./Time.ts"

export type Policy =
  | "deadline"
  | "attempt"
  | "retry"
  | "retry-budget"
  | "breaker"
  | "bulkhead"
  | "rate-limit"
  | "hedge"
  | "fallback"
  | "shed"
  | "fault-injection"
  | "background"

/** One thing that a policy did. `key` and `attributes` come from declarations and states, never from parameters. */
export interface PolicyEvent {
  readonly policy: Policy
  readonly key: string
  readonly event: string
  /** Wall clock, milliseconds since 1970. */
  readonly at: number
  readonly attributes: Readonly<Record<string, string | number | boolean>>
}

/** Called in the tick of the event, by whoever caused it: be short, and do not throw (a throw is swallowed). */
export type Listener = (event: PolicyEvent) => void

/** Who listens. Default: nobody. */
export const CurrentListener: Context.Reference<Listener | undefined> = Context.Reference(
  "@sluice/sdk/policy/PolicyEvents/Listener",
  { defaultValue: (): Listener | undefined => undefined }
)

const noAttributes: PolicyEvent["attributes"] = {}

/** Counts the event, and tells the listener of a fiber, if there is one. */
export const emit = (
  fiber: Fiber.Fiber<unknown, unknown>,
  policy: Policy,
  key: string,
  event: string,
  attributes: PolicyEvent["attributes"] = noAttributes
): void => {
  if (fiber.getRef(Telemetry.Enabled)) {
    Telemetry.counter("sluice.policy.events", {
      [Telemetry.attributes.policy]: policy,
      [Telemetry.attributes.key]: key,
      [Telemetry.attributes.event]: event
    }).updateUnsafe(1, fiber.context)
  }
  const listener = fiber.getRef(CurrentListener)
  if (listener === undefined) return
  try {
    listener({ policy, key, event, at: clockOf(fiber).currentTimeMillisUnsafe(), attributes })
  } catch {
    // A listener watches; it must not be able to fail the call that it watches.
  }
}

/** Adds a listener to those of the layers around. */
export const layer = (listener: Listener): Layer.Layer<never> =>
  Layer.effect(
    CurrentListener,
    Effect.map(CurrentListener, (outer) =>
      outer === undefined
        ? listener
        : (event: PolicyEvent) => {
            listener(event)
            outer(event)
          }
    )
  )

/** A listener whose events are a stream. Who reads too slowly loses the oldest of 1024 events, and delays nobody. */
export const hub: Effect.Effect<{ readonly listener: Listener; readonly stream: Stream.Stream<PolicyEvent> }> =
  Effect.map(PubSub.sliding<PolicyEvent>(1024), (pubsub) => ({
    listener: (event) => void PubSub.publishUnsafe(pubsub, event),
    stream: Stream.fromPubSub(pubsub)
  }))
