/** What it costs to check rows against their schema. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as pg from "pg"
import { z } from "zod"
import type { Entrant, Row } from "../Row.ts"
import { Bench, decodeWide, layerOfWide, wideReport } from "../subjects/wide.ts"
import { nowhere } from "../subjects/nowhere.ts"
import { wide } from "../Subject.ts"

const zodRow = z.object({
  id: z.number().int(),
  depot: z.number().int(),
  speed: z.number(),
  heading: z.number(),
  name: z.string(),
  at: z.date()
})
const zodAll = z.array(zodRow)

interface Wide {
  readonly id: number
  readonly speed: number
}

/** Nanoseconds a row, for about `millis`; at least once. */
const perRow = (count: number, run: () => Promise<ReadonlyArray<Wide>>) => async (millis: number) => {
  const began = performance.now()
  let rows = 0
  do {
    const found = await run()
    if (found.length !== count || found[count - 1]!.id !== count) throw new Error(`wrong rows: ${found.length}`)
    rows += count
  } while (performance.now() - began < millis)
  return ((performance.now() - began) * 1e6) / rows
}

const entrant = (
  subject: string,
  beside: string | null,
  count: number,
  run: () => Promise<ReadonlyArray<Wide>>,
  close: () => Promise<void> = async () => {}
): Entrant => ({
  subject,
  beside,
  open: async () => ({ subject, round: perRow(count, run), close })
})

const made = (count: number): ReadonlyArray<Wide> =>
  Array.from({ length: count }, (_, n) => ({
    id: n + 1,
    depot: (n + 1) % 1_000,
    speed: (n + 1) * 0.5,
    heading: (n + 1) * 0.25,
    name: `vehicle ${(n + 1) % 500}`,
    at: new Date(1_767_225_600_000 + (n + 1) * 1_000)
  }))

export const decode: Row = {
  name: "decode",
  about:
    "checking rows of 6 columns without a server, per row: a whole report that is given its rows, Effect's Schema and zod by hand; `none` takes them as they are",
  brief: "checking a row of 6 columns, without a server",
  unit: "ns/op",
  groups: ({ quick }) => {
    const count = quick ? 100 : 10_000
    const given = made(count)
    const runtime = ManagedRuntime.make(Layer.succeed(Bench.role("main"), nowhere(given) as never))
    const report = wideReport(count)
    const close = () => runtime.dispose()
    return [
      {
        contenders: [
          entrant("sluice", "sluice", count, () => runtime.runPromise(report.run({})), close),
          entrant("schema by hand", "sluice", count, async () => decodeWide(given)),
          entrant("zod by hand", "sluice", count, async () => zodAll.parse(given)),
          entrant("none", null, count, async () => given)
        ]
      }
    ]
  }
}

export const decodeQuery: Row = {
  name: "decode-query",
  about:
    "a query of 10,000 rows of 6 columns, per row: a report, which checks them; Effect's clients and pg as they are, and checked by hand with Effect's Schema",
  brief: "a row of 10,000, asked for, read and checked",
  unit: "ns/op",
  groups: ({ quick, url }) => {
    const count = quick ? 100 : 10_000
    const text = wide(String(count))
    const layer = layerOfWide(url)
    const runtime = ManagedRuntime.make(Layer.provideMerge(Bench.layerSqlClient("main"), layer))
    const driver = ManagedRuntime.make(PgClient.layer({ url: Redacted.make(url) }))
    const pool = new pg.Pool({ connectionString: url })
    const report = wideReport(count)
    const unchecked = Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Wide>(text))
    const ofPg = async () => (await pool.query<Wide>({ name: "wide", text })).rows
    return [
      {
        contenders: [
          entrant("sluice", "sluice", count, () => runtime.runPromise(report.run({}))),
          entrant(
            "sluice sql",
            "sluice sql",
            count,
            () => runtime.runPromise(unchecked),
            () => runtime.dispose()
          ),
          entrant("driver", "sluice sql", count, () => driver.runPromise(unchecked)),
          entrant(
            "driver + schema",
            "sluice",
            count,
            async () => decodeWide(await driver.runPromise(unchecked)),
            () => driver.dispose()
          ),
          entrant("pg", "sluice sql", count, ofPg),
          entrant(
            "pg + schema",
            "sluice",
            count,
            async () => decodeWide(await ofPg()),
            () => pool.end()
          )
        ]
      }
    ]
  }
}
