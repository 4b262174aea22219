/** Nobody waits for a breaker's schedule. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { makeRole, refused, replica, run } from "./support.ts"

describe("a breaker's schedule that waits", () => {
  it.effect("does not hold a caller who is interrupted", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.fail(refused("57P01", "FATAL")))
      const report = Report.make("breaker", {
        database: replica,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`select n from numbers`,
        deadline: "8 seconds",
        breaker: { consecutiveFailures: 1, openFor: Schedule.tap(Schedule.spaced(1), () => Effect.never) as never }
      })
      const { millis } = yield* run(provide(report.run({})).pipe(Effect.timeout("100 millis")))
      assert.isBelow(millis, 200)
    })
  )
})
