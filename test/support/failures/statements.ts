/** What PostgreSQL can do to a statement, really done, beside what a report's caller must get. */
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { TestDatabase } from "../database.ts"
import { expectEventually } from "../expectEventually.ts"
import { at, Fleet, primary, replica } from "../fleetRoles.ts"
import { as, executions, inTime, retry, row, running, runs, timed } from "./ground.ts"
import { type Line, observe, seen, within } from "./observe.ts"

export const deadlock = Effect.gen(function* () {
  const declared = {
    database: primary,
    params: { a: Schema.Int, b: Schema.Int },
    row,
    query: (sql: any, { a, b }: { readonly a: number; readonly b: number }) => sql`select lock_two(${a}, ${b}) as n`,
    deadline: "20 seconds"
  } as const
  const patient = Report.make("patient", { ...declared, retry })
  const both = yield* Effect.all(
    [observe(patient.runWithInfo({ a: 1, b: 2 })), observe(patient.runWithInfo({ a: 2, b: 1 }))],
    { concurrency: 2 }
  )
  const victim = both.find(({ attempts }) => attempts !== 1) ?? both[0]
  const other = both.find((one) => one !== victim) ?? both[1]
  const hasty = Report.make("hasty", declared)
  const bare = yield* Effect.all(
    [observe(hasty.runWithInfo({ a: 3, b: 4 })), observe(hasty.runWithInfo({ a: 4, b: 3 }))],
    { concurrency: 2 }
  )
  const failed = bare.filter(({ error }) => error !== undefined)
  const lines: ReadonlyArray<Line> = [
    {
      case: "the victim is repeated",
      expected: { class: "Deadlock", attempts: 2, result: '[{"n":1}]; the other: [{"n":1}]' },
      seen: seen(victim, `the other: ${other.result}`)
    },
    {
      case: "without a retry it is told",
      expected: { class: "Deadlock", attempts: 1, result: "QueryFailed 40P01; 1 of 2" },
      seen: seen(failed[0] ?? bare[0], `${failed.length} of 2`)
    }
  ]
  return lines
})

export const serialization = Effect.gen(function* () {
  const { query } = yield* TestDatabase
  const lines: Array<Line> = []
  for (const [id, writes] of [
    [1, "once"],
    [2, "idempotent"]
  ] as const) {
    const count = Report.make("count", {
      database: primary,
      params: {},
      row,
      query: (sql) => sql`update counters set n = n + 1 where id = ${id}::int returning n`,
      deadline: "20 seconds",
      writes,
      // Called while another transaction of its role has the row.
      outside: true,
      retry
    })
    const call = yield* Effect.gen(function* () {
      const { sql } = yield* primary
      // Another transaction holds the row, changes it, and commits while ours waits for it.
      const waiting = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* sql`update counters set n = n + 10 where id = ${id}::int`
          const fiber = yield* Effect.forkChild(observe(count.runWithInfo({})))
          yield* running("update counters set n = n + 1 where%")
          return fiber
        })
      )
      return yield* Fiber.join(waiting)
    }).pipe(Effect.provide(as("serial"), { local: true }))
    const [stored] = yield* query(`select n from counters where id = ${id}`)
    lines.push({
      case: `a write declared ${writes} is repeated, and applied once`,
      expected: { class: "Serialization", attempts: 2, result: '[{"n":11}]; stored: 11' },
      seen: seen(call, `stored: ${stored?.["n"]}`)
    })
  }
  return lines
})

export const statementTimeout = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const slow = Report.make("slow", {
    database: primary,
    params: {},
    row,
    query: (sql) => sql`select counted_sleep(10) as n`,
    deadline: "10 seconds",
    // The server's own limit is a quarter of a second shorter: enough on a busy machine, too.
    attemptTimeout: "2500 millis",
    writes: "idempotent",
    retry
  })
  const one = Layer.fresh(Fleet.layerRole("primary", at(url, { maxConnections: 1 })))
  return yield* Effect.gen(function* () {
    const { sql } = yield* primary
    const [before] = yield* sql<{ pid: number }>`select pg_backend_pid() as pid`
    const [[call, count], millis] = yield* timed(executions(observe(slow.runWithInfo({}))))
    const [after] = yield* sql<{ pid: number }>`select pg_backend_pid() as pid`
    const session = after?.pid === before?.pid ? "the session lives" : "another session"
    const line: Line = {
      case: "the server stops it; it is not repeated",
      expected: {
        class: "StatementTimeout",
        attempts: 1,
        result: "DeadlineExceeded 57014; ran 1 time(s), in time, the session lives"
      },
      seen: seen(call, `ran ${count} time(s), ${inTime(millis, 9_000)}, ${session}`)
    }
    return [line]
  }).pipe(Effect.provide(one, { local: true }))
})

