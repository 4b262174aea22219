import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Breaker from "../../../packages/sdk/src/policy/Breaker.ts"
import * as BreakerState from "../../../packages/sdk/src/policy/BreakerState.ts"
import * as BreakerWindow from "../../../packages/sdk/src/policy/BreakerWindow.ts"
import * as Bulkhead from "../../../packages/sdk/src/policy/Bulkhead.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import { CircuitOpen } from "../../../packages/sdk/src/ReportError.ts"
import { random, recorder, seeds } from "./support.ts"

type Kind = { readonly _tag: "ServerDown" | "CallerError" }
const down = Effect.fail<Kind>({ _tag: "ServerDown" })
const callerError = Effect.fail<Kind>({ _tag: "CallerError" })
const classify = (error: unknown): Breaker.Signal =>
  (error as { readonly _tag?: string })._tag === "CallerError" ? "ignored" : "failure"

const openFor = Schedule.spaced("5 seconds")
const tripAfter = (consecutiveFailures: number, options?: Partial<Breaker.Options>) =>
  Breaker.make({ name: "b", failureRate: false, consecutiveFailures, classify, openFor, ...options })

const stateOf = (breaker: Breaker.Breaker, key = "n") => Effect.map(breaker.status(key), (status) => status.state)
const repeat = (times: number, call: Effect.Effect<unknown, unknown>) =>
  Effect.forEach(Array.from({ length: times }), () => Effect.exit(call))
const isOpen = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" && error.value instanceof CircuitOpen
}

