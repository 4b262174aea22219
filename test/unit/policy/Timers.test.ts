/** Many timers on one of Node's, against the plainest thing that keeps the same promise. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { live } from "../../../packages/sdk/src/internal/Monotonic.ts"
import { after } from "../../../packages/sdk/src/policy/Time.ts"
import { callAt } from "../../../packages/sdk/src/policy/Timers.ts"
import { fuzz, random as randomOf } from "../../support/random.ts"

/** Node's timers and its clock, moved by hand. */
const virtual =
  (use: (time: { readonly advance: (millis: number) => void; readonly keeps: () => boolean }) => void) => () => {
    const { clearTimeout, setTimeout } = globalThis
    const { now } = performance
    let at = 1_000
    const set = new Set<{ readonly at: number; readonly callback: () => void; kept: boolean }>()
    const fakes = {
      setTimeout: (callback: () => void, millis: number) => {
        if (!(millis >= 0 && millis < 2 ** 31)) throw new RangeError(`a timer of ${millis} milliseconds`)
        const timer = {
          at: at + Math.max(1, millis),
          callback,
          kept: true,
          ref: () => void (timer.kept = true),
          unref: () => void (timer.kept = false)
        }
        set.add(timer)
        return timer
      },
      clearTimeout: (timer: never) => void set.delete(timer)
    }
    const advance = (millis: number): void => {
      const end = at + millis
      for (;;) {
        const due = [...set].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0]
        if (due === undefined) break
        set.delete(due)
        at = Math.max(at, due.at)
        due.callback()
      }
      at = end
    }
    Object.assign(globalThis, fakes)
    performance.now = () => at
    try {
      use({ advance, keeps: () => [...set].some((timer) => timer.kept) })
      // Nothing of this test is left for the next one.
      advance(2 ** 40)
      assert.strictEqual(set.size, 0)
    } finally {
      Object.assign(globalThis, { clearTimeout, setTimeout })
      performance.now = now
    }
  }

describe("timers", () => {
  it(
    "are called once, at their time and in its order, unless they were taken back",
    virtual(({ advance }) => {
      const calls: Array<string> = []
      const at = performance.now()
      callAt(at + 30, () => calls.push(`c${performance.now() - at}`))
      const take = callAt(at + 20, () => calls.push("never"))
      callAt(at + 10, () => calls.push(`a${performance.now() - at}`))
      advance(15)
      take()
      take()
      advance(1_000)
      assert.deepStrictEqual(calls, ["a10", "c30"])
    })
  )

  it(
    "that were due long ago are called in the next turn",
    virtual(({ advance }) => {
      let called = false
      callAt(performance.now() - 5, () => (called = true))
      assert.isFalse(called)
      advance(1)
      assert.isTrue(called)
    })
  )

  it(
    "serve the policies by the live clock",
    virtual(({ advance }) => {
      let called = false
      const set = Effect.withFiber((fiber) => Effect.sync(() => after(fiber, 7, () => (called = true))))
      Effect.runSync(Effect.provideService(set, Clock.Clock, live))
      advance(6)
      assert.isFalse(called)
      advance(1)
      assert.isTrue(called)
      Effect.runSync(Effect.provideService(set, Clock.Clock, live))()
      called = false
      advance(10)
      assert.isFalse(called)
    })
  )

  it(
    "keep the process as long as one waits",
    virtual(({ advance, keeps }) => {
      const at = performance.now()
      const first = callAt(at + 10, () => {})
      const second = callAt(at + 20, () => {})
      first()
      assert.isTrue(keeps())
      second()
      assert.isFalse(keeps())
      const third = callAt(at + 30, () => {})
      assert.isTrue(keeps())
      advance(15)
      assert.isTrue(keeps())
      third()
      assert.isFalse(keeps())
      callAt(at + 40, () => {})
      advance(100)
      assert.isFalse(keeps())
    })
  )

  it(
    "outlive those that were taken back around them",
    virtual(({ advance }) => {
      const at = performance.now()
      const called: Array<number> = []
      for (let n = 0; n < 2_000; n++) {
        const take = callAt(at + 10 + ((n * 37) % 500), () => called.push(performance.now() - at))
        if (n % 100 !== 0) take()
      }
      advance(1_000)
      assert.strictEqual(called.length, 20)
      assert.deepStrictEqual(
        called,
        called.slice().sort((a, b) => a - b)
      )
    })
  )

  it(
    "never fire before their time",
    virtual(({ advance }) => {
      const at = performance.now() + 0.4
      let called = Infinity
      callAt(at, () => (called = performance.now()))
      advance(5)
      assert.isAtLeast(called, at)
    })
  )

  it(
    "are not the victims of one that throws",
    virtual(({ advance }) => {
      const at = performance.now()
      let called = false
      callAt(at + 10, () => {
        throw new Error("mine")
      })
      callAt(at + 10, () => (called = true))
      assert.throws(() => advance(10), "mine")
      advance(1)
      assert.isTrue(called)
    })
  )

  it(
    "beyond the longest that Node can wait are waited for",
    virtual(({ advance }) => {
      let called = false
      const days = 30 * 24 * 3_600_000
      callAt(performance.now() + days, () => (called = true))
      advance(days - 1)
      assert.isFalse(called)
      advance(2)
      assert.isTrue(called)
    })
  )

  it(
    "set while others are called have their own turn",
    virtual(({ advance }) => {
      const calls: Array<number> = []
      const at = performance.now()
      callAt(at + 10, () => {
        calls.push(performance.now() - at)
        callAt(at + 25, () => calls.push(performance.now() - at))
      })
      advance(100)
      assert.deepStrictEqual(calls, [10, 25])
    })
  )

  const { runs, seed } = fuzz(20)
  it(
    `equal a list that is searched at every step (${runs} runs from seed ${seed})`,
    virtual(({ advance }) => {
      for (let run = 0; run < runs; run++) history(randomOf(seed + run), advance)
    })
  )

  const history = (random: ReturnType<typeof randomOf>, advance: (millis: number) => void): void => {
    const model: Array<{ readonly id: number; readonly at: number }> = []
    const called: Array<number> = []
    const expected: Array<number> = []
    const takes = new Map<number, () => void>()
    const set = (id: number): void => {
      const at = performance.now() + 1 + random.below(random.below(4) === 0 ? 5_000 : 50)
      model.push({ id, at })
      takes.set(
        id,
        callAt(at, () => called.push(id))
      )
    }
    for (let id = 0; id < 600; id++) {
      set(id)
      // Mostly taken back, as the deadlines of calls are.
      for (const [other, take] of takes) {
        if (random.below(3) > 0) break
        take()
        takes.delete(other)
        const index = model.findIndex((one) => one.id === other)
        if (index >= 0) model.splice(index, 1)
      }
      if (random.below(5) > 0) continue
      advance(1 + random.below(40))
      const now = performance.now()
      const due = model.filter((one) => one.at <= now).sort((a, b) => a.at - b.at)
      for (const one of due) model.splice(model.indexOf(one), 1)
      expected.push(...due.map((one) => one.id))
      assert.deepStrictEqual(called.length, expected.length)
    }
    for (const take of takes.values()) take()
    advance(10_000)
    // Of one instant, in any order.
    assert.deepStrictEqual(
      called.sort((a, b) => a - b),
      expected.sort((a, b) => a - b)
    )
  }
})