export const lockTimeout = Effect.gen(function* () {
  const waits = Report.make("waits", {
    database: primary,
    params: {},
    row,
    query: (sql) => sql`select locked(1) as n`,
    deadline: "20 seconds",
    writes: "idempotent",
    outside: true,
    retry: { ...retry, retries: 5 }
  })
  return yield* Effect.gen(function* () {
    const { sql: holder } = yield* primary
    const hold = holder`select n from counters where id = 1 for update`
    const [kept, count] = yield* executions(
      holder.withTransaction(Effect.andThen(hold, observe(waits.runWithInfo({}))))
    )
    const fiber = yield* holder.withTransaction(
      Effect.gen(function* () {
        yield* hold
        const before = yield* runs
        const waiting = yield* Effect.forkChild(observe(waits.runWithInfo({})))
        yield* expectEventually(runs, (now) => now >= before + 1)
        yield* Effect.sleep("150 millis")
        return waiting
      })
    )
    const freed = yield* Fiber.join(fiber)
    const lines: ReadonlyArray<Line> = [
      {
        case: "repeated once and no more",
        expected: { class: "LockTimeout", attempts: 2, result: "QueryFailed 55P03; ran 2 time(s)" },
        seen: seen(kept, `ran ${count} time(s)`)
      },
      {
        case: "a lock that is free by then is had",
        expected: { class: "any", attempts: "1 to 2", result: "rows" },
        seen: { class: "any", attempts: within(freed.attempts, 1, 2), result: freed.error?._tag ?? "rows" }
      }
    ]
    return lines
  }).pipe(Effect.provide(as("hasty"), { local: true }))
})

export const tooManyConnections = Effect.gen(function* () {
  const declared = {
    database: primary,
    params: {},
    row,
    query: (sql: any) => sql`select 1 as n`,
    retry
  } as const
  const hasty = Report.make("hasty", { ...declared, deadline: "700 millis" })
  const patient = Report.make("patient", { ...declared, deadline: "20 seconds" })
  const occupied = Effect.gen(function* () {
    const { sql } = yield* primary
    return yield* sql.withTransaction(Effect.andThen(sql`select 1`, Effect.never))
  }).pipe(Effect.provide(as("few"), { local: true }))
  const holder = yield* Effect.forkChild(occupied)
  const { name, query } = yield* TestDatabase
  const sessions = query("select count(*)::int as n from pg_stat_activity where usename = $1", [`${name}_few`])
  yield* expectEventually(sessions, ([one]) => one!["n"] === 1)
  return yield* Effect.gen(function* () {
    const [call, millis] = yield* timed(observe(hasty.runWithInfo({})))
    const refusals = ["DatabaseUnavailable", "AcquireTimeout", "DeadlineExceeded"]
    const waiting = yield* Effect.forkChild(observe(patient.runWithInfo({})))
    yield* Effect.sleep("200 millis")
    yield* Fiber.interrupt(holder)
    const served = yield* Fiber.join(waiting)
    const lines: ReadonlyArray<Line> = [
      {
        case: "told in time, with the server's code",
        expected: { class: "TooManyConnections", attempts: "1 to 3", result: "unavailable 53300; in time" },
        seen: {
          class: call.class,
          attempts: within(call.attempts, 1, 3),
          result: `${call.result.replace(new RegExp(refusals.join("|")), "unavailable")}; ${inTime(millis, 5_000)}`
        }
      },
      {
        case: "over as soon as one is free",
        expected: { class: "any", attempts: "1 to 3", result: '[{"n":1}]' },
        seen: { class: "any", attempts: within(served.attempts, 1, 3), result: served.result }
      }
    ]
    return lines
  }).pipe(Effect.provide(as("few", { maxConnections: 1 }), { local: true }))
})

