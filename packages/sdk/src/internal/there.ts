import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** An effect that is a success already, as schemas without services give it: what is there needs no way of its own. */
export const isThere = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Exit.Success<A, E> =>
  Exit.isExit(effect) && Exit.isSuccess(effect)
