/** What may stand before a statement's first word, in any order and number. */
import { assert, describe, it } from "@effect/vitest"
import { fromFirstWord } from "@sluice/sdk/pool/session/FirstWord"
import { fuzz, type Random, random } from "../../support/random.ts"

const statements = ["call p()", "/ 2", "- 1", "$$ /* $$", ""]
const inside = [" ", "a", "--", "\n", "'", "call p();", ";"]
const blanks = [" ", ";", "\t", "\r\n", "\f", "\v"]

const block = (of: Random, depth: number): string =>
  `/*${of.many(4, () => (depth > 0 && of.chance(0.4) ? block(of, depth - 1) : of.pick(inside))).join("")}*/`

const line = (of: Random): string =>
  `--${of.many(4, () => of.pick([" call", "/*", "*/ ", "'"])).join("")}${of.pick(["\n", "\r"])}`

const leading = (of: Random): string =>
  of.many(12, () => of.pick([() => block(of, 3), () => line(of), () => of.pick(blanks)])()).join("")

const { runs, seed } = fuzz(2_000)

describe("a statement's first word", () => {
  it(`is found behind any comments, lines and semicolons: ${runs} runs from SLUICE_FUZZ_SEED=${seed}`, () => {
    for (let run = 0; run < runs; run++) {
      const of = random(seed + run)
      const before = leading(of)
      const statement = of.pick(statements)
      assert.strictEqual(fromFirstWord(before + statement), statement, JSON.stringify(before))
    }
  })

  it.each(["/* a", "/* /* a */", "-- a", ""])("is missing in a text that is nothing else: %s", (text) => {
    assert.strictEqual(fromFirstWord(text), "")
  })

  it("is found in one pass: as many comments as fit into a message", () => {
    assert.strictEqual(fromFirstWord(`${"/* a */ ".repeat(200_000)}select 1 /* b */`), "select 1 /* b */")
  })
})
