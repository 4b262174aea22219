/** A caller that is interrupted between any two steps of its call leaves nothing behind. */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../packages/sdk/src/policy/Background.ts"
import { makeRole, refused, replica, rowsAfter } from "./support.ts"

const slowly = Schema.Int.pipe(
  Schema.decodeTo(Schema.Int, {
    decode: SchemaGetter.transformEffect((n: number) => Effect.as(Effect.sleep(50), n)),
    encode: SchemaGetter.transform((n: number) => n)
  })
)

const declared = {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`select n from numbers`,
  deadline: "1 second",
  bulkhead: { permits: 3, queue: 10 }
} as const

const ways: ReadonlyArray<readonly [way: string, report: any, script: Parameters<typeof makeRole>[0], nodes?: number]> =
  [
    ["a plain call", Report.make("plain", declared), () => rowsAfter(50)],
    [
      "a query that is an effect, and rows that are",
      Report.make("effects", {
        ...declared,
        row: { n: slowly },
        query: (sql: any) => Effect.as(Effect.sleep(10), sql`select n from numbers`) as any
      }),
      () => rowsAfter(50)
    ],
    [
      "a retry after a backoff",
      Report.make("retry", { ...declared, retry: Schedule.spaced("20 millis") as any, attemptTimeout: 400 }),
      ({ number }) => (number % 2 === 1 ? Effect.fail(refused("40001")) : rowsAfter(50))
    ],
    ["a hedge", Report.make("hedge", { ...declared, hedge: { after: "10 millis" } }), () => rowsAfter(50), 2]
  ]

/** Interrupts `victim` before the operation with this number, whichever fiber of the call does it. */
class Interrupting extends Scheduler.MixedScheduler {
  count = 0
  victim: Fiber.Fiber<unknown, unknown> | undefined
  readonly at: number
  constructor(at: number) {
    super()
    this.at = at
  }
  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (++this.count === this.at) this.victim?.interruptUnsafe()
    return super.shouldYield(fiber)
  }
}

describe("a call that is interrupted between any two of its steps", () => {
  for (const [way, report, script, nodes] of ways) {
    it.effect(way, () =>
      Effect.gen(function* () {
        const { provide, role } = yield* makeRole(script, { nodes })
        const supervisor = Background.makeSupervisor()
        let interrupted = true
        for (let at = 1; interrupted; at++) {
          assert.isBelow(at, 5_000)
          const scheduler = new Interrupting(at)
          const call = provide(report.run({})).pipe(
            Effect.provideService(Background.CurrentSupervisor, supervisor)
          ) as Effect.Effect<unknown, unknown>
          const fiber = yield* Effect.forkChild(Effect.provideService(call, Scheduler.Scheduler, scheduler))
          scheduler.victim = fiber
          for (let turn = 0; turn < 50 && fiber.pollUnsafe() === undefined; turn++) yield* TestClock.adjust(5)
          assert.isDefined(fiber.pollUnsafe())
          interrupted = scheduler.count >= at
          // Longer than it takes to drain, shorter than any statement: what is still at work was forgotten.
          yield* TestClock.adjust(20)
          for (const { pool } of role.nodes) {
            assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 }, `interrupted before operation ${at}`)
          }
          assert.strictEqual(supervisor.running.size, 0, `interrupted before operation ${at}`)
        }
      })
    )
  }
})
