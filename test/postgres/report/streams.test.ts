import { assert } from "@effect/vitest"
import { Report, type StreamInfo } from "@sluice/sdk"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { expectEventually } from "../../support/expectEventually.ts"
import { postgres, TestDatabase } from "../../support/postgres.ts"
import { at, failsWith, Fleet, keepsSecret, layerFleet, primary, replica, timed } from "./support.ts"

/** Rows of half a kilobyte, made as they are read: a hundred thousand of them do not fit into any buffer on the way. */
const declared = {
  database: replica,
  params: { upTo: Schema.Int },
  row: { n: Schema.Int, text: Schema.String },
  query: (sql: any, { upTo }: { readonly upTo: number }) =>
    sql`select n, repeat('x', 500) as text from (select generate_series(1, ${upTo}::int) as n) as numbers`
} as const

const big = Report.make("big", { ...declared, deadline: "10 seconds" })

const stats = Effect.flatMap(replica, ({ nodes }) => nodes[0]!.pool.stats)

/** Everything is given back: nobody holds a session, and none is still being brought to rest. */
const givenBack = Effect.gen(function* () {
  yield* expectEventually(stats, ({ draining, leased, waiting }) => leased + draining + waiting === 0)
})

/** Nothing of ours runs on the server. */
const serverIsIdle = Effect.gen(function* () {
  const { name } = yield* TestDatabase
  const { sql } = yield* replica
  yield* expectEventually(
    sql`select count(*)::int as busy from pg_stat_activity
      where datname = ${name} and state = 'active' and pid <> pg_backend_pid()`,
    ([row]) => (row as { busy: number }).busy === 0
  )
})

