/** What policies add to the types of a report, and what a fallback takes away. Only has to compile. */
import { Database, Report, type ReportError } from "@sluice/sdk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { check, type Equal } from "./support.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
type Replica = Database.Role<"fleet", "replica">
type Base =
  | ReportError.InvalidParameters
  | ReportError.QueryFailed
  | ReportError.RowDecodeError
  | ReportError.DatabaseUnavailable
  | ReportError.AcquireTimeout
  | ReportError.DeadlineExceeded

const base = {
  database: Fleet.role("replica"),
  params: { limit: Schema.Int },
  row: { id: Schema.Int },
  query: (sql: any, p: { readonly limit: number }) => sql`select ${p.limit} as id`,
  deadline: "2 seconds"
} as const

type ErrorOf<R extends Report.Any> = Effect.Error<ReturnType<R["run"]>>
type ServicesOf<R extends Report.Any> = Effect.Services<ReturnType<R["run"]>>

// rule: a breaker adds CircuitOpen and nothing else
const breaker = Report.make("breaker", { ...base, breaker: { failureRate: 0.5 } })
check<Equal<ErrorOf<typeof breaker>, Base | ReportError.CircuitOpen>>()

// rule: a bulkhead adds Overloaded, and so does a rate limit
const bulkhead = Report.make("bulkhead", { ...base, bulkhead: { permits: 8 } })
check<Equal<ErrorOf<typeof bulkhead>, Base | ReportError.Overloaded>>()
const limited = Report.make("limited", { ...base, rateLimit: { limit: 10, window: "1 second" } })
check<Equal<ErrorOf<typeof limited>, Base | ReportError.Overloaded>>()

// rule: a write adds OutcomeUnknown
const write = Report.make("write", { ...base, writes: "once" })
check<Equal<ErrorOf<typeof write>, Base | ReportError.OutcomeUnknown>>()

// rule: a retry and a hedge add no errors; a retry's schedule brings its services
class Pace extends Context.Service<Pace, { readonly millis: number }>()("test/Pace") {}
declare const paced: Schedule.Schedule<unknown, unknown, never, Pace>
const retried = Report.make("retried", { ...base, retry: Schedule.exponential("50 millis"), hedge: {} })
check<Equal<ErrorOf<typeof retried>, Base>>()
check<Equal<ServicesOf<typeof retried>, Replica>>()
const pacedRetry = Report.make("pacedRetry", { ...base, retry: paced })
check<Equal<ServicesOf<typeof pacedRetry>, Replica | Pace>>()
const pacedOptions = Report.make("pacedOptions", { ...base, retry: { schedule: paced, retries: 1 } })
check<Equal<ServicesOf<typeof pacedOptions>, Replica | Pace>>()

// rule: a retry without a schedule of its own requires nothing
const budgeted = Report.make("budgeted", { ...base, retry: { retries: 1, budget: { ratio: 0.1 } } })
check<Equal<ServicesOf<typeof budgeted>, Replica>>()
const preset = Report.make("preset", { ...base, ...Report.presets.report })
check<Equal<ServicesOf<typeof preset>, Replica>>()

// rule: a policy that is only possibly declared counts as declared
declare const perhaps: { readonly permits: number } | undefined
const maybe = Report.make("maybe", { ...base, bulkhead: perhaps })
check<Equal<ErrorOf<typeof maybe>, Base | ReportError.Overloaded>>()

// rule: a report that writes cannot hedge
// @ts-expect-error a hedge would write twice
Report.make("hedgedWrite", { ...base, writes: "idempotent", hedge: {} })

// rule: a report that writes has no stream, whatever its fallback handles
// @ts-expect-error who leaves it cannot know what was written
Report.make("streamedWrite", { ...base, writes: "once" }).stream({ limit: 1 })

// rule: a fallback removes exactly the tags that it handles, and its services join the requirements
class Snapshot extends Context.Service<Snapshot, { readonly rows: ReadonlyArray<{ readonly id: number }> }>()(
  "test/Snapshot"
) {}
const fallback = Report.make("fallback", {
  ...base,
  breaker: {},
  fallback: {
    CircuitOpen: () => Snapshot.useSync((snapshot) => snapshot.rows),
    DeadlineExceeded: (error) => Effect.succeed([{ id: error.attempts }])
  }
})
check<Equal<ErrorOf<typeof fallback>, Exclude<Base, ReportError.DeadlineExceeded>>>()
check<Equal<ServicesOf<typeof fallback>, Replica | Snapshot>>()

