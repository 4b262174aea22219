import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Jitter from "../../../packages/sdk/src/policy/Jitter.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import { random, recorder, seeds } from "./support.ts"

interface Failure {
  readonly _tag: "Failure"
  readonly number: number
}
const failure = (number: number): Failure => ({ _tag: "Failure", number })
const always = (): Retry.Decision => ({ retry: true })

/** Work that fails always, and says how long after the first time it was tried. */
const failing = () => {
  const times: Array<number> = []
  let begin: number | undefined
  return {
    times,
    work: Effect.flatMap(Clock.currentTimeMillis, (at) => {
      times.push(at - (begin ??= at))
      return Effect.fail(failure(times.length))
    })
  }
}

const run = <A, E>(self: Effect.Effect<A, E>, adjust = 1_000_000) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.exit(self))
    yield* TestClock.adjust(adjust)
    return yield* Fiber.join(fiber)
  })

describe("Retry", () => {
  it.effect("gives the last real error after the declared attempts, and never one more", () =>
    Effect.gen(function* () {
      for (const retries of [0, 1, 2, 7]) {
        const { times, work } = failing()
        const exit = yield* run(Retry.retry(work, { key: "r", retries, classify: always }))
        assert.deepStrictEqual(exit, Exit.fail(failure(retries + 1)))
        assert.strictEqual(times.length, retries + 1)
      }
    })
  )

  it.effect("ends with the first success", () =>
    Effect.gen(function* () {
      let calls = 0
      const work = Effect.suspend(() => (++calls < 3 ? Effect.fail(failure(calls)) : Effect.succeed("rows")))
      const policy = Retry.make({ key: "r", retries: 5, classify: always })
      assert.deepStrictEqual(yield* run(policy.run(work)), Exit.succeed("rows"))
      assert.strictEqual(calls, 3)
      assert.deepStrictEqual(yield* run(policy.run(Effect.succeed(1))), Exit.succeed(1))
    })
  )

  it.effect("repeats nothing that the classifier does not name, no interruption and no defect", () =>
    Effect.gen(function* () {
      const policy = Retry.make({ key: "r", classify: (error: Failure) => ({ retry: error.number > 5 }) })
      const { times, work } = failing()
      yield* run(policy.run(work))
      assert.strictEqual(times.length, 1)
      const fail = Cause.fail(failure(1))
      for (const other of [
        Effect.die("bug"),
        Effect.interrupt,
        Effect.failCause(Cause.combine(fail, Cause.die("bug"))),
        Effect.failCause(Cause.combine(fail, Cause.interrupt()))
      ]) {
        let calls = 0
        yield* run(
          Retry.retry(
            Effect.andThen(
              Effect.sync(() => calls++),
              other
            ),
            { key: "r", classify: always }
          )
        )
        assert.strictEqual(calls, 1)
      }
    })
  )

  it.effect("follows any schedule, and stops when it ends", () =>
    Effect.gen(function* () {
      const { times, work } = failing()
      const schedule = Schedule.spaced(70).pipe(Schedule.upTo({ times: 3 }))
      const { listen, named } = recorder()
      yield* run(listen(Retry.retry(work, { key: "r", retries: 10, jitter: "none", schedule, classify: always })))
      assert.deepStrictEqual(times, [0, 70, 140, 210])
      assert.deepInclude(named("stopped")[0]?.attributes, { reason: "schedule", attempts: 4 })
    })
  )

  it.effect("caps what a schedule says", () =>
    Effect.gen(function* () {
      const { times, work } = failing()
      const schedule = Schedule.exponential(100)
      yield* run(Retry.retry(work, { key: "r", retries: 5, cap: 250, jitter: "none", schedule, classify: always }))
      assert.deepStrictEqual(times, [0, 100, 300, 550, 800, 1050])
    })
  )

  it.effect("a server that says when takes the place of the backoff; a floor is kept", () =>
    Effect.gen(function* () {
      for (const [decision, expected] of [
        [{ retryAfterMillis: 5000 }, 5000],
        [{ retryAfterMillis: 3 }, 3],
        [{ delayFloorMillis: 900 }, 900],
        [{ delayFloorMillis: 10 }, 100],
        [{ retryAfterMillis: 3, delayFloorMillis: 50 }, 50],
        [{ immediate: true }, 0]
      ] as const) {
        const { times, work } = failing()
        const classify = () => ({ retry: true, ...decision })
        yield* run(
          Retry.retry(work, { key: "r", retries: 1, jitter: "none", schedule: Schedule.spaced(100), classify })
        )
        assert.deepStrictEqual(times, [0, expected], JSON.stringify(decision))
      }
    })
  )

  it.effect("those who are told the same instant do not come at the same one, and none before it", () =>
    Effect.gen(function* () {
      const callers = Array.from({ length: 20 }, failing)
      const classify = () => ({ retry: true, retryAfterMillis: 5000 })
      const policy = Retry.make({ key: "r", retries: 1, schedule: Schedule.spaced(1000), classify })
      yield* run(Effect.forEach(callers, ({ work }) => Effect.exit(policy.run(work)), { concurrency: "unbounded" }))
      const second = callers.map(({ times }) => times[1]!)
      assert.isAtLeast(Math.min(...second), 5000)
      assert.isAtMost(Math.max(...second), 6000)
      assert.isAbove(new Set(second).size, 10)
    })
  )

  it.effect("at once is only for the first retry of a call", () =>
    Effect.gen(function* () {
      const { times, work } = failing()
      const classify = () => ({ retry: true, immediate: true })
      yield* run(Retry.retry(work, { key: "r", retries: 2, jitter: "none", schedule: Schedule.spaced(100), classify }))
      assert.deepStrictEqual(times, [0, 0, 100])
    })
  )

  it.effect("a kind of error may deserve fewer retries than are declared", () =>
    Effect.gen(function* () {
      const { times, work } = failing()
      const classify = (error: Failure) =>
        error.number <= 2 ? { retry: true, kind: "lock", retries: 1 } : { retry: true }
      yield* run(Retry.retry(work, { key: "r", retries: 9, classify }))
      assert.strictEqual(times.length, 2)
    })
  )

  it.effect(
    "does not begin what the deadline would cut: the last real error comes early instead of a timeout late",
    () =>
      Effect.gen(function* () {
        const { times, work } = failing()
        const options = {
          key: "r",
          retries: 9,
          jitter: "none",
          schedule: Schedule.spaced(100),
          classify: always
        } as const
        const { listen, named } = recorder()
        const exit = yield* run(
          listen(Retry.retry(work, { ...options, usefulMillis: 60 }).pipe(Deadline.within({ key: "d", duration: 250 })))
        )
        // At 100 another 100 would leave 50 of the 60 that an attempt needs.
        assert.deepStrictEqual(times, [0, 100])
        assert.deepStrictEqual(exit, Exit.fail(failure(2)))
        assert.deepInclude(named("stopped")[0]?.attributes, { reason: "deadline" })
      })
  )

  it.effect("an attempt is told why the one before failed, to go elsewhere", () =>
    Effect.gen(function* () {
      const seen: Array<readonly [number, number | undefined]> = []
      const work = (attempt: Retry.Attempt<Failure>): Effect.Effect<never, Failure> => {
        seen.push([attempt.number, attempt.previous?.error.number])
        return Effect.fail(failure(attempt.number))
      }
      yield* run(Retry.make({ key: "r", retries: 2, classify: always }).run(work))
      assert.deepStrictEqual(seen, [
        [1, undefined],
        [2, 1],
        [3, 2]
      ])
    })
  )

  it.effect("a deadline in the backoff says so, with the last real error", () =>
    Effect.gen(function* () {
      const { work } = failing()
      const retried = Retry.retry(work, { key: "r", jitter: "none", schedule: Schedule.spaced(500), classify: always })
      // The retry does not know of this deadline's end: a plain interrupt at 100 stands for it.
      const fiber = yield* Effect.forkChild(
        Effect.gen(function* () {
          const inner = yield* Effect.forkChild(retried)
          yield* Effect.sleep(100)
          const phase = (yield* Deadline.Current)?.progress
          yield* Fiber.interrupt(inner)
          return phase
        }).pipe(Deadline.within({ key: "d", duration: 10_000 }))
      )
      yield* TestClock.adjust(1000)
      assert.deepInclude(yield* Fiber.join(fiber), {
        phase: "backoff",
        lastError: { tag: "Failure", message: "Failure" }
      })
    })
  )

  it.effect("retries of two concurrent runs of one policy do not share a schedule", () =>
    Effect.gen(function* () {
      const policy = Retry.make({
        key: "r",
        retries: 3,
        jitter: "none",
        schedule: Schedule.exponential(100),
        classify: always
      })
      const one = failing()
      const two = failing()
      yield* run(Effect.all([Effect.exit(policy.run(one.work)), Effect.exit(policy.run(two.work))], { concurrency: 2 }))
      assert.deepStrictEqual(one.times, [0, 100, 300, 700])
      assert.deepStrictEqual(two.times, one.times)
    })
  )

  it.effect("property: attempts never exceed the declaration, whatever the errors and the schedule", () =>
    Effect.gen(function* () {
      for (const seed of seeds(100)) {
        const { int, next, pick } = random(seed)
        const retries = int(6)
        const { times, work } = failing()
        const classify = (): Retry.Decision => ({
          retry: next() < 0.8,
          immediate: next() < 0.3,
          ...(next() < 0.3 ? { retryAfterMillis: int(100) } : undefined),
          ...(next() < 0.3 ? { retries: int(4) } : undefined)
        })
        const schedule = pick<Schedule.Schedule<unknown>>([
          Schedule.forever,
          Schedule.exponential(10),
          Schedule.spaced(20),
          Schedule.recurs(2)
        ])
        const jitter = pick(["none", "full", "equal", "decorrelated"] as const)
        const exit = yield* run(Retry.retry(work, { key: "r", retries, schedule, jitter, classify }))
        assert.isAtMost(times.length, retries + 1, `seed ${seed}`)
        assert.deepStrictEqual(exit, Exit.fail(failure(times.length)), `seed ${seed}`)
      }
    })
  )
})

