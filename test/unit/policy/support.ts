import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import * as PolicyEvents from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import { mulberry32 } from "../../support/random.ts"

/** A small generator whose seed is in the message of whatever fails. */
export const random = (seed: number) => {
  const next = mulberry32(seed)
  return {
    next,
    int: (below: number): number => Math.floor(next() * below),
    pick: <A>(values: ReadonlyArray<A>): A => values[Math.floor(next() * values.length)]!
  }
}

/** Seeds of this run: fixed ones, and a fresh one that is printed. `SLUICE_SEED` repeats a run. */
export const seeds = (count: number): ReadonlyArray<number> => {
  const given = process.env["SLUICE_SEED"]
  if (given !== undefined) return [Number(given)]
  const fresh = Math.floor(Math.random() * 2 ** 31)
  console.log(`seeds 1 to ${count - 1}, and ${fresh}`)
  return [...Array.from({ length: count - 1 }, (_, index) => index + 1), fresh]
}

/** Collects what the policies tell. */
export const recorder = () => {
  const events: Array<PolicyEvents.PolicyEvent> = []
  return {
    events,
    named: (event: string) => events.filter((one) => one.event === event),
    listen: Effect.provideService(PolicyEvents.CurrentListener, (event) => void events.push(event))
  }
}

/** What it failed with, if it did. */
export const errorOf = <E>(exit: Exit.Exit<unknown, E>): E | undefined => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" ? error.value : undefined
}
/** Every random number is this one. */
export const chance = (value: number) =>
  Effect.provideService(Random.Random, { nextDoubleUnsafe: () => value, nextIntUnsafe: () => 0 })
/** Runs to the end, letting so many seconds pass. */
export const through = <A, E, R>(self: Effect.Effect<A, E, R>, seconds = 60) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.exit(self), { startImmediately: true })
    yield* TestClock.adjust(`${seconds} seconds`)
    return yield* Fiber.join(fiber)
  })
