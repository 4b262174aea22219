/** What the pool does in the background: once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Outbox } from "../../../packages/sdk/src/pool/Outbox.ts"

describe("the fibers of a pool", () => {
  it.effect("are held on to until they end, and no longer", () =>
    Effect.gen(function* () {
      const services = yield* Effect.context<never>()
      const interrupted: Array<string> = []
      const outbox = new Outbox(Effect.runForkWith(services))
      const fork = (name: string, effect: Effect.Effect<unknown>) => {
        const fiber = outbox.fork(effect)
        const interrupt = fiber.interruptUnsafe.bind(fiber)
        const interruptUnsafe = () => {
          interrupted.push(name)
          interrupt()
        }
        Object.assign(fiber, { interruptUnsafe })
        return fiber
      }
      const never = fork("never", Effect.never)
      yield* Fiber.await(fork("at once", Effect.void))
      yield* Fiber.await(fork("later", Effect.yieldNow))
      outbox.interruptFibers()
      yield* Fiber.await(never)
      assert.deepStrictEqual(interrupted, ["never"])
    })
  )
})
