/**
 * Every public function that takes options, and every field of them, with values that do not belong there: refused by the
 * field's name, or it works. Never a TypeError, never a loop without end, never a word that means something else in silence.
 */
import { assert, describe, it } from "@effect/vitest"
import { Database, DatabaseConfig, DatabaseOptions, Health, Snapshot } from "@sluice/sdk"
import { FaultProxy, PgBinaries, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { group, type Table } from "../../../packages/sdk/src/options/Field.ts"
import * as policies from "../../../packages/sdk/src/options/policies.ts"
import { closing, poolFields } from "../../../packages/sdk/src/options/pool.ts"
import * as role from "../../../packages/sdk/src/options/role.ts"
import { session, sqlClient } from "../../../packages/sdk/src/options/session.ts"
import * as testing from "../../../packages/sdk/src/options/testing.ts"
import * as topology from "../../../packages/sdk/src/options/topology.ts"
import * as AdaptiveLimit from "../../../packages/sdk/src/policy/AdaptiveLimit.ts"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as Latency from "../../../packages/sdk/src/policy/Latency.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import { Session } from "../../../packages/sdk/src/pool/Session.ts"
import * as SessionPool from "../../../packages/sdk/src/pool/SessionPool.ts"
import * as SqlClients from "../../../packages/sdk/src/pool/SqlClients.ts"
import { FakeServer } from "../pool/FakeSession.ts"
import { makePool } from "../pool/fixture.ts"
import { takers } from "./found.ts"
import { hostile, isShown, withField } from "./hostile.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

interface Case {
  readonly table: Table
  /** What is right, with whatever is in a group, so that one field at a time is wrong. */
  readonly base?: object
  /** Calls it, and uses what it gives. */
  readonly call: (options: any) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** What is taken is used by tests with a server: here it is only not refused. */
  readonly starts?: boolean
  /** They may be left out as a whole. */
  readonly optional?: boolean
}

const key = { key: "k" }
const nowhere = { host: "127.0.0.1", port: 1, minConnections: 0 }
const failing = Effect.fail("failed")
const three = (self: Effect.Effect<unknown, unknown>) =>
  Effect.forEach([1, 2, 3], () => Effect.exit(self), { discard: true })
const sync = (make: () => unknown) => Effect.sync(make)
const build = (layer: Layer.Layer<any, any>) => Layer.build(layer)
const proxied = (f: (proxy: FaultProxy.FaultProxy) => Effect.Effect<unknown, unknown>) =>
  Effect.flatMap(FaultProxy.make({ target: { host: "127.0.0.1", port: 1 } }), f)
const leaser = { use: () => Effect.die("unused"), acquire: Effect.die("unused") }
const codec = { encode: () => {}, decode: () => {} }
const ofRole = {
  leakDetection: { threshold: "1 minute" },
  lanes: { one: { shared: {} } },
  types: [{ oid: 1, codec }]
}
const ofServers = { servers: ["127.0.0.1:1"], minConnections: 0 }
const binaries = { source: "npm", directory: "/nowhere", version: "18.4", major: 18 }
const empty = ConfigProvider.layer(ConfigProvider.fromUnknown({}))

const cases: Readonly<Record<string, Case>> = {
  "DatabaseOptions.resolve": {
    table: role.role,
    base: ofRole,
    call: (options) => Effect.fromResult(DatabaseOptions.resolve("fleet/primary", options))
  },
  "DatabaseConfig.load": {
    table: DatabaseConfig.sourceFields,
    call: (source) => Effect.provide(DatabaseConfig.load("fleet/primary", source), empty),
    optional: true
  },
  "Database.Database.layer": {
    table: { primary: group({}, "") },
    base: { replica: nowhere },
    call: (options) => build(Fleet.layer(options))
  },
  "Database.Database.layerRole": {
    // Each field is asked of DatabaseOptions.resolve, which is behind it.
    table: { maxConnections: role.role.maxConnections, idleTimeout: role.role.idleTimeout, lanes: role.role.lanes },
    base: { ...nowhere, lanes: ofRole.lanes },
    call: (options) => build(Fleet.layerRole("primary", options))
  },
  "Database.Database.layerConfig": {
    table: { primary: group(DatabaseConfig.sourceFields, "") },
    base: { primary: nowhere, replica: nowhere },
    call: (options) => build(Layer.provide(Fleet.layerConfig(options), empty)),
    optional: true
  },
  "Database.Database.layerServers": {
    table: {
      maxConnections: role.common.maxConnections,
      servers: role.hosts,
      roles: group({ replica: group(role.own, "") }, ""),
      watch: group(topology.watch, "")
    },
    base: { ...ofServers, watch: { thresholds: {} }, roles: { replica: {} } },
    call: (options) => build(Fleet.layerServers(options))
  },
  "pool/SessionPool.make": {
    table: poolFields,
    base: {
      name: "p",
      connect: Effect.never,
      classifyConnect: () => "transient",
      leakDetection: ofRole.leakDetection,
      lanes: ofRole.lanes,
      boot: { mode: "lazy" },
      hooks: {},
      listener: {}
    },
    call: SessionPool.make
  },
  "pool/SessionPool.SessionPool.close": {
    table: closing,
    call: (options) => Effect.flatMap(makePool(new FakeServer(), {}), (pool) => pool.close(options)),
    optional: true
  },
  "pool/SessionPool.SessionPool.resize": {
    table: { min: poolFields.min, max: poolFields.max },
    call: (options) => Effect.flatMap(makePool(new FakeServer(), {}), (pool) => pool.resize(options))
  },
  "pool/Session.Session.connect": {
    table: session,
    base: { username: "postgres", host: "127.0.0.1", port: 1, types: [{ oid: 1, codec }] },
    call: (options) => Session.connect(options),
    starts: true
  },
  "pool/SqlClients.make": {
    table: sqlClient,
    base: { config: {} },
    call: (options) => SqlClients.makeWithReactivity(leaser as never, options)
  },
  "topology/Snapshot.run": {
    table: topology.snapshot,
    base: { sessions: 1 },
    call: (options) =>
      Effect.void.pipe(
        Snapshot.run(Fleet.role("primary"), options),
        Effect.provide(Fleet.layerRole("primary", { ...nowhere, connectionTimeout: "100 millis" }))
      )
  },
  "topology/Health.layer": {
    table: topology.health,
    base: { checks: { one: Health.check(Effect.void) } },
    call: (options) => build(Health.layer(options)),
    optional: true
  },
  "topology/Health.check": {
    table: topology.healthCheck,
    call: (options) => sync(() => Health.check(Effect.void, options)),
    optional: true
  },
  "policy/AdaptiveLimit.aimd": {
    table: policies.aimd,
    base: { maximum: 10 },
    call: (options) => sync(() => sampled(AdaptiveLimit.aimd(options)))
  },
  "policy/AdaptiveLimit.gradient": {
    table: policies.gradient,
    base: { maximum: 10 },
    call: (options) => sync(() => sampled(AdaptiveLimit.gradient(options)))
  },
  "policy/Background.layer": {
    table: policies.background,
    call: (options) => Effect.suspend(() => build(Background.layer(options) as Layer.Layer<any>)),
    optional: true
  },
  "policy/Breaker.make": {
    table: policies.breaker,
    base: { name: "b", slowCalls: { longerThan: "1 second", rate: 0.5 }, window: { time: "1 second" } },
    call: (options) => Effect.suspend(() => three(Breaker.make(options).protect(failing, "n")))
  },
  "policy/Bulkhead.make": {
    table: policies.bulkhead,
    base: { ...key, permits: 1 },
    call: (options) => Effect.suspend(() => three(Bulkhead.make(options).withPermit(failing)))
  },
  "policy/Deadline.within": {
    table: policies.deadline,
    base: { ...key, duration: "1 second" },
    call: (options) => Effect.suspend(() => Effect.exit(Deadline.within(Effect.never, options)))
  },
  "policy/Deadline.attempt": {
    table: policies.deadline,
    base: { ...key, duration: "1 second" },
    call: (options) => Effect.suspend(() => Effect.exit(Deadline.attempt(Effect.never, options)))
  },
  "policy/Deadline.make": {
    table: policies.deadline,
    base: { ...key, duration: "1 second" },
    call: (options) => Effect.suspend(() => Effect.exit(Deadline.make(options).within(Effect.never)))
  },
  "policy/Deadline.makeAttempt": {
    table: policies.deadline,
    base: { ...key, duration: "1 second" },
    call: (options) => Effect.suspend(() => Effect.exit(Deadline.makeAttempt(options).attempt(Effect.never)))
  },
  "policy/FaultInjection.layer": {
    table: policies.fault,
    base: { rate: 1 },
    call: (fault) =>
      Effect.suspend(() =>
        Effect.exit(Effect.provide(FaultInjection.inject(Effect.void, "k"), FaultInjection.layer([fault])))
      )
  },
  "policy/Hedge.make": {
    table: policies.hedge,
    base: { ...key, after: { percentile: 0.5 } },
    call: (options) => Effect.suspend(() => three(Hedge.make(options).run(() => failing, 2)))
  },
  "policy/Latency.make": {
    table: policies.latency,
    call: (options) =>
      sync(() => {
        const latency = Latency.make(options)
        latency.record(1)
        return latency.percentile(0.5)
      }),
    optional: true
  },
  "policy/RateLimit.make": {
    table: policies.rateLimit,
    base: { ...key, limit: 1, window: "1 second" },
    call: (options) => Effect.suspend(() => three(RateLimit.make(options).run(Effect.void)))
  },
  "policy/Retry.make": {
    table: policies.retry,
    base: { ...key, classify: () => ({ retry: true }) },
    call: (options) => Effect.suspend(() => three(Retry.make<string>(options).run(failing)))
  },
  "policy/RetryBudget.make": {
    table: policies.retryBudget,
    base: key,
    call: (options) =>
      sync(() => {
        const budget = RetryBudget.make(options)
        for (const now of [0, 1, 1000, 1e9]) budget.deposit(now)
        return budget.withdraw(2e9)
      })
  },
  "policy/Shed.make": {
    table: policies.shed,
    base: key,
    call: (options) => Effect.suspend(() => three(Shed.make(options).run(failing)))
  },
  "testing/FaultProxy.make": {
    table: testing.proxy,
    base: { target: { host: "127.0.0.1", port: 1 } },
    call: FaultProxy.make,
    starts: true
  },
  "testing/FaultProxy.FaultProxy.latency": {
    table: testing.latency,
    base: { millis: 1 },
    call: (options) => proxied((proxy) => proxy.latency(options))
  },
  "testing/FaultProxy.FaultProxy.stall": {
    table: testing.stall,
    call: (options) => proxied((proxy) => proxy.stall(options)),
    optional: true
  },
  "testing/PgCluster.make": {
    table: testing.cluster,
    base: { binaries },
    call: PgCluster.make,
    starts: true,
    optional: true
  },
  "testing/PgCluster.layer": {
    table: testing.cluster,
    base: { binaries },
    call: (options) => build(PgCluster.layer(options)),
    starts: true,
    optional: true
  },
  "testing/PgCluster.template": {
    table: testing.template,
    base: { binaries },
    call: PgCluster.template,
    starts: true,
    optional: true
  },
  "testing/PgBinaries.find": { table: testing.find, call: PgBinaries.find, starts: true, optional: true }
}

const sampled = (limit: AdaptiveLimit.AdaptiveLimit): number => {
  for (const outcome of ["ok", "overload", "dropped"] as const) limit.sample(5, 1, outcome)
  return limit.current()
}

/** What is given only what others have checked, or has tests of its own. */
const elsewhere: Readonly<Record<string, string>> = {
  "Report.make": "test/unit/report/declarations.test.ts",
  "Report.transaction": "test/unit/report/transaction.test.ts",
  "policy/Retry.retry": "is Retry.make",
  "pool/PoolOptions.settingsOf": "behind optionIssues",
  "pool/PoolOptions.sizesOf": "behind optionIssues",
  "pool/PoolOptions.optionIssues": "is what SessionPool.make asks; test/unit/pool/options.test.ts",
  "pool/PoolOptions.resizeIssues": "is what SessionPool.resize asks",
  "pool/PoolOptions.resized": "behind resizeIssues",
  "pool/SharedLane.make": "is given numbers by topology/Node",
  "pool/SqlClients.makeWithReactivity": "is SqlClients.make",
  "pool/session/Config.resolve": "is what Session.connect asks",
  "pool/session/Connect.connect": "behind Session.connect",
  "pool/session/ConnectProblem.explain": "behind Session.connect",
  "pool/session/Rows.stream": "is given numbers by the session",
  "pool/session/Startup.start": "behind Session.connect",
  "pool/session/Transport.open": "behind Session.connect",
  "testing/PgServer.PgServer.query": "test/postgres/testing/PgCluster.test.ts",
  "testing/PgServer.PgServer.session": "test/postgres/testing/PgCluster.test.ts",
  "topology/Cluster.make": "behind Database.layerServers",
  "topology/Health.make": "is Health.layer",
  "topology/Names.make": "behind Cluster.make",
  "topology/Probe.make": "behind Cluster.make",
  "topology/Route.make": "behind Database",
  "topology/Topology.make": "behind Cluster.make"
}

/** The fields of a table and of the groups in it: `lanes.one.cap`. */
const pathsIn = (table: Table, before = ""): ReadonlyArray<readonly [path: string, check: Table[string]["check"]]> =>
  Object.entries(table).flatMap(([name, { check, each, inside }]) => [
    [`${before}${name}`, check] as const,
    ...(inside === undefined ? [] : pathsIn(inside, `${before}${name}.`)),
    ...(each === undefined ? [] : pathsIn(each, `${before}${name}.one.`))
  ])

/** The message that refuses, or that it works. A defect of the language's own is neither. */
const told = Effect.fnUntraced(function* (effect: () => Effect.Effect<unknown, unknown, Scope.Scope>) {
  const fiber = yield* Effect.forkChild(Effect.exit(Effect.scoped(Effect.suspend(effect))))
  yield* TestClock.adjust("1 hour")
  const exit = fiber.pollUnsafe() ?? Exit.succeed(Exit.void)
  fiber.interruptUnsafe()
  if (Exit.isFailure(exit) || Exit.isSuccess(exit.value)) return "works"
  const error = Cause.squash(exit.value.cause)
  // It was taken, and then there is no server.
  const isDefect = Cause.hasDies(exit.value.cause)
  if (!isDefect && !/^Invalid(?:Configuration|PoolOptions)$/.test(tagOf(error))) return "works"
  if (error instanceof TypeError || error instanceof RangeError || !(error instanceof Error)) {
    return `no refusal: ${String(error)}`
  }
  return error.message
})

const tagOf = (error: unknown): string => String((error as { readonly _tag?: unknown })._tag)

const print = (value: unknown): string => (typeof value === "object" ? JSON.stringify(value) : String(value))

describe("options", () => {
  for (const [name, { base = {}, call, optional = false, starts = false, table }] of Object.entries(cases)) {
    it.effect(`${name}: each field with hostile values is refused by its name, or it works`, () =>
      Effect.gen(function* () {
        let refused = 0
        for (const [path, check] of pathsIn(table)) {
          for (const value of hostile) {
            if (starts && check(value, path).length === 0) continue
            const message = yield* told(() => call(withField(path, value, base)))
            const shown = `${path} = ${print(value)}: ${message}`
            if (message === "works") continue
            refused++
            assert.isTrue(
              isShown(message, path) || isShown(message, path.replace(/^(?:roles\.replica|roles|primary)\./, "")),
              shown
            )
          }
        }
        assert.isAbove(refused, Object.keys(table).length)
        const misspelt = yield* told(() => call({ ...base, misspelt: 1 }))
        assert.include(misspelt, "misspelt: unknown")
        for (const whole of [...(optional ? [] : [undefined, null]), 5, "soon", true, [], () => 1]) {
          assert.match(yield* told(() => call(whole)), /(?:options|faults\[0\]) is /, print(whole))
        }
      })
    )
  }

  it("are taken by no public function that is not here", () => {
    assert.deepStrictEqual(takers().toSorted(), [...Object.keys(cases), ...Object.keys(elsewhere)].toSorted())
  })
})