describe("Breaker", () => {
  it.effect("opens after failures in a row, refuses at once, says when to try again and why", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(3)
      const { listen, named } = recorder()
      yield* repeat(3, breaker.protect(down, "n")).pipe(listen)
      assert.strictEqual(named("open").length, 1)
      yield* TestClock.adjust(2000)
      let ran = false
      const exit = yield* Effect.exit(
        breaker.protect(
          Effect.sync(() => (ran = true)),
          "n"
        )
      )
      assert(Exit.isFailure(exit))
      const error = Cause.findErrorOption(exit.cause)
      assert(error._tag === "Some")
      assert.instanceOf(error.value, CircuitOpen)
      assert.deepInclude(error.value, {
        key: "n",
        retryAfterMillis: 3000,
        lastError: { tag: "ServerDown", message: "ServerDown" }
      })
      assert.isFalse(ran)
    })
  )

  it.effect("a success between failures begins the count anew", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(3)
      for (let round = 0; round < 5; round++) {
        yield* repeat(2, breaker.protect(down, "n"))
        yield* breaker.protect(Effect.void, "n")
      }
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("keys are isolated: one node down does not cut off another", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      yield* repeat(1, breaker.protect(down, "a"))
      assert.strictEqual(yield* stateOf(breaker, "a"), "open")
      assert.strictEqual(yield* breaker.protect(Effect.succeed(1), "b"), 1)
      assert.strictEqual(breaker.retryAfter("a", 0) > 0, true)
      assert.strictEqual(breaker.retryAfter("b", 0), 0)
    })
  )

  it.effect("reopens for calls without any timer (opossum#719): time alone is asked", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      yield* repeat(1, breaker.protect(down, "n"))
      yield* TestClock.adjust("100 days")
      assert.strictEqual(yield* stateOf(breaker), "open")
      assert.strictEqual(yield* breaker.protect(Effect.succeed("up"), "n"), "up")
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("half-open: as many probes as declared, the rest refused; enough successes close", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1, { probes: 2, successes: 2 })
      yield* repeat(1, breaker.protect(down, "n"))
      yield* TestClock.adjust(5000)
      const probe = breaker.protect(Effect.sleep(10), "n")
      const one = yield* Effect.forkChild(Effect.exit(probe))
      const two = yield* Effect.forkChild(Effect.exit(probe))
      const three = yield* Effect.forkChild(Effect.exit(probe))
      yield* TestClock.adjust(10)
      assert.isFalse(isOpen(yield* Fiber.join(one)))
      assert.isFalse(isOpen(yield* Fiber.join(two)))
      assert.isTrue(isOpen(yield* Fiber.join(three)))
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("a failing probe opens again, and the open time grows by the schedule until a success", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1, { openFor: Schedule.exponential("1 second") })
      const fail = repeat(1, breaker.protect(down, "n"))
      yield* fail
      const opened: Array<number | undefined> = []
      for (let round = 0; round < 4; round++) {
        const { retryAfterMillis } = yield* breaker.status("n")
        opened.push(retryAfterMillis)
        yield* TestClock.adjust(retryAfterMillis!)
        yield* fail
      }
      assert.deepStrictEqual(opened, [1000, 2000, 4000, 8000])
      yield* TestClock.adjust(16_000)
      yield* breaker.protect(Effect.void, "n")
      yield* fail
      assert.strictEqual((yield* breaker.status("n")).retryAfterMillis, 1000)
    })
  )

  it.effect("a schedule that ends keeps its last open time", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1, { openFor: Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 2 })) })
      const fail = repeat(1, breaker.protect(down, "n"))
      for (const expected of [1000, 2000, 2000, 2000]) {
        yield* fail
        assert.strictEqual((yield* breaker.status("n")).retryAfterMillis, expected)
        yield* TestClock.adjust(expected)
      }
    })
  )

  it.effect("the default open time grows, is jittered, and has a cap", () =>
    Effect.gen(function* () {
      for (const [dice, expected] of [
        [0, [2500, 5000, 10_000, 20_000, 30_000, 30_000]],
        [0.999_999_999, [5000, 10_000, 20_000, 40_000, 60_000, 60_000]]
      ] as const) {
        const breaker = Breaker.make({ name: "b", consecutiveFailures: 1 })
        for (const millis of expected) {
          yield* repeat(1, breaker.protect(down, "n")).pipe(
            Effect.provideService(Random.Random, { nextDoubleUnsafe: () => dice, nextIntUnsafe: () => 0 })
          )
          const { retryAfterMillis } = yield* breaker.status("n")
          assert.closeTo(retryAfterMillis!, millis, 1)
          yield* TestClock.adjust(retryAfterMillis! + 1)
        }
      }
    })
  )

  it.effect("a hung probe does not keep it half-open for ever (resilience4j#903, opossum#59): its lease ends", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1, { probeLease: "10 seconds" })
      yield* repeat(1, breaker.protect(down, "n"))
      yield* TestClock.adjust(5000)
      const hung = yield* Effect.forkChild(
        Effect.exit(breaker.protect(Effect.andThen(Effect.sleep(60_000), down), "n"))
      )
      yield* TestClock.adjust(9_999)
      assert.isTrue(isOpen(yield* Effect.exit(breaker.protect(Effect.void, "n"))))
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* breaker.protect(Effect.succeed("up"), "n"), "up")
      assert.strictEqual(yield* stateOf(breaker), "closed")
      // And what the hung one says in the end is not heard any more.
      yield* TestClock.adjust(60_000)
      yield* Fiber.join(hung)
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("an interrupted probe, or one whose caller was wrong, frees its place (rezilience#521, Polly#311)", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      yield* repeat(1, breaker.protect(down, "n"))
      yield* TestClock.adjust(5000)
      const probe = yield* Effect.forkChild(breaker.protect(Effect.never, "n"))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(probe)
      assert.strictEqual(yield* stateOf(breaker), "half-open")
      yield* repeat(1, breaker.protect(callerError, "n"))
      assert.strictEqual(yield* stateOf(breaker), "half-open")
      yield* breaker.protect(Effect.void, "n")
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("interruptions and errors of the caller never count", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      for (let round = 0; round < 50; round++) {
        const fiber = yield* Effect.forkChild(breaker.protect(Effect.never, "n"))
        yield* TestClock.adjust(1)
        yield* Fiber.interrupt(fiber)
        yield* repeat(1, breaker.protect(callerError, "n"))
      }
      assert.deepInclude(yield* breaker.status("n"), { state: "closed", calls: 0 })
    })
  )

  it.effect("hangs cut by an outer deadline alone never trip it; with an attempt's timeout inside they do", () =>
    Effect.gen(function* () {
      const hang = (attemptMillis: number | undefined) =>
        Effect.gen(function* () {
          const breaker = tripAfter(2)
          const work =
            attemptMillis === undefined
              ? Effect.never
              : Deadline.attempt(Effect.never, { key: "a", duration: attemptMillis })
          for (let round = 0; round < 5; round++) {
            const call = breaker.protect(work, "n").pipe(Deadline.within({ key: "d", duration: 100 }))
            const fiber = yield* Effect.forkChild(Effect.exit(call))
            yield* TestClock.adjust(100)
            yield* Fiber.join(fiber)
          }
          return yield* stateOf(breaker)
        })
      assert.strictEqual(yield* hang(undefined), "closed")
      assert.strictEqual(yield* hang(50), "open")
      // An attempt that is cut short by the deadline has not had its time.
      assert.strictEqual(yield* hang(500), "closed")
    })
  )

  it.effect("a call that had its time before the deadline cut it counts, if that is declared", () =>
    Effect.gen(function* () {
      for (const [hangAfter, expected] of [
        [90, "open"],
        [101, "closed"]
      ] as const) {
        const breaker = tripAfter(1, { hangAfter })
        const call = breaker.protect(Effect.never, "n").pipe(Deadline.within({ key: "d", duration: 100 }))
        const fiber = yield* Effect.forkChild(Effect.exit(call))
        yield* TestClock.adjust(100)
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* stateOf(breaker), expected)
        const user = yield* Effect.forkChild(breaker.protect(Effect.never, "other"))
        yield* TestClock.adjust(1000)
        yield* Fiber.interrupt(user)
        assert.strictEqual(yield* stateOf(breaker, "other"), "closed", "a user who leaves is not a hang")
      }
    })
  )

  it.effect("a bulkhead that is full says nothing about the node", () =>
    Effect.gen(function* () {
      const breaker = Breaker.make({
        name: "b",
        consecutiveFailures: 1,
        classify: (error: { readonly _tag: string }) => (error._tag === "Overloaded" ? "ignored" : "failure")
      })
      const bulkhead = Bulkhead.make({ key: "k", permits: 1 })
      yield* repeat(10, bulkhead.withPermit(breaker.protect(bulkhead.withPermit(Effect.void), "n")))
      assert.strictEqual(yield* stateOf(breaker as Breaker.Breaker), "closed")
    })
  )

  it.effect("sparse traffic trips by rate, but not below the minimum of calls (Polly#1854, opossum#660)", () =>
    Effect.gen(function* () {
      const options = { name: "b", consecutiveFailures: false, failureRate: 0.5, minimumCalls: 10 } as const
      const breaker = Breaker.make(options)
      yield* repeat(9, breaker.protect(down, "n"))
      assert.strictEqual(yield* stateOf(breaker), "closed")
      yield* repeat(1, breaker.protect(down, "n"))
      assert.strictEqual(yield* stateOf(breaker), "open")
      const half = Breaker.make(options)
      for (let round = 0; round < 20; round++) yield* repeat(1, half.protect(round % 3 === 0 ? down : Effect.void, "n"))
      assert.strictEqual(yield* stateOf(half), "closed")
    })
  )

  it.effect("a minimum of calls above the window cannot make it deaf", () =>
    Effect.gen(function* () {
      const breaker = Breaker.make({ name: "b", consecutiveFailures: false, minimumCalls: 100, window: 5 })
      yield* repeat(5, breaker.protect(down, "n"))
      assert.strictEqual(yield* stateOf(breaker), "open")
    })
  )

  it.effect("a window of time forgets", () =>
    Effect.gen(function* () {
      const breaker = Breaker.make({
        name: "b",
        consecutiveFailures: false,
        minimumCalls: 4,
        window: { time: "10 seconds" }
      })
      for (let round = 0; round < 20; round++) {
        yield* repeat(1, breaker.protect(down, "n"))
        yield* TestClock.adjust(4000)
      }
      assert.strictEqual(yield* stateOf(breaker), "closed")
      yield* repeat(4, breaker.protect(down, "n"))
      assert.strictEqual(yield* stateOf(breaker), "open")
    })
  )

  it.effect("slow calls trip though they succeed", () =>
    Effect.gen(function* () {
      const breaker = Breaker.make({
        name: "b",
        minimumCalls: 5,
        slowCalls: { longerThan: "6 seconds", rate: 0.8 }
      })
      const call = (millis: number) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(breaker.protect(Effect.sleep(millis), "n"))
          yield* TestClock.adjust(millis)
          yield* Fiber.await(fiber)
        })
      for (let round = 0; round < 5; round++) yield* call(6000)
      assert.strictEqual(yield* stateOf(breaker), "closed")
      for (let round = 0; round < 20; round++) yield* call(6001)
      assert.strictEqual(yield* stateOf(breaker), "open")
    })
  )

  it.effect("an operator forces it open, disables it, closes it; changes come as a stream", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      const changes = yield* Effect.forkChild(Stream.runCollect(Stream.take(breaker.changes, 5)))
      yield* TestClock.adjust(1)
      yield* breaker.forceOpen("n")
      assert.isTrue(isOpen(yield* Effect.exit(breaker.protect(Effect.void, "n"))))
      yield* TestClock.adjust("1 day")
      assert.isTrue(isOpen(yield* Effect.exit(breaker.protect(Effect.void, "n"))))
      yield* breaker.disable("n")
      yield* repeat(10, breaker.protect(down, "n"))
      assert.isFalse(isOpen(yield* Effect.exit(breaker.protect(Effect.void, "n"))))
      yield* breaker.close("n")
      yield* repeat(1, breaker.protect(down, "n"))
      assert.isTrue(isOpen(yield* Effect.exit(breaker.protect(Effect.void, "n"))))
      yield* breaker.close("n")
      yield* breaker.protect(Effect.void, "n")
      const seen = yield* Fiber.join(changes)
      assert.deepStrictEqual(
        seen.map(({ from, mode, to }) => `${from} ${to} ${mode}`),
        [
          "closed closed forced-open",
          "closed closed disabled",
          "closed closed auto",
          "closed open auto",
          "open closed auto"
        ]
      )
    })
  )

  it.effect("a late result of an older state changes nothing", () =>
    Effect.gen(function* () {
      const breaker = tripAfter(1)
      const late = yield* Effect.forkChild(
        Effect.exit(breaker.protect(Effect.andThen(Effect.sleep(20_000), down), "n"))
      )
      yield* TestClock.adjust(1)
      yield* repeat(1, breaker.protect(down, "n"))
      yield* TestClock.adjust(5000)
      yield* breaker.protect(Effect.void, "n")
      assert.strictEqual(yield* stateOf(breaker), "closed")
      yield* TestClock.adjust(20_000)
      yield* Fiber.join(late)
      assert.strictEqual(yield* stateOf(breaker), "closed")
    })
  )

  it.effect("property: no probe is leaked under random interrupts: it always closes once the node is well", () =>
    Effect.gen(function* () {
      for (const seed of seeds(60)) {
        const { int, next, pick } = random(seed)
        const breaker = tripAfter(1 + int(3), { probes: 1 + int(3), successes: 1 + int(4), probeLease: "1 minute" })
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let step = 0; step < 80; step++) {
          const work = pick([down, callerError, Effect.void, Effect.die("bug"), Effect.never] as const)
          const call = breaker.protect(Effect.andThen(Effect.sleep(int(20)), work as Effect.Effect<void, Kind>), "n")
          fibers.push(yield* Effect.forkChild(Effect.exit(call)))
          yield* TestClock.adjust(pick([0, 1, 10, 2000]))
          if (next() < 0.4) pick(fibers).interruptUnsafe()
        }
        for (const fiber of fibers) yield* Fiber.interrupt(fiber)
        for (let round = 0; round < 10; round++) {
          yield* TestClock.adjust(5000)
          yield* Effect.exit(breaker.protect(Effect.void, "n"))
        }
        assert.strictEqual(yield* stateOf(breaker), "closed", `seed ${seed}`)
      }
    })
  )
})

