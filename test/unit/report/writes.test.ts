/** What a caller of a report that writes is told: never less doubt than there is, and never more. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as TestClock from "effect/testing/TestClock"
import { begin, failure, lost, makeRole, refused, replica, rowsAfter, run, value } from "./support.ts"

const declared = {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`insert into numbers values (1) returning n`,
  deadline: "5 seconds",
  attemptTimeout: "1 second",
  retry: {
    schedule: Schedule.spaced("100 millis"),
    retries: 2,
    jitter: "none",
    budget: { minimum: 1000 }
  }
} as const

const once = Report.make("once", { ...declared, writes: "once" })
const idempotent = Report.make("idempotent", { ...declared, writes: "idempotent" })

/** The server answers each attempt in turn: with an error, not at all, or (after the last of these) with a row. */
const answers = (...errors: ReadonlyArray<SqlError | "nothing">) =>
  makeRole(({ number }) => {
    const error = errors[number - 1]
    return error === undefined ? rowsAfter(1) : error === "nothing" ? Effect.never : Effect.fail(error)
  })

describe("a report that writes once", () => {
  it.effect("is never repeated after its statement may have been sent", () =>
    Effect.gen(function* () {
      for (const error of [lost(), refused("57P01", "FATAL"), refused("08007"), refused("40003"), "nothing"] as const) {
        const { executions, provide } = yield* answers(error)
        const told = failure(yield* run(provide(once.run({}))), "OutcomeUnknown")
        assert.strictEqual(told.key, "once")
        assert.strictEqual(executions.length, 1)
      }
    })
  )

  it.effect("is repeated when the server says that it rolled back", () =>
    Effect.gen(function* () {
      for (const code of ["40001", "40P01", "55P03"]) {
        const { executions, provide } = yield* answers(refused(code))
        assert.deepStrictEqual(value(yield* run(provide(once.run({})))), [{ n: 1 }], code)
        assert.strictEqual(executions.length, 2)
      }
    })
  )

  it.effect("a statement that the server stopped was not applied, and the caller is told so", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* answers(refused("57014"))
      const error = failure(yield* run(provide(once.run({}))), "DeadlineExceeded")
      assert.strictEqual(error.lastError?.sqlState, "57014")
      assert.strictEqual(executions.length, 1)
    })
  )

  it.effect(
    "a deadline that comes while the statement is out leaves its outcome unknown; one in a queue does not",
    () =>
      Effect.gen(function* () {
        const { provide } = yield* makeRole(() => Effect.never, { max: 1 })
        const { attemptTimeout: _, ...rest } = declared
        const report = Report.make("slow", { ...rest, writes: "once" })
        const shorter = Report.make("shorter", { ...rest, deadline: "3 seconds", writes: "once" })
        const calls = [yield* begin(provide(report.run({}))), yield* begin(provide(shorter.run({})))]
        yield* TestClock.adjust(10_000)
        const outcomes = yield* Effect.forEach(calls, Fiber.join)
        failure(outcomes[0]!, "OutcomeUnknown")
        assert.strictEqual(failure(outcomes[1]!, "AcquireTimeout").reason, "all-leased")
      })
  )

  it.effect("rows that do not fit are a known outcome: it was applied", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(() => rowsAfter(1, [{ n: "one" }]))
      failure(yield* run(provide(once.run({}))), "RowDecodeError")
      assert.strictEqual(executions.length, 1)
    })
  )
})

describe("an idempotent report", () => {
  it.effect("is repeated after a lost answer, and its success is a success", () =>
    Effect.gen(function* () {
      for (const error of [lost(), refused("57P01", "FATAL"), "nothing"] as const) {
        const { executions, provide } = yield* answers(error)
        assert.deepStrictEqual(value(yield* run(provide(idempotent.run({})))), [{ n: 1 }])
        assert.strictEqual(executions.length, 2)
      }
    })
  )

  it.effect("an attempt that may have been applied is not forgotten when a later one is refused", () =>
    Effect.gen(function* () {
      for (const [first, second] of [
        [lost(), refused("23505")],
        [lost(), refused("57P03", "FATAL")],
        [lost(), refused("57014")],
        ["nothing", refused("42501")]
      ] as const) {
        const { provide } = yield* answers(first, second, second)
        const { exit } = yield* run(provide(idempotent.run({})))
        assert.isTrue(Exit.isFailure(exit))
        const error = failure({ exit, millis: 0 }, "OutcomeUnknown")
        assert.isDefined(error.lastError)
      }
    })
  )

  it.effect("nor when the deadline comes while the call waits to come back", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(({ number }) =>
        number === 1 ? Effect.fail(lost()) : Effect.never
      )
      const report = Report.make("late", { ...declared, writes: "idempotent", deadline: "300 millis" })
      failure(yield* run(provide(report.run({}))), "OutcomeUnknown")
      assert.strictEqual(executions.length, 2)
    })
  )

  it.effect("where no attempt can have been applied there is no doubt", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* answers(refused("40001"), refused("40P01"), refused("23505"))
      assert.strictEqual(failure(yield* run(provide(idempotent.run({}))), "QueryFailed").sqlState, "23505")
      assert.strictEqual(executions.length, 3)
    })
  )
})