describe("Retry budget", () => {
  it.effect("a fleet that fails at once is not allowed to double its load", () =>
    Effect.gen(function* () {
      const budget = RetryBudget.make({ key: "b", ratio: 0.2, minimum: 3 })
      let calls = 0
      const work = Effect.suspend(() => Effect.fail(failure(++calls)))
      const policy = Retry.make({ key: "r", retries: 2, budget, classify: always })
      const { listen, named } = recorder()
      yield* run(
        listen(
          Effect.all(
            Array.from({ length: 100 }, () => Effect.exit(policy.run(work))),
            { concurrency: "unbounded" }
          )
        )
      )
      // Drawn before the sleep: were it drawn after, all hundred would be asleep and counted as none.
      assert.isAtMost(calls, 100 + 23)
      assert.isAbove(calls, 100)
      assert.isAbove(named("stopped").filter((one) => one.attributes["reason"] === "budget").length, 0)
    })
  )

  it.effect("drawn before the sleep: those that sleep have paid", () =>
    Effect.gen(function* () {
      const budget = RetryBudget.make({ key: "b", ratio: 0, minimum: 1 })
      const { work } = failing()
      const options = { key: "r", jitter: "none", schedule: Schedule.spaced(1000), budget, classify: always } as const
      const sleeping = yield* Effect.forkChild(Effect.exit(Retry.retry(work, options)))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* RetryBudget.available(budget), 0)
      const other = failing()
      yield* Effect.exit(Retry.retry(other.work, options))
      assert.strictEqual(other.times.length, 1)
      yield* Fiber.interrupt(sleeping)
    })
  )

  it("property: in no window of any position are there more extra requests than the budget allows", () => {
    for (const seed of seeds(200)) {
      const { int, next } = random(seed)
      const ratio = int(10) / 10
      const minimum = int(5)
      const window = 1000
      const budget = RetryBudget.make({ key: "b", ratio, minimum, window })
      const calls: Array<number> = []
      const extra: Array<number> = []
      let at = int(5000)
      for (let step = 0; step < 400; step++) {
        at += next() < 0.05 ? int(3000) : next() * 20
        if (next() < 0.5) {
          budget.deposit(at)
          calls.push(at)
        } else if (budget.withdraw(at)) {
          extra.push(at)
          const inWindow = (times: ReadonlyArray<number>) => times.filter((one) => one > at - window).length
          const allowed = minimum + ratio * inWindow(calls)
          if (inWindow(extra) > allowed) assert.fail(`seed ${seed}, at ${at}: ${inWindow(extra)} of ${allowed}`)
        }
      }
    }
  })

  it("a quiet service may retry, and a budget fills again with time", () => {
    const budget = RetryBudget.make({ key: "b", minimum: 2, window: "10 seconds" })
    assert.deepStrictEqual(
      [1, 2, 3].map((at) => budget.withdraw(at)),
      [true, true, false]
    )
    assert.isFalse(budget.withdraw(9_000))
    assert.isTrue(budget.withdraw(12_000))
  })

  it("time that goes backwards neither throws nor gives anything away", () => {
    const budget = RetryBudget.make({ key: "b", minimum: 1 })
    assert.isTrue(budget.withdraw(50_000))
    assert.isFalse(budget.withdraw(10))
  })
})

