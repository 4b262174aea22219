/**
 * Refuses at the door what could not be served anyway, the least important first.
 *
 * - **Throttling** (SRE book, chapter 21): once the other side accepts less than `1 / k` of the requests, the rest is refused
 *   here. The share that has to go is taken from the lowest priority first (`Caller`).
 * - **Deadlines**: whoever has less time left than half of the calls took lately would only occupy a place.
 *
 * Both let some through always, so that a recovery is seen; `dark` tells what it would refuse, and refuses nothing.
 *
 * @example
 * ```ts
 * const shed = Shed.make({ key: "fleet" })
 * const answer = shed.run(work)
 * //    ^ fails with Overloaded (policy "shed")
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import { readOf, tableOf } from "../options/Field.ts"
import { shed as table } from "../options/policies.ts"
import { tagOf } from "../internal/tagOf.ts"
import { Overloaded } from "../ReportError.ts"
import * as Caller from "./Caller.ts"
import * as Deadline from "./Deadline.ts"
import * as Latency from "./Latency.ts"
import { emit } from "./PolicyEvents.ts"
import { nowOf } from "./Time.ts"

export interface Options<E = unknown> {
  readonly key: string
  /** Requests per accepted one before anything is refused. Default 2 (SRE). Lower is stricter. */
  readonly k?: number | undefined
  /** Must be longer than the longest call. Default 2 minutes (SRE). */
  readonly window?: Duration.Input | undefined
  /** Requests in the window below which nothing is refused. Default 20. */
  readonly minimumCalls?: number | undefined
  /** The most that is refused of any priority. Default 0.9 (failsafe-go): without probes it could not recover. */
  readonly maxShare?: number | undefined
  /** The share of all requests that may be refused because of their deadlines. Default 0.2 (finagle). `false`: off. */
  readonly deadlines?: number | false | undefined
  /** Tells, and refuses nothing. Default `false`. */
  readonly dark?: boolean | undefined
  /** Errors by which the other side did not accept a request. Default: timeouts and overload, by their tags. */
  readonly overload?: ((error: E) => boolean) | undefined
}

export interface Description {
  readonly policy: "shed"
  readonly key: string
  readonly k: number
  readonly windowMillis: number
  readonly minimumCalls: number
  readonly maxShare: number
  readonly deadlines: number | undefined
  readonly dark: boolean
}

export interface Shed<in E = unknown> {
  readonly describe: Description
  readonly run: <A, E1 extends E, R>(self: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | Overloaded, R>
  /** The share of requests that has to go, from 0 to 1. */
  readonly share: (now: number) => number
}

const overloadTags: ReadonlySet<unknown> = new Set([
  "AttemptTimeout",
  "DeadlineExceeded",
  "AcquireTimeout",
  "Overloaded"
])

const isOverload = (error: unknown): boolean => overloadTags.has(tagOf(error))

const pieces = 10

/** Counts over a sliding window, to a tenth of it. */
const makeCounter = (windowMillis: number) => {
  const width = windowMillis / pieces
  const slots = new Float64Array(pieces)
  let current = -1
  let total = 0
  const advance = (now: number): void => {
    const piece = Math.floor(now / width)
    for (let step = Math.max(0, current + 1, piece - pieces + 1); step <= piece; step++) {
      total -= slots[step % pieces]!
      slots[step % pieces] = 0
    }
    current = Math.max(current, piece)
  }
  return {
    add: (now: number): void => {
      advance(now)
      slots[Math.max(0, current) % pieces]!++
      total++
    },
    count: (now: number): number => {
      advance(now)
      return total
    }
  }
}

const fields = tableOf<Options>()(table)

export const make = <E = unknown>(options: Options<E>): Shed<E> => {
  const filled = readOf("Shed.make", fields, options)
  const { dark, k, maxShare, minimumCalls, window: windowMillis } = filled
  const { key } = options
  const deadlines = filled.deadlines === false ? undefined : filled.deadlines
  const overload = options.overload ?? (isOverload as (error: E) => boolean)
  const latency = Latency.make()
  const requests = makeCounter(windowMillis)
  const accepted = makeCounter(windowMillis)
  const late = makeCounter(windowMillis)
  const byPriority = new Map<number, ReturnType<typeof makeCounter>>()

  const share = (now: number): number => {
    const asked = requests.count(now)
    if (asked < minimumCalls) return 0
    return Math.min(1, Math.max(0, (asked - k * accepted.count(now)) / (asked + 1)))
  }

  /** How likely a request of a priority is to be refused, when the lowest go first. */
  const refusal = (priority: number, now: number): number => {
    const wanted = share(now)
    if (wanted === 0) return 0
    const all = requests.count(now)
    let below = 0
    for (const [other, counter] of byPriority) if (other < priority) below += counter.count(now)
    const own = byPriority.get(priority)?.count(now) ?? 0
    if (own === 0) return 0
    return Math.min(maxShare, Math.max(0, (wanted * all - below) / own))
  }

  const tooLate = (fiber: Fiber.Fiber<unknown, unknown>, now: number): boolean => {
    if (deadlines === undefined) return false
    const left = Deadline.remainingOf(fiber)
    if (left === Infinity) return false
    const usual = latency.percentile(0.5)
    return usual !== undefined && left < usual && late.count(now) < deadlines * requests.count(now)
  }

  const run = <A, E1 extends E, R>(self: Effect.Effect<A, E1, R>): Effect.Effect<A, E1 | Overloaded, R> =>
    Effect.withFiber((fiber) => {
      const begin = nowOf(fiber)
      const { priority = Caller.priorities.report } = fiber.getRef(Caller.Current)
      const chance = refusal(priority, begin)
      // Refused requests count as requests: what is measured is how much is wanted.
      requests.add(begin)
      let counter = byPriority.get(priority)
      if (counter === undefined) byPriority.set(priority, (counter = makeCounter(windowMillis)))
      counter.add(begin)
      const reason =
        chance > 0 && fiber.getRef(Random.Random).nextDoubleUnsafe() < chance
          ? "throttled"
          : tooLate(fiber, begin)
            ? "deadline"
            : undefined
      if (reason !== undefined) {
        if (reason === "deadline") late.add(begin)
        emit(fiber, "shed", key, dark ? "would refuse" : "refused", { reason, priority, chance })
        // The share that has to go changes with the counts: by a piece of the window. Whoever has too little time may come
        // again at once.
        const retryAfterMillis = reason === "deadline" ? 0 : Math.ceil(windowMillis / pieces)
        if (!dark) return Effect.fail(new Overloaded({ policy: "shed", key, limit: k, waiting: 0, retryAfterMillis }))
      }
      return Effect.onExitPrimitive(self, (exit) => {
        const end = nowOf(fiber)
        if (exit._tag === "Success") {
          latency.record(end - begin)
          accepted.add(end)
          return undefined
        }
        const error = Cause.findErrorOption(exit.cause)
        // Who is wrong, or leaves, was accepted all the same.
        const deadlineCut = error._tag === "None" && Deadline.expiredOf(fiber)
        if (!deadlineCut && !(error._tag === "Some" && overload(error.value))) accepted.add(end)
        return undefined
      })
    })

  return {
    describe: { policy: "shed", key, k, windowMillis, minimumCalls, maxShare, deadlines, dark },
    run,
    share
  }
}
