import { assert, describe, it } from "@effect/vitest"
import { type Fix, type Rule, trace } from "./reference.ts"

const minute = 60_000
const rule: Rule = {
  motionThreshold: 0.5,
  minTripDistance: 500,
  minTripDuration: 5 * minute,
  minParking: 5 * minute,
  silence: 60 * minute,
  useIgnition: false
}

/** Positions from (minute, speed, odometer, ignition). */
const fixes = (...rows: ReadonlyArray<readonly [number, number, number?, (boolean | null)?]>): ReadonlyArray<Fix> =>
  rows.map(([at, speed, odometer = 0, ignition = null]) => ({ time: at * minute, speed, odometer, ignition }))

/** `stop 0-10` and so on, in minutes. */
const told = (of: ReadonlyArray<Fix>, by: Partial<Rule> = {}): ReadonlyArray<string> =>
  trace(of, { ...rule, ...by }).intervals.map(
    ({ end, moving, start }) => `${moving ? "trip" : "stop"} ${start / minute}-${end / minute}`
  )

describe("the rule of confirmed runs", () => {
  it("takes the motion of the first position for the state", () => {
    assert.deepStrictEqual(told(fixes([0, 9], [1, 9])), ["trip 0-1"])
    assert.deepStrictEqual(told(fixes([0, 0], [1, 0])), ["stop 0-1"])
  })

  it("dates a trip at the first position of the run that is confirmed by time", () => {
    assert.deepStrictEqual(told(fixes([0, 0], [1, 0], [2, 9], [6, 9], [7, 9], [8, 9])), ["stop 0-2", "trip 2-8"])
  })

  it("confirms a trip by distance, too, and both limits are inclusive", () => {
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9, 0], [2, 9, 500])), ["stop 0-1", "trip 1-2"])
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9, 0], [2, 9, 499])), ["stop 0-2"])
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9], [6, 9])), ["stop 0-1", "trip 1-6"])
  })

  it("counts the way that an odometer rises, on either side of a fall", () => {
    assert.deepStrictEqual(told(fixes([0, 0, 9000], [1, 9, 9000], [2, 9, 9300], [3, 9, 0], [4, 9, 200])), [
      "stop 0-1",
      "trip 1-4"
    ])
    assert.deepStrictEqual(told(fixes([0, 0, 9000], [1, 9, 9000], [2, 9, 9300], [3, 9, 0], [4, 9, 199])), ["stop 0-4"])
  })

  it("does not let the first position of a run confirm it", () => {
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9, 9000], [2, 0, 9000])), ["stop 0-2"])
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9], [2, 0]), { minTripDuration: 0 }), ["stop 0-2"])
  })

  it("does not split a trip at a stop shorter than the parking", () => {
    assert.deepStrictEqual(told(fixes([0, 9], [1, 0], [5, 0], [6, 9], [9, 9])), ["trip 0-9"])
  })

  it("does not split a stop at a short and near burst of movement", () => {
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9, 0], [2, 9, 100], [3, 0, 100], [9, 0, 100])), ["stop 0-9"])
  })

  it("ends a trip at the last position before a silence, and does not look at the one after it", () => {
    assert.deepStrictEqual(told(fixes([0, 9], [1, 9], [61, 9], [62, 9], [66, 9], [67, 9])), [
      "trip 0-1",
      "stop 1-62",
      "trip 62-67"
    ])
  })

  it("lets a silence while stopped change nothing: a candidate survives it", () => {
    assert.deepStrictEqual(told(fixes([0, 0], [1, 9], [90, 9])), ["stop 0-1", "trip 1-90"])
  })

  it("lets the ignition confirm a stop only when asked to", () => {
    const parked = fixes([0, 9], [1, 0, 0, false], [2, 0, 0, false], [3, 0, 0, false], [4, 9])
    assert.deepStrictEqual(told(parked), ["trip 0-4"])
    assert.deepStrictEqual(told(parked, { useIgnition: true }), ["trip 0-1", "stop 1-4"])
  })

  it("reads positions in the order of time, once each", () => {
    const ordered = fixes([0, 0], [1, 0], [2, 9], [8, 9])
    assert.deepStrictEqual(told([...ordered].reverse().concat(ordered)), told(ordered))
  })
})
