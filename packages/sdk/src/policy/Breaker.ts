/**
 * Stops calling what does not work, and finds out cheaply when it works again.
 *
 * One breaker serves many keys (a key is a node); each key has its own circuit. What a result means is told by `classify`:
 * a failure of the other side, something that says nothing about it (`ignored`: an error of the caller, a full bulkhead),
 * or a success. Interruptions are never failures, except where a deadline cut a call that had already had its time
 * (`hangAfter`): without that, hangs would never trip anything.
 *
 * Effect's `CircuitBreaker` is not used: it has no time window, no slow calls, one probe, no manual control, and costs four
 * microseconds a call.
 *
 * @example
 * ```ts
 * const breaker = Breaker.make({ name: "fleet", failureRate: 0.5, minimumCalls: 10, consecutiveFailures: 5 })
 * const answer = breaker.protect(attempt, "10.0.0.1:5432")
 * //    ^ fails with CircuitOpen (key, retryAfterMillis, last error) while the circuit is open
 * ```
 */
import type * as Cause from "effect/Cause"
import * as CauseModule from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { tagOf } from "../internal/tagOf.ts"
import { readOf, tableOf } from "../options/Field.ts"
import { breaker as table } from "../options/policies.ts"
import { CircuitOpen, type LastError } from "../ReportError.ts"
import { Circuit, type Mode, type Signal, type State, type Ticket } from "./BreakerState.ts"
import * as BreakerWindow from "./BreakerWindow.ts"
import * as Deadline from "./Deadline.ts"
import * as Jitter from "./Jitter.ts"
import { lastErrorField, lastErrorOf } from "./LastError.ts"
import { emit } from "./PolicyEvents.ts"
import { clockOf, millisOf, now, nowOf } from "./Time.ts"

export type { Mode, Signal, State } from "./BreakerState.ts"

export interface Options<E = unknown> {
  /** Names the breaker in events. */
  readonly name: string
  /** Share of failures that trips. Default 0.5 (resilience4j). `false`: never. */
  readonly failureRate?: number | false | undefined
  /** Calls below which rates mean nothing. Default 10: reports are sparse, and 100 would never be reached. */
  readonly minimumCalls?: number | undefined
  /** The window of the rates: a number of calls (default 50), or a time. */
  readonly window?: number | { readonly time: Duration.Input } | undefined
  /** Failures in a row that trip, whatever the rates. Default 5 (finagle). `false`: never. */
  readonly consecutiveFailures?: number | false | undefined
  /** Trips when this share of the calls took longer. Default: off. */
  readonly slowCalls?: { readonly longerThan: Duration.Input; readonly rate: number } | undefined
  /** Probes at a time while half-open. Default 1. */
  readonly probes?: number | undefined
  /** Successful probes that close. Default: as many as `probes`. */
  readonly successes?: number | undefined
  /** How long a probe keeps its place if it does not come back. Default 30 seconds. */
  readonly probeLease?: Duration.Input | undefined
  /**
   * How long to stay open: the schedule starts anew when the circuit closes, and its last delay is kept when it ends.
   * Default: 5 seconds, doubled each time, 60 seconds at the most, with equal jitter (finagle: 5 to 300 seconds).
   */
  readonly openFor?: Schedule.Schedule<unknown, unknown> | undefined
  /** A call that a deadline cut after at least this long counts as a failure. Default: never. */
  readonly hangAfter?: Duration.Input | undefined
  /** What an error says about the other side. Default: every error is a failure. */
  readonly classify?: ((error: E) => Verdict) | undefined
  /** What a defect says. Default `failure`. */
  readonly defects?: Signal | undefined
}

/** `timeout`: a failure if the call had its full time (`hangAfter`), else it says nothing. */
export type Verdict = Signal | "timeout"

export interface Description {
  readonly policy: "breaker"
  readonly name: string
  readonly failureRate: number | undefined
  readonly slowRate: number | undefined
  readonly slowMillis: number | undefined
  readonly minimumCalls: number
  readonly window: { readonly calls: number } | { readonly millis: number }
  readonly consecutiveFailures: number | undefined
  readonly probes: number
  readonly successes: number
  readonly probeLeaseMillis: number
  readonly hangAfterMillis: number | undefined
}

