/** Who is refused is shown what was given beside what it must be; secrets are never shown. */
import { assert, describe, it } from "@effect/vitest"
import { Database, DatabaseConfig, DatabaseOptions, Report } from "@sluice/sdk"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { FakeServer } from "../pool/FakeSession.ts"
import { makePool } from "../pool/fixture.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["replica"] }) {}

const refusal = (options: object): string => {
  try {
    Report.make("stops", {
      database: Fleet.role("replica"),
      params: {},
      row: { n: Schema.Int },
      query: (sql: any) => sql`select 1 as n`,
      deadline: "2 seconds",
      ...options
    } as any)
    return "nothing was refused"
  } catch (error) {
    return (error as Error).message.replace('Report "stops": ', "")
  }
}

describe("a declaration", () => {
  for (const [options, told] of [
    [{ database: undefined }, 'database must be a role of a database, such as Fleet.role("replica")'],
    [{ params: undefined }, "params must be a schema or the fields of one ({} when it takes none), not undefined"],
    [{ row: "id" }, 'row must be a schema or the fields of one, not "id"'],
    [{ query: "select 1" }, 'query must be a function of a SqlClient and the parameters, not "select 1"'],
    [{ deadline: undefined }, "deadline must be declared, such as 8 seconds"],
    [{ deadline: "soon" }, 'deadline must be a duration above zero, and at most a year, not "soon"'],
    [{ attemptTimeout: -1 }, "attemptTimeout must be a duration above zero, and at most a year, not -1"],
    [{ lane: "" }, 'lane must be the name of a lane, not ""'],
    [{ writes: "twice" }, 'writes must be "once" or "idempotent", not "twice"'],
    [{ retry: { schedule: "1 second" } }, 'retry.schedule must be a Schedule, not "1 second"'],
    [{ retry: { jitter: "some" } }, 'retry.jitter must be one of none, full, equal, decorrelated, not "some"'],
    [{ retry: 3 }, "retry must be a Schedule or an object of options, not 3"],
    [{ breaker: { openFor: {} } }, "breaker.openFor must be a Schedule, not an object"],
    [
      { bulkhead: { permits: 1, adaptive: "vegas" } },
      'bulkhead.adaptive must be one of aimd, gradient, or options with that algorithm, not "vegas"'
    ],
    [
      { bulkhead: { permits: 1, adaptive: { algorithm: "vegas" } } },
      'bulkhead.adaptive must be one of aimd, gradient, or options with that algorithm, not "vegas"'
    ],
    [
      { rateLimit: { limit: 1, window: Redacted.make("hunter2") } },
      "rateLimit.window must be a duration above zero, and at most a year, not an object"
    ]
  ] as const) {
    it(told, () => assert.strictEqual(refusal(options), told))
  }
})

const told = (env: Record<string, string>) =>
  DatabaseConfig.load("fleet/primary", { dotEnv: false }).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env)),
    Effect.flip,
    Effect.map(({ message }) => message.replace("fleet/primary: ", ""))
  )

describe("a variable", () => {
  it.effect("that is a number out of its range, or none", () =>
    Effect.gen(function* () {
      for (const [name, value, shown, range] of [
        ["DB_MAX_CONNECTIONS", "-1", "-1", "from 1 to 10000"],
        ["DB_MAX_CONNECTIONS", "many", '"many"', "from 1 to 10000"],
        ["DB_MIN_CONNECTIONS", "1.5", '"1.5"', "from 0 to 10000"],
        ["DB_PORT", "99999", "99999", "from 1 to 65535"],
        ["DB_MAX_WAITING", "1e9", '"1e9"', "from 1 to 1000000"],
        ["DB_MAX_WAITING", "99999999999", '"99999999999"', "from 1 to 1000000"]
      ] as const) {
        assert.strictEqual(yield* told({ [name]: value }), `${name} is ${shown}: must be a whole number ${range}`)
      }
    })
  )
})

describe("an option of a database", () => {
  const problem = (options: object) => {
    const result = DatabaseOptions.resolve("fleet/primary", options as DatabaseOptions.Options)
    return Result.isFailure(result) ? result.failure.message.replace("fleet/primary: ", "") : "nothing was refused"
  }

  it("that is an address without a port that can be", () => {
    assert.strictEqual(
      problem({ hosts: [{ host: "10.0.0.1", port: 0 }] }),
      "hosts[0].port is 0: must be a whole number from 1 to 65535"
    )
    assert.strictEqual(problem({ hosts: [7] }), "hosts[0] is 7: must be an address such as 10.0.0.1:5432")
  })

  it("a secret that is not redacted is refused, and not shown", () => {
    for (const [options, name] of [
      [{ url: "postgres://app:hunter2@db/fleet" }, "url"],
      [{ password: "hunter2" }, "password"],
      [{ tls: { key: "hunter2" } }, "tls.key"]
    ] as const) {
      const text = problem(options)
      assert.include(text, `${name}: must be Redacted.make(...)`)
      assert.notInclude(text, "hunter2")
    }
    assert.strictEqual(problem({ password: Effect.succeed(Redacted.make("hunter2")) }), "nothing was refused")
  })
})

describe("an option of a pool", () => {
  it.effect("a duration that is none, instead of a defect", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(makePool(new FakeServer(), { acquireTimeout: "soon" as never, keepalive: -1 }))
      assert.strictEqual(error._tag, "InvalidPoolOptions")
      assert.include(error.message, 'acquireTimeout is "soon": must be a duration')
      assert.include(error.message, "keepalive is -1: must be a duration")
    })
  )
})