postgres(layerFleet({ maxConnections: 2 }))("a report as a stream", (it) => {
  it.effect("gives all rows in order, in chunks, and tells at the end that nothing was cut", () =>
    Effect.gen(function* () {
      let info: StreamInfo | undefined
      let chunks = 0
      let next = 0
      yield* big
        .stream({ upTo: 20_000 }, (end) => Effect.sync(() => void (info = end)))
        .pipe(
          Stream.chunks,
          Stream.runForEach((rows) =>
            Effect.sync(() => {
              chunks++
              for (const { n } of rows) assert.strictEqual(n, ++next)
            })
          )
        )
      assert.strictEqual(next, 20_000)
      assert.isAbove(chunks, 5)
      assert.deepInclude(info, { rows: 20_000, truncated: false, node: (yield* replica).nodes[0]!.name })
      yield* givenBack
    })
  )

  it.effect("an empty result ends the stream without an error", () =>
    Effect.gen(function* () {
      let info: StreamInfo | undefined
      const none = big.stream({ upTo: 0 }, (end) => Effect.sync(() => void (info = end)))
      assert.deepStrictEqual([...(yield* Stream.runCollect(none))], [])
      assert.deepInclude(info, { rows: 0, truncated: false })
      yield* givenBack
    })
  )

  it.effect("maxRows cuts in the middle of a chunk and at its edge, and onEnd says so", () =>
    Effect.gen(function* () {
      for (const [upTo, rows, truncated] of [
        [5000, 1000, true],
        [1001, 1000, true],
        [1000, 1000, false],
        [999, 999, false]
      ] as const) {
        const some = Report.make("some", { ...declared, deadline: "10 seconds", maxRows: 1000 })
        let info: StreamInfo | undefined
        const given = yield* Stream.runCollect(some.stream({ upTo }, (end) => Effect.sync(() => void (info = end))))
        assert.lengthOf(given, rows, String(upTo))
        assert.deepInclude(info, { rows, truncated }, String(upTo))
      }
      yield* givenBack
    })
  )

  it.effect("a consumer that has enough gives the session back at once, and the server stops", () =>
    Effect.gen(function* () {
      let ended = false
      const [rows, millis] = yield* timed(
        big
          .stream({ upTo: 5_000_000 }, () => Effect.sync(() => void (ended = true)))
          .pipe(Stream.take(3), Stream.runCollect)
      )
      assert.deepStrictEqual(
        [...rows].map(({ n }) => n),
        [1, 2, 3]
      )
      assert.isBelow(millis, 5000)
      assert.isFalse(ended, "onEnd is told at the end only")
      yield* givenBack
      yield* serverIsIdle
    })
  )

  it.effect("a consumer that fails keeps its own error, and the session is given back", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Stream.runForEach(big.stream({ upTo: 5_000_000 }), ({ n }) =>
          n === 700 ? Effect.fail("mine" as const) : Effect.void
        )
      )
      assert.strictEqual(error, "mine")
      yield* givenBack
      yield* serverIsIdle
    })
  )

  it.effect("a consumer that is interrupted leaves at once, and the session is given back", () =>
    Effect.gen(function* () {
      const reached = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(big.stream({ upTo: 5_000_000 }), ({ n }) =>
          n === 100 ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) : Effect.void
        )
      )
      yield* Deferred.await(reached)
      assert.strictEqual((yield* stats).leased, 1)
      const [, millis] = yield* timed(Fiber.interrupt(fiber))
      assert.isBelow(millis, 2000)
      yield* givenBack
      yield* serverIsIdle
    })
  )

  it.effect("a row that does not fit fails with its number, counted over all chunks", () =>
    Effect.gen(function* () {
      const odd = Report.make("odd", {
        ...declared,
        query: (sql, { upTo }) => sql`select case when n = 3001 then null else n end as n, repeat('y', 500) as text
          from (select generate_series(1, ${upTo}::int) as n) as numbers`,
        deadline: "10 seconds"
      })
      const error = yield* failsWith(Stream.runDrain(odd.stream({ upTo: 100_000 })), "RowDecodeError")
      assert.deepInclude(error, { report: "odd", row: 3000, field: "n" })
      yield* givenBack
    })
  )

  it.effect("an error of the server in the middle arrives after the rows before it, and is not retried", () =>
    Effect.gen(function* () {
      let seen = 0
      const broken = Report.make("broken", {
        ...declared,
        query: (sql, { upTo }) => sql`select 12 / (2000 - n) + n as n, repeat('hunter2', 70) as text
          from (select generate_series(1, ${upTo}::int) as n) as numbers`,
        deadline: "10 seconds",
        retry: { retries: 3 }
      })
      const error = yield* failsWith(
        Stream.runForEach(broken.stream({ upTo: 5000 }), () => Effect.sync(() => void seen++)),
        "QueryFailed"
      )
      assert.strictEqual(error.sqlState, "22012")
      keepsSecret(error, ["hunter2", "generate_series"])
      assert.isAtMost(seen, 1999, "no row twice")
      yield* givenBack
    })
  )

  it.effect("a slow consumer is not the server's fault: the stream outlives its deadline", () =>
    Effect.gen(function* () {
      const brief = Report.make("brief", { ...declared, deadline: "700 millis" })
      let rows = 0
      const [, millis] = yield* timed(
        Stream.runForEach(Stream.chunks(brief.stream({ upTo: 40_000 })), (chunk) => {
          rows += chunk.length
          return rows % 5 === 0 || rows < 20_000 ? Effect.sleep("25 millis") : Effect.void
        })
      )
      assert.strictEqual(rows, 40_000)
      assert.isAbove(millis, 1000, "longer than the deadline, or this shows nothing")
      yield* givenBack
    })
  )

  it.effect("a fallback is for run: a stream tells the error, and its type says so", () =>
    Effect.gen(function* () {
      const broken = Report.make("broken", {
        ...declared,
        query: (sql) => sql`select nothing`,
        deadline: "5 seconds",
        fallback: { QueryFailed: () => Effect.succeed([{ n: 0, text: "" }]) }
      })
      assert.lengthOf(yield* broken.run({ upTo: 1 }), 1)
      assert.strictEqual(
        (yield* failsWith(Stream.runDrain(broken.stream({ upTo: 1 })), "QueryFailed")).sqlState,
        "42703"
      )
      // @ts-expect-error what the fallback handles cannot come out of run
      const never = failsWith(broken.run({ upTo: 1 }), "QueryFailed")
      assert.isDefined(never)
    })
  )

  it.effect("a report that reads cannot write as a stream either", () =>
    Effect.gen(function* () {
      yield* (yield* TestDatabase).query("create table if not exists untouched (n int)")
      const sneaky = Report.make("sneaky", {
        database: primary,
        params: {},
        row: { n: Schema.Int },
        query: (sql) => sql`insert into untouched values (1) returning n`,
        deadline: "5 seconds"
      })
      assert.strictEqual((yield* failsWith(Stream.runDrain(sneaky.stream({})), "QueryFailed")).sqlState, "25006")
    })
  )

  it.effect("its permit is held until the stream ends, waits within the deadline, and comes back", () =>
    Effect.gen(function* () {
      const narrow = Report.make("narrow", {
        ...declared,
        deadline: "600 millis",
        bulkhead: { permits: 1, queue: 1 }
      })
      const reached = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(
        Stream.runForEach(narrow.stream({ upTo: 5 }), () =>
          Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
        )
      )
      yield* Deferred.await(reached)
      const waiting = yield* Effect.forkChild(
        failsWith(Stream.runDrain(narrow.stream({ upTo: 5 })), "DeadlineExceeded")
      )
      yield* Effect.sleep("50 millis")
      const refused = yield* failsWith(Stream.runDrain(narrow.stream({ upTo: 5 })), "Overloaded")
      assert.deepInclude(refused, { policy: "bulkhead", limit: 1, waiting: 1 })
      const [late, millis] = yield* timed(Fiber.join(waiting))
      assert.strictEqual(late.phase, "queue")
      assert.isBelow(millis, 5000)
      yield* Fiber.interrupt(holder)
      assert.lengthOf(yield* Stream.runCollect(narrow.stream({ upTo: 5 })), 5)
      yield* givenBack
    })
  )
})

