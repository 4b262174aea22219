/** `pg` with what a careful program puts around it by hand, to match what a report of Sluice does. */
import * as Cockatiel from "cockatiel"
import * as Schema from "effect/Schema"
import * as pg from "pg"
import { byKey, checked, nextKeys, promises, type Subject } from "../Subject.ts"

const Params = Schema.Struct({ id: Schema.Int })
const Rows = Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String, value: Schema.Finite }))

const encodeParams = Schema.encodeUnknownSync(Params)
const decodeRows = Schema.decodeUnknownSync(Rows)

type Run = <A>(call: () => Promise<A>) => Promise<A>

const withPolicies = (name: string, beside: string, make: (pool: number) => Run): Subject => ({
  name,
  beside,
  open: async ({ pool: max, url }) => {
    const pool = new pg.Pool({ connectionString: url, max })
    pool.on("error", () => {})
    const run = make(max)
    const select = async (id: number) => {
      const params = encodeParams({ id })
      const rows = await run(async () =>
        decodeRows((await pool.query({ name: "by_key", text: byKey, values: [params.id] })).rows)
      )
      checked(rows[0], id)
    }
    return {
      select: promises(select),
      five: promises((id) => Promise.all(nextKeys(id).map(select))),
      close: () => pool.end()
    }
  }
})

/** Named statements, parameters and rows checked by Effect's Schema. */
export const pgSchema = withPolicies("pg + schema", "sluice", () => (call) => call())

/** The same under cockatiel's deadline, retry, breaker, bulkhead and attempt timeout, in the order that Sluice has. */
export const pgMatched = withPolicies("pg + cockatiel + schema", "sluice full", (pool) => {
  const policy = Cockatiel.wrap(
    Cockatiel.timeout(10_000, Cockatiel.TimeoutStrategy.Aggressive),
    Cockatiel.retry(Cockatiel.handleAll, {
      maxAttempts: 2,
      backoff: new Cockatiel.ExponentialBackoff({ initialDelay: 100 })
    }),
    Cockatiel.circuitBreaker(Cockatiel.handleAll, {
      halfOpenAfter: 5_000,
      breaker: new Cockatiel.ConsecutiveBreaker(5)
    }),
    Cockatiel.bulkhead(pool, 1_000),
    Cockatiel.timeout(5_000, Cockatiel.TimeoutStrategy.Aggressive)
  )
  return (call) => policy.execute(call)
})
