import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Probe from "../../../packages/sdk/src/topology/Probe.ts"

const schedule = Schedule.spaced("1 second")

/** A node that can be made slow, dead or deaf, and that notes when it was asked. */
const makeNode = () => {
  const node = {
    asked: [] as Array<number>,
    results: [] as Array<readonly [at: number, answer: string]>,
    behaviour: Effect.succeed("good") as Effect.Effect<string, string>
  }
  const options: Probe.Options<string, string> = {
    look: Effect.flatMap(Clock.currentTimeMillis, (now) => {
      node.asked.push(now)
      return node.behaviour
    }),
    schedule,
    scheduleUnwell: Schedule.spaced("250 millis"),
    onResult: (at, exit) => {
      const failure = Exit.isFailure(exit) ? exit.cause.reasons.find((reason) => reason._tag === "Fail") : undefined
      node.results.push([at, Exit.isSuccess(exit) ? exit.value : String(failure?.error)])
    }
  }
  return { node, options }
}

describe("the probe of a node", () => {
  it.effect("looks at once, then by its schedule, and faster while the node is not well", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      let well = true
      yield* Probe.make({ ...options, isWell: () => well })
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(node.asked, [0, 1_000, 2_000])
      well = false
      yield* TestClock.adjust("1750 millis")
      assert.deepStrictEqual(node.asked.slice(3), [3_000, 3_250, 3_500, 3_750])
    })
  )

  it.effect("gives up on a deaf node at its timeout, even on one that cannot be interrupted", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      node.behaviour = Effect.uninterruptible(Effect.never)
      yield* Probe.make({ ...options, timeout: "300 millis" })
      yield* TestClock.adjust("300 millis")
      assert.deepStrictEqual(node.results, [[0, "timeout"]])
      node.behaviour = Effect.succeed("good")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(node.results[1], [1_300, "good"])
    })
  )

  it.effect("a hundred triggers are one look, begun after the last of them, and never sooner than the gap", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      const probe = yield* Probe.make({ ...options, minGap: "100 millis" })
      yield* TestClock.adjust("10 millis")
      for (let i = 0; i < 100; i++) probe.trigger()
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(node.asked, [0, 100])
    })
  )

  it.effect("a trigger during a look causes another: the one under way may have been answered before", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      node.behaviour = Effect.delay(Effect.succeed("slow"), "200 millis")
      const probe = yield* Probe.make(options)
      yield* TestClock.adjust("100 millis")
      const fiber = yield* Effect.forkChild(probe.refresh, { startImmediately: true })
      yield* TestClock.adjust("100 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("200 millis")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(node.asked, [0, 200])
    })
  )

  it.effect("says when it asked, not when it was answered, and keeps looking after failures", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      node.behaviour = Effect.delay(Effect.fail("refused"), "400 millis")
      yield* Probe.make(options)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(node.results, [
        [0, "refused"],
        [1_400, "refused"]
      ])
    })
  )

  it.effect("ends with its scope, and so does who waits for a look", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      node.behaviour = Effect.never
      const probe = yield* Effect.scoped(
        Effect.gen(function* () {
          const probe = yield* Probe.make(options)
          yield* TestClock.adjust("10 millis")
          yield* Effect.forkChild(probe.refresh, { startImmediately: true })
          return probe
        })
      )
      yield* probe.refresh
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(node.asked, [0])
    })
  )

  it.effect("whoever waits for a look is answered when the probe ends in the middle of it", () =>
    Effect.gen(function* () {
      const { node, options } = makeNode()
      const scope = yield* Scope.make()
      const probe = yield* Scope.provide(Probe.make({ ...options, timeout: "1 hour" }), scope)
      yield* TestClock.adjust("500 millis")
      node.behaviour = Effect.never
      const waiting = yield* Effect.forkChild(probe.refresh, { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 second")
      assert.isDefined(waiting.pollUnsafe())
    })
  )
})
