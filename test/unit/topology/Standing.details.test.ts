/** Who is fenced and how far a replica is behind, in the cases that are rare: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Standing from "../../../packages/sdk/src/topology/Standing.ts"
import { primary, replica, watch } from "./support.ts"

type Standings = ReadonlyMap<string, Standing.Standing>

/** Who is fenced, and why. */
const fenced = (standings: Standings): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...standings].flatMap(([name, one]) => (one.fenced === undefined ? [] : [[name, one.fenced.reason]]))
  )

describe("which cluster it is", () => {
  const foreign = { systemId: "8", instance: "foreign" }
  const others = (now: number, ...names: ReadonlyArray<string>) =>
    Object.fromEntries(names.map((name) => [name, replica(now, foreign)]))

  it("one server that answers is enough to begin with", () => {
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0), b: "lost", c: "lost" })), {})
  })

  it("between equals it is the one that held so far, whatever the order of the servers", () => {
    const look = watch()
    look(0, { b: "lost", a: primary(0) })
    const standings = look(1, { a: primary(1), b: primary(1, { ...foreign, timeline: 9, lsn: 999n }) })
    const other = watch()
    other(0, { a: primary(0) })
    assert.deepStrictEqual(fenced(other(1, { a: primary(1), b: primary(1, foreign) })), { b: "other-cluster" })
    assert.deepStrictEqual(fenced(standings), { b: "other-cluster" })
    assert.deepStrictEqual(standings.get("b")?.fenced, {
      reason: "other-cluster",
      by: "a",
      timeline: 9,
      highestTimeline: 1
    })
  })

  it("who has more servers that answer outvotes who has fewer", () => {
    const look = watch()
    look(0, { a: primary(0), b: "lost", c: "lost" })
    assert.deepStrictEqual(fenced(look(1, { a: primary(1), ...others(1, "b", "c") })), { a: "other-cluster" })
    // Those that come back turn it again: it is counted anew each time.
    const back = look(2, { a: primary(2), b: replica(2), c: replica(2), ...others(2, "d", "e") })
    assert.deepStrictEqual(fenced(back), { d: "other-cluster", e: "other-cluster" })
  })

  it("while nobody of it answers, half of all servers do not overrule it, and more than half do", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0), c: replica(0), d: replica(0) })
    const half = look(1, { a: "lost", b: "lost", ...others(1, "c", "d") })
    assert.deepStrictEqual(fenced(half), { c: "other-cluster", d: "other-cluster" })
    assert.deepStrictEqual(fenced(look(2, { b: "lost", ...others(2, "c", "d") })), fenced(half))
    assert.deepStrictEqual(fenced(look(3, others(3, "b", "c", "d"))), {})
  })

  it("a single server that was built anew is not fenced for what its predecessor was", () => {
    const look = watch()
    look(0, { a: primary(0, { timeline: 9 }) })
    const standings = look(1, { a: primary(1, { ...foreign, timeline: 1 }) })
    assert.deepStrictEqual(fenced(standings), {})
    assert.strictEqual(standings.get("a")?.role, "primary")
  })

  it("a server that does not tell its cluster is none of another one", () => {
    const standings = watch()(0, { a: primary(0), b: replica(0, { systemId: undefined }) })
    assert.deepStrictEqual(fenced(standings), {})
    // Nor has it a vote.
    const mute = { systemId: undefined }
    assert.deepStrictEqual(fenced(watch()(0, { b: replica(0, mute), c: replica(0, mute), a: primary(0) })), {})
  })
})

