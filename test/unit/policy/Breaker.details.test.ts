/** Details of the breaker that its larger tests pass by: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as BreakerState from "../../../packages/sdk/src/policy/BreakerState.ts"
import * as BreakerWindow from "../../../packages/sdk/src/policy/BreakerWindow.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { recorder } from "./support.ts"

const down = Effect.fail({ _tag: "ServerDown" } as const)
const mistake = Effect.fail({ _tag: "CallerError" } as const)
const classify = (error: { readonly _tag: string }): Breaker.Signal =>
  error._tag === "CallerError" ? "ignored" : "failure"
const make = (options?: Partial<Breaker.Options<any>>) =>
  Breaker.make<any>({
    name: "b",
    failureRate: false,
    consecutiveFailures: 2,
    classify,
    openFor: Schedule.spaced("5 seconds"),
    ...options
  })
const times = (count: number, call: Effect.Effect<unknown, unknown>) =>
  Effect.forEach(Array.from({ length: count }), () => Effect.exit(call))

describe("a breaker in detail", () => {
  it("describes its window, and needs no more calls than fit into it", () => {
    assert.deepInclude(make({ window: 5, minimumCalls: 100 }).describe, { window: { calls: 5 }, minimumCalls: 5 })
    const timed = make({ window: { time: "10 seconds" }, minimumCalls: 100 }).describe
    assert.deepInclude(timed, { window: { millis: 10_000 }, minimumCalls: 100 })
  })

  it.effect("a server that fails is a server that fails, also when the call's deadline has passed by then", () =>
    Effect.gen(function* () {
      const breaker = make({ consecutiveFailures: 1 })
      const late = Effect.uninterruptible(Effect.andThen(Effect.sleep("2 seconds"), down))
      const call = Deadline.within(breaker.protect(late, "n"), { key: "k", duration: "1 second" })
      const fiber = yield* Effect.forkChild(Effect.exit(call), { startImmediately: true })
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(fiber)
      assert.deepInclude(yield* breaker.status("n"), { state: "open" })
    })
  )

  it.effect("counts the calls of its window, and none as slow where nothing is", () =>
    Effect.gen(function* () {
      const breaker = make({ window: 5 })
      yield* times(12, breaker.protect(Effect.void, "n"))
      assert.deepInclude(yield* breaker.status("n"), { calls: 5, failures: 0, slow: 0, retryAfterMillis: undefined })
      const timed = make({ window: { time: "10 seconds" } })
      yield* TestClock.adjust("100 seconds")
      yield* timed.protect(Effect.void, "n")
      yield* TestClock.adjust("5 seconds")
      yield* times(1, timed.protect(down, "n"))
      assert.deepInclude(yield* timed.status("n"), { calls: 2, failures: 1 })
      yield* TestClock.adjust("6 seconds")
      yield* timed.protect(Effect.void, "n")
      assert.deepInclude(yield* timed.status("n"), { calls: 2, failures: 1 })
    })
  )

  it.effect("tells each change once, with its name and where it came from", () =>
    Effect.gen(function* () {
      const breaker = make()
      const { events, listen } = recorder()
      yield* times(2, breaker.protect(down, "n")).pipe(listen)
      yield* times(1, breaker.protect(down, "n")).pipe(listen)
      yield* TestClock.adjust("5 seconds")
      yield* times(1, breaker.protect(Effect.void, "n")).pipe(listen)
      yield* breaker.close("n").pipe(listen)
      yield* breaker.forceOpen("n").pipe(listen)
      yield* breaker.forceOpen("n").pipe(listen)
      yield* breaker.disable("n").pipe(listen)
      assert.deepStrictEqual(
        events.map(({ attributes, event }) => [
          event,
          attributes["name"],
          attributes["from"] ?? attributes["retryAfterMillis"]
        ]),
        [
          ["open", "b", "closed"],
          ["refused", "b", 5000],
          ["half-open", "b", "open"],
          ["closed", "b", "half-open"],
          ["forced-open", "b", "closed"],
          ["disabled", "b", "closed"]
        ]
      )
    })
  )

  it.effect("defects are failures unless declared otherwise, and have no last error", () =>
    Effect.gen(function* () {
      const counted = make()
      yield* times(1, counted.protect(Effect.die("bug"), "n"))
      assert.deepInclude(yield* counted.status("n"), { failures: 1, lastError: undefined })
      const spared = make({ defects: "ignored" })
      yield* times(1, spared.protect(Effect.die("bug"), "n"))
      assert.deepInclude(yield* spared.status("n"), { failures: 0, calls: 0 })
    })
  )

  it.effect("remembers the last error that counted: not what was ignored, not its own refusals", () =>
    Effect.gen(function* () {
      const breaker = make()
      yield* times(1, breaker.protect(mistake, "n"))
      assert.isUndefined((yield* breaker.status("n")).lastError)
      yield* times(2, breaker.protect(down, "n"))
      yield* times(3, breaker.protect(Effect.void, "n"))
      assert.strictEqual((yield* breaker.status("n")).lastError?.tag, "ServerDown")
    })
  )

  it.effect("a hang begins exactly where it is declared", () =>
    Effect.gen(function* () {
      const breaker = make({ hangAfter: "1 second" })
      const deadline = Deadline.make({ key: "d", duration: "1 second", phase: "admission" })
      const fiber = yield* Effect.forkChild(Effect.exit(deadline.within(breaker.protect(Effect.never, "n"))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.strictEqual((yield* breaker.status("n")).failures, 1)
    })
  )

  it.effect("late results of a closed state do not prolong the open time", () =>
    Effect.gen(function* () {
      const breaker = make()
      const late = yield* Effect.forkChild(
        Effect.exit(breaker.protect(Effect.andThen(Effect.sleep("3 seconds"), down), "n"))
      )
      yield* TestClock.adjust(0)
      yield* times(2, breaker.protect(down, "n"))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(late)
      assert.strictEqual((yield* breaker.status("n")).retryAfterMillis, 2000)
    })
  )

  it.effect("while a schedule thinks, the last open time holds, and what it says too late says nothing", () =>
    Effect.gen(function* () {
      const thinking = Schedule.modifyDelay(Schedule.forever, () => Effect.as(Effect.sleep("7 seconds"), "8 seconds"))
      const breaker = make({ openFor: thinking, consecutiveFailures: 1 })
      const fail = Effect.forkChild(Effect.exit(breaker.protect(down, "n")), { startImmediately: true })
      yield* fail
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* breaker.status("n")).retryAfterMillis, 4000)
      yield* TestClock.adjust("4 seconds")
      yield* fail
      yield* TestClock.adjust("4 seconds")
      assert.deepInclude(yield* breaker.status("n"), { state: "open", retryAfterMillis: 1000 })
      yield* TestClock.adjust("3 seconds")
      assert.deepInclude(yield* breaker.status("n"), { state: "open", retryAfterMillis: 1000 })
    })
  )

  it.effect("a probe is as slow as its own work, whether it says when that begins or not", () =>
    Effect.gen(function* () {
      const slow = { slowCalls: { longerThan: "1 second", rate: 1 } } as const
      const probe = (work: Parameters<Breaker.Breaker["protect"]>[0]) =>
        Effect.gen(function* () {
          const breaker = make(slow)
          yield* times(2, breaker.protect(down, "n"))
          yield* TestClock.adjust("5 seconds")
          const fiber = yield* Effect.forkChild(Effect.exit(breaker.protect(work as Effect.Effect<void>, "n")))
          yield* TestClock.adjust("3 seconds")
          yield* Fiber.join(fiber)
          return (yield* breaker.status("n")).state
        })
      assert.strictEqual(yield* probe(Effect.sleep("2 seconds")), "open")
      assert.strictEqual(yield* probe(Effect.sleep("500 millis")), "closed")
      // Two seconds in a queue are not the server's.
      const queued = (begun: () => void) =>
        Effect.andThen(Effect.andThen(Effect.sleep("2 seconds"), Effect.sync(begun)), Effect.sleep("500 millis"))
      assert.strictEqual(yield* probe(queued), "closed")
      assert.strictEqual(yield* probe(() => Effect.sleep("2 seconds")), "closed")
      const hanging = (begun: () => void) => Effect.andThen(Effect.sync(begun), Effect.sleep("2 seconds"))
      assert.strictEqual(yield* probe(hanging), "open")
    })
  )

  it.effect("says when to come back: at once, after the open time, or after a fair while", () =>
    Effect.gen(function* () {
      const breaker = make()
      assert.strictEqual(breaker.retryAfter("nobody", 0), 0)
      yield* times(2, breaker.protect(down, "n"))
      assert.strictEqual(breaker.retryAfter("n", 1000), 4000)
      yield* breaker.disable("n")
      assert.strictEqual(breaker.retryAfter("n", 1000), 0)
      assert.isUndefined((yield* breaker.status("n")).retryAfterMillis)
      yield* breaker.forceOpen("n")
      assert.strictEqual(breaker.retryAfter("n", 1000), Infinity)
      assert.strictEqual((yield* breaker.status("n")).retryAfterMillis, Infinity)
      const error = yield* Effect.flip(breaker.protect(Effect.void, "n"))
      assert.strictEqual(error.retryAfterMillis, 60_000)
      yield* breaker.close("n")
      assert.strictEqual(breaker.retryAfter("n", 1000), 0)
      assert.isUndefined((yield* breaker.status("n")).retryAfterMillis)
      yield* breaker.forceOpen("m")
      assert.strictEqual((yield* breaker.status("m")).state, "closed")
      assert.strictEqual(breaker.retryAfter("m", 0), Infinity)
    })
  )

  it.effect("forgets a key that is reset", () =>
    Effect.gen(function* () {
      const breaker = make()
      yield* times(2, breaker.protect(down, "n"))
      yield* breaker.reset("n")
      assert.deepStrictEqual(breaker.keys(), [])
      assert.deepInclude(yield* breaker.status("n"), { state: "closed", failures: 0, lastError: undefined })
    })
  )

  it.live("who reads its changes too slowly loses the oldest", () =>
    Effect.gen(function* () {
      const breaker = make()
      const seen: Array<string> = []
      const gate = yield* Latch.make()
      const reader = yield* Effect.forkChild(
        Stream.runForEach(breaker.changes, (change) => {
          seen.push(change.key)
          return gate.await
        }),
        { startImmediately: true }
      )
      // Changes are told from the moment on at which the reader stands there.
      const change = Effect.andThen(breaker.forceOpen("first"), breaker.close("first"))
      yield* expectEventually(Effect.as(change, seen), (keys) => keys.length > 0)
      for (let index = 0; index < 400; index++) yield* breaker.forceOpen(`n${index}`)
      yield* gate.open
      yield* expectEventually(Effect.succeed(seen), (keys) => keys.at(-1) === "n399")
      assert.notInclude(seen, "n0")
      assert.isBelow(seen.length, 300)
      yield* Fiber.interrupt(reader)
    })
  )
})

describe("the state machine of a breaker in detail", () => {
  const rules = {
    failureRate: undefined,
    slowRate: undefined,
    minimumCalls: 1,
    consecutiveFailures: 1,
    probes: 2,
    successes: 2,
    leaseMillis: 100
  }
  const halfOpen = () => {
    const circuit = new BreakerState.Circuit(rules, BreakerWindow.ofCalls(10))
    assert.isTrue(circuit.record(circuit.admit(0), "failure", false, 0))
    circuit.openUntil = 10
    return circuit
  }

  it("trips when it trips, and at no other end of a call", () => {
    const circuit = halfOpen()
    const [first, second] = [circuit.admit(10), circuit.admit(20)]
    assert.isFalse(circuit.record(first, "success", false, 21))
    assert.isFalse(circuit.record(second, "success", false, 22))
    assert.strictEqual(circuit.state, "closed")
    const ticket = circuit.admit(23)
    assert.isFalse(circuit.record(ticket, "success", false, 24))
    circuit.mode = "disabled"
    assert.isFalse(circuit.record(ticket, "failure", false, 25))
  })

  it("half-open, it waits for the first lease to end", () => {
    const circuit = halfOpen()
    assert.strictEqual(circuit.retryAfter(4), 6)
    assert.strictEqual(circuit.retryAfter(40), 0)
    circuit.admit(10)
    circuit.admit(30)
    assert.isNaN(circuit.admit(40))
    assert.strictEqual(circuit.retryAfter(40), 70)
    assert.strictEqual(circuit.retryAfter(500), 0)
    circuit.leases.clear()
    assert.strictEqual(circuit.retryAfter(40), 0)
  })

  it("a window of time forgets all when it is told to", () => {
    const window = BreakerWindow.ofTime(1000)
    for (const at of [0, 150, 310]) window.record(true, true, at)
    window.reset()
    assert.deepStrictEqual(window.counts, { calls: 0, failures: 0, slow: 0 })
    window.record(false, false, 320)
    assert.deepStrictEqual(window.counts, { calls: 1, failures: 0, slow: 0 })
    window.record(false, false, 5000)
    assert.deepStrictEqual(window.counts, { calls: 1, failures: 0, slow: 0 })
  })
})