export const adminShutdown = Effect.gen(function* () {
  const { query } = yield* TestDatabase
  const declared = {
    database: primary,
    params: {},
    row,
    query: (sql: any) => sql`select 1 as n from pg_sleep(0.8) /* terminated */`,
    deadline: "20 seconds"
  } as const
  const terminate = Effect.flatMap(running("%/* terminated */%"), ([pid]) =>
    query("select pg_terminate_backend($1::int)", [pid])
  )
  const hit = <A, E extends { readonly _tag: string }, R>(
    call: Effect.Effect<{ readonly rows: ReadonlyArray<A>; readonly attempts: number }, E, R>
  ) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(observe(call))
      yield* terminate
      return yield* Fiber.join(fiber)
    })
  const again = yield* hit(Report.make("again", { ...declared, retry }).runWithInfo({}))
  const bare = yield* hit(Report.make("bare", declared).runWithInfo({}))
  const writing = Report.make("writing", {
    ...declared,
    query: (sql) => sql`insert into log select 1 from pg_sleep(0.8) /* terminated */ returning n`,
    writes: "once",
    retry
  })
  const written = yield* hit(writing.runWithInfo({}))
  const stored = yield* query("select * from log")
  const lines: ReadonlyArray<Line> = [
    {
      case: "repeated on a fresh session",
      expected: { class: "Shutdown", attempts: 2, result: '[{"n":1}]' },
      seen: seen(again)
    },
    {
      case: "without a retry it is told",
      expected: { class: "Shutdown", attempts: 1, result: "DatabaseUnavailable 57P01; lost" },
      seen: seen(bare, bare.error?._tag === "DatabaseUnavailable" ? bare.error.reason : "")
    },
    {
      // It said so before the statement was complete: rolled back for certain.
      case: "even a write declared once is repeated",
      expected: { class: "Shutdown", attempts: 2, result: '[{"n":1}]; stored: 1' },
      seen: seen(written, `stored: ${stored.length}`)
    }
  ]
  return lines
})

export const readOnly = Effect.gen(function* () {
  const { replayed } = yield* TestDatabase
  yield* replayed
  const writes = Report.make("writes", {
    database: replica,
    params: {},
    row,
    query: (sql) => sql`insert into orders (key) values ('standby') returning n`,
    deadline: "20 seconds",
    writes: "idempotent",
    retry
  })
  const [call, millis] = yield* timed(observe(writes.runWithInfo({})))
  const line: Line = {
    case: "a write on a standby is told, once",
    expected: { class: "ReadOnly", attempts: 1, result: "QueryFailed 25006; in time" },
    seen: seen(call, inTime(millis, 5_000))
  }
  return [line]
})

/** Codes that cannot be provoked at will. */
export const raised = Effect.gen(function* () {
  const raising = Report.make("raising", {
    database: primary,
    params: { code: Schema.String },
    row,
    query: (sql, { code }) => sql`select raising(${code}) as n`,
    deadline: "20 seconds",
    writes: "idempotent",
    retry
  })
  const lines: Array<Line> = []
  for (const [code, name, count] of [
    // A function says so, on a session that lives: this server is well.
    ["53100", "Raised", 1],
    ["53200", "Raised", 1],
    ["53400", "Raised", 1],
    ["08006", "Raised", 1],
    ["57P01", "Raised", 1],
    ["XX000", "Raised", 1],
    ["XX001", "Raised", 1],
    ["40001", "Serialization", 3],
    ["40003", "CompletionUnknown", 3],
    ["55006", "ObjectState", 1],
    ["P0001", "CallerError", 1]
  ] as const) {
    const [call, times] = yield* executions(observe(raising.runWithInfo({ code })))
    const tag = name === "CompletionUnknown" ? "OutcomeUnknown" : "QueryFailed"
    lines.push({
      case: `${code} raised by a function`,
      expected: { class: name, attempts: count, result: `${tag} ${code}; ran ${count} time(s)` },
      seen: seen(call, `ran ${times} time(s)`)
    })
  }
  return lines
})