describe("which of two primaries of one timeline", () => {
  const second = (now: number, more?: Partial<NodeState.Observation>) => primary(now, { instance: "two", ...more })

  it("at first sight: the one that has written most, and the first of those that have written as much", () => {
    const more = { lsn: 900n }
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0), b: second(0, more) })), { a: "second-primary" })
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0, more), b: second(0) })), { b: "second-primary" })
    const equals = watch()(0, { a: primary(0), b: second(0) })
    assert.deepStrictEqual(equals.get("b")?.fenced, {
      reason: "second-primary",
      by: "a",
      timeline: 1,
      highestTimeline: 1
    })
    const unwritten = { lsn: undefined }
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0, unwritten), b: second(0) })), { a: "second-primary" })
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0), b: second(0, unwritten) })), { b: "second-primary" })
  })

  it("then the one in use, wherever it stands in the list, and though it was restarted", () => {
    const look = watch()
    look(0, { a: "lost", b: primary(0) })
    assert.deepStrictEqual(fenced(look(1, { a: second(1, { lsn: 900n }), b: primary(1) })), { a: "second-primary" })
    const restarted = primary(2, { instance: "one again" })
    assert.deepStrictEqual(fenced(look(2, { a: second(2, { lsn: 900n }), b: restarted })), { a: "second-primary" })
  })

  it("the one in use is known under its other name too", () => {
    const look = watch()
    look(0, { a: "lost", host: "lost", vip: primary(0) })
    const seen = { a: second(1, { lsn: 900n }), host: primary(1), vip: "lost" as const }
    assert.deepStrictEqual(fenced(look(1, seen)), { a: "second-primary" })
    // And from then on it is that name that is in use.
    const later = { a: second(2, { lsn: 900n }), host: primary(2, { instance: "one again" }) }
    assert.deepStrictEqual(fenced(look(2, later)), { a: "second-primary" })
  })

  it("two are two, whatever of instance and timeline they tell; only peers are all used", () => {
    const untold = { timeline: undefined }
    assert.deepStrictEqual(fenced(watch()(0, { a: primary(0, untold), b: second(0, untold) })), { b: "second-primary" })
    const mute = { instance: undefined }
    for (const [a, b] of [
      [primary(0), primary(0, mute)],
      [primary(0, mute), second(0)],
      [primary(0, mute), primary(0, mute)]
    ] as const) {
      assert.deepStrictEqual(fenced(watch()(0, { a, b })), { b: "second-primary" })
      assert.deepStrictEqual(fenced(watch(true)(0, { a, b })), {})
    }
  })

  it("a second one is used when the one in use is down, removed or a standby, and not for a look that is late", () => {
    const both = () => {
      const look = watch()
      look(0, { a: primary(0), b: second(0, { lsn: 1n }) })
      return look
    }
    const late = both()
    assert.deepStrictEqual(fenced(late(1, { a: "lost", b: second(1) })), { b: "second-primary" })
    // The second one was away itself for a moment.
    assert.deepStrictEqual(fenced(late(2, { a: primary(2), b: "lost" })), {})
    assert.deepStrictEqual(fenced(late(3, { a: "lost", b: second(3) })), { b: "second-primary" })
    assert.deepStrictEqual(fenced(late(4, { a: "lost", b: second(4) })), {}, "down")
    // The process stood still, and the second one answers first.
    assert.deepStrictEqual(fenced(both()(60_000, { b: second(60_000) })), { b: "second-primary" })
    assert.deepStrictEqual(fenced(both()(1, { a: replica(1), b: second(1) })), {}, "a standby")
    const ahead = second(1, { timeline: 2 })
    assert.deepStrictEqual(fenced(both()(1, { a: "lost", b: ahead })), {}, "promoted to a new timeline")
    const again = both()
    again(1, { a: primary(1), b: replica(1, { instance: "two" }) })
    assert.deepStrictEqual(fenced(again(2, { a: "lost", b: second(2) })), {}, "it was a standby since")
  })

  it("an old primary that comes back is not used, whichever of the facts are told, until it was a standby", () => {
    for (let told = 0; told < 16; told++) {
      const some = (instance: string, timeline: number) => ({
        timeline: told & 1 ? timeline : undefined,
        instance: told & 2 ? instance : undefined,
        ...(told & 4 ? undefined : { lsn: undefined }),
        ...(told & 8 ? undefined : { systemId: undefined })
      })
      const look = watch()
      look(0, { a: primary(0, some("one", 1)), b: replica(0, some("two", 1)) })
      look(20_000, { b: primary(20_000, some("two", 2)) })
      // The new one cannot be reached; the old one is back, and claims what it was.
      const back = look(40_000, { a: primary(40_000, some("three", 1)) })
      assert.property(fenced(back), "a", `facts ${told}`)
      look(60_000, { a: replica(60_000, some("three", 2)), b: primary(60_000, some("two", 2)) })
      const again = look(80_000, { a: primary(80_000, some("three", 3)) })
      assert.notProperty(fenced(again), "a", `facts ${told}`)
    }
  })

  it("what is not told is like nothing else", () => {
    assert.isFalse(NodeState.isSame(undefined, undefined))
    assert.isTrue(NodeState.isSame("one", "one"))
    assert.isFalse(NodeState.isSame(undefined, "one"))
  })
})

