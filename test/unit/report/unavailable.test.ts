/** What a caller is told when there is no session to be had: why, and not only that it was late. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { lost as refusedConnect } from "../pool/FakeSession.ts"
import { failure, makeRole, replica, rowsAfter, run } from "./support.ts"

const report = Report.make("numbers", {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select n from numbers`,
  deadline: "2 seconds"
})

const everyTenth = Schedule.spaced("100 millis")
// The pause is a random part of this (full jitter): any deadline of a test lies before it.
const hardlyEver = Schedule.spaced("1000 hours")

const ways = [
  ["run", report.run({})],
  ["stream", Stream.runCollect(report.stream({}))]
] as const

describe("a report without a session", () => {
  for (const [way, call] of ways) {
    it.effect(`${way}: a server that is down is named, with the last real error, before the deadline`, () =>
      Effect.gen(function* () {
        const { provide, servers } = yield* makeRole(() => rowsAfter(1), { connectBackoff: everyTenth })
        servers[0]!.down = refusedConnect("connect ECONNREFUSED", "ECONNREFUSED")
        const outcome = yield* run(provide(call))
        const error = failure(outcome, "AcquireTimeout")
        assert.strictEqual(error.reason, "down")
        assert.strictEqual(error.lastError?.tag, "ConnectionError")
        assert.strictEqual(outcome.millis, 1975)
      })
    )

    it.effect(`${way}: a pause that outlasts the deadline is not waited for`, () =>
      Effect.gen(function* () {
        const { provide, servers } = yield* makeRole(() => rowsAfter(1), { connectBackoff: hardlyEver })
        servers[0]!.down = refusedConnect("connect ECONNREFUSED", "ECONNREFUSED")
        yield* run(provide(call), 5000)
        const outcome = yield* run(provide(call), 5000)
        const error = failure(outcome, "DatabaseUnavailable")
        assert.strictEqual(error.lastError?.tag, "ConnectionError")
        assert.isAbove(error.retryAfterMillis!, 2000)
        assert.strictEqual(outcome.millis, 0)
      })
    )

    it.effect(`${way}: sessions that others hold are counted, and their holders named`, () =>
      Effect.gen(function* () {
        const { provide, role } = yield* makeRole(() => rowsAfter(1), { max: 1 })
        const { pool } = role.nodes[0]!
        yield* Effect.forkChild(
          pool.use({ lane: "batch", name: "holder" }, () => Effect.never),
          { startImmediately: true }
        )
        const error = failure(yield* run(provide(call)), "AcquireTimeout")
        assert.deepInclude(error, { reason: "all-leased", lane: "report" })
        assert.deepStrictEqual(
          error.holders.map(({ name }) => name),
          ["holder"]
        )
      })
    )
  }
})
