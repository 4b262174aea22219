/**
 * What every field of a declaration must be. A mistake is one of the program and is found where the report is declared, not
 * at its first call, and never by a policy that silently does nothing because a number was none.
 */
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { millisOf as lengthOf } from "../options/Field.ts"
import { cure, fields, unknownFields } from "../options/names.ts"
import type {
  AdaptiveOptions,
  BreakerOptions,
  BudgetOptions,
  BulkheadOptions,
  HedgeOptions,
  RateLimitOptions,
  RetryOptions,
  ShedOptions,
  TransactionOptions
} from "./Declaration.ts"
import type { Declared } from "./Declared.ts"

/** More is a mistake: `explain` adds up every delay, and no budget lets so many through. */
const maxRetries = 1000
/** A number so large is a mistake, and sums of larger ones are no numbers. */
const longest = 366 * 24 * 3_600_000
const jitters = ["none", "full", "equal", "decorrelated"]
const algorithms = ["aimd", "gradient"]

const isolations = ["read committed", "repeatable read", "serializable"]

const known = {
  transaction: fields<TransactionOptions>({
    name: true,
    deadline: true,
    isolation: true,
    readOnly: true,
    deferrable: true,
    lane: true,
    retry: true,
    bulkhead: true,
    outside: true
  }),
  report: fields<Omit<Declared, "name" | "transaction">>({
    database: true,
    params: true,
    row: true,
    query: true,
    deadline: true,
    attemptTimeout: true,
    lane: true,
    priority: true,
    maxRows: true,
    writes: true,
    outside: true,
    retry: true,
    breaker: true,
    bulkhead: true,
    rateLimit: true,
    shed: true,
    hedge: true,
    fallback: true
  }),
  retry: fields<RetryOptions>({ schedule: true, retries: true, cap: true, jitter: true, budget: true }),
  budget: fields<BudgetOptions>({ ratio: true, minimum: true, window: true }),
  breaker: fields<BreakerOptions>({
    failureRate: true,
    minimumCalls: true,
    window: true,
    consecutiveFailures: true,
    slowCalls: true,
    probes: true,
    openFor: true
  }),
  window: ["time"],
  slowCalls: fields<NonNullable<BreakerOptions["slowCalls"]>>({ longerThan: true, rate: true }),
  bulkhead: fields<BulkheadOptions>({ permits: true, queue: true, maxWait: true, adaptive: true }),
  permits: ["ofPool"],
  aimd: fields<Extract<AdaptiveOptions, { algorithm: "aimd" }>>({
    algorithm: true,
    minimum: true,
    backoff: true,
    slowerThan: true
  }),
  gradient: fields<Extract<AdaptiveOptions, { algorithm: "gradient" }>>({
    algorithm: true,
    minimum: true,
    tolerance: true
  }),
  rateLimit: fields<RateLimitOptions>({ limit: true, window: true, perTenant: true, maxWait: true }),
  shed: fields<ShedOptions>({ k: true, window: true, minimumCalls: true, dark: true }),
  hedge: fields<HedgeOptions>({ after: true, budget: true }),
  after: ["percentile"]
}

const refused = (kind: "report" | "transaction", name: string, field: string, problem: string): never => {
  throw new Error(`${kind === "report" ? "Report" : "Transaction"} "${name}": ${field} ${problem}`)
}

/** {@link check} for a transaction. */
export const checkTransaction = (name: string, database: unknown, options: Readonly<Record<string, any>>): void => {
  const { deferrable, isolation, readOnly } = options
  const refuse = (field: string, problem: string): never => refused("transaction", name, field, problem)
  check(name, options, "transaction", database ?? null)
  if (options["name"] !== undefined && (typeof name !== "string" || name === "")) {
    refuse("name", `must be a text, not ${shown(name)}`)
  }
  if (isolation !== undefined && !isolations.includes(isolation)) {
    refuse("isolation", `must be one of ${isolations.join(", ")}, not ${shown(isolation)}`)
  }
  if (readOnly !== undefined && typeof readOnly !== "boolean") {
    refuse("readOnly", `must be true or false, not ${shown(readOnly)}`)
  }
  if (deferrable !== undefined && typeof deferrable !== "boolean") {
    refuse("deferrable", `must be true or false, not ${shown(deferrable)}`)
  }
  if (deferrable === true && (isolation !== "serializable" || readOnly !== true)) {
    refuse("deferrable", 'means something only with isolation: "serializable" and readOnly: true')
  }
}

