/** Uses everything once against DATABASE_URL, closes, and has nothing left that could keep Node alive. Prints how long it lived on. */
import { Database, Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

class Target extends Database.Service<Target>()("leaving", { roles: ["main"] }) {}
const main = Target.role("main")

const numbers = Report.make("numbers", {
  database: main,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select generate_series(1, 100000) as n`,
  deadline: "5 seconds",
  breaker: {},
  bulkhead: { permits: 2 },
  rateLimit: { limit: 100, window: "1 second" },
  retry: { retries: 2 }
})

const program = Effect.gen(function* () {
  const { sql } = yield* main
  yield* numbers.run({})
  yield* Stream.runDrain(Stream.take(numbers.stream({}), 10))
  yield* Effect.timeoutOption(sql`select pg_sleep(20)`, "50 millis")
  yield* Effect.ignore(sql.withTransaction(Effect.andThen(sql`select 1`, Effect.fail("no"))))
  yield* Effect.scoped(sql.listen("leaving"))
})

const url = Redacted.make(process.env["DATABASE_URL"] ?? "")
await Effect.runPromise(Effect.provide(program, Target.layer({ main: { url, sslmode: "disable", maxConnections: 3 } })))
const closed = performance.now()
process.on("exit", () => console.log(`lived on for ${Math.round(performance.now() - closed)} ms`))
