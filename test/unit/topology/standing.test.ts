import { assert, describe, it } from "@effect/vitest"
import type * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import type * as Standing from "../../../packages/sdk/src/topology/Standing.ts"
import { primary, replica, watch } from "./support.ts"

describe("fencing", () => {
  it("of two that claim to be primary, the higher timeline is used and the other is fenced", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    const standings = look(1, { a: primary(1), b: primary(1, { timeline: 2, instance: "two" }) })
    assert.strictEqual(standings.get("a")?.fenced?.reason, "old-timeline")
    assert.strictEqual(standings.get("a")?.fenced?.by, "b")
    assert.isUndefined(standings.get("b")?.fenced)
  })

  it("an old primary that comes back stays fenced while the new one cannot be reached", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    look(1, { a: "lost", b: primary(1, { timeline: 2, instance: "two" }) })
    look(2, { a: "lost", b: "lost" })
    look(3, { a: primary(3, { instance: "one again" }), b: "lost" })
    const standings = look(4, { a: primary(4, { instance: "one again" }), b: "lost" })
    assert.strictEqual(standings.get("a")?.fenced?.reason, "old-timeline")
  })

  it("a replica that follows the new primary fences the old one before the new one was asked", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0), c: replica(0, { instance: "three" }) })
    const standings = look(1, { a: primary(1), b: "silent", c: replica(1, { instance: "three", timeline: 2 }) })
    assert.strictEqual(standings.get("a")?.fenced?.reason, "old-timeline")
  })

  it("on one timeline the primary in use stays and a second one is fenced, whatever it has written", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    const standings = look(1, { a: primary(1), b: primary(1, { instance: "two", lsn: 900n }) })
    assert.isUndefined(standings.get("a")?.fenced)
    assert.strictEqual(standings.get("b")?.fenced?.reason, "second-primary")
  })

  it("one server under two names is one primary, and nobody is fenced", () => {
    const standings = watch()(0, { vip: primary(0), host: primary(0) })
    assert.isUndefined(standings.get("vip")?.fenced)
    assert.isUndefined(standings.get("host")?.fenced)
  })

  it("a server of another cluster is fenced; peers that tell nothing are not, though they come and go", () => {
    const look = watch()
    const standings = look(0, { a: primary(0), b: replica(0), c: primary(0, { systemId: "8", timeline: 9 }) })
    assert.strictEqual(standings.get("c")?.fenced?.reason, "other-cluster")
    assert.isUndefined(standings.get("a")?.fenced)
    const mute = (at: number): NodeState.Observation => ({ at, inRecovery: false, readOnly: false })
    const peers = watch(true)
    peers(0, { x: mute(0), y: mute(0), z: mute(0) })
    peers(1, { x: "lost", y: mute(1), z: mute(1) })
    const cockroach = peers(2, { x: mute(2), y: mute(2), z: mute(2) })
    for (const standing of cockroach.values())
      assert.deepStrictEqual([standing.role, standing.fenced], ["primary", undefined])
  })
})

describe("lag", () => {
  const lagMillis = (standings: ReadonlyMap<string, Standing.Standing>, name = "b") => standings.get(name)?.lagMillis

  it("an idle primary does not make its replicas old", () => {
    const look = watch()
    for (let now = 0; now < 60_000; now += 1_000) look(now, { a: primary(now), b: replica(now) })
    assert.strictEqual(lagMillis(look(60_000, { a: primary(60_000), b: replica(60_000) })), 0)
    // The first write after an hour of silence: the server says that its last transaction is an hour old.
    const late = replica(61_000, { lsn: 100n, receiveLsn: 120n, delayMillis: 3_600_000 })
    assert.isAtMost(lagMillis(look(61_000, { a: primary(61_000, { lsn: 120n }), b: late }))!, 1_000)
  })

  it("a standby that lost its upstream is behind since then, though it has replayed all it received", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0) })
    look(1_000, { a: primary(1_000, { lsn: 200n }), b: replica(1_000) })
    assert.strictEqual(lagMillis(look(5_000, { a: primary(5_000, { lsn: 300n }), b: replica(5_000) })), 4_000)
    assert.strictEqual(look(5_000, {}).get("b")?.lagBytes, 200)
    assert.strictEqual(
      lagMillis(look(6_000, { a: primary(6_000, { lsn: 300n }), b: replica(6_000, { lsn: 300n }) })),
      0
    )
  })

  it("a replica stays fresh while there is no primary, and ages from the promotion if it does not follow it", () => {
    const look = watch()
    look(0, { a: primary(0), b: replica(0), c: replica(0, { instance: "three" }) })
    assert.strictEqual(lagMillis(look(1_000, { a: "lost", b: replica(1_000) })), 0)
    look(2_000, { a: "lost", b: replica(2_000), c: primary(2_000, { instance: "three", timeline: 2 }) })
    assert.strictEqual(
      lagMillis(look(7_000, { b: replica(7_000), c: primary(7_000, { instance: "three", timeline: 2 }) })),
      5_000
    )
    assert.strictEqual(lagMillis(look(8_000, { b: replica(8_000, { timeline: 2 }) })), 0)
  })
})
