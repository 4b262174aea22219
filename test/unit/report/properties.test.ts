/**
 * What holds for any report under any weather: random declarations, servers, callers and interruptions, in virtual time.
 * Seeds are printed; `SLUICE_SEED` repeats one.
 */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as PolicyEvents from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import * as Policies from "../../../packages/sdk/src/report/Policies.ts"
import { random, seeds } from "../policy/support.ts"
import { type Execution, lost, makeRole, refused, replica, unsent } from "./support.ts"

interface Weather {
  /** Shares of what the server does with a statement. */
  readonly fails: number
  readonly hangs: number
  readonly odd: number
  readonly slowest: number
}

const codes = ["40001", "40P01", "57P01", "53300", "42P01", "55P03", "57014", "XX000"]

/** One declaration and one weather out of a seed. */
const scenario = (seed: number) => {
  const { int, next, pick } = random(seed)
  const deadline = 50 + int(2000)
  const retries = int(4)
  const attemptTimeout = next() < 0.5 ? undefined : 20 + int(deadline)
  const budget = { ratio: pick([0, 0.1, 0.5]), minimum: int(6), window: 1000 + int(5000) }
  const bulkhead =
    next() < 0.3 ? undefined : { permits: 1 + int(6), queue: int(10), maxWait: next() < 0.5 ? undefined : 1 + int(500) }
  const writes = pick([undefined, undefined, "once", "idempotent"] as const)
  const options = {
    deadline,
    attemptTimeout,
    retry: {
      schedule: pick([Schedule.exponential(10), Schedule.spaced(50), Schedule.exponential(100)]),
      retries,
      cap: 500,
      jitter: pick(["none", "full", "equal", "decorrelated"] as const),
      budget
    },
    breaker:
      next() < 0.3
        ? undefined
        : { consecutiveFailures: 2 + int(5), minimumCalls: 5, openFor: Schedule.spaced(100 + int(1000)) },
    bulkhead,
    rateLimit: next() < 0.7 ? undefined : { limit: 5 + int(20), window: 1000, maxWait: int(300) },
    hedge: writes === undefined && next() < 0.4 ? { after: 5 + int(200) } : undefined,
    writes
  }
  const weather: Weather = { fails: next() * 0.6, hangs: next() * 0.3, odd: next() * 0.1, slowest: 1 + int(500) }
  const nodes = pick([1, 1, 2, 3])
  return {
    options,
    weather,
    nodes,
    max: 1 + int(6),
    acquireTimeout: pick([100, 30_000]),
    retries,
    budget,
    deadline,
    next,
    int,
    pick
  }
}

/** Runs many callers through one report, some of them interrupted, and gives what there is to say about it. */
const simulate = (seed: number) =>
  Effect.gen(function* () {
    const { acquireTimeout, budget, deadline, int, max, next, nodes, options, pick, retries, weather } = scenario(seed)
    const byCall = new Map<number, Array<Execution>>()
    /** Executions, by number, that a server may have applied as far as anybody can know. */
    const doubtful = new Set<number>()
    const role = yield* makeRole(
      (execution) => {
        const { value: call } = execution.params[0] as { readonly value: number }
        byCall.set(call, [...(byCall.get(call) ?? []), execution])
        const roll = next()
        const wait = Effect.sleep(int(weather.slowest))
        doubtful.add(execution.number)
        if (roll < weather.hangs) return Effect.never
        if (roll < weather.hangs + weather.fails) {
          const fatal = () => refused("57P01", "FATAL")
          const kind = pick([lost, unsent, () => refused(pick(codes)), fatal])
          const certain = kind !== lost && kind !== fatal
          // Until the answer is there, the one who leaves does not know it.
          const answer = Effect.sync(() => void (certain && doubtful.delete(execution.number)))
          return Effect.andThen(Effect.andThen(wait, answer), Effect.fail(kind()))
        }
        return Effect.as(wait, [{ n: next() < weather.odd ? "odd" : call }])
      },
      { nodes, max, acquireTimeout }
    )
    const report = Report.make("any", {
      database: replica,
      params: { call: Schema.Int },
      row: { n: Schema.Int },
      query: (sql: any, { call }: { readonly call: number }) => sql`select ${call}::int as n`,
      ...options
    } as never) as unknown as Report.Report<"any", Schema.Top, Schema.Top, Schema.Top, never>
    // When the budget was drawn from: the statement follows after a backoff and a wait, so many of them may meet.
    const drawn: Array<number> = []
    /** Retries that were to begin when the call had ended. */
    const vain: Array<string> = []
    const calls: Array<Effect.Effect<{ id: number; exit: Exit.Exit<any, any>; millis: number; left: boolean }>> = []
    const total = 60
    for (let id = 0; id < total; id++) {
      const starts = int(4000)
      const leaves = next() < 0.2 ? int(deadline + 100) : undefined
      calls.push(
        Effect.gen(function* () {
          yield* Effect.sleep(starts)
          const begin = yield* Clock.currentTimeMillis
          const listen = Effect.provideService(PolicyEvents.CurrentListener, ({ at, attributes, event }) => {
            if (event === "retry" || event === "started") drawn.push(at)
            const delay = attributes["delayMillis"]
            if (typeof delay === "number" && at + delay >= begin + deadline) vain.push(`call ${id}, ${delay} ms`)
          })
          const fiber = yield* Effect.forkChild(
            listen(role.provide(report.run({ call: id } as never) as Effect.Effect<any, any, any>)),
            { startImmediately: true }
          )
          if (leaves !== undefined) {
            yield* Effect.forkChild(Effect.andThen(Effect.sleep(leaves), Fiber.interrupt(fiber)))
          }
          const exit = yield* Fiber.await(fiber)
          return { id, exit, millis: (yield* Clock.currentTimeMillis) - begin, left: leaves !== undefined }
        }) as never
      )
    }
    const all = yield* Effect.forkChild(Effect.forEach(calls, (call) => call, { concurrency: "unbounded" }))
    // In small steps, so that what happens in between is seen as it happens.
    yield* Effect.forEach(Array.from({ length: 120 }), () => TestClock.adjust(100), { discard: true })
    const outcomes = yield* Fiber.join(all)
    const policies = Policies.make((report as unknown as Report.Any).declared, role.role, new Map())
    return { outcomes, byCall, doubtful, drawn, vain, policies, role, options, retries, budget, deadline, nodes }
  }).pipe(Effect.provideService(Random.Random, seeded(seed)))

