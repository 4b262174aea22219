/** The bench measures what it says, gives what DESIGN says, and every row of it runs. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { chart } from "./chart.ts"
import { makeContext } from "./Ground.ts"
import { markdown } from "./markdown.ts"
import { type Context as BenchContext, type Entrant, isSluice, measure, type Row, units } from "./Row.ts"
import { rows } from "./rows/index.ts"

const Result = Schema.Struct({
  row: Schema.NonEmptyString,
  fibers: Schema.optionalKey(Schema.Int),
  subject: Schema.NonEmptyString,
  unit: Schema.Literals(units),
  value: Schema.Finite,
  min: Schema.Finite,
  max: Schema.Finite,
  ratio: Schema.optionalKey(Schema.Record(Schema.String, Schema.Finite))
})

/** Fails on a field that is not declared, too. */
const exactly = Schema.decodeUnknownSync(Result, { onExcessProperty: "error" })

/** A contender with given values, which notes each of its turns. */
const scripted = (subject: string, values: ReadonlyArray<number>, turns: Array<string>, beside?: string): Entrant => ({
  subject,
  beside,
  open: async () => {
    let at = 0
    return {
      subject,
      round: async () => {
        turns.push(subject)
        const value = values[at++]
        if (value === undefined) throw new Error("no more")
        return value
      },
      close: async () => {
        turns.push(`${subject} closed`)
      }
    }
  }
})

const row = (entrants: ReadonlyArray<Entrant>, more?: Partial<Row>): Row => ({
  name: "scripted",
  about: "values",
  unit: "ms",
  warmUp: false,
  groups: () => [{ contenders: entrants }],
  ...more
})

const run = async (one: Row) => {
  const leftOut: Array<string> = []
  const settings = { rounds: 3, millis: 1, collect: false, leftOut: (line: string) => leftOut.push(line) }
  const [group] = one.groups({} as BenchContext)
  return { leftOut, measured: await measure(one, group!, settings) }
}

describe("a measurement", () => {
  it("has a shape that lets nothing else through", () => {
    const good: typeof Result.Type = {
      row: "select",
      fibers: 1,
      subject: "pg",
      unit: "op/s",
      value: 2,
      min: 1,
      max: 3,
      ratio: { sluice: 0.5 }
    }
    assert.deepStrictEqual(exactly(good), good)
    for (const bad of [
      { ...good, spread: 1 },
      { ...good, unit: "rows/s" },
      { ...good, max: undefined },
      { ...good, ratio: [1] }
    ])
      assert.throws(() => exactly(bad))
  })

  it("takes turns, each round beginning with another one, and closes everybody", async () => {
    const turns: Array<string> = []
    await run(row(["a", "b", "c"].map((name) => scripted(name, [1, 1, 1], turns))))
    assert.deepStrictEqual(turns, [..."abcbcacab", "a closed", "b closed", "c closed"])
  })

  it("throws the first round away", async () => {
    const { measured } = await run(row([scripted("a", [100, 1, 2, 3], [])], { warmUp: true }))
    assert.deepStrictEqual(measured[0]!.result, { row: "scripted", subject: "a", unit: "ms", value: 2, min: 1, max: 3 })
  })

  it("compares round with round, so that a slow minute is nobody's", async () => {
    const { measured } = await run(row([scripted("sluice", [1, 50, 2], []), scripted("pg", [2, 100, 4], [])]))
    const [sluice, pg] = measured
    assert.deepStrictEqual(sluice!.result.ratio, { pg: 2 })
    assert.deepStrictEqual(pg!.result.ratio, { sluice: 0.5 })
    assert.deepStrictEqual(pg!.sluice, { subject: "sluice", ratio: 2, min: 2, max: 2 })
    assert.isUndefined(sluice!.sluice)
  })

  it("calls more operations better, and less of everything else", async () => {
    const entrants = [scripted("sluice", [1, 1, 1], []), scripted("pg", [2, 2, 2], [])]
    const more = await run(row(entrants, { unit: "op/s" }))
    const less = await run(row(entrants, { unit: "bytes" }))
    assert.strictEqual(more.measured[1]!.sluice!.ratio, 0.5)
    assert.strictEqual(less.measured[1]!.sluice!.ratio, 2)
  })

  it("puts like beside like", async () => {
    const { measured } = await run(
      row([
        scripted("sluice", [4, 4, 4], []),
        scripted("sluice lease", [2, 2, 2], []),
        scripted("pg", [6, 6, 6], [], "sluice lease")
      ])
    )
    assert.deepInclude(measured[2]!.sluice!, { subject: "sluice lease", ratio: 3 })
  })

  it("does not compare what nobody of Sluice's does", async () => {
    const alone = { ...scripted("node alone", [1, 1, 1], []), beside: null }
    const { measured } = await run(row([scripted("sluice", [4, 4, 4], []), alone]))
    assert.isUndefined(measured[1]!.sluice)
    assert.deepStrictEqual(measured[1]!.result.ratio, { sluice: 4 })
  })

  it("judges a promise by its limit, or by its ratio to a peer", async () => {
    const entrants = [scripted("sluice", [4, 4, 4], []), scripted("other", [40, 40, 40], [])]
    const limit = await run(row(entrants, { promised: { text: "in 8 ms", atMost: 8 } }))
    assert.deepStrictEqual(limit.measured[0]!.result.ratio, { other: 10, promise: 2 })
    assert.strictEqual(limit.measured[1]!.result.ratio!["promise"], 0.2)
    const ratio = await run(row(entrants, { promised: { text: "5 x", times: 5, than: "other" } }))
    assert.deepStrictEqual(ratio.measured[0]!.result.ratio, { other: 10, promise: 2 })
  })

  it("leaves out who fails, says so, and goes on with the others", async () => {
    const broken: Entrant = { subject: "closed", open: () => Promise.reject(new Error("refused")) }
    const { leftOut, measured } = await run(row([broken, scripted("a", [1], []), scripted("b", [2, 2, 2], [])]))
    assert.deepStrictEqual(
      measured.map(({ result }) => result.subject),
      ["b"]
    )
    assert.match(leftOut.join("\n"), /closed left out: Error: refused\n.*a left out: Error: no more/)
  })
})

