/** A call that is interrupted, at every point at which it can be, leaves nothing behind. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { makeRole, refused, replica, rowsAfter } from "./support.ts"

const slow = Schema.Int.pipe(
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transformEffect((n: number) => Effect.as(Effect.yieldNow, n)),
    encode: SchemaGetter.transform((n: number) => n)
  })
)

const common = { database: replica, params: {}, query: (sql: any) => sql`select n`, deadline: "5 seconds" } as const
const reports: Record<string, any> = {
  plain: Report.make("plain", { ...common, row: { n: Schema.Int } }),
  all: Report.make("all", {
    ...common,
    row: { n: Schema.Int },
    attemptTimeout: "1 second",
    bulkhead: { permits: 1, queue: 1, maxWait: "1 second" },
    breaker: { consecutiveFailures: 1000, failureRate: false },
    retry: { retries: 3, jitter: "none", budget: { ratio: 1, minimum: 1000 } },
    rateLimit: { limit: 1_000_000, window: "1 second" },
    shed: {}
  }),
  slow: Report.make("slow", { ...common, row: { n: slow }, bulkhead: { permits: 1 } }),
  hedged: Report.make("hedged", {
    ...common,
    row: { n: slow },
    bulkhead: { permits: 2 },
    hedge: { after: 1, budget: { ratio: 1, minimum: 1000 } }
  }),
  write: Report.make("write", {
    ...common,
    row: { n: Schema.Int },
    writes: "idempotent",
    bulkhead: { permits: 1 },
    retry: { retries: 2, jitter: "none" }
  })
}

interface Runnable {
  readonly run: (params: {}) => Effect.Effect<unknown, any, any>
}

describe("an interrupt at any step", () => {
  for (const [name, report] of Object.entries(reports) as Array<[string, Runnable]>) {
    for (const kind of ["at once", "later", "fails first"] as const) {
      it.effect(`${name}, ${kind}: leaves nothing behind`, () =>
        Effect.gen(function* () {
          let first = true
          const { provide, stats } = yield* makeRole(
            () => {
              if (kind === "fails first" && first) {
                first = false
                return Effect.fail(refused("40001"))
              }
              return rowsAfter(kind === "later" ? 3 : 0)
            },
            { nodes: name === "hedged" ? 2 : 1 }
          )
          yield* provide(report.run({})).pipe(
            Effect.forkChild({ startImmediately: true }),
            Effect.tap(() => TestClock.adjust(5_000)),
            Effect.flatMap((fiber) => Fiber.await(fiber))
          )
          let ended = 0
          for (let step = 0; step < 160; step++) {
            first = true
            let leaked = ""
            const fiber = Effect.runForkWith((yield* Effect.context<never>()) as any)(
              (
                provide(
                  Effect.onExit(report.run({}), () =>
                    Effect.withFiber((own: any) => {
                      if (own.getRef(Deadline.Current) !== undefined) leaked += " deadline"
                      if (own.getRef(Background.CurrentHolder) !== undefined) leaked += " holder"
                      return Effect.void
                    })
                  )
                ) as Effect.Effect<any, any>
              ).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, 3))
            )
            for (let n = 0; n < step && fiber.pollUnsafe() === undefined; n++) {
              yield* Effect.yieldNow
              if (n % 5 === 4) yield* TestClock.adjust(1)
            }
            if (fiber.pollUnsafe() !== undefined) ended++
            fiber.interruptUnsafe()
            // Its finalizers yield, too.
            for (let n = 0; n < 200 && fiber.pollUnsafe() === undefined; n++) yield* Effect.yieldNow
            assert.isDefined(fiber.pollUnsafe(), `step ${step}: it does not leave`)
            assert.strictEqual(leaked, "", `step ${step}`)
            yield* TestClock.adjust(10_000)
            const { leased, waiting } = yield* stats
            assert.deepStrictEqual([leased, waiting], [0, 0], `step ${step}`)
          }
          first = false
          const again = yield* Effect.forkChild(Effect.exit(provide(report.run({}))), { startImmediately: true })
          yield* TestClock.adjust(5_000)
          const exit: any = yield* Fiber.join(again)
          assert.isTrue(Exit.isSuccess(exit), String(exit))
          // Else every one was interrupted before it could do anything.
          if (kind !== "fails first") assert.isAbove(ended, 0)
        })
      )
    }
  }
})
