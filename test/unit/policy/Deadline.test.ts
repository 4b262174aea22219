import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { DeadlineExceeded } from "../../../packages/sdk/src/ReportError.ts"
import { random, recorder, seeds } from "./support.ts"

/** Work that needs `millis` to clean up after it was interrupted, as a query does that has to be cancelled on a server. */
const cleansUpFor = (millis: number, done: () => void = () => {}) =>
  Effect.onInterrupt(Effect.never, () => Effect.andThen(Effect.sleep(millis), Effect.sync(done)))

const supervised = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(self, Background.CurrentSupervisor, Background.makeSupervisor()))

const tookMillis = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const begin = yield* Clock.currentTimeMillis
    const exit = yield* Effect.exit(self)
    return { exit, millis: (yield* Clock.currentTimeMillis) - begin }
  })

const errorOf = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert(Exit.isFailure(exit))
  const error = Cause.findErrorOption(exit.cause)
  assert(error._tag === "Some", Cause.pretty(exit.cause))
  return error.value
}

describe("Deadline.within", () => {
  it.effect("Effect.timeout makes the caller wait for the cleanup (what this module is for)", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(tookMillis(Effect.timeout(cleansUpFor(1000), 100)))
      yield* TestClock.adjust(5000)
      assert.strictEqual((yield* Fiber.join(fiber)).millis, 1100)
    })
  )

  it.effect("the caller leaves on time while the cleanup goes on behind it", () =>
    Effect.gen(function* () {
      let cleaned = false
      const work = cleansUpFor(1000, () => (cleaned = true))
      const fiber = yield* Effect.forkChild(tookMillis(Deadline.within(work, { key: "k", duration: 100 })))
      yield* TestClock.adjust(100)
      const { exit, millis } = yield* Fiber.join(fiber)
      assert.strictEqual(millis, 100)
      const error = errorOf(exit)
      assert.instanceOf(error, DeadlineExceeded)
      assert.deepInclude(error, { key: "k", deadlineMillis: 100, phase: "attempt", attempts: 0 })
      assert.isFalse(cleaned)
      assert.strictEqual((yield* Background.CurrentSupervisor).running.size, 1)
      yield* TestClock.adjust(1000)
      assert.isTrue(cleaned)
      assert.strictEqual((yield* Background.CurrentSupervisor).running.size, 0)
    }).pipe(supervised)
  )

  it.effect("a caller that is interrupted leaves at once, and its work is not lost", () =>
    Effect.gen(function* () {
      let cleaned = false
      const work = cleansUpFor(1000, () => (cleaned = true))
      const fiber = yield* Effect.forkChild(Deadline.within(work, { key: "k", duration: 100_000 }))
      yield* TestClock.adjust(1)
      const begin = yield* Clock.currentTimeMillis
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* Clock.currentTimeMillis, begin)
      const drained = yield* Effect.forkChild(Background.idle("5 seconds"))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(drained), 0)
      assert.isTrue(cleaned)
    }).pipe(supervised)
  )

  it.effect("waiting for the work behind the callers is bounded", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Deadline.within(cleansUpFor(60_000), { key: "k", duration: 10 }))
      yield* TestClock.adjust(10)
      yield* Fiber.await(fiber)
      const drained = yield* Effect.forkChild(Background.idle("5 seconds"))
      yield* TestClock.adjust(5000)
      assert.strictEqual(yield* Fiber.join(drained), 1)
    }).pipe(supervised)
  )

  it.effect("success, failure and defect pass unchanged", () =>
    Effect.gen(function* () {
      const within = Deadline.within({ key: "k", duration: "1 second" })
      assert.strictEqual(yield* within(Effect.succeed(1)), 1)
      assert.strictEqual(yield* within(Effect.andThen(Effect.yieldNow, Effect.succeed(2))), 2)
      assert.strictEqual(errorOf(yield* Effect.exit(within(Effect.fail("no")))), "no")
      const died = yield* Effect.exit(within(Effect.andThen(Effect.yieldNow, Effect.die("bug"))))
      assert(Exit.isFailure(died) && Cause.hasDies(died.cause))
    })
  )

  it.effect("nested: the earlier one holds, whichever side it is on", () =>
    Effect.gen(function* () {
      for (const [outer, inner] of [
        [50, 100],
        [100, 50]
      ] as const) {
        const work = Effect.never.pipe(
          Deadline.within({ key: "inner", duration: inner }),
          Deadline.within({ key: "outer", duration: outer })
        )
        const fiber = yield* Effect.forkChild(tookMillis(work))
        yield* TestClock.adjust(200)
        const { exit, millis } = yield* Fiber.join(fiber)
        assert.strictEqual(millis, 50)
        assert.deepInclude(errorOf(exit), { key: outer < inner ? "outer" : "inner" })
      }
    })
  )

  it.effect("tells what is left, to the millisecond, inside and outside", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Deadline.remaining, Infinity)
      const work = Effect.andThen(Effect.sleep(30), Deadline.remaining)
      const fiber = yield* Effect.forkChild(Deadline.within(work, { key: "k", duration: 100 }))
      yield* TestClock.adjust(30)
      assert.strictEqual(yield* Fiber.join(fiber), 70)
    })
  )

  it.effect("what is left inside is what is left of the earliest, also where the inner one is longer", () =>
    Effect.gen(function* () {
      const inner = { key: "inner", duration: 500 } as const
      for (const work of [
        Deadline.within(Deadline.remaining, inner),
        Deadline.attempt(Deadline.remaining, inner),
        Deadline.attempt(Deadline.within(Deadline.remaining, inner), inner)
      ]) {
        assert.strictEqual(yield* Deadline.within(work, { key: "outer", duration: 100 }), 100)
      }
      assert.strictEqual(yield* Deadline.attempt(Deadline.remaining, inner), 500)
    })
  )

  it.effect("names the phase, the attempts and the last real error of the innermost call", () =>
    Effect.gen(function* () {
      const work = Effect.gen(function* () {
        yield* Deadline.attempt(Effect.void, { key: "k", duration: 10 })
        yield* Effect.withFiber((fiber) => {
          Deadline.noteOf(fiber, Cause.fail({ _tag: "QueryFailed", message: "m", sqlState: "40001" }))
          return Effect.void
        })
        yield* Deadline.enter("backoff")
        return yield* Effect.never
      }).pipe(Deadline.within({ key: "call", duration: 500 }), Deadline.within({ key: "request", duration: 100 }))
      const fiber = yield* Effect.forkChild(Effect.exit(work))
      yield* TestClock.adjust(100)
      assert.deepInclude(errorOf(yield* Fiber.join(fiber)), {
        key: "request",
        phase: "backoff",
        attempts: 1,
        lastError: { tag: "QueryFailed", message: "m", sqlState: "40001" }
      })
    })
  )

  it.effect("an error of a stranger is remembered by its tag alone: its message may hold anything", () =>
    Effect.gen(function* () {
      const work = Effect.withFiber((fiber) => {
        Deadline.noteOf(fiber, Cause.fail({ _tag: "Theirs", message: "password=secret" }))
        return Effect.never
      }).pipe(Deadline.within({ key: "k", duration: 1 }))
      const fiber = yield* Effect.forkChild(Effect.exit(work))
      yield* TestClock.adjust(1)
      const error = errorOf(yield* Fiber.join(fiber))
      assert.deepStrictEqual(error.lastError, { tag: "Theirs", message: "Theirs" })
    })
  )

  it.effect("no time left fails at once, without running anything", () =>
    Effect.gen(function* () {
      let ran = false
      const work = Effect.sync(() => (ran = true))
      const exit = yield* Effect.exit(Deadline.within(work, { key: "k", duration: 0 }))
      assert.instanceOf(errorOf(exit), DeadlineExceeded)
      assert.isFalse(ran)
    })
  )

  it.effect("leaves no timer behind", () =>
    Effect.gen(function* () {
      const { events, listen } = recorder()
      const work = Effect.andThen(Effect.sleep(5), Effect.succeed(1))
      const fiber = yield* Effect.forkChild(listen(Deadline.within(work, { key: "k", duration: 10 })))
      yield* TestClock.adjust(5)
      assert.strictEqual(yield* Fiber.join(fiber), 1)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(events, [])
    })
  )

  it.effect(
    "a layer that supervises waits for the work behind the callers when it closes, for as long as it was told",
    () =>
      Effect.gen(function* () {
        for (const [cleanup, expected] of [
          [1000, 1100],
          [60_000, 2100]
        ] as const) {
          const fiber = yield* Effect.forkChild(
            tookMillis(
              Effect.exit(Deadline.within(cleansUpFor(cleanup), { key: "k", duration: 100 })).pipe(
                Effect.provide(Layer.fresh(Background.layer({ grace: "2 seconds" })))
              )
            )
          )
          yield* TestClock.adjust(100_000)
          assert.strictEqual((yield* Fiber.join(fiber)).millis, expected)
        }
      })
  )

  it.live("by the live clock too: 20 ms over one second of cleanup", () =>
    Effect.gen(function* () {
      const begin = process.hrtime.bigint()
      yield* Effect.exit(Deadline.within(cleansUpFor(1000), { key: "k", duration: 20 }))
      const millis = Number(process.hrtime.bigint() - begin) / 1e6
      assert.isAtLeast(millis, 19)
      assert.isBelow(millis, 900)
    })
  )

  it.effect("property: no answer is later than the deadline, whatever nests and however slow the cleanup", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      for (const seed of seeds(60)) {
        const { int, pick } = random(seed)
        const late: Array<string> = []
        /** An inner one holds as well as the outermost, for whoever was not taken away by an outer one before. */
        const timed = <E>(self: Effect.Effect<number, E>, key: string, limit: number): Effect.Effect<number, E> =>
          Effect.suspend(() => {
            const begin = clock.currentTimeMillisUnsafe()
            return Effect.onExit(self, (exit) =>
              Effect.sync(
                () =>
                  void (
                    !(Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)) &&
                    clock.currentTimeMillisUnsafe() - begin > limit &&
                    late.push(key)
                  )
              )
            )
          })
        const build = (depth: number): Effect.Effect<number, unknown> => {
          const inner = depth === 0 ? leaf() : build(depth - 1)
          const duration = 1 + int(200)
          return pick([
            () => timed(Deadline.within(inner, { key: `w${depth}`, duration }), `w${depth}`, duration),
            () => timed(Deadline.attempt(inner, { key: `a${depth}`, duration }), `a${depth}`, duration),
            () => Effect.andThen(Effect.sleep(int(50)), inner),
            () => Effect.onInterrupt(inner, () => Effect.sleep(int(500)))
          ])()
        }
        const leaf = (): Effect.Effect<number, unknown> =>
          pick([
            () => Effect.never,
            () => cleansUpFor(int(1000)),
            () => Effect.as(Effect.sleep(int(300)), 1),
            () => Effect.fail("no"),
            () => Effect.succeed(1)
          ])()
        const duration = 1 + int(200)
        const work = Deadline.within(build(4), { key: "outermost", duration })
        const fiber = yield* Effect.forkChild(tookMillis(work))
        yield* TestClock.adjust(5000)
        const { millis } = yield* Fiber.join(fiber)
        assert.isAtMost(millis, duration, `seed ${seed}`)
        assert.deepStrictEqual(late, [], `seed ${seed}`)
        assert.strictEqual((yield* Background.CurrentSupervisor).running.size, 0, `seed ${seed}`)
      }
    }).pipe(supervised)
  )
})