/**
 * The rules once more, as naively as can be: everything that ever happened is kept, and counted when a question comes.
 */
class Model {
  state: BreakerState.State = "closed"
  since = 0
  openUntil = 0
  epoch = 0
  history: Array<{ readonly at: number; readonly failed: boolean; readonly slow: boolean }> = []
  probes: Array<{ readonly id: number; readonly until: number }> = []
  successes = 0
  next = 1
  readonly rules: BreakerState.Rules
  readonly recent: (history: Model["history"], now: number) => Model["history"]
  constructor(rules: BreakerState.Rules, recent: Model["recent"]) {
    this.rules = rules
    this.recent = recent
  }
  enter(state: BreakerState.State): void {
    this.state = state
    this.epoch++
    this.history = []
    this.probes = []
    this.successes = 0
  }
  admit(now: number): { readonly epoch: number; readonly probe: number | undefined } | undefined {
    if (this.state === "open" && now >= this.openUntil) this.enter("half-open")
    if (this.state === "closed") return { epoch: this.epoch, probe: undefined }
    if (this.state === "open") return undefined
    this.probes = this.probes.filter((probe) => probe.until > now)
    const places = Math.min(this.rules.probes, this.rules.successes - this.successes)
    if (this.probes.length >= places) return undefined
    const probe = { id: this.next++, until: now + this.rules.leaseMillis }
    this.probes.push(probe)
    return { epoch: this.epoch, probe: probe.id }
  }
  record(
    ticket: { readonly epoch: number; readonly probe: number | undefined },
    signal: BreakerState.Signal,
    slow: boolean,
    now: number,
    openMillis: number
  ): void {
    const open = (): void => {
      this.enter("open")
      this.openUntil = now + openMillis
    }
    if (ticket.epoch !== this.epoch) return
    if (ticket.probe !== undefined) {
      if (!this.probes.some((probe) => probe.id === ticket.probe)) return
      this.probes = this.probes.filter((probe) => probe.id !== ticket.probe)
      if (signal === "ignored") return
      if (signal === "failure" || (slow && this.rules.slowRate !== undefined)) return open()
      this.successes++
      if (this.successes === this.rules.successes) this.enter("closed")
      return
    }
    if (signal === "ignored") return
    this.history.push({ at: now, failed: signal === "failure", slow })
    if (signal === "success" && !slow) return
    const row = this.rules.consecutiveFailures
    if (row !== undefined && this.history.length >= row && this.history.slice(-row).every((one) => one.failed))
      return open()
    const recent = this.recent(this.history, now)
    if (recent.length < this.rules.minimumCalls) return
    const share = (of: "failed" | "slow") => recent.filter((one) => one[of]).length / recent.length
    if (this.rules.failureRate !== undefined && share("failed") >= this.rules.failureRate) return open()
    if (this.rules.slowRate !== undefined && share("slow") >= this.rules.slowRate) return open()
  }
}

