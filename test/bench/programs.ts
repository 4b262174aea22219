/**
 * The smallest program of each client: one row by its key, checked where the client checks. As text, because each runs in
 * a fresh process without a loader (cold start), and is bundled (size).
 */

/** slonik is made for Node 24; this is all that keeps it from running on Node 20. */
const withResolvers = `Promise.withResolvers ??= () => {
  let settle
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }))
  return { promise, ...settle }
}`

/** Tells the milliseconds since the process began, at its first row. */
const arrived = `const arrived = (row) => {
  if (row.id !== 7) throw new Error("wrong row " + JSON.stringify(row))
  console.log(JSON.stringify(performance.now()))
}
const url = process.env.BENCH_URL`

export interface Program {
  readonly subject: string
  readonly beside?: string
  /** What it imports of the client: the modules of the row `import`. */
  readonly modules: ReadonlyArray<string>
  readonly source: string
}

const program = (
  subject: string,
  modules: ReadonlyArray<string>,
  imports: ReadonlyArray<string>,
  body: string,
  beside?: string
): Program => ({
  subject,
  ...(beside !== undefined && { beside }),
  modules,
  source: [...imports.map((line) => `import ${line}`), arrived, body].join("\n")
})

const report = `const rows = { id: Schema.Int, name: Schema.String, value: Schema.Finite }
class Bench extends Database.Service()("bench", { roles: ["main"] }) {}
const byKey = Report.make("byKey", {
  database: Bench.role("main"),
  params: { id: Schema.Int },
  row: rows,
  query: (sql, { id }) => sql\`select id, name, value from items where id = \${id}\`,
  deadline: "10 seconds"
})
await Effect.runPromise(
  Effect.provide(
    Effect.map(byKey.run({ id: 7 }), (found) => arrived(found[0])),
    Bench.layer({ main: { url: Redacted.make(url) } })
  )
)`

const effectModules = ['* as Effect from "effect/Effect"', '* as Redacted from "effect/Redacted"']

export const sluice = program(
  "sluice",
  ["@sluice/sdk"],
  ['{ Database, Report } from "@sluice/sdk"', ...effectModules, '* as Schema from "effect/Schema"'],
  report
)

export const programs: ReadonlyArray<Program> = [
  sluice,
  program(
    "driver",
    ["@effect/sql-pg/PgClient"],
    ['* as PgClient from "@effect/sql-pg/PgClient"', ...effectModules, '* as SqlClient from "effect/sql/SqlClient"'],
    `await Effect.runPromise(
  Effect.provide(
    Effect.flatMap(SqlClient.SqlClient, (sql) =>
      Effect.map(sql\`select id, name, value from items where id = \${7}\`, (found) => arrived(found[0]))
    ),
    PgClient.layer({ url: Redacted.make(url) })
  )
)`
  ),
  program(
    "pg",
    ["pg"],
    ['pg from "pg"'],
    `const pool = new pg.Pool({ connectionString: url })
arrived((await pool.query({ name: "by_key", text: "select id, name, value from items where id = $1", values: [7] })).rows[0])
await pool.end()`
  ),
  program(
    "pg + cockatiel + schema",
    ["pg", "cockatiel", "effect/Schema"],
    ['pg from "pg"', '* as Cockatiel from "cockatiel"', '* as Schema from "effect/Schema"'],
    `const pool = new pg.Pool({ connectionString: url })
const decode = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ id: Schema.Int, name: Schema.String, value: Schema.Finite }))
)
const policy = Cockatiel.wrap(
  Cockatiel.timeout(10_000, Cockatiel.TimeoutStrategy.Aggressive),
  Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 2, backoff: new Cockatiel.ExponentialBackoff() }),
  Cockatiel.circuitBreaker(Cockatiel.handleAll, { halfOpenAfter: 5000, breaker: new Cockatiel.ConsecutiveBreaker(5) }),
  Cockatiel.bulkhead(10, 40)
)
const rows = await policy.execute(async () =>
  decode((await pool.query({ name: "by_key", text: "select id, name, value from items where id = $1", values: [7] })).rows)
)
arrived(rows[0])
await pool.end()`
  ),
  program(
    "postgres",
    ["postgres"],
    ['postgres from "postgres"'],
    `const sql = postgres(url)
arrived((await sql\`select id, name, value from items where id = \${7}\`)[0])
await sql.end()`
  ),
  program(
    "slonik",
    ["slonik"],
    ['{ createPool, sql } from "slonik"'],
    `${withResolvers}
const pool = await createPool(url)
arrived(await pool.one(sql.unsafe\`select id, name, value from items where id = \${7}\`))
await pool.end()`
  ),
  program(
    "kysely",
    ["kysely", "pg"],
    ['{ Kysely, PostgresDialect } from "kysely"', 'pg from "pg"'],
    `const db = new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url }) }) })
arrived(await db.selectFrom("items").select(["id", "name", "value"]).where("id", "=", 7).executeTakeFirst())
await db.destroy()`
  )
]
