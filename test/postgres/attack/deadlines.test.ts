/** Deadlines that no fiber watches, on a real server: a thousand at once, and leaving at any instant. */
import { assert } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import { PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { fuzz, random } from "../../support/random.ts"
import { main, role, timed } from "./support.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const declared = {
  database: main,
  params: { millis: Schema.Int },
  row: { n: Schema.Int },
  query: (sql: any, { millis }: { readonly millis: number }) =>
    sql`select 1 as n from (select pg_sleep(${millis}::float8 / 1000)) as slept`
} as const

const asked = Report.make("asked", { ...declared, deadline: "500 millis" })

const hardened = Report.make("hardened", {
  ...declared,
  deadline: "400 millis",
  attemptTimeout: "150 millis",
  retry: Schedule.spaced("5 millis"),
  bulkhead: { permits: 6, queue: 3, adaptive: "aimd" }
})

const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length

postgres(ownCluster())("deadlines that no fiber watches", (it) => {
  it.effect("a thousand callers whose deadlines come together leave together, and leave nothing behind", () =>
    Effect.gen(function* () {
      const { context, pool } = yield* role(yield* server, { maxConnections: 10, maxWaiting: 2000 })
      const ask = (millis: number) => Effect.provide(asked.run({ millis }), context)
      yield* ask(0)
      const before = timers()
      const results = yield* Effect.forEach(
        Array.from({ length: 1000 }),
        (_, index) => timed(Effect.exit(index % 2 === 0 ? ask(20_000) : Effect.uninterruptible(ask(20_000)))),
        { concurrency: "unbounded" }
      )
      for (const [exit, millis] of results) {
        assert(Exit.isFailure(exit))
        const error = Cause.findErrorOption(exit.cause)
        assert(error._tag === "Some", Cause.pretty(exit.cause))
        assert.include(["DeadlineExceeded", "AcquireTimeout"], error.value._tag)
        // Far below the statement's twenty seconds, whatever the machine does.
        assert.isBelow(millis, 5_000)
      }
      yield* expectEventually(pool.stats, ({ draining, leased, waiting }) => draining + leased + waiting === 0)
      // The pool has its own alarm, and no caller's timer is left.
      yield* expectEventually(Effect.sync(timers), (now) => now <= before + 2)
      assert.deepStrictEqual(yield* ask(0), [{ n: 1 }])
    })
  )

  it.effect("callers that leave at any instant hold no session, no permit and no timer", () =>
    Effect.gen(function* () {
      const { runs, seed } = fuzz(400)
      console.log(`seed ${seed}`)
      const { below, chance } = random(seed)
      const { context, pool, sql } = yield* role(yield* server, { maxConnections: 4, maxWaiting: 50 })
      const ask = (millis: number) => Effect.provide(hardened.run({ millis }), context)
      yield* ask(0)
      const before = timers()
      const kill = Effect.ignore(
        sql`select pg_terminate_backend(pid) from pg_stat_activity
          where application_name = 'target/main' and pid <> pg_backend_pid() limit 1`
      )
      yield* Effect.forEach(
        Array.from({ length: runs }),
        () =>
          Effect.gen(function* () {
            if (chance(0.05)) yield* Effect.timeoutOrElse(kill, { duration: "1 second", orElse: () => Effect.void })
            const call = ask(below(200))
            if (chance(0.3)) return yield* Effect.exit(call)
            const fiber = yield* Effect.forkChild(Effect.exit(call), { startImmediately: chance(0.5) })
            const after = below(220)
            if (after > 0) yield* Effect.sleep(after)
            return yield* Fiber.interrupt(fiber)
          }),
        { concurrency: 24, discard: true }
      )
      yield* expectEventually(pool.stats, ({ draining, leased, waiting }) => draining + leased + waiting === 0)
      yield* expectEventually(Effect.sync(timers), (now) => now <= before + 2)
      // Permits that were lost would be missed now: the queue has room for three.
      const calls = yield* Effect.forEach(Array.from({ length: 4 }), () => Effect.exit(ask(1)), { concurrency: 4 })
      for (const exit of calls)
        assert.isTrue(Exit.isSuccess(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
    })
  )
})
