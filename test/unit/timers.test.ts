/** Many timers on one of Node's, against the plainest thing that keeps the same promise. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"
import { afterEach, beforeEach, vi } from "vitest"
import { callAt } from "../../packages/sdk/src/internal/Timers.ts"
import { fuzz, random as randomOf } from "../support/random.ts"

describe("timers", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }))
  afterEach(() => void vi.useRealTimers())

  it("are called once, at their time and in its order, unless they were taken back", () => {
    const calls: Array<string> = []
    const at = performance.now()
    callAt(at + 30, () => calls.push(`c${performance.now() - at}`))
    const take = callAt(at + 20, () => calls.push("never"))
    callAt(at + 10, () => calls.push(`a${performance.now() - at}`))
    vi.advanceTimersByTime(15)
    take()
    take()
    vi.advanceTimersByTime(1_000)
    assert.deepStrictEqual(calls, ["a10", "c30"])
  })

  it("that were due long ago are called in the next turn", () => {
    let called = false
    callAt(performance.now() - 5, () => (called = true))
    assert.isFalse(called)
    vi.advanceTimersByTime(1)
    assert.isTrue(called)
  })

  it("are not the victims of one that throws", () => {
    const at = performance.now()
    let called = false
    callAt(at + 10, () => {
      throw new Error("mine")
    })
    callAt(at + 10, () => (called = true))
    assert.throws(() => vi.advanceTimersByTime(10), "mine")
    vi.advanceTimersByTime(1)
    assert.isTrue(called)
  })

  it("beyond the longest that Node can wait are waited for", () => {
    let called = false
    const days = 30 * 24 * 3_600_000
    callAt(performance.now() + days, () => (called = true))
    vi.advanceTimersByTime(days - 1)
    assert.isFalse(called)
    vi.advanceTimersByTime(2)
    assert.isTrue(called)
  })

  it("set while others are called have their own turn", () => {
    const calls: Array<number> = []
    const at = performance.now()
    callAt(at + 10, () => {
      calls.push(performance.now() - at)
      callAt(at + 25, () => calls.push(performance.now() - at))
    })
    vi.advanceTimersByTime(100)
    assert.deepStrictEqual(calls, [10, 25])
  })

  const { runs, seed } = fuzz(20)
  it(`equal a list that is searched at every step (${runs} runs from seed ${seed})`, () => {
    for (let run = 0; run < runs; run++) history(randomOf(seed + run))
  })

  const history = (random: ReturnType<typeof randomOf>): void => {
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
      vi.advanceTimersByTime(1 + random.below(40))
      const now = performance.now()
      const due = model.filter((one) => one.at <= now).sort((a, b) => a.at - b.at)
      for (const one of due) model.splice(model.indexOf(one), 1)
      expected.push(...due.map((one) => one.id))
      assert.deepStrictEqual(called.length, expected.length)
    }
    for (const take of takes.values()) take()
    vi.advanceTimersByTime(10_000)
    // Of one instant, in any order.
    assert.deepStrictEqual(
      called.sort((a, b) => a - b),
      expected.sort((a, b) => a - b)
    )
  }
})

describe("a process", () => {
  const run = (body: string) =>
    promisify(execFile)(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", body], {
      cwd: path.resolve(import.meta.dirname, "../..")
    })
  const timers = `import { callAt } from "./packages/sdk/src/internal/Timers.ts"; const at = performance.now();`

  it("is kept by a timer that waits, and by none that was taken back", async () => {
    const { stdout } = await run(`${timers}
      callAt(at + 60_000, () => console.log("late"))()
      callAt(at + 50, () => console.log("waited"))
      callAt(at + 60_000, () => console.log("late"))()`)
    assert.strictEqual(stdout, "waited\n")
  }, 20_000)
})
