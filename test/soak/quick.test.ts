/** The quick form of `npm run soak`. Its warm-up is too short for a word about the heap. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { broken, soak } from "./soak.ts"

const seed = Math.floor(Math.random() * 2 ** 31)

describe("a quick soak", () => {
  it.live(
    `nothing is lost, doubled, wrong, late or left behind (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const { account, result } = yield* soak({ minutes: 0.2, seed, workers: 12, pool: 6, tell: () => {} })
        const about = `seed ${seed}\n${account.problems.join("\n")}`
        assert.deepStrictEqual(broken({ ...result, heapEnd: result.heapStart }), [], about)
        assert.isAbove(result.calls, 100, about)
        assert.isAbove(result.writes, 20, about)
        assert.hasAllKeys(result, [
          "minutes",
          "seed",
          "calls",
          "writes",
          "lost",
          "doubled",
          "wrong",
          "late",
          "heapStart",
          "heapEnd",
          "leaked"
        ])
        assert.hasAllKeys(result.leaked, ["sessions", "permits", "timers", "listeners"])
        for (const value of [
          ...Object.values(result).filter((each) => each !== result.leaked),
          ...Object.values(result.leaked)
        ]) {
          assert.isTrue(typeof value === "number" && Number.isFinite(value), JSON.stringify(result))
        }
      }),
    180_000
  )
})