/** What is known of one key. */
export interface Status {
  readonly key: string
  readonly state: State
  readonly mode: Mode
  /** Milliseconds until a call may be let through; undefined while closed. */
  readonly retryAfterMillis: number | undefined
  readonly calls: number
  readonly failures: number
  readonly slow: number
  readonly lastError: LastError | undefined
}

/** A change of state or of mode. */
export interface Change {
  readonly key: string
  readonly from: State
  readonly to: State
  readonly mode: Mode
}

export interface Breaker<in E = unknown> {
  readonly describe: Description
  /**
   * Runs `work` if the circuit of `key` lets it through. Fails with `CircuitOpen` if it does not.
   *
   * A function is told how to say that the other side is being asked from now on: time in a queue before that is neither
   * slow nor a hang.
   */
  readonly protect: <A, E1 extends E, R>(
    work: Effect.Effect<A, E1, R> | ((begun: () => void) => Effect.Effect<A, E1, R>),
    key: string
  ) => Effect.Effect<A, E1 | CircuitOpen, R>
  /** Milliseconds until a call of `key` may be let through: 0 means now. For whoever chooses between keys. */
  readonly retryAfter: (key: string, now: number) => number
  readonly status: (key: string) => Effect.Effect<Status>
  readonly keys: () => ReadonlyArray<string>
  /** Refuses all calls until `close` or `reset`. */
  readonly forceOpen: (key: string) => Effect.Effect<void>
  /** Closes now, and forgets what was counted. */
  readonly close: (key: string) => Effect.Effect<void>
  /** Lets everything through and counts nothing, until `close` or `reset`. */
  readonly disable: (key: string) => Effect.Effect<void>
  /** Forgets the key: a node that has gone. */
  readonly reset: (key: string) => Effect.Effect<void>
  /** The changes from now on. */
  readonly changes: Stream.Stream<Change>
}

interface Entry {
  readonly key: string
  readonly circuit: Circuit
  lastError: LastError | undefined
  /** The schedule's next open time. Made anew after each closing. */
  step: ((now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], never, unknown>) | undefined
  lastOpenMillis: number
}

const fields = tableOf<Options>()(table)

const firstOpen = 5_000
const longestOpen = 60_000

