import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import {
  fromKilometresPerHour,
  fromMilesPerHour,
  kilometresPerHour,
  Metres,
  MetresFromKilometres,
  MetresFromMiles,
  milesPerHour,
  sumMetres
} from "../../../packages/examples/src/fleet/units.ts"
import { progress } from "../../../packages/examples/src/terminal/progress.ts"
import { presentation, table } from "../../../packages/examples/src/terminal/table.ts"

describe("units", () => {
  it("convert at the edge, there and back", () => {
    assert.strictEqual(Schema.encodeSync(MetresFromMiles)(Metres.make(1609.344)), 1)
    assert.strictEqual(Schema.decodeSync(MetresFromMiles)(2), 3218.688)
    assert.strictEqual(Schema.encodeSync(MetresFromKilometres)(Metres.make(1500)), 1.5)
    assert.approximately(kilometresPerHour(fromKilometresPerHour(90)), 90, 1e-9)
    assert.approximately(milesPerHour(fromMilesPerHour(55)), 55, 1e-9)
    assert.strictEqual(fromKilometresPerHour(90), 25)
  })

  it("are rounded after they are summed", () => {
    const { length } = presentation({ units: "metric", timeZone: "UTC" })
    // Each of these rounds to 0.0 km.
    const legs = Array.from({ length: 100 }, () => Metres.make(49))
    assert.strictEqual(length(Metres.make(49)), "0.0")
    assert.strictEqual(length(sumMetres(legs)), "4.9")
  })
})

describe("what a reader sees", () => {
  it("is in the reader's units and time zone", () => {
    const time = DateTime.makeUnsafe("2026-03-02T23:30:00Z")
    const berlin = presentation({ units: "metric", timeZone: "Europe/Berlin" })
    const chicago = presentation({ units: "imperial", timeZone: "America/Chicago" })
    assert.strictEqual(berlin.time(time), "Tue 03 Mar 00:30")
    assert.strictEqual(chicago.time(time), "Mon 02 Mar 17:30")
    assert.strictEqual(berlin.length(Metres.make(1_609_344)), "1,609.3")
    assert.strictEqual(chicago.length(Metres.make(1_609_344)), "1,000.0")
    assert.strictEqual(berlin.duration(Duration.seconds(3599)), "59 min 59 s")
    assert.strictEqual(berlin.duration(Duration.seconds(3600 * 26 + 300)), "26 h 05 min")
  })

  it("has the year where it is asked for, and the offset in the hour that the clocks show twice", () => {
    const at = (text: string, years = false) =>
      presentation({ units: "metric", timeZone: "Europe/Berlin" }, years).time(DateTime.makeUnsafe(text))
    assert.strictEqual(at("2020-03-02T08:00:00Z", true), "Mon 02 Mar 2020 09:00")
    assert.strictEqual(at("2026-10-25T00:29:00Z"), "Sun 25 Oct 02:29 +02:00")
    assert.strictEqual(at("2026-10-25T01:29:00Z"), "Sun 25 Oct 02:29 +01:00")
    assert.strictEqual(at("2026-10-24T23:59:00Z"), "Sun 25 Oct 01:59")
    assert.strictEqual(at("2026-10-25T02:00:00Z"), "Sun 25 Oct 03:00")
    // Half an hour back, as on Lord Howe Island.
    const howe = presentation({ units: "metric", timeZone: "Australia/Lord_Howe" })
    assert.match(howe.time(DateTime.makeUnsafe("2026-04-04T14:45:00Z")), / \+11:00$/)
    assert.match(howe.time(DateTime.makeUnsafe("2026-04-04T15:15:00Z")), / \+10:30$/)
  })

  it("is a table whose numbers line up on the right", () => {
    const rows = [
      { name: "a", km: 5 },
      { name: "longer", km: 1234 }
    ]
    assert.strictEqual(
      table(rows, [
        { title: "name", cell: (row) => row.name },
        { title: "km", cell: (row) => String(row.km), right: true }
      ]),
      ["  name      km", "  ------  ----", "  a          5", "  longer  1234"].join("\n")
    )
  })
})

describe("progress", () => {
  const written = (isTTY: boolean) => {
    const texts: Array<string> = []
    const bar = progress("Simulating", { isTTY, columns: 60, write: (text) => texts.push(text) })
    const all = Effect.gen(function* () {
      for (let done = 1; done <= 28; done++) yield* bar.at(done, 28, `${done} slices`)
      yield* bar.end
    })
    return Effect.as(all, texts)
  }

  it.effect("is plain lines where there is no terminal", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* written(false), [
        "Simulating: 25 %, 7 slices\n",
        "Simulating: 50 %, 14 slices\n",
        "Simulating: 75 %, 21 slices\n",
        "Simulating: 100 %, 28 slices\n"
      ])
    })
  )

  it.effect("is one line that moves on a terminal, and never wraps", () =>
    Effect.gen(function* () {
      const texts = yield* written(true)
      assert.lengthOf(texts, 29)
      for (const text of texts.slice(0, -1)) {
        assert.isTrue(text.startsWith("\r\u001b[2K"))
        assert.isBelow(text.length, 60 + 5)
      }
      assert.strictEqual(texts.at(-1), "\n")
    })
  )
})
