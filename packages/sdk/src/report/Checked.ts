/**
 * What every field of a declaration must be. A mistake is one of the program and is found where the report is declared, not
 * at its first call, and never by a policy that silently does nothing because a number was none.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"

/** More is a mistake: `explain` adds up every delay, and no budget lets so many through. */
const maxRetries = 1000
/** A number so large is a mistake, and sums of larger ones are no numbers. */
const longest = 366 * 24 * 3_600_000
const jitters = ["none", "full", "equal", "decorrelated"]

/** Throws an error that names the report, the field, and what it must be. */
export const check = (name: string, options: Readonly<Record<string, any>>): void => {
  const refuse = (field: string, problem: string): never => {
    throw new Error(`Report "${name}": ${field} ${problem}`)
  }
  const duration = (field: string, input: unknown, least: "above zero" | "of zero or more" = "above zero"): void => {
    if (input === undefined) return
    const length = millisOf(input)
    const long = least === "above zero" ? length > 0 : length >= 0
    if (!(long && length <= longest)) refuse(field, `must be a duration ${least}, and at most a year`)
  }
  const whole = (field: string, value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): void => {
    if (value === undefined || (Number.isInteger(value) && (value as number) >= least && (value as number) <= most))
      return
    const limit = most === Number.MAX_SAFE_INTEGER ? "" : ` and at most ${most}`
    refuse(field, `must be a whole number of at least ${least}${limit}, not ${shown(value)}`)
  }
  const number = (field: string, value: unknown, least: number): void => {
    if (value !== undefined && !(typeof value === "number" && value >= least && value < Infinity)) {
      refuse(field, `must be a number of at least ${least}, not ${shown(value)}`)
    }
  }
  const fraction = (field: string, value: unknown): void => {
    if (value !== undefined && !(typeof value === "number" && value > 0 && value <= 1)) {
      refuse(field, `must be above 0 and at most 1, not ${shown(value)}`)
    }
  }
  const flag = (field: string, value: unknown): void => {
    if (value !== undefined && typeof value !== "boolean") refuse(field, `must be true or false, not ${shown(value)}`)
  }
  const schedule = (field: string, value: unknown): void => {
    if (value !== undefined && !Schedule.isSchedule(value)) refuse(field, "must be a Schedule")
  }
  /** The options of a policy, when it is declared. */
  const group = (field: string, value: unknown): Readonly<Record<string, any>> | undefined => {
    if (value === undefined) return undefined
    return isOptions(value) ? value : refuse(field, `must be an object of options, not ${shown(value)}`)
  }
  const budget = (field: string, value: unknown): void => {
    const options = group(field, value)
    if (options === undefined) return
    number(`${field}.ratio`, options.ratio, 0)
    number(`${field}.minimum`, options.minimum, 0)
    duration(`${field}.window`, options.window)
  }

  if (options.deadline === undefined) refuse("deadline", "must be declared")
  duration("deadline", options.deadline)
  duration("attemptTimeout", options.attemptTimeout)
  whole("maxRows", options.maxRows, 1)
  if (options.lane !== undefined && (typeof options.lane !== "string" || options.lane === "")) {
    refuse("lane", "must be the name of a lane")
  }
  if (options.priority !== undefined && !Number.isFinite(options.priority)) {
    refuse("priority", `must be a finite number, not ${shown(options.priority)}`)
  }
  if (options.writes !== undefined && options.writes !== "once" && options.writes !== "idempotent") {
    refuse("writes", `must be "once" or "idempotent", not ${shown(options.writes)}`)
  }

  const retry = Schedule.isSchedule(options.retry) ? undefined : group("retry", options.retry)
  if (retry !== undefined) {
    schedule("retry.schedule", retry.schedule)
    whole("retry.retries", retry.retries, 0, maxRetries)
    duration("retry.cap", retry.cap)
    if (retry.jitter !== undefined && !jitters.includes(retry.jitter)) {
      refuse("retry.jitter", `must be one of ${jitters.join(", ")}`)
    }
    budget("retry.budget", retry.budget)
  }

  const breaker = group("breaker", options.breaker)
  if (breaker !== undefined) {
    if (breaker.failureRate !== false) fraction("breaker.failureRate", breaker.failureRate)
    if (breaker.consecutiveFailures !== false) whole("breaker.consecutiveFailures", breaker.consecutiveFailures, 1)
    whole("breaker.minimumCalls", breaker.minimumCalls, 1)
    whole("breaker.probes", breaker.probes, 1)
    schedule("breaker.openFor", breaker.openFor)
    // A ring of so many calls is kept.
    if (isOptions(breaker.window)) duration("breaker.window.time", breaker.window.time ?? null)
    else whole("breaker.window", breaker.window, 1, 1_000_000)
    const slow = group("breaker.slowCalls", breaker.slowCalls)
    if (slow !== undefined) {
      fraction("breaker.slowCalls.rate", slow.rate ?? null)
      duration("breaker.slowCalls.longerThan", slow.longerThan ?? null)
    }
  }

  const bulkhead = group("bulkhead", options.bulkhead)
  if (bulkhead !== undefined) {
    if (isOptions(bulkhead.permits)) fraction("bulkhead.permits.ofPool", bulkhead.permits.ofPool ?? null)
    else whole("bulkhead.permits", bulkhead.permits ?? null, 1)
    whole("bulkhead.queue", bulkhead.queue, 0)
    duration("bulkhead.maxWait", bulkhead.maxWait)
  }

  const rate = group("rateLimit", options.rateLimit)
  if (rate !== undefined) {
    whole("rateLimit.limit", rate.limit ?? null, 1)
    duration("rateLimit.window", rate.window ?? null)
    flag("rateLimit.perTenant", rate.perTenant)
    duration("rateLimit.maxWait", rate.maxWait, "of zero or more")
  }

  const shed = group("shed", options.shed)
  if (shed !== undefined) {
    number("shed.k", shed.k, 1)
    duration("shed.window", shed.window)
    whole("shed.minimumCalls", shed.minimumCalls, 0)
    flag("shed.dark", shed.dark)
  }

  const hedge = group("hedge", options.hedge)
  if (hedge !== undefined) {
    if (isOptions(hedge.after) && "percentile" in hedge.after)
      fraction("hedge.after.percentile", hedge.after.percentile)
    else duration("hedge.after", hedge.after, "of zero or more")
    budget("hedge.budget", hedge.budget)
    if (options.writes !== undefined) refuse("hedge", "cannot be declared by a report that writes")
  }
}

const millisOf = (input: unknown): number => {
  try {
    const duration = Duration.fromInput(input as Duration.Input)
    return Option.isSome(duration) ? Duration.toMillis(duration.value) : Number.NaN
  } catch {
    return Number.NaN
  }
}

const isOptions = (value: unknown): value is Readonly<Record<string, any>> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !Duration.isDuration(value)

/** Short, and never a text of its own making. */
const shown = (value: unknown): string =>
  typeof value === "object" && value !== null
    ? "an object"
    : typeof value === "function"
      ? "a function"
      : String(value).slice(0, 40)
