/** A misspelt option that a cast or plain JavaScript hides from the compiler is refused by its name, with the right one. */
import { assert, describe, it } from "@effect/vitest"
import { Database, DatabaseOptions, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { FakeServer } from "../pool/FakeSession.ts"
import { makePool } from "../pool/fixture.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const base = {
  database: Fleet.role("replica"),
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`select 1 as n`,
  deadline: "2 seconds"
} as const

const declare = (options: object) => Report.make("stops", { ...base, ...options } as any) as Report.Any

const refusal = (options: object): string => {
  try {
    declare(options)
    return "nothing was refused"
  } catch (error) {
    return (error as Error).message
  }
}

describe("a report refuses a field that it does not have", () => {
  for (const [options, told] of [
    [{ dedline: "1 second" }, "dedline: unknown option; did you mean deadline?"],
    [{ retrys: 3 }, "retrys: unknown option; did you mean retry?"],
    [{ maxrows: undefined }, "maxrows: unknown option; did you mean maxRows?"],
    [{ retry: { atempts: 3 } }, "retry.atempts: unknown option; there are schedule, retries, cap, jitter, budget"],
    [{ retry: { retires: 3 } }, "retry.retires: unknown option; did you mean retries?"],
    [{ retry: { budget: { ration: 0.1 } } }, "retry.budget.ration: unknown option; did you mean ratio?"],
    [{ breaker: { failurerate: 1 } }, "breaker.failurerate: unknown option; did you mean failureRate?"],
    [{ breaker: { window: { tiem: 1 } } }, "breaker.window.tiem: unknown option; did you mean time?"],
    [
      { breaker: { slowCalls: { longerThan: 1, rate: 0.5, rat: 1 } } },
      "breaker.slowCalls.rat: unknown option; did you mean rate?"
    ],
    [{ bulkhead: { permits: 1, quue: 1 } }, "bulkhead.quue: unknown option; did you mean queue?"],
    [{ bulkhead: { permits: { ofpool: 0.5 } } }, "bulkhead.permits.ofpool: unknown option; did you mean ofPool?"],
    [
      { bulkhead: { permits: 4, adaptive: { algorithm: "gradient", backoff: 0.9 } } },
      "bulkhead.adaptive.backoff: unknown option; there are algorithm, minimum, tolerance"
    ],
    [
      { rateLimit: { limit: 1, window: 1, perTenat: true } },
      "rateLimit.perTenat: unknown option; did you mean perTenant?"
    ],
    [{ shed: { minCalls: 3 } }, "shed.minCalls: unknown option; there are k, window, minimumCalls, dark"],
    [{ hedge: { afte: 3 } }, "hedge.afte: unknown option; did you mean after?"],
    [
      { hedge: { after: { percentile: 0.5, percent: 1 } } },
      "hedge.after.percent: unknown option; there is only percentile"
    ]
  ] as const) {
    it(told, () => assert.strictEqual(refusal(options), `Report "stops": ${told}`))
  }

  it("and takes all that it has, an object of fields with or without a prototype", () => {
    declare(Object.assign(Object.create(null), { retry: Schedule.exponential(10), bulkhead: { permits: 1 } }))
    declare({ ...Report.presets.report, hedge: { after: { percentile: 0.9 } }, shed: {}, maxRows: 1 })
    declare({ hedge: { after: { seconds: 1 } } })
  })

  it("and a fallback for an error that it cannot fail with", () => {
    const handler = () => Effect.succeed([])
    assert.strictEqual(
      refusal({ fallback: { DeadlineExceded: handler } }),
      'Report "stops": fallback.DeadlineExceded: it cannot fail with this; did you mean DeadlineExceeded?'
    )
    assert.strictEqual(
      refusal({ fallback: { CircuitOpen: handler } }),
      'Report "stops": fallback.CircuitOpen: it cannot fail with this without a breaker'
    )
    assert.strictEqual(
      refusal({ breaker: {}, fallback: { CircuitOpen: handler, OutcomeUnknown: handler } }),
      'Report "stops": fallback.OutcomeUnknown: it cannot fail with this without writes'
    )
    assert.strictEqual(
      refusal({ fallback: { Overloaded: handler } }),
      'Report "stops": fallback.Overloaded: it cannot fail with this without a bulkhead, rateLimit or shed'
    )
    assert.strictEqual(
      refusal({ fallback: { DeadlineExceeded: [] } }),
      'Report "stops": fallback.DeadlineExceeded must be a function from the error to an Effect of rows, not an object'
    )
    declare({ writes: "once", shed: {}, fallback: { OutcomeUnknown: handler, Overloaded: handler } })
  })
})

