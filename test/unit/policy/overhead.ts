/**
 * What each policy costs on the way of a call that succeeds, over the call without it:
 * `npx tsx --conditions=@sluice/source test/unit/policy/overhead.ts`
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as AdaptiveLimit from "../../../packages/sdk/src/policy/AdaptiveLimit.ts"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as Fallback from "../../../packages/sdk/src/policy/Fallback.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import * as Hedge from "../../../packages/sdk/src/policy/Hedge.ts"
import * as RateLimit from "../../../packages/sdk/src/policy/RateLimit.ts"
import * as Retry from "../../../packages/sdk/src/policy/Retry.ts"
import * as RetryBudget from "../../../packages/sdk/src/policy/RetryBudget.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import type { CircuitOpen } from "../../../packages/sdk/src/ReportError.ts"

const loops = 100_000
const rounds = Number(process.argv[2] ?? 9)

const time = (work: Effect.Effect<unknown, unknown>): number => {
  const loop = Effect.gen(function* () {
    for (let index = 0; index < loops; index++) yield* work
  }).pipe(Effect.provideService(Scheduler.PreventSchedulerYield, true))
  let best = Infinity
  for (let round = 0; round < rounds; round++) {
    const begin = process.cpuUsage()
    Effect.runSync(loop)
    const { system, user } = process.cpuUsage(begin)
    best = Math.min(best, ((system + user) * 1000) / loops)
  }
  return best
}

const noop = Effect.sync(() => 1)
const never = () => ({ retry: false })
const budget = RetryBudget.make({ key: "b" })
const deadline = Deadline.make({ key: "d", duration: "30 seconds" })
const attempt = Deadline.makeAttempt({ key: "a", duration: "12 seconds" })
const retry = Retry.make({ key: "r", classify: never, budget, schedule: Schedule.exponential("100 millis") })
const breaker = Breaker.make({ name: "b" })
const slow = Breaker.make({
  name: "s",
  slowCalls: { longerThan: "6 seconds", rate: 0.8 },
  window: { time: "30 seconds" }
})
const bulkhead = Bulkhead.make({ key: "k", permits: 10, queue: 10, maxWait: "2 seconds" })
const adaptive = Bulkhead.make({ key: "k", permits: 10, adaptive: AdaptiveLimit.gradient({ maximum: 10 }) })

const hedge = Hedge.make({ key: "h", after: { percentile: 0.95 }, budget, deposits: false })
const rate = RateLimit.make({ key: "l", limit: 1e9, window: "1 second", perTenant: true })
const shed = Shed.make({ key: "s" })
const answer = () => Effect.succeed(2)
const fallback = (work: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> =>
  Fallback.orElse(work as Effect.Effect<unknown, CircuitOpen>, "f", { CircuitOpen: answer })

const innermost = attempt.attempt(FaultInjection.inject(noop, "k"))
const onNode = () => breaker.protect(bulkhead.withPermit(innermost), "n")
const whole = fallback(deadline.within(rate.run(shed.run(retry.run(() => hedge.run(onNode, 2))))))

const rows: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
  ["deadline", deadline.within(noop)],
  ["attempt", attempt.attempt(noop)],
  ["retry with budget", retry.run(noop)],
  ["breaker, last 50 calls", breaker.protect(noop, "n")],
  ["breaker, 30 s and slow calls", slow.protect(noop, "n")],
  ["bulkhead", bulkhead.withPermit(noop)],
  ["bulkhead, adaptive", adaptive.withPermit(noop)],
  [
    "deadline > retry > breaker > bulkhead > attempt",
    deadline.within(retry.run(breaker.protect(bulkhead.withPermit(attempt.attempt(noop)), "n")))
  ],
  ["hedge, two candidates", hedge.run(() => noop, 2)],
  ["hedge, one candidate", hedge.run(() => noop, 1)],
  ["rate limit", rate.run(noop)],
  ["shedding", shed.run(noop)],
  ["shedding, with a deadline", deadline.within(shed.run(noop))],
  ["fallback", fallback(noop)],
  ["fault injection, off", FaultInjection.inject(noop, "k")],
  ["all eleven, in their order", whole],
  ["all eleven, for a tenant", Effect.provideService(whole, Caller.Current, { tenant: "acme", priority: 100 })],
  ["Effect.timeout, for comparison", Effect.timeout(noop, "30 seconds")],
  ["Effect.retry, for comparison", Effect.retry(noop, Schedule.exponential("100 millis"))]
]

/** Work that suspends, as a query does: the timers are then real. Wall clock, because the loop waits. */
const timeSuspending = async (wrap: (work: Effect.Effect<number>) => Effect.Effect<unknown, unknown>) => {
  const calls = 20_000
  const work = wrap(Effect.andThen(Effect.yieldNow, noop))
  const loop = Effect.gen(function* () {
    for (let index = 0; index < calls; index++) yield* work
  })
  let best = Infinity
  for (let round = 0; round < 5; round++) {
    const begin = process.cpuUsage()
    await Effect.runPromise(loop)
    const { system, user } = process.cpuUsage(begin)
    best = Math.min(best, ((system + user) * 1000) / calls)
  }
  return best
}

const base = time(noop)
console.log(
  `node ${process.version}, CPU time, best of ${rounds} rounds of ${loops}; bare effect ${base.toFixed(0)} ns`
)
for (const [name, work] of rows) console.log(`${name.padEnd(50)} +${(time(work) - base).toFixed(0).padStart(5)} ns`)

const suspended = await timeSuspending((work) => work)
console.log(`the same around work that suspends (${suspended.toFixed(0)} ns bare)`)
for (const [name, wrap] of [
  ["deadline", (work) => deadline.within(work)],
  [
    "all eleven",
    (work) =>
      fallback(
        deadline.within(
          rate.run(
            shed.run(
              retry.run(() => hedge.run(() => breaker.protect(bulkhead.withPermit(attempt.attempt(work)), "n"), 2))
            )
          )
        )
      )
  ],
  ["Effect.timeout, for comparison", (work) => Effect.timeout(work, "30 seconds")]
] as ReadonlyArray<readonly [string, (work: Effect.Effect<number>) => Effect.Effect<unknown, unknown>]>) {
  console.log(`${name.padEnd(50)} +${((await timeSuspending(wrap)) - suspended).toFixed(0).padStart(5)} ns`)
}