/** Throws an error that names the report, the field, and what it must be. */
export const check = (
  name: string,
  options: Readonly<Record<string, any>>,
  kind: "report" | "transaction" = "report",
  database: unknown = options["database"]
): void => {
  const refuse = (field: string, problem: string): never => refused(kind, name, field, problem)
  const duration = (field: string, input: unknown, least: "above zero" | "of zero or more" = "above zero"): void => {
    if (input === undefined) return
    const length = millisOf(input)
    const long = least === "above zero" ? length > 0 : length >= 0
    if (!(long && length <= longest))
      refuse(field, `must be a duration ${least}, and at most a year, not ${shown(input)}`)
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
    if (value !== undefined && !Schedule.isSchedule(value)) refuse(field, `must be a Schedule, not ${shown(value)}`)
  }
  const none = (value: object, names: ReadonlyArray<string>, path = ""): void => {
    for (const { name: field, problem } of unknownFields(value, names, path)) refuse(`${field}:`, problem)
  }
  /** The options of a policy, when it is declared. */
  const group = (
    field: string,
    value: unknown,
    names: ReadonlyArray<string>
  ): Readonly<Record<string, any>> | undefined => {
    if (value === undefined) return undefined
    const or = field === "retry" ? "a Schedule or " : ""
    if (!isOptions(value)) return refuse(field, `must be ${or}an object of options, not ${shown(value)}`)
    none(value, names, `${field}.`)
    return value
  }
  const budget = (field: string, value: unknown): void => {
    const options = group(field, value, known.budget)
    if (options === undefined) return
    number(`${field}.ratio`, options.ratio, 0)
    number(`${field}.minimum`, options.minimum, 0)
    duration(`${field}.window`, options.window)
  }

  if (kind === "report" && (typeof name !== "string" || name.trim() === "")) {
    throw new Error(`Report.make: the name must be a text that is not empty, not ${shown(name)}`)
  }
  none(options, known[kind])
  if (!isRole(database)) refuse("database", 'must be a role of a database, such as Fleet.role("replica")')
  const schema = (field: "params" | "row", otherwise: string): void => {
    const value: unknown = options[field]
    if (Schema.isSchema(value)) return
    if (!isOptions(value)) {
      return refuse(field, `must be a schema or the fields of one${otherwise}, not ${shown(value)}`)
    }
    for (const [key, each] of Object.entries(value)) {
      if (!Schema.isSchema(each)) refuse(`${field}.${key}`, `must be a schema, not ${shown(each)}${schemaFor(each)}`)
    }
  }
  if (kind === "report") {
    schema("params", " ({} when it takes none)")
    schema("row", "")
    if (typeof options.query !== "function") {
      refuse("query", `must be a function of a SqlClient and the parameters, not ${shown(options.query)}`)
    }
  }
  if (options.deadline === undefined) refuse("deadline", "must be declared, such as 8 seconds")
  duration("deadline", options.deadline)
  duration("attemptTimeout", options.attemptTimeout)
  whole("maxRows", options.maxRows, 1)
  if (options.lane !== undefined && (typeof options.lane !== "string" || options.lane === "")) {
    refuse("lane", `must be the name of a lane, not ${shown(options.lane)}`)
  }
  if (options.priority !== undefined && !Number.isFinite(options.priority)) {
    refuse("priority", `must be a finite number, not ${shown(options.priority)}`)
  }
  if (options.writes !== undefined && options.writes !== "once" && options.writes !== "idempotent") {
    refuse("writes", `must be "once" or "idempotent", not ${shown(options.writes)}`)
  }

  flag("outside", options.outside)

  const retry = Schedule.isSchedule(options.retry) ? undefined : group("retry", options.retry, known.retry)
  if (retry !== undefined) {
    schedule("retry.schedule", retry.schedule)
    whole("retry.retries", retry.retries, 0, maxRetries)
    duration("retry.cap", retry.cap)
    if (retry.jitter !== undefined && !jitters.includes(retry.jitter)) {
      refuse("retry.jitter", `must be one of ${jitters.join(", ")}, not ${shown(retry.jitter)}`)
    }
    budget("retry.budget", retry.budget)
  }

  const breaker = group("breaker", options.breaker, known.breaker)
  if (breaker !== undefined) {
    if (breaker.failureRate !== false) fraction("breaker.failureRate", breaker.failureRate)
    if (breaker.consecutiveFailures !== false) whole("breaker.consecutiveFailures", breaker.consecutiveFailures, 1)
    whole("breaker.minimumCalls", breaker.minimumCalls, 1)
    whole("breaker.probes", breaker.probes, 1)
    schedule("breaker.openFor", breaker.openFor)
    // A ring of so many calls is kept.
    if (isOptions(breaker.window)) {
      none(breaker.window, known.window, "breaker.window.")
      duration("breaker.window.time", breaker.window.time ?? null)
    } else whole("breaker.window", breaker.window, 1, 1_000_000)
    const slow = group("breaker.slowCalls", breaker.slowCalls, known.slowCalls)
    if (slow !== undefined) {
      fraction("breaker.slowCalls.rate", slow.rate ?? null)
      duration("breaker.slowCalls.longerThan", slow.longerThan ?? null)
    }
  }

  const bulkhead = group("bulkhead", options.bulkhead, known.bulkhead)
  if (bulkhead !== undefined) {
    if (isOptions(bulkhead.permits)) {
      none(bulkhead.permits, known.permits, "bulkhead.permits.")
      fraction("bulkhead.permits.ofPool", bulkhead.permits.ofPool ?? null)
    } else whole("bulkhead.permits", bulkhead.permits ?? null, 1)
    whole("bulkhead.queue", bulkhead.queue, 0)
    duration("bulkhead.maxWait", bulkhead.maxWait)
    const { adaptive } = bulkhead
    const chosen = isOptions(adaptive) ? adaptive : { algorithm: adaptive }
    if (adaptive !== undefined && !algorithms.includes(chosen.algorithm)) {
      const most = `must be one of ${algorithms.join(", ")}, or options with that algorithm`
      refuse("bulkhead.adaptive", `${most}, not ${shown(chosen.algorithm)}`)
    }
    if (adaptive !== undefined) {
      none(chosen, chosen.algorithm === "aimd" ? known.aimd : known.gradient, "bulkhead.adaptive.")
    }
    whole("bulkhead.adaptive.minimum", chosen.minimum, 1)
    fraction("bulkhead.adaptive.backoff", chosen.backoff)
    duration("bulkhead.adaptive.slowerThan", chosen.slowerThan)
    number("bulkhead.adaptive.tolerance", chosen.tolerance, 1)
  }

  const rate = group("rateLimit", options.rateLimit, known.rateLimit)
  if (rate !== undefined) {
    whole("rateLimit.limit", rate.limit ?? null, 1)
    duration("rateLimit.window", rate.window ?? null)
    flag("rateLimit.perTenant", rate.perTenant)
    duration("rateLimit.maxWait", rate.maxWait, "of zero or more")
  }

  const shed = group("shed", options.shed, known.shed)
  if (shed !== undefined) {
    number("shed.k", shed.k, 1)
    duration("shed.window", shed.window)
    whole("shed.minimumCalls", shed.minimumCalls, 0)
    flag("shed.dark", shed.dark)
  }

  const hedge = group("hedge", options.hedge, known.hedge)
  if (hedge !== undefined) {
    if (isOptions(hedge.after) && "percentile" in hedge.after) {
      none(hedge.after, known.after, "hedge.after.")
      fraction("hedge.after.percentile", hedge.after.percentile)
    } else duration("hedge.after", hedge.after, "of zero or more")
    budget("hedge.budget", hedge.budget)
    if (options.writes !== undefined)
      refuse("hedge", "cannot be declared by a report that writes: a second attempt would write twice")
  }
}