const problems = (options: object): ReadonlyArray<string> => {
  const result = DatabaseOptions.resolve("fleet/primary", options as DatabaseOptions.Options)
  return Result.isFailure(result) ? result.failure.message.replace("fleet/primary: ", "").split("; ") : []
}

describe("a database refuses a field that it does not have", () => {
  it("all of them at once, beside what else is wrong", () => {
    assert.sameMembers(
      [
        ...problems({
          maxConections: 5,
          port: 0,
          shutdown: { gracefull: 1 },
          leakDetection: { threshold: "1 second", stackevery: 1 },
          lanes: { report: { resrved: 1, shared: { sesions: 2 } } },
          hosts: [{ host: "10.0.0.1", zon: "a" }],
          tls: { kee: Redacted.make("hunter2") }
        })
      ],
      [
        "maxConections: unknown option",
        "did you mean maxConnections?",
        "shutdown.gracefull: unknown option",
        "did you mean graceful?",
        "leakDetection.stackevery: unknown option",
        "did you mean stackEvery?",
        "lanes.report.resrved: unknown option",
        "did you mean reserved?",
        "lanes.report.shared.sesions: unknown option",
        "did you mean sessions?",
        "hosts[0].zon: unknown option",
        "did you mean zone?",
        "tls.kee: unknown option",
        "did you mean key?",
        "port is 0: must be a whole number from 1 to 65535"
      ]
    )
  })

  it("nothing of what it has, and nothing of an Effect that gives certificates", () => {
    assert.deepStrictEqual(problems({ tls: Effect.succeed({ ca: "" }), host: "a", lanes: { report: { cap: 2 } } }), [])
  })

  it("options that are none", () => {
    assert.deepStrictEqual(problems(null as never), ["options is null: must be an object of options"])
  })

  it.effect("roles that are not declared, and options of a list of servers and of its watch", () =>
    Effect.gen(function* () {
      const message = (layer: Layer.Layer<any, { readonly message: string }>) =>
        Effect.map(Effect.flip(Effect.scoped(Layer.build(layer))), (error) => error.message)
      const lazy = { host: "127.0.0.1", port: 1, minConnections: 0 }
      assert.strictEqual(
        yield* message(Fleet.layer({ primary: lazy, replica: lazy, replika: lazy } as any)),
        "fleet: replika: unknown role; did you mean replica?"
      )
      assert.strictEqual(
        yield* message(Fleet.layerConfig({ replika: lazy } as any)),
        "fleet: replika: unknown role; did you mean replica?"
      )
      assert.strictEqual(
        yield* message(
          Fleet.layerServers({
            servers: ["127.0.0.1:1"],
            maxConections: 3,
            watch: { timeot: 1, thresholds: { upp: 1 } },
            roles: { replika: {}, replica: { maxlag: 1 } }
          } as any)
        ),
        "fleet: maxConections: unknown option; did you mean maxConnections?; " +
          "watch.timeot: unknown option; did you mean timeout?; watch.thresholds.upp: unknown option; there are downAfter, upAfter, rampMillis, rampFrom, expireMillis; " +
          "roles.replika: unknown role; did you mean replica?; " +
          "replica.maxlag: unknown option; did you mean maxLag?"
      )
    })
  )
})

describe("what a test starts refuses a field that it does not have", () => {
  it.effect("before it is started: a mistake of the test, hence a defect", () =>
    Effect.gen(function* () {
      for (const [start, told] of [
        [PgCluster.make({ replcas: 1 } as never), "PgCluster.make: replcas: unknown option; did you mean replicas?"],
        [
          FaultProxy.make({ target: { host: "127.0.0.1", port: 1 }, sead: 1 } as never),
          "FaultProxy.make: sead: unknown option; did you mean seed?"
        ]
      ] as const) {
        const exit = yield* Effect.exit(Effect.scoped(Effect.asVoid(start as Effect.Effect<unknown>)))
        assert(Exit.isFailure(exit), told)
        assert.strictEqual((Cause.squash(exit.cause) as Error).message, told)
        assert.isTrue(Cause.hasDies(exit.cause))
      }
    })
  )
})

describe("a pool refuses a field that it does not have", () => {
  it.effect("among everything else that is wrong", () =>
    Effect.gen(function* () {
      const options = { max: 0, maxWating: 3, lanes: { report: { capp: 1 } } }
      const error = yield* Effect.flip(makePool(new FakeServer(), options as never))
      assert.strictEqual(error._tag, "InvalidPoolOptions")
      for (const told of [
        "maxWating: unknown option; did you mean maxWaiting?",
        "lanes.report.capp: unknown option; did you mean cap?",
        "max is 0: must be a whole number of at least 1"
      ])
        assert.include(error.message, told)
    })
  )
})
