import * as pg from "pg"
import Cursor from "pg-cursor"
import { byKey, checked, type Item, nextKeys, promises, type Subject, wide } from "../Subject.ts"

/** `pg` with its pool; statements are named, so that the server parses each once a session. */
export const pgPool: Subject = {
  name: "pg",
  beside: "sluice lease",
  open: async ({ pool: max, url }) => {
    const pool = new pg.Pool({ connectionString: url, max })
    pool.on("error", () => {})
    const select = async (id: number, client: pg.Pool | pg.PoolClient = pool) =>
      checked((await client.query<Item>({ name: "by_key", text: byKey, values: [id] })).rows[0], id)
    return {
      select: promises((id) => select(id)),
      transaction: promises(async (id) => {
        const client = await pool.connect()
        try {
          await client.query("begin")
          await select(id, client)
          await client.query("commit")
          client.release()
        } catch (error) {
          client.release(true)
          throw error
        }
      }),
      acquire: promises(async () => (await pool.connect()).release()),
      five: promises((id) => Promise.all(nextKeys(id).map((key) => select(key)))),
      once: (id) => select(id),
      collect: async (rows) => {
        let sum = 0
        for (const row of (await pool.query<{ speed: number }>(wide(String(rows)))).rows) sum += row.speed
        return sum
      },
      stream: async (rows) => {
        const client = await pool.connect()
        const cursor = client.query(new Cursor<{ speed: number }>(wide(String(rows))))
        let sum = 0
        for (;;) {
          const chunk = await cursor.read(1_000)
          for (const row of chunk) sum += row.speed
          if (chunk.length === 0) break
        }
        await cursor.close()
        client.release()
        return sum
      },
      close: () => pool.end()
    }
  }
}

/** A connection per query, at most as many at a time as the pools have sessions. */
export const pgPerQuery: Subject = {
  name: "connection per query",
  beside: "sluice lease",
  open: async ({ pool, url }) => {
    let free = pool
    const waiting: Array<() => void> = []
    const once = async (id: number) => {
      if (free > 0) free--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      const client = new pg.Client({ connectionString: url })
      try {
        await client.connect()
        checked((await client.query<Item>({ text: byKey, values: [id] })).rows[0], id)
      } finally {
        await client.end().catch(() => {})
        const next = waiting.shift()
        if (next === undefined) free++
        else next()
      }
    }
    return {
      select: promises(once),
      five: promises((id) => Promise.all(nextKeys(id).map(once))),
      close: async () => {}
    }
  }
}
