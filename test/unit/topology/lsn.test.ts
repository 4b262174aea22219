import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as Lsn from "../../../packages/sdk/src/topology/Lsn.ts"

describe("Lsn", () => {
  it("reads and writes PostgreSQL's form", () => {
    assert.strictEqual(Lsn.parse("16/B374D848"), 97_500_059_720n)
    assert.strictEqual(Lsn.format(97_500_059_720n), "16/B374D848")
    assert.strictEqual(Lsn.format(Lsn.parse("0/0")!), "0/0")
    assert.strictEqual(Lsn.parse("FFFFFFFF/FFFFFFFF"), 2n ** 64n - 1n)
    for (const text of ["", "0", "0/", "/0", "123456789/0", "0/G", "0/0 ", "0/0/0"])
      assert.isUndefined(Lsn.parse(text), text)
  })

  it.prop(
    "what is written is read back, and order is numeric, not that of the text",
    [Schema.Int, Schema.Int],
    ([a, b]) => {
      const [first, second] = [a, b].map((value) => BigInt(Math.abs(value)) * 1021n) as [bigint, bigint]
      assert.strictEqual(Lsn.parse(Lsn.format(first)), first)
      assert.strictEqual(Lsn.compare(first, second), first < second ? -1 : first > second ? 1 : 0)
      assert.strictEqual(Lsn.distance(first, second), Number(second - first))
    }
  )

  it("keeps the later of two tokens: of two timelines the newer one, of two positions the farther one", () => {
    const token = (lsn: bigint, timeline?: number): Lsn.Token => ({ lsn, timeline })
    assert.deepStrictEqual(Lsn.latest(token(5n, 1), token(3n, 2)), token(3n, 2))
    assert.deepStrictEqual(Lsn.latest(token(5n, 2), token(3n, 1)), token(5n, 2))
    assert.deepStrictEqual(Lsn.latest(token(5n, 2), token(7n, 2)), token(7n, 2))
    assert.deepStrictEqual(Lsn.latest(token(5n), token(3n, 2)), token(5n))
  })

  it("a token travels as a string that its schema checks", () => {
    for (const token of [{ lsn: 97_500_059_720n, timeline: 2 }, { lsn: 1n }]) {
      const text = Lsn.formatToken(token)
      assert.isTrue(Schema.is(Lsn.TokenString)(text))
      assert.deepStrictEqual(Lsn.parseToken(text), token)
    }
    for (const text of ["0/1@", "0/1@0", "0/1@1@1", "@1", "0/1@x"]) {
      assert.isUndefined(Lsn.parseToken(text), text)
      assert.isFalse(Schema.is(Lsn.TokenString)(text), text)
    }
  })
})
