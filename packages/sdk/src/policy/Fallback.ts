/**
 * Another answer in place of an error, by the error's tag.
 *
 * Exactly the tags that have a handler leave the type; naming a tag that cannot occur does not compile. Defects and
 * interruptions are nobody's to hide. Every use is told as an event: a fallback that nobody sees is an outage that nobody
 * sees.
 *
 * @example
 * ```ts
 * const answer = work.pipe(
 *   Fallback.orElse("stoppage", { CircuitOpen: () => snapshot, DeadlineExceeded: () => snapshot })
 * )
 * ```
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { tagOf } from "../internal/tagOf.ts"
import { emit } from "./PolicyEvents.ts"

interface Tagged {
  readonly _tag: string
}

type TagOf<E> = E extends Tagged ? E["_tag"] : never
type WithTag<E, Tag> = Extract<E, { readonly _tag: Tag }>

/** A handler for each tag that is handled, and no tag that cannot occur. */
export type Handlers<E, H> = {
  readonly [Tag in TagOf<E>]?: ((error: WithTag<E, Tag>) => Effect.Effect<any, any, any>) | undefined
} & (unknown extends E ? unknown : { readonly [Tag in Exclude<keyof H, TagOf<E>>]: never })

type Results<H> = { readonly [Tag in keyof H]: H[Tag] extends (error: any) => infer Result ? Result : never }[keyof H]
type SuccessOf<H> = Results<H> extends Effect.Effect<infer A, any, any> ? A : never
type ErrorOf<H> = Results<H> extends Effect.Effect<any, infer E, any> ? E : never
type ServicesOf<H> = Results<H> extends Effect.Effect<any, any, infer R> ? R : never

/** A handler that is only possibly there handles nothing for certain. */
type Handled<H> = { readonly [Tag in keyof H]: undefined extends H[Tag] ? never : Tag }[keyof H]

/** What is left of `E`. */
export type Left<E, H> = Exclude<E, { readonly _tag: Handled<H> }>

/** Replaces the errors that `handlers` name. `key` names the call in events. */
export const orElse: {
  <E, const H extends Handlers<E, H>>(
    key: string,
    handlers: H
  ): <A, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A | SuccessOf<H>, Left<E, H> | ErrorOf<H>, R | ServicesOf<H>>
  <A, E, R, const H extends Handlers<E, H>>(
    self: Effect.Effect<A, E, R>,
    key: string,
    handlers: H
  ): Effect.Effect<A | SuccessOf<H>, Left<E, H> | ErrorOf<H>, R | ServicesOf<H>>
} = dual(
  3,
  (
    self: Effect.Effect<unknown, unknown, unknown>,
    key: string,
    handlers: Readonly<Record<string, ((error: unknown) => Effect.Effect<unknown, unknown, unknown>) | undefined>>
  ): Effect.Effect<unknown, unknown, unknown> =>
    Effect.catchCause(self, (cause) => {
      const found = Cause.findErrorOption(cause)
      if (found._tag === "None" || Cause.hasDies(cause) || Cause.hasInterrupts(cause)) return Effect.failCause(cause)
      const tag = String(tagOf(found.value))
      const handler = Object.hasOwn(handlers, tag) ? handlers[tag] : undefined
      if (handler === undefined) return Effect.failCause(cause)
      return Effect.withFiber((fiber) => {
        emit(fiber, "fallback", key, "used", { tag })
        return handler(found.value)
      })
    })
)

/** What a fallback handles, as data. */
export const describe = (key: string, handlers: object) => ({
  policy: "fallback" as const,
  key,
  on: Object.keys(handlers)
})