/** Jitter out of the seed, too. */
const seeded = (seed: number): typeof Random.Random.Service => {
  const { next } = random(seed + 1)
  return { nextDoubleUnsafe: next, nextIntUnsafe: () => Math.floor(next() * Number.MAX_SAFE_INTEGER) }
}

/** Extra executions in any window, by the times at which they began. */
const mostInWindow = (times: ReadonlyArray<number>, window: number): number => {
  let most = 0
  for (const from of times) most = Math.max(most, times.filter((at) => at >= from && at < from + window).length)
  return most
}

const tags = new Set([
  "QueryFailed",
  "RowDecodeError",
  "DatabaseUnavailable",
  "AcquireTimeout",
  "DeadlineExceeded",
  "CircuitOpen",
  "Overloaded",
  "OutcomeUnknown"
])

const seen = new Map<string, number>()
const saw = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1)

describe("any report in any weather", () => {
  for (const seed of seeds(40)) {
    it.effect(`keeps its declaration (seed ${seed})`, () =>
      Effect.gen(function* () {
        const found = yield* simulate(seed)
        const { budget, byCall, deadline, doubtful, drawn, nodes, options, outcomes, policies, retries, role, vain } =
          found
        const say = (id: number) => `seed ${seed}, call ${id}`
        for (const { exit, id, left, millis } of outcomes) {
          const executions = byCall.get(id) ?? []
          // Attempts: the first, the declared retries, and a hedge for each of these.
          const most = (1 + retries) * (options.hedge === undefined || nodes < 2 ? 1 : 2)
          assert.isAtMost(executions.length, most, `attempts, ${say(id)}`)
          // What may have been applied is not sent again.
          if (options.writes === "once") {
            assert.isFalse(
              executions.slice(0, -1).some(({ number }) => doubtful.has(number)),
              `written twice, ${say(id)}`
            )
          }
          // An answer by the deadline, and a tick.
          assert.isAtMost(millis, deadline + 1, `time, ${say(id)}`)
          if (executions.length > 1) saw("repeated")
          if (Exit.isSuccess(exit)) {
            saw("success")
            // An error is never an empty success, and nobody gets another's rows.
            assert.deepStrictEqual(exit.value, [{ n: id }], say(id))
          } else {
            const error = Cause.findErrorOption(exit.cause)
            if (error._tag === "None") saw("left")
            if (error._tag === "Some") {
              saw(error.value._tag)
              assert.isTrue(tags.has(error.value._tag), `${String(error.value)}, ${say(id)}`)
              if (options.breaker === undefined) assert.notStrictEqual(error.value._tag, "CircuitOpen", say(id))
              if (options.writes === undefined) assert.notStrictEqual(error.value._tag, "OutcomeUnknown", say(id))
            } else assert.isTrue(left && Cause.hasInterruptsOnly(exit.cause), `${Cause.pretty(exit.cause)}, ${say(id)}`)
          }
        }
        // Extra attempts of all calls together, in any window; and none that was not drawn.
        const extra = [...byCall.values()].reduce((sum, executions) => sum + executions.length - 1, 0)
        const deposits = outcomes.length * budget.ratio
        assert.isAtMost(mostInWindow(drawn, budget.window), budget.minimum + deposits, `budget, seed ${seed}`)
        assert.isAtMost(extra, drawn.length, `drawn, seed ${seed}`)
        assert.deepStrictEqual(vain, [], `retries beyond the deadline, seed ${seed}`)
        // Nothing is held when all have gone and what they left has been brought to rest.
        yield* TestClock.adjust(10_000)
        for (const { pool } of role.role.nodes) {
          assert.deepInclude(yield* pool.stats, { leased: 0, draining: 0, waiting: 0 }, `sessions, seed ${seed}`)
        }
        if (policies.bulkhead !== undefined) {
          assert.deepInclude(policies.bulkhead.stats(), { inUse: 0, draining: 0, waiting: 0 }, `permits, seed ${seed}`)
        }
      })
    )
  }

  it("and the weather was of every kind, or this shows nothing", () => {
    if (process.env["SLUICE_SEED"] !== undefined) return
    const missing = ["success", "repeated", "left", ...tags].filter((kind) => (seen.get(kind) ?? 0) < 5)
    assert.deepStrictEqual(missing, [], JSON.stringify([...seen]))
  })
})
