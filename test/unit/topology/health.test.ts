import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Telemetry from "../../../packages/sdk/src/Telemetry.ts"
import * as Health from "../../../packages/sdk/src/topology/Health.ts"
import * as Hysteresis from "../../../packages/sdk/src/topology/Hysteresis.ts"
import { seed, seeded } from "./support.ts"

/** A role whose node is what the test says. */
const makeRole = (name: string) => {
  const role = {
    serves: true,
    degraded: undefined as string | undefined,
    node: { name: `${name}:5432`, state: "up", role: "replica", since: 0, lagMillis: 250 } as Health.NodeDetail
  }
  const source: Health.RoleSource = {
    name,
    ask: () => ({ serves: role.serves, degraded: role.degraded }),
    nodes: () => [role.node]
  }
  return { role, source }
}

const record = (health: Health.Health["Service"]) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(health.changes, (change) =>
        Effect.sync(() => lines.push(`${change.at} ${Health.format(change)}`))
      ),
      { startImmediately: true }
    )
    return lines
  })

describe("health", () => {
  it.effect("is ready as soon as every required role has served once", () =>
    Effect.gen(function* () {
      const health = yield* Health.make({ startGrace: "10 seconds" })
      const { role, source } = makeRole("fleet/primary")
      role.serves = false
      yield* health.register(source)
      assert.strictEqual((yield* health.readiness).status, "starting")
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* health.readiness, { ready: false, status: "starting", since: 0 })
      role.serves = true
      yield* TestClock.adjust("250 millis")
      assert.deepStrictEqual(yield* health.readiness, { ready: true, status: "up", since: 3_250 })
    })
  )

  it.effect("is down when the grace period of the start is over", () =>
    Effect.gen(function* () {
      const health = yield* Health.make({ startGrace: "10 seconds" })
      const { role, source } = makeRole("fleet/primary")
      role.serves = false
      yield* health.register(source)
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* health.readiness, { ready: false, status: "down" })
      assert.isTrue((yield* health.liveness).live, "a database that is down is no reason to restart the process")
    })
  )

  it.effect("tells each transition once, and none for an outage shorter than its threshold", () =>
    Effect.gen(function* () {
      const health = yield* Health.make({ unreadyAfter: "2 seconds", readyAfter: "1 second" })
      const { role, source } = makeRole("fleet/replica")
      yield* health.register(source)
      const lines = yield* record(health)
      role.serves = false
      yield* TestClock.adjust("1900 millis")
      role.serves = true
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(lines, [])

      role.serves = false
      yield* TestClock.adjust("2500 millis")
      assert.isFalse((yield* health.readiness).ready)
      role.serves = true
      yield* TestClock.adjust("900 millis")
      role.serves = false
      yield* TestClock.adjust("300 millis")
      role.serves = true
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(
        lines.map((line) => line.replace(/^\d+ /, "")),
        [
          "role fleet/replica: ok -> failing",
          "status: up -> down",
          "ready: true -> false",
          "role fleet/replica: failing -> ok",
          "status: down -> up",
          "ready: false -> true"
        ]
      )
    })
  )

  it.effect("some roles down is degraded, and ready only if none of them is required", () =>
    Effect.gen(function* () {
      const [primary, replica] = [makeRole("fleet/primary"), makeRole("fleet/replica")]
      const strict = yield* Health.make()
      const lenient = yield* Health.make({ required: ["fleet/primary"] })
      for (const health of [strict, lenient]) {
        yield* health.register(primary.source)
        yield* health.register(replica.source)
      }
      replica.role.serves = false
      yield* TestClock.adjust("5 seconds")
      assert.deepInclude(yield* strict.readiness, { ready: false, status: "degraded" })
      assert.deepInclude(yield* lenient.readiness, { ready: true, status: "degraded" })
      primary.role.serves = false
      yield* TestClock.adjust("5 seconds")
      assert.deepInclude(yield* lenient.readiness, { ready: false, status: "down" })
    })
  )

  it.effect("stale answers only, or a node down behind a role that serves: ready, and degraded", () =>
    Effect.gen(function* () {
      const health = yield* Health.make()
      const { role, source } = makeRole("fleet/replica")
      yield* health.register(source)
      const lines = yield* record(health)
      role.degraded = "stale answers only"
      yield* TestClock.adjust("250 millis")
      assert.deepInclude(yield* health.readiness, { ready: true, status: "degraded" })
      role.degraded = undefined
      role.node = { ...role.node, state: "fenced", role: "primary", fenced: "old-timeline" }
      yield* TestClock.adjust("250 millis")
      const status = yield* health.status
      assert.deepInclude(status, { ready: true, status: "degraded" })
      assert.strictEqual(status.nodes[0]?.fenced, "old-timeline")
      assert.deepStrictEqual(
        lines.map((line) => line.replace(/^\d+ /, "")),
        [
          "role fleet/replica: ok -> stale answers only",
          "status: up -> degraded",
          "role fleet/replica: stale answers only -> ok",
          "node fleet/replica:5432: up/replica -> fenced/primary"
        ]
      )
    })
  )

  it.effect("a check is one line, bounded by its own timeout, and means what it is said to mean", () =>
    Effect.gen(function* () {
      let reachable = true
      const ping = Effect.suspend(() => (reachable ? Effect.void : Effect.never))
      const health = yield* Health.make({
        checks: {
          billing: Health.check(ping),
          queue: Health.check(ping, { affects: "readiness" }),
          heap: Health.check(ping, { affects: "liveness" })
        }
      })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* health.status, { ready: true, live: true, status: "up" })
      reachable = false
      yield* TestClock.adjust("10 seconds")
      assert.deepInclude(yield* health.status, { ready: false, live: false, status: "degraded" })
      assert.isFalse((yield* health.status).checks["billing"]?.ok)
    })
  )

  it.effect("measures roles and nodes", () =>
    Effect.gen(function* () {
      const health = yield* Health.make()
      const { source } = makeRole("fleet/replica")
      yield* health.register(source)
      yield* TestClock.adjust("500 millis")
      const gauge = (name: string, attributes: Readonly<Record<string, string>>) =>
        Effect.map(Metric.value(Telemetry.gauge(name, attributes)), ({ value }) => value)
      assert.strictEqual(yield* gauge("sluice.role.up", { "sluice.role": "fleet/replica" }), 1)
      assert.strictEqual(yield* gauge("sluice.node.up", { "server.address": "fleet/replica:5432" }), 1)
      assert.strictEqual(yield* gauge("sluice.node.lag", { "server.address": "fleet/replica:5432" }), 0.25)
      assert.strictEqual(yield* gauge("sluice.health.ready", {}), 1)
    })
  )
})

describe("hysteresis", () => {
  it("random answers: it turns only after the other answer has held for as long as declared", () => {
    console.log(`seed ${seed}`)
    const random = seeded(seed)
    for (let run = 0; run < 100; run++) {
      const hold = { riseMillis: Math.floor(random() * 50), fallMillis: Math.floor(random() * 50) }
      let state = Hysteresis.initial(true, 0)
      let answer = true
      let answeredSince = 0
      for (let now = 1; now < 500; now += 1 + Math.floor(random() * 10)) {
        if (random() < 0.2) {
          answer = !answer
          answeredSince = now
        }
        const before = state
        state = Hysteresis.step(state, answer, now, hold)
        const due = now - answeredSince >= (answer ? hold.riseMillis : hold.fallMillis)
        const context = `seed ${seed}, run ${run}, at ${now}`
        assert.strictEqual(state.value, answer !== before.value && due ? answer : before.value, context)
      }
    }
  })
})
