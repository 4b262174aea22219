import * as Effect from "effect/Effect"

/** Work in a fiber of its own: who leaves it does not wait for it, even if it does not let itself be interrupted. */
export const apart = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.contextWith((services) =>
    Effect.callback((resume) => {
      const fiber = Effect.runForkWith(services)(self)
      fiber.addObserver(resume)
      return Effect.sync(() => fiber.interruptUnsafe())
    })
  )