postgres(layerFleet())("a stream from a server that falls silent", (it) => {
  const silenced = Effect.gen(function* () {
    const { replicaUrl } = yield* TestDatabase
    const { hostname, port } = new URL(replicaUrl)
    const proxy = yield* FaultProxy.make({ target: { host: hostname, port: Number(port) } })
    return { proxy, live: Layer.fresh(Fleet.layerRole("replica", at(proxy.url(replicaUrl), { maxConnections: 2 }))) }
  })

  it.effect("before the first row: the caller has its answer by the deadline", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* silenced
        const brief = Report.make("brief", { ...declared, deadline: "500 millis" })
        yield* Effect.gen(function* () {
          yield* Stream.runDrain(brief.stream({ upTo: 1 }))
          yield* proxy.stall({ direction: "server->client" })
          const [error, millis] = yield* timed(
            failsWith(Stream.runDrain(brief.stream({ upTo: 10 })), "DeadlineExceeded")
          )
          assert.deepInclude(error, { key: "brief", phase: "attempt", attempts: 1 })
          assert.isBelow(millis, 4000)
          yield* proxy.heal
          assert.lengthOf(yield* Stream.runCollect(big.stream({ upTo: 10 })), 10)
          yield* givenBack
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )

  it.effect("in the middle: the rows that came stay, then the deadline of the chunk", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* silenced
        const brief = Report.make("brief", { ...declared, deadline: "700 millis" })
        yield* Effect.gen(function* () {
          let seen = 0
          const [error, millis] = yield* timed(
            failsWith(
              Stream.runForEach(brief.stream({ upTo: 1_000_000 }), () =>
                ++seen === 1000 ? proxy.stall({ direction: "server->client" }) : Effect.void
              ),
              "DeadlineExceeded"
            )
          )
          assert.isAtLeast(seen, 1000)
          assert.deepInclude(error, { key: "brief", phase: "attempt" })
          assert.isBelow(millis, 8000)
          yield* proxy.heal
          yield* givenBack
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )

  it.effect("a connection that breaks before the first row is retried; after it, it is the caller's to know", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { live, proxy } = yield* silenced
        const again = Report.make("again", { ...declared, deadline: "10 seconds", retry: { retries: 2 } })
        yield* Effect.gen(function* () {
          yield* Stream.runDrain(again.stream({ upTo: 1 }))
          // The session in the pool is dead, and the pool does not know it yet when the stream begins.
          yield* proxy.stall({ direction: "server->client" })
          const first = yield* Effect.forkChild(Stream.runCollect(again.stream({ upTo: 10 })))
          yield* Effect.sleep("100 millis")
          yield* Effect.andThen(proxy.reset, proxy.heal)
          assert.lengthOf(yield* Fiber.join(first), 10)

          let seen = 0
          const error = yield* failsWith(
            Stream.runForEach(again.stream({ upTo: 1_000_000 }), () => (++seen === 1000 ? proxy.reset : Effect.void)),
            "DatabaseUnavailable"
          )
          assert.strictEqual(error.reason, "lost")
          assert.isAtLeast(seen, 1000)
          assert.isBelow(seen, 1_000_000)
          yield* givenBack
        }).pipe(Effect.provide(live, { local: true }))
      })
    )
  )
})
