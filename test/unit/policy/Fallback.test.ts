import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Fallback from "../../../packages/sdk/src/policy/Fallback.ts"
import * as PolicyEvents from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import { CircuitOpen, DatabaseUnavailable, type DeadlineExceeded } from "../../../packages/sdk/src/ReportError.ts"
import { recorder } from "./support.ts"

type Failure = CircuitOpen | DatabaseUnavailable | DeadlineExceeded
const circuitOpen = new CircuitOpen({ key: "k", retryAfterMillis: 1 })
const unavailable = new DatabaseUnavailable({ pool: "p", reason: "lost" })
const failing = (error: Failure): Effect.Effect<number, Failure> => Effect.fail(error)

class Snapshot extends Context.Service<Snapshot, { readonly rows: Effect.Effect<string> }>()("test/Snapshot") {}

/** The type on the left is exactly the type on the right. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <_ extends true>(): void => {}

describe("Fallback", () => {
  it.effect("answers in place of exactly the errors that it names, and says so", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const handled = (error: Failure) =>
        failing(error).pipe(
          Fallback.orElse("k", { CircuitOpen: (open) => Effect.succeed(`again in ${open.retryAfterMillis}`) }),
          listen
        )
      assert.strictEqual(yield* handled(circuitOpen), "again in 1")
      assert.deepStrictEqual(yield* Effect.exit(handled(unavailable)), Exit.fail(unavailable))
      assert.strictEqual(events.length, 1)
      assert.deepInclude(events[0], { policy: "fallback", key: "k", event: "used", attributes: { tag: "CircuitOpen" } })
    })
  )

  it.effect("hides neither defects nor interruptions", () =>
    Effect.gen(function* () {
      const all = { CircuitOpen: () => Effect.succeed(0) }
      const mixed = Effect.failCause(Cause.combine(Cause.fail(circuitOpen), Cause.die("bug")))
      for (const other of [Effect.die("bug"), Effect.interrupt, mixed]) {
        const work: Effect.Effect<number, CircuitOpen> = other
        assert(Exit.isFailure(yield* Effect.exit(Fallback.orElse(work, "k", all))))
      }
    })
  )

  it("its types tell what is left: only what has a handler for certain is gone", () => {
    const work = failing(circuitOpen)
    const one = Fallback.orElse(work, "k", { CircuitOpen: () => Effect.succeed("s") })
    same<Same<typeof one, Effect.Effect<number | string, DatabaseUnavailable | DeadlineExceeded>>>()
    const two = Fallback.orElse(work, "k", {
      CircuitOpen: () => Snapshot.use(({ rows }) => rows),
      DeadlineExceeded: () => Effect.fail("no" as const)
    })
    same<Same<typeof two, Effect.Effect<number | string, DatabaseUnavailable | "no", Snapshot>>>()
    const perhaps: { readonly CircuitOpen?: (error: CircuitOpen) => Effect.Effect<string> } = {}
    const three = Fallback.orElse(work, "k", perhaps)
    same<Same<Effect.Error<typeof three>, Failure>>()
    // @ts-expect-error a tag that cannot occur
    Fallback.orElse(work, "k", { QueryFailed: () => Effect.succeed("s") })
    assert.deepStrictEqual(Fallback.describe("k", { CircuitOpen: 1 }), {
      policy: "fallback",
      key: "k",
      on: ["CircuitOpen"]
    })
  })
})

describe("PolicyEvents", () => {
  const tell = (event: string) =>
    Effect.withFiber((fiber) => {
      PolicyEvents.emit(fiber, "retry", "k", event)
      return Effect.void
    })

  it.effect("listeners of layers around hear too, and a listener that throws harms nobody", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      const listening = (name: string) => PolicyEvents.layer((event) => void heard.push(`${name} ${event.event}`))
      yield* tell("one").pipe(Effect.provide(listening("inner")), Effect.provide(listening("outer")))
      assert.deepStrictEqual(heard, ["inner one", "outer one"])
      const throwing = PolicyEvents.layer(() => {
        throw new Error("no")
      })
      yield* tell("two").pipe(Effect.provide(Layer.fresh(throwing)))
    })
  )

  it.effect("a hub gives a stream", () =>
    Effect.gen(function* () {
      const hub = yield* PolicyEvents.hub
      const reader = yield* Effect.forkChild(Stream.runCollect(Stream.take(hub.stream, 2)))
      yield* Effect.yieldNow
      yield* Effect.yieldNow
      for (const event of ["one", "two", "three"]) {
        yield* Effect.provideService(tell(event), PolicyEvents.CurrentListener, hub.listener)
      }
      const seen = yield* Fiber.join(reader)
      assert.deepStrictEqual(
        seen.map(({ event }) => event),
        ["one", "two"]
      )
    })
  )
})