class Ground extends Context.Service<Ground, BenchContext>()("test/bench/Ground") {}

const said: Array<string> = []

// Children run the sources, as this test does: nothing need be built.
const sources = ["--conditions=@sluice/source", "--import", "tsx"]

const ground = Layer.effect(
  Ground,
  Effect.map(
    makeContext({
      quick: true,
      scale: 12_000,
      node: { plain: [], sdk: sources, typescript: sources },
      say: (line) => said.push(line)
    }),
    ({ context }) => context
  )
)

layer(ground, { excludeTestServices: true, timeout: "2 minutes" })("every row", (it) => {
  it.effect(
    "runs, with every subject, and gives results of exactly the declared shape",
    () =>
      Effect.gen(function* () {
        const context = yield* Ground
        const names = rows.map(({ name }) => name)
        assert.strictEqual(new Set(names).size, names.length)
        const shown = []
        for (const each of rows) {
          const measured = []
          for (const group of each.groups(context)) {
            const leftOut: Array<string> = []
            const settings = {
              rounds: 1,
              most: 1,
              millis: 10,
              collect: false,
              leftOut: (line: string) => leftOut.push(line)
            }
            const found = yield* Effect.promise(() => measure({ ...each, warmUp: false }, group, settings))
            assert.deepStrictEqual(leftOut, [])
            assert.sameMembers(
              found.map(({ result }) => result.subject),
              group.contenders.map(({ subject }) => subject)
            )
            for (const { beside, subject } of group.contenders) {
              if (typeof beside === "string" && !isSluice(subject))
                assert.include(
                  group.contenders.map((other) => other.subject),
                  beside,
                  `${each.name}: ${subject}`
                )
            }
            measured.push(...found)
          }
          for (const { result } of measured) {
            const { max, min, unit, value } = exactly(JSON.parse(JSON.stringify(result)))
            assert.deepInclude(result, { row: each.name, unit: each.unit })
            assert.strictEqual(unit, each.unit)
            assert.isTrue(min <= value && value <= max && min > 0, JSON.stringify(result))
          }
          assert.isNotEmpty(measured)
          shown.push({ row: each, measured, note: each.note?.(context) })
        }
        const picture = chart("a machine", shown)
        const block = markdown("a machine", shown)
        for (const { row: each } of shown) {
          assert.include(picture, `>${each.name}`)
          assert.include(block, each.promised?.text ?? `\`${each.name}\``)
        }
        assert.notMatch(picture + block, /NaN|undefined|Infinity/)
      }),
    600_000
  )
})
