/**
 * Declarations to spread into a report: `Report.make("stoppage", { ...Report.presets.report, ... })`.
 *
 * Reports that use a preset share its budget and its breaker, because they name the same objects. Where the numbers come
 * from:
 *
 * | | interactive | report | batch | source |
 * | --- | --- | --- | --- | --- |
 * | deadline | 2 s | 30 s | 10 min | slonik's 60 s statement timeout, cut to what a person waits for |
 * | attempt | 1.2 s | 12 s | 4 min | leaves time for the last retry to begin |
 * | retries | 1 | 2 | 2 | SRE book: at most three attempts |
 * | backoff | 25 ms to 250 ms | 100 ms to 2 s | 500 ms to 10 s | gRPC's 100 ms and factor 2; full jitter |
 * | budget | 20 % and 3 in 10 s | the same | 10 % and 1 | failsafe-go, finagle |
 * | breaker opens | half of at least 20, or 5 in a row | half of at least 10, or 5 in a row | 3 in a row | resilience4j, finagle; reports are sparse |
 * | stays open | 2 s to 30 s | 5 s to 60 s | 10 s to 120 s | Polly's 5 s, resilience4j's 60 s |
 * | permits | 80 % of the pool | 50 % | 20 % | exports must not starve people |
 * | queue | 2 a permit | 4 a permit | none | resilience4j has none |
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Caller from "../policy/Caller.ts"

/** Doubles from `first` to `most`, each a random part between half and all of it (finagle's equal jitter). */
const openFor = (first: Duration.Input, most: Duration.Input) =>
  Schedule.min([Schedule.exponential(first), Schedule.spaced(most)]).pipe(
    Schedule.modifyDelay(({ duration }) =>
      Effect.map(Random.next, (share) => Duration.times(duration, 0.5 + share / 2))
    )
  )

/** A person waits for it. */
export const interactive = {
  lane: "interactive",
  priority: Caller.priorities.interactive,
  deadline: "2 seconds",
  attemptTimeout: "1200 millis",
  retry: {
    schedule: Schedule.exponential("25 millis"),
    retries: 1,
    cap: "250 millis",
    jitter: "full",
    budget: { ratio: 0.2, minimum: 3, window: "10 seconds" }
  },
  breaker: {
    failureRate: 0.5,
    minimumCalls: 20,
    window: 50,
    consecutiveFailures: 5,
    openFor: openFor("2 seconds", "30 seconds")
  },
  bulkhead: { permits: { ofPool: 0.8 } }
} as const

/** The usual report: a page or a document. */
export const report = {
  lane: "report",
  priority: Caller.priorities.report,
  deadline: "30 seconds",
  attemptTimeout: "12 seconds",
  retry: {
    schedule: Schedule.exponential("100 millis"),
    retries: 2,
    cap: "2 seconds",
    jitter: "full",
    budget: { ratio: 0.2, minimum: 3, window: "10 seconds" }
  },
  breaker: {
    failureRate: 0.5,
    minimumCalls: 10,
    window: 50,
    consecutiveFailures: 5,
    openFor: openFor("5 seconds", "60 seconds")
  },
  bulkhead: { permits: { ofPool: 0.5 }, queue: 40 }
} as const

/** An export or a nightly job: it may take long, and must not stand in anybody's way. */
export const batch = {
  lane: "batch",
  priority: Caller.priorities.batch,
  deadline: "10 minutes",
  attemptTimeout: "4 minutes",
  retry: {
    schedule: Schedule.exponential("500 millis"),
    retries: 2,
    cap: "10 seconds",
    jitter: "full",
    budget: { ratio: 0.1, minimum: 1, window: "10 seconds" }
  },
  breaker: { failureRate: false, consecutiveFailures: 3, openFor: openFor("10 seconds", "2 minutes") },
  bulkhead: { permits: { ofPool: 0.2 }, queue: 0 }
} as const
