/** What the types of a report promise. This file only has to compile: `npm run check:types`, and types.test.ts mutates it. */
import { Database, Report, type ReportError, type ReportResult } from "@sluice/sdk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { check, type Equal } from "./support.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
class Billing extends Database.Service<Billing>()("billing", { roles: ["primary"] }) {}

type Replica = Database.Role<"fleet", "replica">
type Base =
  | ReportError.InvalidParameters
  | ReportError.QueryFailed
  | ReportError.RowDecodeError
  | ReportError.DatabaseUnavailable
  | ReportError.AcquireTimeout
  | ReportError.DeadlineExceeded

const base = {
  params: { minSpeed: Schema.Finite, limit: Schema.Int },
  row: { id: Schema.Int, plate: Schema.String },
  deadline: "2 seconds"
} as const

// rule: unknown roles do not compile
// @ts-expect-error "analytics" is not declared
Fleet.role("analytics")

// rule: a report needs exactly the role that it names, and fails with exactly what its declaration can raise
const plain = Report.make("plain", {
  ...base,
  database: Fleet.role("replica"),
  query: (sql, p) => sql`select id, plate from vehicles where speed > ${p.minSpeed} limit ${p.limit}`
})
const ran = plain.run({ minSpeed: 1, limit: 2 })
check<Equal<Effect.Error<typeof ran>, Base>>()
check<Equal<Effect.Services<typeof ran>, Replica>>()
check<Equal<Effect.Success<typeof ran>, ReadonlyArray<{ readonly id: number; readonly plate: string }>>>()

// rule: the provenance and the stream have the channels of run
const informed = plain.runWithInfo({ minSpeed: 1, limit: 2 })
check<Equal<Effect.Error<typeof informed>, Base>>()
check<Equal<Effect.Success<typeof informed>, ReportResult<{ readonly id: number; readonly plate: string }>>>()
const streamed = plain.stream({ minSpeed: 1, limit: 2 })
check<Equal<typeof streamed, Stream.Stream<{ readonly id: number; readonly plate: string }, Base, Replica>>>()

// rule: parameters are checked
// @ts-expect-error minSpeed is a number
plain.run({ minSpeed: "fast", limit: 2 })
// @ts-expect-error limit is missing
plain.run({ minSpeed: 1 })

// rule: a deadline is required
// @ts-expect-error no deadline
Report.make("endless", {
  database: Fleet.role("replica"),
  params: base.params,
  row: base.row,
  query: (sql) => sql`select 1`
})

// rule: the services of the query join the requirements, and it cannot fail
class Tenant extends Context.Service<Tenant, { readonly id: string }>()("test/Tenant") {}
const tenanted = Report.make("tenanted", {
  ...base,
  database: Billing.role("primary"),
  query: (sql, p) => Tenant.useSync((tenant) => sql`select ${p.limit} as id, ${tenant.id} as plate`)
})
const tenantedRun = tenanted.run({ minSpeed: 1, limit: 2 })
check<Equal<Effect.Services<typeof tenantedRun>, Database.Role<"billing", "primary"> | Tenant>>()
Report.make("failing", {
  ...base,
  database: Fleet.role("replica"),
  // @ts-expect-error a query builds a statement, it does not fail
  query: () => Effect.fail("no")
})

// rule: schemas with services bring them along
class Units extends Context.Service<Units, { readonly factor: number }>()("test/Units") {}
declare const WithUnits: Schema.Codec<number, number, Units, never>
const converted = Report.make("converted", {
  ...base,
  row: { km: WithUnits },
  database: Fleet.role("replica"),
  query: (sql) => sql`select 1 as km`
})
const convertedRun = converted.run({ minSpeed: 1, limit: 2 })
check<Equal<Effect.Services<typeof convertedRun>, Replica | Units>>()

// rule: a process that is given only the replica cannot run a report of the primary
const url = Redacted.make("postgres://app@127.0.0.1/fleet")
const replicaOnly = Fleet.layerRole("replica", { url })
export const allowed: Effect.Effect<unknown, unknown> = ran.pipe(Effect.provide(replicaOnly))
const primary = Report.make("primary", { ...base, database: Fleet.role("primary"), query: (sql) => sql`select 1` })
// @ts-expect-error the primary is not there
export const refused: Effect.Effect<unknown, unknown> = primary
  .run({ minSpeed: 1, limit: 2 })
  .pipe(Effect.provide(replicaOnly))
// @ts-expect-error another database's primary is not this one's
export const other: Effect.Effect<unknown, unknown> = primary
  .run({ minSpeed: 1, limit: 2 })
  .pipe(Effect.provide(Billing.layerRole("primary", { url })))

// rule: all roles must be given to the layer of a database
// @ts-expect-error the replica's options are missing
Fleet.layer({ primary: { url } })