// rule: a tag that cannot occur does not compile
Report.make("impossible", {
  ...base,
  // @ts-expect-error without a breaker no circuit opens
  fallback: { CircuitOpen: () => Effect.succeed([]) }
})

// rule: and the compiler says why, in words
declare const told: (() => Effect.Effect<ReadonlyArray<{ readonly id: number }>>) &
  "this report cannot fail with 'CircuitOpen'"
Report.make("told", { ...base, fallback: { CircuitOpen: told } })

// rule: a fallback gives rows of the report, and cannot fail
Report.make("otherRows", {
  ...base,
  // @ts-expect-error id is a number
  fallback: { DeadlineExceeded: () => Effect.succeed([{ id: "one" }]) }
})
Report.make("failingFallback", {
  ...base,
  // @ts-expect-error a fallback that fails is none
  fallback: { DeadlineExceeded: () => Effect.fail("no") }
})

// rule: a fallback that is only possibly there handles nothing, so it does not compile
declare const perhapsHandler: (() => Effect.Effect<ReadonlyArray<{ readonly id: number }>>) | undefined
// @ts-expect-error the handler may be missing
Report.make("maybeHandler", { ...base, fallback: { DeadlineExceeded: perhapsHandler } })
declare const perhapsFallback:
  | { readonly DeadlineExceeded: () => Effect.Effect<ReadonlyArray<{ readonly id: number }>> }
  | undefined
// @ts-expect-error the fallback may be missing
Report.make("maybeFallback", { ...base, fallback: perhapsFallback })

// rule: a transaction needs its role, passes on what its effect fails with and needs, and adds what it can raise itself
type Unit =
  | ReportError.QueryFailed
  | ReportError.DatabaseUnavailable
  | ReportError.AcquireTimeout
  | ReportError.DeadlineExceeded
const unit = Report.transaction(base.database, { deadline: "5 seconds", isolation: "serializable", retry: {} })
declare const work: Effect.Effect<number, "mine", Snapshot>
const done = unit(work)
check<Equal<Effect.Success<typeof done>, number>>()
check<Equal<Effect.Error<typeof done>, "mine" | Unit | ReportError.OutcomeUnknown>>()
check<Equal<Effect.Services<typeof done>, Snapshot | Replica>>()

// rule: given its effect first, it is the same
const first = Report.transaction(work, base.database, { deadline: "5 seconds", bulkhead: { permits: 1 } })
check<Equal<Effect.Error<typeof first>, "mine" | Unit | ReportError.OutcomeUnknown | ReportError.Overloaded>>()
check<Equal<Effect.Services<typeof first>, Snapshot | Replica>>()

// rule: a transaction that certainly reads alone has no unknown outcome
const reading = Report.transaction(base.database, { deadline: "5 seconds", readOnly: true })(work)
check<Equal<Effect.Error<typeof reading>, "mine" | Unit>>()
declare const perhapsReadOnly: boolean
const perhapsReading = Report.transaction(base.database, { deadline: "5 seconds", readOnly: perhapsReadOnly })(work)
check<Equal<Effect.Error<typeof perhapsReading>, "mine" | Unit | ReportError.OutcomeUnknown>>()

// rule: a transaction's bulkhead adds Overloaded, and its retry's schedule brings its services
const permitted = Report.transaction(base.database, { deadline: "5 seconds", bulkhead: { permits: 8 }, retry: paced })(
  work
)
check<Equal<Effect.Error<typeof permitted>, "mine" | Unit | ReportError.OutcomeUnknown | ReportError.Overloaded>>()
check<Equal<Effect.Services<typeof permitted>, Snapshot | Replica | Pace>>()

// rule: a transaction has a deadline, and an isolation level that there is
// @ts-expect-error no deadline
Report.transaction(base.database, { isolation: "serializable" })
// @ts-expect-error PostgreSQL has none
Report.transaction(base.database, { deadline: "5 seconds", isolation: "read uncommitted" })

// rule: where a report runs inside of a transaction changes none of its types
const outside = Report.make("outside", { ...base, outside: true })
check<Equal<ErrorOf<typeof outside>, Base>>()
check<Equal<ServicesOf<typeof outside>, Replica>>()