export const make = <E = unknown>(options: Options<E>): Breaker<E> => {
  const filled = readOf("Breaker.make", fields, options)
  const { hangAfter: hangMillis, name, probes } = filled as typeof filled & { readonly name: string }
  const { classify } = options
  const timed = typeof options.window === "object" ? millisOf(options.window.time) : undefined
  const size = typeof options.window === "number" ? options.window : 50
  const slowMillis = options.slowCalls === undefined ? undefined : millisOf(options.slowCalls.longerThan)
  const rules = {
    failureRate: filled.failureRate === false ? undefined : filled.failureRate,
    slowRate: options.slowCalls?.rate,
    minimumCalls: Math.min(filled.minimumCalls, timed === undefined ? size : Infinity),
    consecutiveFailures: filled.consecutiveFailures === false ? undefined : filled.consecutiveFailures,
    probes,
    successes: filled.successes ?? probes,
    leaseMillis: filled.probeLease
  }
  const entries = new Map<string, Entry>()
  const watchers = new Set<(change: Change) => void>()
  // The end of a call has to be measured only where something depends on it.
  const measured = slowMillis !== undefined || hangMillis !== undefined

  const entryOf = (key: string): Entry => {
    let entry = entries.get(key)
    if (entry === undefined) {
      const window = timed === undefined ? BreakerWindow.ofCalls(size) : BreakerWindow.ofTime(timed)
      entry = {
        key,
        circuit: new Circuit(rules, window),
        lastError: undefined,
        step: undefined,
        lastOpenMillis: firstOpen
      }
      entries.set(key, entry)
    }
    return entry
  }

  const log = (fiber: Fiber.Fiber<unknown, unknown>, { circuit, key, lastError }: Entry): void => {
    const last = lastError === undefined ? "" : `; last error: ${lastError.tag}: ${lastError.message}`
    Effect.runForkWith(fiber.context)(Effect.logWarning(`breaker ${name} of ${key} opened: ${circuit.why}${last}`))
  }

  const tell = (fiber: Fiber.Fiber<unknown, unknown>, entry: Entry, from: State): void => {
    const { mode, state } = entry.circuit
    // Once for each outage: not when a probe opens it again.
    if (mode === "auto" && from === "closed" && state === "open") log(fiber, entry)
    emit(fiber, "breaker", entry.key, mode === "auto" ? state : mode, { name, from })
    if (watchers.size === 0) return
    for (const watcher of watchers) watcher({ key: entry.key, from, to: state, mode })
  }

  const signalOf = (fiber: Fiber.Fiber<unknown, unknown>, cause: Cause.Cause<E>, elapsed: number): Signal => {
    const error = CauseModule.findErrorOption(cause)
    // It was taken away when the call's deadline came, or left by itself.
    const isCut = error._tag === "None" ? !CauseModule.hasDies(cause) : tagOf(error.value) === "DeadlineExceeded"
    if (isCut && Deadline.expiredOf(fiber)) {
      return hangMillis !== undefined && elapsed >= hangMillis ? "failure" : "ignored"
    }
    if (error._tag === "Some") {
      const signal = classify === undefined ? "failure" : classify(error.value)
      if (signal !== "timeout") return signal
      return hangMillis !== undefined && elapsed >= hangMillis ? "failure" : "ignored"
    }
    return CauseModule.hasDies(cause) ? filled.defects : "ignored"
  }

  /** Sets how long the circuit stays open. Until the schedule has answered, the time before holds. */
  const opened = (fiber: Fiber.Fiber<unknown, unknown>, entry: Entry, at: number): void => {
    const { circuit } = entry
    if (options.openFor === undefined) {
      const random = fiber.getRef(Random.Random).nextDoubleUnsafe()
      const growing = Jitter.exponential(firstOpen, 2, circuit.openings, longestOpen)
      circuit.openUntil = at + Jitter.apply("equal", growing, longestOpen, random, undefined, firstOpen)
      return
    }
    circuit.openUntil = at + entry.lastOpenMillis
    if (circuit.openings === 1) entry.step = undefined
    const openings = circuit.openings
    const made =
      entry.step === undefined
        ? Effect.map(Schedule.toStep(options.openFor), (step) => (entry.step = step))
        : Effect.succeed(entry.step)
    // A schedule may wait for anything, and no caller waits for it.
    const opening = made.pipe(
      Effect.flatMap((step) => step(clockOf(fiber).currentTimeMillisUnsafe(), openings)),
      Effect.map(([_, delay]) => Duration.toMillis(delay)),
      Pull.catchDone(() => Effect.succeed(entry.lastOpenMillis)),
      Effect.map((millis) => {
        entry.lastOpenMillis = millis
        if (circuit.openings === openings) circuit.openUntil = at + millis
      })
    )
    Effect.runForkWith(fiber.context)(opening)
  }

  const ended = (
    fiber: Fiber.Fiber<unknown, unknown>,
    entry: Entry,
    ticket: Ticket,
    begin: number,
    exit: Exit.Exit<unknown, E>
  ): undefined => {
    const { circuit } = entry
    const success = exit._tag === "Success"
    // Closed, by calls, and well: nothing here needs to know what time it is.
    if (success && !measured && timed === undefined && ticket <= 0) {
      circuit.record(ticket, "success", false, 0)
      return undefined
    }
    const at = nowOf(fiber)
    const elapsed = at - begin
    const signal = success ? "success" : signalOf(fiber, exit.cause, elapsed)
    if (!success && signal === "failure") {
      const error = CauseModule.findErrorOption(exit.cause)
      if (error._tag === "Some") entry.lastError = lastErrorOf(error.value)
    }
    const from = circuit.state
    const tripped = circuit.record(ticket, signal, slowMillis !== undefined && elapsed > slowMillis, at)
    if (tripped) opened(fiber, entry, at)
    if (circuit.state !== from) tell(fiber, entry, from)
    return undefined
  }

  const refuse = (
    fiber: Fiber.Fiber<unknown, unknown>,
    entry: Entry,
    at: number
  ): Effect.Effect<never, CircuitOpen> => {
    const { key } = entry
    const retryAfter = entry.circuit.retryAfter(at)
    // Forced open has no end of its own; the longest open time is a fair thing to tell.
    const retryAfterMillis = retryAfter < Infinity ? retryAfter : longestOpen
    emit(fiber, "breaker", key, "refused", { name, retryAfterMillis })
    return Effect.fail(new CircuitOpen({ key, retryAfterMillis, ...lastErrorField(entry.lastError) }))
  }

  const protect = <A, E1 extends E, R>(
    work: Effect.Effect<A, E1, R> | ((begun: () => void) => Effect.Effect<A, E1, R>),
    key: string
  ): Effect.Effect<A, E1 | CircuitOpen, R> =>
    Effect.withFiber((fiber) => {
      const entry = entryOf(key)
      const { circuit } = entry
      // Work that says when it begins has not taken any time before.
      let begin = Infinity
      const start = (): void => {
        begin = measured ? nowOf(fiber) : 0
      }
      const self = Effect.isEffect(work) ? work : work(start)
      if (circuit.state === "closed" && circuit.mode === "auto") {
        if (self === work) start()
        const ticket = circuit.admit(0)
        return Effect.onExitPrimitive(self, (exit) => ended(fiber, entry, ticket, begin, exit))
      }
      // A probe takes its lease where its end is already watched: an interrupt between the two would cost a lease's time.
      let ticket: Ticket = NaN
      const admitted = Effect.suspend((): Effect.Effect<A, E1 | CircuitOpen, R> => {
        const at = now(clockOf(fiber))
        const from = circuit.state
        ticket = circuit.admit(at)
        if (circuit.state !== from) tell(fiber, entry, from)
        if (Number.isNaN(ticket)) return refuse(fiber, entry, at)
        if (self === work) start()
        return self
      })
      return Effect.onExitPrimitive(admitted, (exit) =>
        Number.isNaN(ticket) ? undefined : ended(fiber, entry, ticket, begin, exit as Exit.Exit<A, E1>)
      )
    })

  const operate = (key: string, change: (entry: Entry) => void): Effect.Effect<void> =>
    Effect.withFiberSucceed((fiber) => {
      const entry = entryOf(key)
      const from = entry.circuit.state
      const mode = entry.circuit.mode
      change(entry)
      if (entry.circuit.state !== from || entry.circuit.mode !== mode) tell(fiber, entry, from)
    })

  return {
    describe: {
      policy: "breaker",
      name,
      failureRate: rules.failureRate,
      slowRate: rules.slowRate,
      slowMillis,
      minimumCalls: rules.minimumCalls,
      window: timed === undefined ? { calls: size } : { millis: timed },
      consecutiveFailures: rules.consecutiveFailures,
      probes,
      successes: rules.successes,
      probeLeaseMillis: rules.leaseMillis,
      hangAfterMillis: hangMillis
    },
    protect,
    retryAfter: (key, at) => {
      const circuit = entries.get(key)?.circuit
      if (circuit === undefined || circuit.mode === "disabled") return 0
      return circuit.state === "closed" && circuit.mode === "auto" ? 0 : circuit.retryAfter(at)
    },
    status: (key) =>
      Effect.withFiberSucceed((fiber) => {
        const { circuit, lastError } = entryOf(key)
        const { calls, failures, slow } = circuit.window.counts
        const closed = circuit.mode === "disabled" || (circuit.mode === "auto" && circuit.state === "closed")
        const retryAfterMillis = closed ? undefined : circuit.retryAfter(nowOf(fiber))
        return { key, state: circuit.state, mode: circuit.mode, retryAfterMillis, calls, failures, slow, lastError }
      }),
    keys: () => [...entries.keys()],
    forceOpen: (key) => operate(key, ({ circuit }) => void (circuit.mode = "forced-open")),
    disable: (key) => operate(key, ({ circuit }) => void (circuit.mode = "disabled")),
    close: (key) =>
      operate(key, ({ circuit }) => {
        circuit.mode = "auto"
        circuit.close()
      }),
    reset: (key) => Effect.sync(() => void entries.delete(key)),
    changes: Stream.callback<Change>(
      (queue) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const watcher = (change: Change): void => void Queue.offerUnsafe(queue, change)
            watchers.add(watcher)
            return watcher
          }),
          (watcher) => Effect.sync(() => void watchers.delete(watcher))
        ),
      { bufferSize: 256, strategy: "sliding" }
    )
  }
}
