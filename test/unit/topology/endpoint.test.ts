import { assert, describe, it } from "@effect/vitest"
import type { Session } from "@sluice/sdk/pool/Session"
import type { SessionPool } from "@sluice/sdk/pool/SessionPool"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Endpoint from "../../../packages/sdk/src/topology/Endpoint.ts"
import * as Router from "../../../packages/sdk/src/topology/Router.ts"
import * as NodeState from "../../../packages/sdk/src/topology/NodeState.ts"
import * as Topology from "../../../packages/sdk/src/topology/Topology.ts"
import { primary, replica } from "./support.ts"

/** An endpoint of a topology, and what happened in which order. */
const scene = Effect.gen(function* () {
  const events: Array<string> = []
  const topology = yield* Topology.make<Topology.Member>()
  topology.add({ name: "endpoint", switching: true, outstanding: () => 0, canServeNow: () => true })
  topology.onChange(({ kind, to }) => void events.push(`${kind} ${to}`))
  const pool = { evictAll: Effect.sync(() => void events.push("evicted")) } as unknown as SessionPool<Session>
  const { admit } = Endpoint.make(topology, "endpoint", () => pool)
  yield* TestClock.adjust("1 second")
  return { admit, events, topology }
})

describe("an endpoint that leads to one server after another", () => {
  it.effect("replaces its sessions before anybody is told of the new role", () =>
    Effect.gen(function* () {
      const { admit, events } = yield* scene
      assert.isTrue(admit(replica(1, { instance: "a" })))
      assert.isTrue(admit(replica(2, { instance: "b" })), "standbys serve alike")
      assert.notInclude(events, "evicted")
      events.length = 0
      // Who waits for a primary is resumed by the change, and would be lent what is idle: sessions on standbys.
      assert.isTrue(admit(primary(3, { instance: "c" })))
      assert.deepStrictEqual(events, ["evicted", "role primary"])
    })
  )

  it.effect("replaces them when it leads to another primary, though the role stays", () =>
    Effect.gen(function* () {
      const { admit, events } = yield* scene
      admit(primary(1, { instance: "a", timeline: 1 }))
      admit(primary(2, { instance: "a", timeline: 1 }))
      assert.notInclude(events, "evicted")
      assert.isTrue(admit(primary(3, { instance: "b", timeline: 2 })))
      assert.include(events, "evicted")
    })
  )

  it.effect("lends nothing that leads to the old primary, or elsewhere than the newest look", () =>
    Effect.gen(function* () {
      const { admit, topology } = yield* scene
      admit(primary(5, { instance: "b", timeline: 2 }))
      assert.isFalse(admit(primary(4, { instance: "a", timeline: 1 })), "asked before the newest look")
      assert.isFalse(admit(replica(4, { instance: "c", timeline: 2 })))
      assert.isTrue(admit(primary(4, { instance: "b", timeline: 2 })), "the same server, asked a little earlier")
      assert.isFalse(admit(primary(6, { instance: "a", timeline: 1 })), "asked later, and fenced by its timeline")
      assert.strictEqual(topology.get("endpoint")?.standing.fenced?.reason, "old-timeline")
      assert.isTrue(admit(primary(7, { instance: "b", timeline: 2 })))
    })
  )

  it.effect("has replayed no write as far as a token is concerned, unless it is the primary", () =>
    Effect.gen(function* () {
      const { admit, topology } = yield* scene
      const fit = (want: Router.Want) => Router.fit(topology.get("endpoint")!, want, 1_000, NodeState.defaultThresholds)
      const token = { lsn: 1n, timeline: 1 }
      admit(replica(1, { lsn: 100n }))
      assert.strictEqual(fit({ role: "replica" }), "fits")
      assert.strictEqual(fit({ role: "replica", token }), "not-replayed")
      admit(primary(2, { lsn: 100n }))
      assert.strictEqual(fit({ role: "primary", token }), "fits")
    })
  )
})