describe("BreakerState", () => {
  it("property: equals the reference state machine over random histories", () => {
    let trips = 0
    let closings = 0
    for (const seed of seeds(400)) {
      const { int, next, pick } = random(seed)
      const rules: BreakerState.Rules = {
        failureRate: pick([undefined, 0.25, 0.5, 1]),
        slowRate: pick([undefined, 0.5, 1]),
        minimumCalls: 1 + int(8),
        consecutiveFailures: pick([undefined, 1, 3]),
        probes: 1 + int(3),
        successes: 1 + int(4),
        leaseMillis: 50 + int(200)
      }
      const size = 4 + int(10)
      const millis = 100
      const timed = next() < 0.5
      const width = millis / BreakerWindow.pieces
      const model = new Model(rules, (history, now) =>
        timed
          ? history.filter((one) => Math.floor(one.at / width) > Math.floor(now / width) - BreakerWindow.pieces)
          : history.slice(-size)
      )
      const circuit = new BreakerState.Circuit(
        rules,
        timed ? BreakerWindow.ofTime(millis) : BreakerWindow.ofCalls(size)
      )
      const pending: Array<{ readonly real: number; readonly model: NonNullable<ReturnType<Model["admit"]>> }> = []
      const health = next()
      let now = pick([0, 7, int(1000)])
      for (let step = 0; step < 300; step++) {
        now += pick([0, 1, 5, 30, 120])
        if (next() < 0.5 || pending.length === 0) {
          const real = circuit.admit(now)
          const expected = model.admit(now)
          if (Number.isNaN(real) !== (expected === undefined)) assert.fail(`seed ${seed}, step ${step}: admission`)
          if (expected !== undefined) pending.push({ real, model: expected })
        } else {
          const [ticket] = pending.splice(int(pending.length), 1)
          const signal = next() < 0.15 ? "ignored" : next() < health ? "success" : "failure"
          const slow = next() < 0.3
          const open = 20 + int(100)
          const before = circuit.state
          if (circuit.record(ticket!.real, signal, slow, now)) {
            circuit.openUntil = now + open
            trips++
          }
          if (before === "half-open" && circuit.state === "closed") closings++
          model.record(ticket!.model, signal, slow, now, open)
        }
        if (circuit.state !== model.state) {
          assert.fail(`seed ${seed}, step ${step}: ${circuit.state} instead of ${model.state}`)
        }
      }
    }
    assert.isAbove(trips, 100)
    assert.isAbove(closings, 100)
  })

  it.effect("describes itself", () =>
    Effect.gen(function* () {
      yield* Clock.currentTimeMillis
      assert.deepStrictEqual(Breaker.make({ name: "b" }).describe, {
        policy: "breaker",
        name: "b",
        failureRate: 0.5,
        slowRate: undefined,
        slowMillis: undefined,
        minimumCalls: 10,
        window: { calls: 50 },
        consecutiveFailures: 5,
        probes: 1,
        successes: 1,
        probeLeaseMillis: 30_000,
        hangAfterMillis: undefined
      })
    })
  )
})
