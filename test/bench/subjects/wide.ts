/** A large result with every row checked: by a report, and by hand around `pg`. */
import { Database, Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as pg from "pg"
import Cursor from "pg-cursor"
import { type Subject, wide } from "../Subject.ts"

/** The columns of `wide`. */
export const wideRow = {
  id: Schema.Int,
  depot: Schema.Int,
  speed: Schema.Finite,
  heading: Schema.Finite,
  name: Schema.String,
  at: Schema.Date
}

/** Rows as the schema says they are, or an error. */
export const decodeWide = Schema.decodeUnknownSync(Schema.Array(Schema.Struct(wideRow)))

export class Bench extends Database.Service<Bench>()("bench", { roles: ["main"] }) {}

export const wideReport = (count: number) =>
  Report.make("wide", {
    database: Bench.role("main"),
    params: {},
    row: wideRow,
    query: (sql) => sql.unsafe(wide(String(count))),
    deadline: "10 minutes"
  })

export const layerOfWide = (url: string) =>
  Bench.layer({ main: { url: Redacted.make(url), statementTimeout: "10 minutes" } })

const sumOf = (rows: ReadonlyArray<{ readonly speed: number }>) => {
  let sum = 0
  for (const row of rows) sum += row.speed
  return sum
}

const notForThis = () => Promise.reject(new Error("only collects and streams"))

export const sluiceWide: Subject = {
  name: "sluice",
  open: async ({ url }) => {
    const runtime = ManagedRuntime.make(layerOfWide(url))
    return {
      select: notForThis,
      collect: (rows) => runtime.runPromise(Effect.map(wideReport(rows).run({}), sumOf)),
      stream: async (rows) => {
        let sum = 0
        const add = (chunk: ReadonlyArray<{ readonly speed: number }>) => Effect.sync(() => (sum += sumOf(chunk)))
        await runtime.runPromise(Stream.runForEachArray(wideReport(rows).stream({}), add))
        return sum
      },
      close: () => runtime.dispose()
    }
  }
}

export const pgWideSchema: Subject = {
  name: "pg + schema",
  beside: "sluice",
  open: async ({ pool: max, url }) => {
    const pool = new pg.Pool({ connectionString: url, max })
    return {
      select: notForThis,
      collect: async (rows) => sumOf(decodeWide((await pool.query(wide(String(rows)))).rows)),
      stream: async (rows) => {
        const client = await pool.connect()
        const cursor = client.query(new Cursor<object>(wide(String(rows))))
        let sum = 0
        for (;;) {
          const chunk = await cursor.read(1_000)
          if (chunk.length === 0) break
          sum += sumOf(decodeWide(chunk))
        }
        await cursor.close()
        client.release()
        return sum
      },
      close: () => pool.end()
    }
  }
}
