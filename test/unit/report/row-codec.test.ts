/** Rows are decoded in stretches, so that a large result does not keep everybody else waiting. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as RowCodec from "../../../packages/sdk/src/report/RowCodec.ts"

const decode = RowCodec.make("numbers", Schema.Struct({ n: Schema.Int }))
const rows = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

describe("the rows of a report", () => {
  it("a small result is there at once", () => {
    const decoded = decode(rows(2000))
    assert.isTrue(Exit.isExit(decoded))
  })

  it.effect("a large one lets others have their turn, and comes whole and in order", () =>
    Effect.gen(function* () {
      let turns = 0
      let going = true
      const turn = (): void => {
        turns++
        if (going) setImmediate(turn)
      }
      setImmediate(turn)
      const decoded = yield* decode(rows(50_000))
      going = false
      assert.isAtLeast(turns, 20)
      assert.deepStrictEqual(decoded, rows(50_000))
    })
  )

  it.effect("the row that does not fit is told by its place in the whole", () =>
    Effect.gen(function* () {
      const wrong = [...rows(7_000), { n: "seven thousand" }]
      const error = yield* Effect.flip(decode(wrong, 100))
      assert.deepInclude(error, { _tag: "RowDecodeError", row: 7_100, field: "n" })
    })
  )
})