describe("Deadline.attempt", () => {
  it.effect("fails with an error of its own, so that another attempt may follow", () =>
    Effect.gen(function* () {
      const attempt = Deadline.attempt(Effect.never, { key: "a", duration: 50 })
      const work = Deadline.within(
        Effect.catchTag(attempt, "AttemptTimeout", (error) => Effect.succeed(error.timeoutMillis)),
        { key: "k", duration: 1000 }
      )
      const fiber = yield* Effect.forkChild(tookMillis(work))
      yield* TestClock.adjust(50)
      const { exit, millis } = yield* Fiber.join(fiber)
      assert.deepStrictEqual(exit, Exit.succeed(50))
      assert.strictEqual(millis, 50)
    })
  )

  it.effect("cut short by the deadline it does not accuse the server", () =>
    Effect.gen(function* () {
      const { listen, named } = recorder()
      for (const duration of [40, 50]) {
        const work = Deadline.attempt(Effect.never, { key: "a", duration: 50 }).pipe(
          Deadline.within({ key: "k", duration })
        )
        const fiber = yield* Effect.forkChild(Effect.exit(listen(work)))
        yield* TestClock.adjust(100)
        assert.instanceOf(errorOf(yield* Fiber.join(fiber)), DeadlineExceeded)
      }
      assert.strictEqual(named("timeout").length, 0)
      assert.strictEqual(named("exceeded").length, 2)
    })
  )

  it("describes itself", () => {
    assert.deepStrictEqual(Deadline.make({ key: "k", duration: "2 seconds" }).describe, {
      policy: "deadline",
      key: "k",
      millis: 2000
    })
    assert.deepStrictEqual(Deadline.makeAttempt({ key: "k", duration: 5 }).describe, {
      policy: "attempt",
      key: "k",
      millis: 5
    })
  })
})