describe("how far behind", () => {
  const hour = 3_600_000
  const lagOf = (standings: Standings, name = "b") => standings.get(name)?.lagMillis
  const positions = (lsn: bigint) => ({ lsn, receiveLsn: lsn })

  it("nobody out of recovery is: neither the primary nor who refuses writes nor who is fenced", () => {
    const look = watch()
    look(0, { a: primary(0, { lsn: 500n }) })
    const standings = look(5_000, {
      a: primary(5_000, { lsn: 900n }),
      b: primary(5_000, { instance: "two", lsn: 100n }),
      c: primary(5_000, { instance: "three", lsn: 100n, readOnly: true })
    })
    for (const [name, { lagBytes, lagMillis }] of standings) assert.deepStrictEqual([lagMillis, lagBytes], [0, 0], name)
    assert.deepStrictEqual(fenced(standings), { b: "second-primary" })
  })

  it("a replica that has all that the primary was seen to write is behind by no more than since then", () => {
    const look = watch()
    look(1_000, { a: primary(1_000), b: replica(1_000) })
    const received = { lsn: 100n, receiveLsn: 120n }
    assert.strictEqual(lagOf(look(3_000, { b: replica(3_000, { ...received, delayMillis: hour }) })), 2_000)
    assert.strictEqual(lagOf(look(4_000, { b: replica(4_000, { ...received, delayMillis: 300 }) })), 300)
    // Asked in the same millisecond: not at all.
    const both = { a: primary(5_000), b: replica(5_000, { ...received, delayMillis: hour }) }
    assert.strictEqual(lagOf(look(5_000, both)), 0)
    assert.strictEqual(lagOf(look(6_000, { b: replica(6_000, { delayMillis: undefined }) })), 0)
  })

  it("a replica that is ahead of where the primary was last seen has nothing to catch up with", () => {
    const look = watch()
    const standings = look(0, { a: primary(0), b: replica(0, positions(150n)) })
    assert.strictEqual(standings.get("b")?.lagBytes, 0)
    assert.strictEqual(look(1, { b: replica(1, positions(70n)) }).get("b")?.lagBytes, 30)
  })

  it("what the primary wrote after the replica was asked says nothing of it", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    const asked = replica(900, { delayMillis: undefined })
    assert.strictEqual(lagOf(look(1_000, { a: primary(1_000, { lsn: 200n }), b: asked })), 0)
  })

  it("what nobody tells is not known: it is not called fresh", () => {
    const untold = (at: number) => replica(at, { receiveLsn: 900n, delayMillis: undefined })
    assert.isUndefined(lagOf(watch()(0, { b: untold(0) })), "no primary was seen")
    assert.isUndefined(
      lagOf(watch()(100, { b: untold(0), a: primary(100, { lsn: 900n }) })),
      "nor any before it was asked"
    )
    assert.isUndefined(watch()(0, { b: untold(0) }).get("b")?.lagBytes)
    assert.isUndefined(watch()(0, { a: primary(0), b: replica(0, { lsn: undefined }) }).get("b")?.lagBytes)
  })

  it("is the replica's own word where positions are not told", () => {
    const own = { delayMillis: 300 }
    const mute = watch()
    mute(0, { a: primary(0, { lsn: undefined }) })
    const standings = mute(5_000, { a: primary(5_000, { lsn: undefined }), b: replica(5_000, own) })
    assert.deepStrictEqual([lagOf(standings), standings.get("b")?.lagBytes], [300, undefined])
    const look = watch()
    look(0, { a: primary(0) })
    assert.strictEqual(lagOf(look(5_000, { b: replica(5_000, { ...own, lsn: undefined }) })), 300)
    assert.strictEqual(lagOf(watch()(0, { b: replica(0, own) })), 300)
  })

  it("a replica of the timeline before is behind at least since the promotion, and as far as it says if that is more", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    look(1_000, { a: primary(1_000, { timeline: 2, instance: "two" }), b: replica(1_000) })
    const asked = (delayMillis: number | undefined) => lagOf(look(5_000, { b: replica(5_000, { delayMillis }) }))
    assert.deepStrictEqual([asked(undefined), asked(3_000), asked(hour)], [4_000, 4_000, hour])
    // One that does not tell its timeline may well follow.
    assert.strictEqual(lagOf(look(6_000, { b: replica(6_000, { timeline: undefined, delayMillis: 7 }) })), 7)
  })

  it("a replica of an older timeline, whose end was not seen, is behind nobody knows how far", () => {
    for (const order of ["ab", "ba"]) {
      const look = watch()
      const seen = (now: number) => ({
        a: primary(now, { timeline: 2, instance: "two", lsn: 200n }),
        b: replica(now, { lsn: 150n })
      })
      for (const name of order) look(1_000, { [name]: seen(1_000)[name as "a" | "b"] })
      assert.isUndefined(lagOf(look(2_000, seen(2_000))), order)
    }
  })

  describe("one that is ahead of where the primary was seen later follows another, though it tells no timeline:", () => {
    const promoted = (now: number, lsn: bigint) => primary(now, { timeline: 2, instance: "new", lsn })
    const stray = (now: number, more?: Partial<NodeState.Observation>) =>
      replica(now, { ...positions(300n), timeline: undefined, ...more })
    const found = (more?: Partial<NodeState.Observation>) => {
      const look = watch()
      look(0, { a: primary(0), b: stray(0, { ...positions(100n), ...more }) })
      look(1_000, { a: "lost", n: promoted(1_000, 200n) })
      assert.strictEqual(lagOf(look(2_000, { b: stray(2_000, more) })), 0, "not proven yet")
      assert.isUndefined(lagOf(look(2_001, { n: promoted(2_001, 210n) })))
      return look
    }

    it("for as long as it is the same server", () => {
      const look = found()
      assert.isUndefined(lagOf(look(3_000, { b: stray(3_000), n: promoted(3_000, 900n) })))
      look(4_000, { b: "lost" })
      assert.isUndefined(lagOf(look(5_000, { b: stray(5_000, positions(1_000n)) })))
      const rebuilt = look(6_000, { b: stray(6_000, { ...positions(900n), instance: "rebuilt" }) })
      assert.strictEqual(lagOf(rebuilt), 0)
    })

    it("until it tells the primary's timeline", () => {
      const look = found()
      assert.strictEqual(lagOf(look(3_000, { b: stray(3_000, { ...positions(210n), timeline: 2 }) })), 0)
    })

    it("one that does not tell who it is has to be found again", () => {
      const look = found({ instance: undefined })
      assert.strictEqual(lagOf(look(3_000, { b: stray(3_000, { ...positions(210n), instance: undefined }) })), 0)
    })

    it("one that was asked later than the primary may be ahead", () => {
      const look = watch()
      look(1_000, { a: primary(1_000), b: replica(1_000, { ...positions(150n), timeline: undefined }) })
      assert.strictEqual(lagOf(look(1_500, { b: replica(1_500, { ...positions(170n), timeline: undefined }) })), 0)
    })
  })

  it("two minutes of the primary's positions are remembered, however often the others are looked at, and no more", () => {
    const states = new Map<string, NodeState.NodeState>()
    let memory = Standing.empty
    const look = (name: string, observation: NodeState.Observation) => {
      const now = observation.at
      states.set(name, NodeState.observe(states.get(name) ?? NodeState.initial(now), observation, now))
      const judged = Standing.judge(memory, states, now)
      memory = judged.memory
      return judged.standings
    }
    const stuck = (second: number) => {
      look("a", primary(second * 1_000, { lsn: 100n + BigInt(second) }))
      for (const name of ["b", "c"]) look(name, replica(second * 1_000, { instance: name }))
      return lagOf(look("d", replica(second * 1_000, { instance: "d" })))
    }
    for (let second = 0; second <= 120; second++) {
      assert.strictEqual(stuck(second), Math.max(second - 1, 0) * 1_000, `after ${second} seconds`)
    }
    for (let second = 121; second <= 400; second++) stuck(second)
    assert.strictEqual(memory.samples.length, 128)
    assert.strictEqual(stuck(401), 127_000)
  })
})
