/**
 * Each option of a pool, of a role's pool and of its lanes with values that people type, JSON brings and programs compute:
 * refused by the field's name with what would do, or it works. Never a defect, never silence.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as DatabaseConfig from "../../../packages/sdk/src/DatabaseConfig.ts"
import * as DatabaseOptions from "../../../packages/sdk/src/DatabaseOptions.ts"
import type { SessionPool } from "../../../packages/sdk/src/pool/SessionPool.ts"
import { length as lengthField, millisOf } from "../../../packages/sdk/src/options/Field.ts"
import { hostile, isShown, withField } from "../options/hostile.ts"
import { FakeServer, type FakeSession } from "./FakeSession.ts"
import { closings, hold, makePool, start, told } from "./fixture.ts"

const ofLanes = [
  "lanes",
  "lanes.report",
  "lanes.report.reserved",
  "lanes.report.cap",
  "lanes.report.maxWaiting",
  "lanes.report.priority"
]

type Takes = (value: unknown) => boolean

const whole =
  (least: number, most = Infinity): Takes =>
  (value) =>
    Number.isInteger(value) && (value as number) >= least && (value as number) <= most
const either =
  (...all: ReadonlyArray<Takes>): Takes =>
  (value) =>
    all.some((takes) => takes(value))
const among =
  (...values: ReadonlyArray<unknown>): Takes =>
  (value) =>
    values.includes(value)
// A bare number that is too short to be meant is none of these.
const length = among(1e300, Number.MAX_SAFE_INTEGER, "40 days")
const zero = among(0)
const forever = among(Infinity, "infinity")
const empty: Takes = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0

describe("a role", () => {
  /** What each field takes of the hostile values; all others are refused. */
  const fields: Readonly<Record<string, Takes>> = {
    lanes: empty,
    "lanes.report": empty,
    "lanes.report.reserved": whole(0, 20),
    "lanes.report.cap": either(whole(1), among(Infinity)),
    "lanes.report.maxWaiting": whole(1),
    "lanes.report.priority": (value) => typeof value === "number" && !Number.isNaN(value),
    "lanes.report.shared": empty,
    "lanes.report.shared.sessions": whole(1, 20),
    "lanes.report.shared.statements": whole(1, 10_000),
    "lanes.report.shared.silence": either(length, forever),
    leakDetection: among(),
    "leakDetection.threshold": length,
    "leakDetection.stackEvery": whole(0),
    shutdown: empty,
    "shutdown.graceful": either(length, zero),
    "shutdown.hard": either(length, zero),
    // Longer than a lifetime is none.
    idleTimeout: either(zero, forever),
    maxLifetime: either(length, zero, forever),
    connectionTimeout: length,
    minConnections: whole(0, 20),
    maxConnections: whole(1, 10_000),
    maxWaiting: whole(1, 1_000_000),
    // Which server serves: a word that is not known would be the wrong one in silence.
    target: among(),
    fallback: among(),
    maxLag: either(length, zero, forever),
    zone: (value) => typeof value === "string" && value !== "",
    followerReads: among()
  }
  const base = { leakDetection: { threshold: "1 minute" } }

  for (const [field, takes] of Object.entries(fields)) {
    it(`${field}: hostile values are refused by name with the cure, or are taken for what they are`, () => {
      for (const value of hostile) {
        const shown = `${field} = ${String(typeof value === "object" ? JSON.stringify(value) : value)}`
        const result = DatabaseOptions.resolve("fleet/primary", withField(field, value, base) as never)
        assert.strictEqual(Result.isSuccess(result), takes(value), shown)
        if (Result.isFailure(result)) {
          for (const { expected, problem } of result.failure.issues) {
            assert.isAbove((problem ?? expected).length, 5, shown)
          }
          assert.isTrue(isShown(result.failure.message, field), `${shown}: ${result.failure.message}`)
        } else {
          const { connectionTimeout, idleTimeout, maxLifetime, shutdown } = result.success
          for (const number of [connectionTimeout, idleTimeout, maxLifetime]) assert.isTrue(number > 0, shown)
          for (const number of [shutdown.graceful, shutdown.hard]) assert.isTrue(number < Infinity, shown)
        }
      }
    })
  }

  const problem = (options: object): string => {
    const result = DatabaseOptions.resolve("fleet/primary", options as never)
    return Result.isFailure(result) ? result.failure.message.replace("fleet/primary: ", "") : "taken"
  }

  it("says what would do", () => {
    for (const [options, message] of [
      [
        { lanes: { report: { maxWaiting: -1 } } },
        "lanes.report.maxWaiting is -1: must be a whole number of at least 1"
      ],
      [
        { lanes: { report: { shared: { statements: 0 } } } },
        "lanes.report.shared.statements is 0: must be a whole number from 1 to 10000"
      ],
      [
        { maxConnections: 8, lanes: { report: { cap: 3, shared: { sessions: 4 } } } },
        "lanes.report.shared.sessions is 4: must be a whole number from 1 to 3"
      ],
      [
        { lanes: { report: { shared: { silence: "soon" } } } },
        'lanes.report.shared.silence is "soon": must be a duration above zero, such as 5 seconds, or infinity'
      ],
      [{ lanes: { report: null } }, "lanes.report is null: must be an object such as { cap: 4 }"],
      [
        { lanes: { a: { reserved: 3 }, b: { reserved: 3 } }, maxConnections: 5 },
        "lanes is 6 reserved in all: must be at most maxConnections (5)"
      ],
      [{ lanes: { a: { reserved: 3, cap: 2 } } }, "lanes.a.reserved is 3: must be at most the lane's cap (2)"],
      [
        { leakDetection: { threshold: "1 second", stackEvery: 1.5 } },
        "leakDetection.stackEvery is 1.5: must be a whole number of at least 0"
      ],
      [{ leakDetection: {} }, "leakDetection.threshold is undefined: must be a duration above zero, such as 5 seconds"],
      [{ shutdown: { graceful: Infinity } }, "shutdown.graceful is Infinity: must be a duration, such as 5 seconds"],
      [{ idleTimeout: "1 hour" }, 'idleTimeout is "1 hour": must be at most maxLifetime (30m); 0 or infinity for never']
    ] as const) {
      assert.strictEqual(problem(options), message)
    }
  })

  it("0 and infinity switch a lifetime off, and a default gives way to a shorter lifetime", () => {
    const lives = (options: object) => {
      const result = DatabaseOptions.resolve("fleet/primary", options as never)
      return Result.isSuccess(result) ? [result.success.idleTimeout, result.success.maxLifetime] : problem(options)
    }
    for (const off of [0, Infinity, "infinity", "0 seconds"]) {
      assert.deepStrictEqual(lives({ maxLifetime: off }), [600_000, Infinity])
      assert.deepStrictEqual(lives({ idleTimeout: off }), [Infinity, 1_800_000])
      assert.deepStrictEqual(lives({ idleTimeout: "40 days", maxLifetime: off }), [40 * 86_400_000, Infinity])
    }
    assert.deepStrictEqual(lives({ maxLifetime: "5 minutes" }), [300_000, 300_000])
    for (const text of ["0", "infinity", "Infinity"]) {
      const parsed = DatabaseConfig.parseDuration(text)
      assert.deepStrictEqual(lives({ maxLifetime: parsed }), [600_000, Infinity], text)
    }
  })
})