/** What has to be declared for an error to occur. */
const cause: Readonly<Record<string, string>> = {
  CircuitOpen: "a breaker",
  Overloaded: "a bulkhead, rateLimit or shed",
  OutcomeUnknown: "writes"
}

/** A handler for what cannot occur would promise rows that nobody is given. */
export const checkFallback = (name: string, fallback: unknown, tags: ReadonlyArray<string>): void => {
  if (fallback === undefined) return
  const refuse = (problem: string): never => {
    throw new Error(`Report "${name}": fallback${problem}`)
  }
  if (!isOptions(fallback)) return refuse(` must be an object of handlers by the error's tag, not ${shown(fallback)}`)
  for (const [tag, handler] of Object.entries(fallback)) {
    if (!tags.includes(tag)) {
      const why = Object.hasOwn(cause, tag) ? ` without ${cause[tag]}` : `; ${cure(tag, tags)}`
      refuse(`.${tag}: it cannot fail with this${why}`)
    }
    if (handler !== undefined && typeof handler !== "function") {
      refuse(`.${tag} must be a function from the error to an Effect of rows, not ${shown(handler)}`)
    }
  }
}

const isRole = (database: unknown): boolean =>
  (typeof database === "function" || (typeof database === "object" && database !== null)) &&
  String((database as { readonly key?: unknown }).key).startsWith("@sluice/sdk/Database/")

const constructors = new Map<unknown, string>([
  [String, "Schema.String"],
  [Number, "Schema.Finite or Schema.Int"],
  [Boolean, "Schema.Boolean"],
  [BigInt, "Schema.BigInt"],
  [Date, "Schema.Date"],
  [Array, "Schema.Array(...)"],
  [Object, "Schema.Struct({ ... })"],
  [Uint8Array, "Schema.Uint8Array"]
])

/** What to write in place of what people write. */
const schemaFor = (value: unknown): string => {
  const found = constructors.get(value)
  if (found !== undefined) return `; write ${found}`
  if (typeof value === "string") return "; write Schema.String, Schema.Literal or another schema of effect/Schema"
  if (typeof value !== "object" || value === null) return "; write one of effect/Schema"
  if ("~standard" in value) return " of another library; write one of effect/Schema"
  if (Object.values(value).some(Schema.isSchema)) return "; write Schema.Struct({ ... }) around these fields"
  return "; write one of effect/Schema"
}

const millisOf = (input: unknown): number => lengthOf(input) ?? Number.NaN

const isOptions = (value: unknown): value is Readonly<Record<string, any>> => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype
}

/** Short, and never a text of its own making. */
const shown = (value: unknown): string =>
  typeof value === "object" && value !== null
    ? "an object"
    : typeof value === "function"
      ? "a function"
      : typeof value === "string"
        ? JSON.stringify(value.slice(0, 40))
        : String(value).slice(0, 40)
