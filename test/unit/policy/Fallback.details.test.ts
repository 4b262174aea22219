/** What a fallback does not hide, and what a fault on purpose is called: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fallback from "../../../packages/sdk/src/policy/Fallback.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import { chance, recorder, through } from "./support.ts"

describe("a fallback", () => {
  const down = { _tag: "Down" as const }
  const handled = (self: Effect.Effect<string, unknown>): Effect.Effect<Exit.Exit<string, unknown>> =>
    Effect.exit(Fallback.orElse(self, "f", { Down: () => Effect.succeed("instead") }))

  it.effect("stands in for what it names", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* handled(Effect.fail(down)), Exit.succeed("instead"))
    })
  )

  it.effect("hides no defect and no interruption, though an error that it names came with them", () =>
    Effect.gen(function* () {
      const error = Cause.fail(down)
      for (const cause of [
        Cause.die("defect"),
        Cause.interrupt(1),
        Cause.combine(error, Cause.die("defect")),
        Cause.combine(Cause.die("defect"), error),
        Cause.combine(error, Cause.interrupt(1)),
        Cause.empty
      ]) {
        assert.deepStrictEqual(yield* handled(Effect.failCause(cause)), Exit.failCause(cause))
      }
    })
  )

  it.effect("leaves errors alone that have no tag, or one that only looks like a handler", () =>
    Effect.gen(function* () {
      for (const error of [null, undefined, "Down", 7, {}, { _tag: "toString" }, { _tag: undefined }]) {
        assert.deepStrictEqual(yield* handled(Effect.fail(error)), Exit.fail(error))
      }
    })
  )
})

describe("a fault on purpose", () => {
  const events = (random: number, fault: Omit<FaultInjection.Fault, "rate">, rate = 1) =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const work = Effect.timeoutOrElse(FaultInjection.inject(Effect.void as Effect.Effect<void, unknown>, "k"), {
        duration: "10 seconds",
        orElse: () => Effect.void
      })
      yield* through(
        work.pipe(listen, chance(random), Effect.provideService(FaultInjection.Current, [{ rate, ...fault }]))
      )
      return events.map(({ event }) => event)
    })

  it.effect("is called by its name, or else by what it does", () =>
    Effect.gen(function* () {
      const error = () => "broken"
      assert.deepStrictEqual(yield* events(0, { hang: true }), ["hang"])
      assert.deepStrictEqual(yield* events(0, { hang: true, error }), ["hang"])
      assert.deepStrictEqual(yield* events(0, { hang: false, error }), ["error"])
      assert.deepStrictEqual(yield* events(0, { error, latency: "1 second" }), ["error"])
      assert.deepStrictEqual(yield* events(0, { latency: "1 second" }), ["latency"])
      assert.deepStrictEqual(yield* events(0, { hang: true, name: "own" }), ["own"])
    })
  )

  it.effect("never comes at a rate of zero, and always at one", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* events(0, { hang: true }, 0), [])
      assert.deepStrictEqual(yield* events(1 - Number.EPSILON, { hang: true }, 1), ["hang"])
    })
  )
})
