/** Work that outlives the call that it was begun in keeps its deadline. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { makeRole, replica } from "../report/support.ts"

const report = Report.make("refresh", {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select n from numbers`,
  deadline: "8 seconds"
})

describe("work that is detached from a call, begun while the call goes on", () => {
  for (const [name, deadline, millis] of [
    // A tick after the outer one, which takes away whoever still belongs to it.
    ["an outer deadline that comes first", "2 seconds", 2001],
    ["an outer deadline that comes later", "20 seconds", 8000]
  ] as const) {
    it.effect(`${name}: has an answer by its own deadline, although the call has ended`, () =>
      Effect.gen(function* () {
        const { provide } = yield* makeRole(() => Effect.never)
        yield* TestClock.adjust(500)
        const refresh = yield* provide(
          Effect.gen(function* () {
            const fiber = yield* Effect.forkDetach(report.run({}), { startImmediately: true })
            // The call has its own answer, and ends well.
            return fiber
          })
        ).pipe(Deadline.within({ key: "request", duration: deadline }))
        yield* TestClock.adjust(millis - 1)
        assert.isUndefined(refresh.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.isDefined(refresh.pollUnsafe(), "it still waits")
        const error: unknown = yield* Effect.flip(Fiber.join(refresh))
        assert.deepInclude(error, { _tag: "DeadlineExceeded", key: "refresh", deadlineMillis: millis })
      })
    )
  }
})
