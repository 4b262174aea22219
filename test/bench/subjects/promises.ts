import { Kysely, PostgresDialect, sql as raw } from "kysely"
import * as pg from "pg"
import postgres from "postgres"
import { createPool, type Interceptor, SchemaValidationError, sql as tag } from "slonik"
import { z } from "zod"
import { checked, type Item, nextKeys, promises, type Subject, wide } from "../Subject.ts"

/** `postgres`, which prepares by itself and pipelines when its sessions are busy. */
export const postgresJs: Subject = {
  name: "postgres",
  beside: "sluice sql",
  open: async ({ pool, url }) => {
    const sql = postgres(url, { max: pool, onnotice: () => {} })
    const select = async (id: number) =>
      checked((await sql<Array<Item>>`select id, name, value from items where id = ${id}`)[0], id)
    return {
      select: promises(select),
      transaction: promises((id) =>
        sql.begin(async (tx) =>
          checked((await tx<Array<Item>>`select id, name, value from items where id = ${id}`)[0], id)
        )
      ),
      acquire: promises(async () => (await sql.reserve()).release()),
      five: promises((id) => Promise.all(nextKeys(id).map(select))),
      once: select,
      collect: async (rows) => {
        let sum = 0
        for (const row of await sql.unsafe<Array<{ speed: number }>>(wide(String(rows)))) sum += row.speed
        return sum
      },
      stream: async (rows) => {
        let sum = 0
        await sql.unsafe<Array<{ speed: number }>>(wide(String(rows))).cursor(1_000, (chunk) => {
          for (const row of chunk) sum += row.speed
        })
        return sum
      },
      close: () => sql.end({ timeout: 5 })
    }
  }
}

// slonik is made for Node 24; this is all that keeps it from running on Node 20.
const promise = Promise as unknown as { withResolvers?: () => unknown }
promise.withResolvers ??= () => {
  let settle = {}
  const made = new Promise((resolve, reject) => (settle = { resolve, reject }))
  return { promise: made, ...settle }
}

/** Checks each row by the schema of its query, as slonik's documentation has it: slonik itself does not. */
const resultParser: Interceptor = {
  name: "result parser",
  transformRow: ({ resultParser: schema }, query, row) => {
    if (schema === undefined) return row
    const result = (schema as unknown as z.ZodType<typeof row>).safeParse(row)
    if (result.success) return result.data
    throw new SchemaValidationError(query, row, result.error.issues)
  }
}

const itemObject = z.object({ id: z.number().int(), name: z.string(), value: z.number() })

const slonikWith = (name: string, beside: string, interceptors: ReadonlyArray<Interceptor>): Subject => ({
  name,
  beside,
  open: async ({ pool: maximumPoolSize, url }) => {
    const pool = await createPool(url, { maximumPoolSize, connectionTimeout: "DISABLE_TIMEOUT", interceptors })
    const item = interceptors.length > 0 ? tag.type(itemObject) : tag.unsafe
    const query = (id: number) => item`select id, name, value from items where id = ${id}`
    const select = async (id: number) => checked((await pool.one(query(id))) as Item, id)
    return {
      select: promises(select),
      transaction: promises((id) => pool.transaction(async (tx) => checked((await tx.one(query(id))) as Item, id))),
      acquire: promises(() => pool.connect(async () => {})),
      five: promises((id) => Promise.all(nextKeys(id).map(select))),
      close: async () => {
        await pool.end()
      }
    }
  }
})

/** `slonik` with its defaults: it resets a session with DISCARD ALL each time it comes back. */
export const slonik = slonikWith("slonik", "sluice sql", [])

/** The same with rows checked by zod. */
export const slonikZod = slonikWith("slonik + zod", "sluice", [resultParser])

/** `kysely` over `pg`. It does not name its statements. */
export const kysely: Subject = {
  name: "kysely",
  beside: "sluice sql",
  open: async ({ pool, url }) => {
    const db = new Kysely<{ items: Item }>({
      dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url, max: pool }) })
    })
    const query = (id: number, on: Kysely<{ items: Item }> = db) =>
      on.selectFrom("items").select(["id", "name", "value"]).where("id", "=", id).executeTakeFirst()
    const select = async (id: number) => checked(await query(id), id)
    return {
      select: promises(select),
      transaction: promises((id) => db.transaction().execute(async (tx) => checked(await query(id, tx), id))),
      acquire: promises(() => db.connection().execute(async () => {})),
      five: promises((id) => Promise.all(nextKeys(id).map(select))),
      collect: async (rows) => {
        let sum = 0
        for (const row of (await raw<{ speed: number }>`${raw.raw(wide(String(rows)))}`.execute(db)).rows)
          sum += row.speed
        return sum
      },
      close: () => db.destroy()
    }
  }
}
