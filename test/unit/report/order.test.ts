/**
 * The order of the policies, pair by pair: each test fails when the two it names change places in Pipeline.ts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import { begin, failure, lost, makeRole, refused, replica, rowsAfter, run, value } from "./support.ts"

const declared = {
  database: replica,
  params: {},
  row: { n: Schema.Int },
  query: (sql: any) => sql`select n from numbers`
} as const

/** Opens after so many failures in a row, and for longer than any test lasts. */
const breakerAfter = (consecutiveFailures: number) => ({
  failureRate: false as const,
  consecutiveFailures,
  openFor: Schedule.spaced("1 hour")
})

/** No chance in it: retries come exactly after `millis`, as many as wanted. */
const retryEvery = (millis: number, retries: number) => ({
  schedule: Schedule.spaced(millis),
  retries,
  jitter: "none" as const,
  cap: "1 hour" as const,
  budget: { minimum: 1000 }
})

describe("the order of policies", () => {
  it.effect("span and metrics > fallback: a call that its fallback answered is a success, its attempt a failure", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.fail(refused("42P01")))
      const spans: Array<{ readonly name: string; readonly ok: boolean }> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          const end = span.end.bind(span)
          span.end = (at, exit) => {
            end(at, exit)
            spans.push({ name: span.name, ok: Exit.isSuccess(exit) })
          }
          return span
        }
      })
      const report = Report.make("answered", {
        ...declared,
        deadline: "1 second",
        fallback: { QueryFailed: () => Effect.withSpan(Effect.succeed([{ n: 0 }]), "fallback") }
      })
      const rows = value(yield* run(report.run({}).pipe(provide, Effect.withTracer(tracer))))
      assert.deepStrictEqual(rows, [{ n: 0 }])
      assert.deepStrictEqual(spans, [
        { name: "attempt answered", ok: false },
        { name: "fallback", ok: true },
        { name: "report answered", ok: true }
      ])
    })
  )

  it.effect("fallback > deadline: the deadline's error reaches the fallback, whose own time it does not bound", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.never)
      const report = Report.make("late", {
        ...declared,
        deadline: "1 second",
        fallback: { DeadlineExceeded: ({ attempts }) => Effect.delay(Effect.succeed([{ n: attempts }]), "5 seconds") }
      })
      const outcome = yield* run(provide(report.run({})))
      assert.deepStrictEqual(value(outcome), [{ n: 1 }])
      assert.strictEqual(outcome.millis, 6000)
    })
  )

  it.effect("fallback > retry: it sees the last error of a call, once", () =>
    Effect.gen(function* () {
      const codes = ["40001", "40P01", "42P01"]
      const { executions, provide } = yield* makeRole(({ number }) => Effect.fail(refused(codes[number - 1]!)))
      const seen: Array<string | undefined> = []
      const report = Report.make("once", {
        ...declared,
        deadline: "10 seconds",
        retry: retryEvery(100, 5),
        fallback: { QueryFailed: ({ sqlState }) => Effect.sync(() => (seen.push(sqlState), [{ n: 0 }])) }
      })
      assert.deepStrictEqual(value(yield* run(provide(report.run({})))), [{ n: 0 }])
      assert.strictEqual(executions.length, 3)
      assert.deepStrictEqual(seen, ["42P01"])
    })
  )

  it.effect("a fallback never hides parameters that do not fit, unless it names them", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(() => Effect.never)
      const wrong: any = { n: "one" }
      const all = {
        QueryFailed: () => Effect.succeed([]),
        DatabaseUnavailable: () => Effect.succeed([]),
        DeadlineExceeded: () => Effect.succeed([]),
        AcquireTimeout: () => Effect.succeed([]),
        RowDecodeError: () => Effect.succeed([])
      }
      const options = { ...declared, params: { n: Schema.Int }, deadline: "1 second" } as const
      const hidden = Report.make("hidden", { ...options, fallback: all })
      failure(yield* run(provide(hidden.run(wrong))), "InvalidParameters")
      const named = Report.make("named", { ...options, fallback: { InvalidParameters: () => Effect.succeed([]) } })
      assert.deepStrictEqual(value(yield* run(provide(named.run(wrong)))), [])
      assert.strictEqual(executions.length, 0)
    })
  )

  it.effect("deadline > rate limit: waiting for one's turn is part of the call's time", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(() => Effect.never)
      const report = Report.make("limited", {
        ...declared,
        deadline: "1 second",
        rateLimit: { limit: 1, window: "600 millis", maxWait: "1 hour" }
      })
      const first = yield* begin(provide(report.run({})))
      const second = yield* begin(provide(report.run({})))
      const third = yield* begin(provide(report.run({})))
      yield* TestClock.adjust(10_000)
      assert.strictEqual((yield* Fiber.join(first)).millis, 1000)
      // It waited 600 of its 1000 ms.
      assert.deepStrictEqual(
        executions.map(({ at }) => at),
        [0, 600]
      )
      assert.strictEqual((yield* Fiber.join(second)).millis, 1000)
      // Its turn comes after its deadline: it need not wait to be told.
      const refusal = yield* Fiber.join(third)
      assert.deepInclude(failure(refusal, "Overloaded"), { policy: "rate-limit", limit: 1 })
      assert.strictEqual(refusal.millis, 0)
    })
  )

  it.effect("rate limit > shedding: what the limit refused is no sign of a server out of breath", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => rowsAfter(1))
      const report = Report.make("limited", {
        ...declared,
        deadline: "1 second",
        rateLimit: { limit: 20, window: "10 seconds" },
        shed: { window: "2 minutes", minimumCalls: 20 }
      })
      const policies: Array<string> = []
      for (let call = 0; call < 300; call++) {
        const outcome = yield* run(provide(report.run({})), 2)
        if (Exit.isFailure(outcome.exit)) policies.push(failure(outcome, "Overloaded").policy)
      }
      assert.isAbove(policies.length, 200)
      assert.deepStrictEqual([...new Set(policies)], ["rate-limit"])
    })
  )

  it.effect("shedding > retry: a call counts once, however many attempts it takes", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(({ number }) => (number % 4 === 0 ? rowsAfter(1) : Effect.never))
      const report = Report.make("patient", {
        ...declared,
        deadline: "10 seconds",
        attemptTimeout: "10 millis",
        retry: retryEvery(1, 3),
        shed: { window: "2 minutes", minimumCalls: 20 }
      })
      for (let call = 0; call < 100; call++) value(yield* run(provide(report.run({})), 100))
    })
  )

  it.effect("deadline > retry: it spans all attempts and the pauses between them", () =>
    Effect.gen(function* () {
      const { provide, times } = yield* makeRole(() => Effect.andThen(Effect.sleep(300), Effect.fail(lost())))
      const report = Report.make("spanned", { ...declared, deadline: "1 second", retry: retryEvery(200, 10) })
      const outcome = yield* run(provide(report.run({})))
      // The first retry of a lost connection comes at once; the third attempt begins at 800 and is cut at 1000.
      assert.deepStrictEqual(times(), [0, 300, 800])
      assert.strictEqual(outcome.millis, 1000)
      const error = failure(outcome, "DeadlineExceeded")
      assert.deepInclude(error, { attempts: 3, phase: "attempt", deadlineMillis: 1000 })
      assert.isDefined(error.lastError)
    })
  )

  it.effect("deadline > retry: who cannot come back in time is told the real error now", () =>
    Effect.gen(function* () {
      const { provide, times } = yield* makeRole(() => Effect.fail(refused("40001")))
      const report = Report.make("told", { ...declared, deadline: "1 second", retry: retryEvery(600, 10) })
      const outcome = yield* run(provide(report.run({})))
      assert.deepStrictEqual(times(), [0, 600])
      assert.strictEqual(outcome.millis, 600)
      assert.deepInclude(failure(outcome, "QueryFailed"), { sqlState: "40001", class: "Serialization" })
    })
  )

  it.effect("retry > hedge: a failed attempt goes to the other node at once, and only then backs off", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(
        () => Effect.andThen(Effect.sleep(50), Effect.fail(refused("40001"))),
        { nodes: 2 }
      )
      const report = Report.make("hedged", {
        ...declared,
        deadline: "10 seconds",
        retry: retryEvery(1000, 1),
        hedge: { after: "400 millis" }
      })
      failure(yield* run(provide(report.run({}))), "QueryFailed")
      assert.deepStrictEqual(
        executions.map(({ at, node }) => [at, node]),
        [
          [0, "127.0.0.1:5432"],
          [50, "127.0.0.1:5433"],
          [1100, "127.0.0.1:5432"],
          [1150, "127.0.0.1:5432"]
        ]
      )
    })
  )

  it.effect("retry > breaker: each attempt is seen, and a breaker that opens ends the retries at once", () =>
    Effect.gen(function* () {
      const { provide, times } = yield* makeRole(() => Effect.fail(refused("57P01", "FATAL")))
      const report = Report.make("broken", {
        ...declared,
        deadline: "1 minute",
        retry: retryEvery(100, 10),
        breaker: breakerAfter(3)
      })
      const outcome = yield* run(provide(report.run({})))
      assert.strictEqual(times().length, 3)
      assert.deepInclude(failure(outcome, "CircuitOpen"), { key: "127.0.0.1:5432" })
      // At once, then two pauses: nothing of the hour that it stays open.
      assert.isAtMost(outcome.millis, 300)
    })
  )

  it.effect("hedge > breaker: a node whose circuit is open sends the call to the other one", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(
        ({ node }) => (node === "127.0.0.1:5432" ? Effect.fail(refused("57P01", "FATAL")) : rowsAfter(10)),
        { nodes: 2 }
      )
      const options = { ...declared, deadline: "1 second", breaker: breakerAfter(3) } as const
      const { breaker } = options
      const opens = Report.make("opens", { ...options, breaker })
      for (let call = 0; call < 3; call++) failure(yield* run(provide(opens.run({}))), "DatabaseUnavailable")
      failure(yield* run(provide(opens.run({}))), "CircuitOpen")
      executions.length = 0
      const hedged = Report.make("hedged", { ...options, breaker, hedge: { after: "500 millis" } })
      const outcome = yield* run(provide(hedged.runWithInfo({})))
      assert.deepInclude(value(outcome), { source: "hedge", node: "127.0.0.1:5433" })
      assert.strictEqual(outcome.millis, 10)
      assert.strictEqual(executions.length, 1)
    })
  )

  it.effect("a hedge's answer says so, counts both executions, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { executions, provide, role } = yield* makeRole(
        ({ node }) => (node === "127.0.0.1:5432" ? Effect.never : rowsAfter(10)),
        { nodes: 2 }
      )
      const report = Report.make("hedged", { ...declared, deadline: "5 seconds", hedge: { after: "100 millis" } })
      const outcome = yield* run(provide(report.runWithInfo({})))
      assert.deepInclude(value(outcome), { source: "hedge", node: "127.0.0.1:5433", attempts: 2 })
      assert.strictEqual(outcome.millis, 110)
      assert.strictEqual(executions.length, 2)
      for (const { pool } of role.nodes) assert.deepInclude(yield* pool.stats, { leased: 0, draining: 0, waiting: 0 })
    })
  )

  it.effect("breaker > bulkhead: an open circuit refuses at once, without waiting for a permit", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(({ number }) =>
        number === 1 ? rowsAfter(5000) : Effect.fail(refused("57P01", "FATAL"))
      )
      const breaker = breakerAfter(3)
      const narrow = Report.make("narrow", {
        ...declared,
        deadline: "10 seconds",
        breaker,
        bulkhead: { permits: 1, queue: 10 }
      })
      const holder = yield* begin(provide(narrow.run({})))
      const opens = Report.make("opens", { ...declared, deadline: "10 seconds", breaker })
      for (let call = 0; call < 3; call++) failure(yield* run(provide(opens.run({})), 1), "DatabaseUnavailable")
      const outcome = yield* run(provide(narrow.run({})))
      failure(outcome, "CircuitOpen")
      assert.strictEqual(outcome.millis, 0)
      assert.deepStrictEqual(value(yield* Fiber.join(holder)), [{ n: 1 }])
    })
  )

  it.effect("breaker > bulkhead: a call refused by its own bulkhead says nothing to the breaker", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => rowsAfter(100))
      const report = Report.make("narrow", {
        ...declared,
        deadline: "1 second",
        breaker: breakerAfter(3),
        bulkhead: { permits: 1, queue: 0 }
      })
      const holder = yield* begin(provide(report.run({})))
      for (let call = 0; call < 20; call++) {
        assert.deepInclude(failure(yield* run(provide(report.run({})), 0), "Overloaded"), { policy: "bulkhead" })
      }
      yield* TestClock.adjust(100)
      value(yield* Fiber.join(holder))
      value(yield* run(provide(report.run({}))))
    })
  )

  for (const [where, queue, told] of [
    ["its bulkhead's queue", { max: 4, bulkhead: { permits: 1, queue: 100 } }, "DeadlineExceeded"],
    ["its lane's queue", { max: 1, bulkhead: { permits: 100 } }, "AcquireTimeout"]
  ] as const) {
    it.effect(`breaker > bulkhead and lane: a deadline that came in ${where} is no hang of the server`, () =>
      Effect.gen(function* () {
        const { provide } = yield* makeRole(() => rowsAfter(950), { max: queue.max })
        const report = Report.make("queued", {
          ...declared,
          deadline: "1 second",
          breaker: breakerAfter(3),
          bulkhead: queue.bulkhead
        })
        // One is served, the next has a twentieth of an attempt, the others have none.
        const calls = yield* Effect.forEach(Array.from({ length: 20 }), () => begin(provide(report.run({}))))
        yield* TestClock.adjust(3000)
        const outcomes = yield* Effect.forEach(calls, Fiber.join)
        assert.strictEqual(outcomes.filter(({ exit }) => Exit.isSuccess(exit)).length, 1)
        failure(outcomes[1]!, "DeadlineExceeded")
        for (const outcome of outcomes.slice(2)) failure(outcome, told)
        value(yield* run(provide(report.run({}))))
      })
    )
  }

  it.effect("breaker > attempt timeout, inside the deadline: hangs open the circuit, whoever cuts them", () =>
    Effect.gen(function* () {
      for (const attemptTimeout of [undefined, "500 millis"] as const) {
        const { executions, provide } = yield* makeRole(() => Effect.never)
        const report = Report.make("hangs", {
          ...declared,
          deadline: "1 second",
          attemptTimeout,
          breaker: breakerAfter(3)
        })
        for (let call = 0; call < 3; call++) failure(yield* run(provide(report.run({}))), "DeadlineExceeded")
        failure(yield* run(provide(report.run({}))), "CircuitOpen")
        assert.strictEqual(executions.length, 3)
      }
    })
  )

  it.effect("breaker > attempt timeout: an attempt that a shorter deadline cut says nothing", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(() => rowsAfter(500))
      const report = Report.make("cut", { ...declared, deadline: "1 second", breaker: breakerAfter(3) })
      for (let call = 0; call < 10; call++) {
        const impatient = Deadline.within(provide(report.run({})), { key: "page", duration: "100 millis" })
        assert.strictEqual(failure(yield* run(impatient), "DeadlineExceeded").key, "page")
      }
      value(yield* run(provide(report.run({}))))
      assert.strictEqual(executions.length, 11)
    })
  )

  it.effect("breaker: an interrupted caller says nothing", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(({ number }) => (number <= 10 ? Effect.never : rowsAfter(1)))
      const report = Report.make("left", { ...declared, deadline: "10 seconds", breaker: breakerAfter(3) })
      for (let call = 0; call < 10; call++) {
        const fiber = yield* begin(provide(report.run({})))
        yield* TestClock.adjust(9900)
        yield* Fiber.interrupt(fiber)
        yield* TestClock.adjust(100)
      }
      value(yield* run(provide(report.run({}))))
      assert.strictEqual(executions.length, 11)
    })
  )

  it.effect("bulkhead > lane: who waits for a permit does not hold, or wait for, a session", () =>
    Effect.gen(function* () {
      const { provide, stats } = yield* makeRole(() => rowsAfter(100), { max: 4 })
      const report = Report.make("narrow", { ...declared, deadline: "1 second", bulkhead: { permits: 1, queue: 10 } })
      const calls = yield* Effect.forEach([1, 2, 3], () => begin(provide(report.run({}))))
      yield* TestClock.adjust(50)
      assert.deepInclude(yield* stats, { leased: 1, waiting: 0 })
      yield* TestClock.adjust(300)
      assert.deepStrictEqual(
        (yield* Effect.forEach(calls, Fiber.join)).map(({ millis }) => millis),
        [100, 200, 300]
      )
    })
  )

  it.effect("lane > attempt timeout: waiting for a permit or a session is not the attempt's time", () =>
    Effect.gen(function* () {
      for (const [max, permits] of [
        [1, 10],
        [4, 1]
      ] as const) {
        const { provide } = yield* makeRole(() => rowsAfter(400), { max })
        const report = Report.make("queued", {
          ...declared,
          deadline: "10 seconds",
          attemptTimeout: "500 millis",
          bulkhead: { permits, queue: 10 }
        })
        const calls = yield* Effect.forEach([1, 2, 3, 4], () => begin(provide(report.run({}))))
        yield* TestClock.adjust(5000)
        const outcomes = yield* Effect.forEach(calls, Fiber.join)
        for (const outcome of outcomes) value(outcome)
        assert.deepStrictEqual(
          outcomes.map(({ millis }) => millis),
          [400, 800, 1200, 1600]
        )
      }
    })
  )

  it.effect("attempt timeout > injected fault: an injected delay or hang is cut as a real one", () =>
    Effect.gen(function* () {
      for (const fault of [{ hang: true }, { latency: "1 hour" }] as const) {
        const { executions, provide } = yield* makeRole(() => rowsAfter(1))
        const report = Report.make("injected", { ...declared, deadline: "10 seconds", attemptTimeout: "500 millis" })
        const outcome = yield* run(
          provide(report.run({})).pipe(Effect.provideService(FaultInjection.Current, [{ rate: 1, ...fault }]))
        )
        failure(outcome, "DeadlineExceeded")
        assert.strictEqual(outcome.millis, 500)
        assert.strictEqual(executions.length, 0)
      }
    })
  )

  it.effect(
    "breaker and retry > injected fault > statement: an injected error is met as a real one, and nothing is sent",
    () =>
      Effect.gen(function* () {
        const { executions, provide, stats } = yield* makeRole(() => rowsAfter(1))
        const report = Report.make("injected", {
          ...declared,
          deadline: "10 seconds",
          retry: retryEvery(10, 1),
          breaker: breakerAfter(4)
        })
        const faults = [{ keys: ["injected"], rate: 1, error: () => refused("57P01", "FATAL") }]
        const call = provide(report.run({})).pipe(Effect.provideService(FaultInjection.Current, faults))
        failure(yield* run(call), "DatabaseUnavailable")
        failure(yield* run(call), "DatabaseUnavailable")
        failure(yield* run(call), "CircuitOpen")
        assert.strictEqual(executions.length, 0)
        assert.deepInclude(yield* stats, { leased: 0, waiting: 0 })
      })
  )

  it.effect("lease > decode: the session is given back before the rows are decoded", () =>
    Effect.gen(function* () {
      const { provide, stats } = yield* makeRole(() => rowsAfter(100))
      const Slow = Schema.Int.pipe(
        Schema.decodeTo(Schema.Int, {
          decode: SchemaGetter.transformEffect((n: number) => Effect.delay(Effect.succeed(n), "2 seconds")),
          encode: SchemaGetter.passthrough()
        })
      )
      const report = Report.make("slow", {
        ...declared,
        row: { n: Slow },
        deadline: "10 seconds",
        attemptTimeout: "1 second"
      })
      const call = yield* begin(provide(report.run({})))
      yield* TestClock.adjust(50)
      assert.strictEqual((yield* stats).leased, 1)
      yield* TestClock.adjust(500)
      assert.strictEqual((yield* stats).leased, 0)
      yield* TestClock.adjust(5000)
      const outcome = yield* Fiber.join(call)
      assert.deepStrictEqual(value(outcome), [{ n: 1 }])
      assert.strictEqual(outcome.millis, 2100)
    })
  )

  it.effect("a row that does not fit is nobody's to repeat, and none of the server's failures", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(({ number }) => rowsAfter(1, [{ n: number <= 10 ? "x" : 1 }]))
      const report = Report.make("odd", {
        ...declared,
        deadline: "10 seconds",
        retry: retryEvery(10, 3),
        breaker: breakerAfter(2)
      })
      for (let call = 1; call <= 10; call++) {
        assert.deepInclude(failure(yield* run(provide(report.run({}))), "RowDecodeError"), { row: 0, field: "n" })
        assert.strictEqual(executions.length, call)
      }
      value(yield* run(provide(report.run({}))))
    })
  )

  it.effect("a caller's mistake is not repeated, and does not count", () =>
    Effect.gen(function* () {
      const codes = ["42P01", "22P02", "23505", "P0001", "28000", "0A000", "42501", "57014"]
      for (const code of codes) {
        const { executions, provide } = yield* makeRole(({ number }) =>
          number <= 5 ? Effect.fail(refused(code)) : rowsAfter(1)
        )
        const report = Report.make("mistaken", {
          ...declared,
          deadline: "10 seconds",
          retry: retryEvery(10, 3),
          breaker: breakerAfter(2)
        })
        for (let call = 1; call <= 5; call++) {
          const { exit } = yield* run(provide(report.run({})))
          assert.isTrue(Exit.isFailure(exit))
          assert.strictEqual(executions.length, call, code)
        }
        value(yield* run(provide(report.run({}))))
      }
    })
  )

  it.effect("retry draws from its budget before it sleeps: of many who fail together few come back", () =>
    Effect.gen(function* () {
      const { executions, provide } = yield* makeRole(() => Effect.fail(refused("40001")), { max: 20 })
      const report = Report.make("many", {
        ...declared,
        deadline: "1 minute",
        retry: { ...retryEvery(1000, 5), budget: { ratio: 0, minimum: 3, window: "10 seconds" } }
      })
      const calls = yield* Effect.forEach(Array.from({ length: 20 }), () => begin(provide(report.run({}))))
      yield* TestClock.adjust(5000)
      const outcomes = yield* Effect.forEach(calls, Fiber.join)
      assert.strictEqual(executions.length, 23)
      assert.strictEqual(outcomes.filter(({ millis }) => millis === 0).length, 17)
      for (const outcome of outcomes) assert.strictEqual(failure(outcome, "QueryFailed").sqlState, "40001")
    })
  )

  it.effect("reports that name the same objects share budget, breaker and bulkhead; others do not", () =>
    Effect.gen(function* () {
      const { provide } = yield* makeRole(() => Effect.fail(refused("57P01", "FATAL")))
      const breaker = breakerAfter(2)
      const one = Report.make("one", { ...declared, deadline: "1 second", breaker })
      const two = Report.make("two", { ...declared, deadline: "1 second", breaker })
      const other = Report.make("other", { ...declared, deadline: "1 second", breaker: { ...breaker } })
      failure(yield* run(provide(one.run({}))), "DatabaseUnavailable")
      failure(yield* run(provide(two.run({}))), "DatabaseUnavailable")
      failure(yield* run(provide(one.run({}))), "CircuitOpen")
      failure(yield* run(provide(two.run({}))), "CircuitOpen")
      failure(yield* run(provide(other.run({}))), "DatabaseUnavailable")
      // And another role, of another runtime, has a state of its own.
      const elsewhere = yield* makeRole(() => rowsAfter(1))
      value(yield* run(elsewhere.provide(one.run({}))))
    })
  )
})