describe("a pool", () => {
  const fields = [
    ...ofLanes,
    "min",
    "max",
    "control",
    "maxWaiting",
    "acquireTimeout",
    "connectConcurrency",
    "connectBackoff",
    "permanentPause",
    "failFastAfter",
    "connectPatience",
    "idleTimeout",
    "maxLifetime",
    "lifetimeJitter",
    "validateAfterIdle",
    "keepalive",
    "drainBudget",
    "drainOverflow",
    "boot",
    "boot.mode",
    "boot.schedule",
    "leakDetection",
    "leakDetection.threshold",
    "leakDetection.stackEvery",
    "hooks",
    "hooks.afterConnect",
    "hooks.beforeReuse",
    "hooks.afterRelease",
    "housekeepingInterval",
    "closeGraceful",
    "closeHard",
    "listener",
    "listener.onEvent"
  ]
  const base = { boot: { mode: "lazy" }, leakDetection: { threshold: "1 minute" } }
  // Functions that a test could take for one of its own, and sizes that only a large machine could open.
  const harmless = (field: string, value: unknown): boolean =>
    typeof value !== "function" && !(field === "min" && typeof value === "number" && value > 100)

  for (const field of fields) {
    it.effect(`${field}: hostile values are refused by name with the cure, or the pool serves`, () =>
      Effect.gen(function* () {
        for (const value of hostile.filter((value) => harmless(field, value))) {
          const shown = `${field} = ${String(typeof value === "object" ? JSON.stringify(value) : value)}`
          const options = withField(field, value, base) as never
          const made = yield* Effect.result(makePool(new FakeServer(), options))
          if (Result.isFailure(made)) {
            assert.strictEqual(made.failure._tag, "InvalidPoolOptions", shown)
            assert.isTrue(isShown(made.failure.message, field), `${shown}: ${made.failure.message}`)
          } else yield* serves(made.success, shown)
        }
      })
    )
  }

  const serves = (pool: SessionPool<FakeSession>, shown: string) =>
    Effect.gen(function* () {
      const calls = yield* Effect.forEach([1, 2, 3], () => start(Effect.exit(hold(pool, 5))))
      yield* TestClock.adjust("1 minute")
      for (const call of calls) {
        const exit = call.pollUnsafe()
        assert.isDefined(exit, `${shown}: a call waits`)
        // Nobody can be served in less than a millisecond.
        const late = shown.startsWith("acquireTimeout") && String(exit).includes("AcquireTimeout")
        assert.isTrue(late || String(exit).startsWith("Success(Success("), `${shown}: ${String(exit)}`)
      }
      const closing = yield* start(pool.close({ graceful: 0, hard: 0 }))
      yield* TestClock.adjust(1)
      assert.isDefined(closing.pollUnsafe(), `${shown}: it does not close`)
    })

  it.effect(
    "a session of a pool without lifetimes lives on, idle and in use, beyond what a timer of Node's can wait",
    () =>
      Effect.gen(function* () {
        const server = new FakeServer()
        const { events, pool } = yield* told(server, {
          max: 2,
          idleTimeout: 0,
          maxLifetime: "infinity" as never,
          acquireTimeout: "60 days",
          housekeepingInterval: "1 day"
        })
        yield* hold(pool, 0)
        yield* TestClock.adjust("30 days")
        yield* start(hold(pool, Duration.toMillis("50 days")))
        yield* start(hold(pool, Duration.toMillis("50 days")))
        const waiter = yield* start(hold(pool, 0))
        yield* TestClock.adjust("49 days")
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust("2 days")
        yield* Fiber.join(waiter)
        assert.deepStrictEqual(closings(events), [])
      })
  )

  it.effect("close and awaitReady name what is no duration", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeServer())
      for (const [call, name] of [
        [pool.close({ graceful: "soon" as never }), "close: graceful"],
        [pool.close({ hard: -1 }), "close: hard"],
        [pool.awaitReady({} as never), "awaitReady: timeout"]
      ] as const) {
        const exit = yield* Effect.exit(call as Effect.Effect<void, unknown>)
        assert.include(String(exit), `${name} is `)
      }
    })
  )
})

describe("a duration", () => {
  it("is what Effect takes for one, but not what it takes for zero because it does not know it", () => {
    for (const [input, millis] of [
      [5, 5],
      ["2 minutes", 120_000],
      [{ seconds: 5 }, 5_000],
      [[1, 5e8], 1_500],
      [10n, 1e-5],
      [Duration.hours(1), 3_600_000],
      ["Infinity", Infinity],
      [Number.NaN, undefined],
      [{}, undefined],
      [{ second: 1 }, undefined],
      [[Number.NaN, 0], undefined],
      [new Date(0), undefined],
      [null, undefined],
      [-1, undefined]
    ] as const) {
      assert.strictEqual(millisOf(input), millis, String(input))
    }
    assert.deepStrictEqual(lengthField({ zero: true }).check(0, "x"), [])
    assert.lengthOf(lengthField().check(0, "x"), 1)
  })
})
