/** A database with two roles on the run's servers, and what several files ask of errors. */
import { assert } from "@effect/vitest"
import type { Database } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { inspect } from "node:util"
import { layerRoles } from "../../support/fleetRoles.ts"
import { layerDatabase } from "../../support/postgres.ts"

export { timed } from "../../support/failures/ground.ts"
export { at, Fleet, primary, replica } from "../../support/fleetRoles.ts"

/** Both roles in a database of one's own, on the primary and on its replica. */
export const layerFleet = (options: Database.RoleOptions = {}) => Layer.provideMerge(layerRoles(options), layerDatabase)

/** The error that an effect fails with. Success, interruption and defects fail the test with what they were. */
export const errorOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<E, never, R> =>
  Effect.matchCauseEffect(effect, {
    onSuccess: (value) => Effect.die(new Error(`succeeded with ${inspect(value)}`)),
    onFailure: (cause) => {
      const error = Cause.findErrorOption(cause)
      return error._tag === "Some" ? Effect.succeed(error.value) : Effect.die(new Error(Cause.pretty(cause)))
    }
  })

/** The error that an effect fails with, which must have this tag. */
export const failsWith = <A, E extends { readonly _tag: string }, R, const Tag extends E["_tag"]>(
  effect: Effect.Effect<A, E, R>,
  tag: Tag
): Effect.Effect<Extract<E, { readonly _tag: Tag }>, never, R> =>
  Effect.map(errorOf(effect), (error) => {
    assert.strictEqual(error._tag, tag, inspect(error))
    return error as Extract<E, { readonly _tag: Tag }>
  })

/** Every way in which an error becomes text. */
export const textsOf = (error: unknown): ReadonlyArray<string> => [
  JSON.stringify(error),
  String(error),
  (error as Error).message,
  String((error as Error).stack),
  inspect(error, { depth: 20, showHidden: true, getters: true }),
  Cause.pretty(Cause.fail(error))
]

/** None of the words appears in any text that an error can become. */
export const keepsSecret = (error: unknown, words: ReadonlyArray<string>): void => {
  for (const text of textsOf(error)) {
    for (const word of words) assert.notInclude(text, word)
  }
}