describe("Jitter", () => {
  const kinds = ["none", "full", "equal", "decorrelated"] as const

  it("cockatiel#86, Polly#2163: no attempt number makes the delay zero, NaN or longer than the cap", () => {
    const { next } = random(86)
    for (const kind of kinds) {
      let previous: number | undefined
      for (let attempt = 1; attempt <= 10_000; attempt++) {
        const delay = Jitter.exponential(100, 2, attempt, 2000)
        const jittered = Jitter.apply(kind, 100 * 2 ** attempt, 2000, next(), previous, 100)
        for (const one of [delay, jittered]) {
          if (!(one >= 0 && one <= 2000)) assert.fail(`${kind}, attempt ${attempt}: ${one}`)
        }
        if (attempt > 10) {
          const least = { none: 2000, full: 0, equal: 1000, decorrelated: 100 }[kind]
          if (delay !== 2000 || jittered < least) assert.fail(`${kind}, attempt ${attempt}: ${delay}, ${jittered}`)
        }
        previous = jittered
      }
    }
  })

  it("what is not a number is as long as allowed, never as short", () => {
    for (const odd of [NaN, Infinity]) {
      assert.strictEqual(Jitter.capped(odd, 500), 500)
      assert.strictEqual(Jitter.apply("none", odd, 500, 0.5, undefined, 100), 500)
    }
    assert.strictEqual(Jitter.capped(-Infinity, 500), 0)
    assert.strictEqual(Jitter.apply("decorrelated", 1, 500, 0.5, NaN, 100), 300)
  })

  it("keeps to its bounds and reaches both ends", () => {
    const bounds = { none: [800, 800], full: [0, 800], equal: [400, 800], decorrelated: [100, 900] } as const
    for (const kind of kinds) {
      const [low, high] = bounds[kind]
      assert.closeTo(Jitter.apply(kind, 800, 2000, 0, 300, 100), low, 1e-9)
      assert.closeTo(Jitter.apply(kind, 800, 2000, 1 - 1e-12, 300, 100), high, 1e-3)
    }
  })

  it.effect("a schedule that overflows still waits for the cap", () =>
    Effect.gen(function* () {
      const { times, work } = failing()
      const schedule = Schedule.exponential(1, 1e300)
      yield* run(
        Retry.retry(work, { key: "r", retries: 20, cap: 2000, jitter: "equal", schedule, classify: always }).pipe(
          Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0, nextIntUnsafe: () => 0 })
        )
      )
      const gaps = times.slice(1).map((at, index) => at - times[index]!)
      assert.isTrue(
        gaps.slice(1).every((gap) => gap === 1000),
        gaps.join()
      )
      assert.strictEqual(times.length, 21)
    })
  )
})
