/** Mistakes that the compiler answers in words. Compiled by `types.test.ts` alone: each line is an error. */
import { Database, Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}

const base = {
  database: Fleet.role("primary"),
  params: {},
  row: { n: Schema.Int },
  query: (sql: SqlClient.SqlClient) => sql`select 1 as n`,
  deadline: "3 seconds"
} as const
const writes = Report.make("writes", { ...base, writes: "once" })

export const stream = writes.stream({})
export const hedge = Report.make("hedge", { ...base, writes: "once", hedge: {} })
export const duration = Report.make("duration", { ...base, deadline: "2 secs" })
export const retries = Report.make("retries", { ...base, retries: 3 })
export const row = Report.make("row", { ...base, row: { n: Number } })
export const text = Report.make("text", { ...base, query: () => "select 1" })
