/** The options of each policy. Wrong ones are a mistake of the program: the policy is not made. */
import {
  aFunction,
  checked,
  either,
  flag,
  group,
  isRecord,
  issuesIn,
  length,
  list,
  made,
  number,
  oneOf,
  schedule,
  share,
  text,
  whole
} from "./Field.ts"

const key = text({ required: true })
const budget = made<any>(["deposit", "withdraw"], "what RetryBudget.make(...) gives")

const span = { time: length({ required: true }) } as const

export const breaker = {
  name: key,
  failureRate: either([false], share({ default: 0.5 })),
  minimumCalls: whole(1, Infinity, { default: 10 }),
  // A ring of so many calls is kept.
  window: checked<any>((value, name) =>
    isRecord(value) ? issuesIn(span, value, (field) => `${name}.${field}`) : whole(1, 1_000_000).check(value, name)
  ),
  slowCalls: group<any>(
    { longerThan: length({ required: true }), rate: share({ required: true }) },
    '{ longerThan: "1 second", rate: 0.5 }'
  ),
  consecutiveFailures: either([false], whole(1, Infinity, { default: 5 })),
  probes: whole(1, Infinity, { default: 1 }),
  successes: whole(1),
  probeLease: length({ default: 30_000, infinite: true }),
  openFor: schedule(),
  hangAfter: length({ zero: true, infinite: true }),
  classify: aFunction(),
  defects: oneOf(["failure", "ignored", "success"], { default: "failure" })
} as const

export const bulkhead = {
  key,
  permits: whole(1, Infinity, { required: true }),
  queue: whole(0, Infinity, { default: 0 }),
  maxWait: length({ zero: true, infinite: true }),
  adaptive: made<any>(["current", "sample"], "what AdaptiveLimit.aimd(...) or AdaptiveLimit.gradient(...) gives"),
  overload: aFunction()
} as const

const adaptive = {
  minimum: whole(1, Infinity, { default: 1 }),
  maximum: whole(1, Infinity, { required: true }),
  initial: number({ above: 0, below: Infinity })
} as const

export const aimd = {
  ...adaptive,
  backoff: share({ default: 0.9 }),
  slowMillis: number({ above: 0, default: 5000 })
} as const

export const gradient = {
  ...adaptive,
  tolerance: number({ least: 1, below: Infinity, default: 1.5 }),
  smoothing: share({ default: 0.2 }),
  samples: whole(1, 1_000_000, { default: 600 })
} as const

export const hedge = {
  key,
  after: checked<any>((value, name) =>
    isRecord(value) && "percentile" in value
      ? issuesIn({ percentile: share({ required: true }) }, value, (field) => `${name}.${field}`)
      : length({ zero: true, infinite: true }).check(value, name)
  ),
  minimumMillis: number({ least: 0, below: Infinity, default: 1 }),
  max: whole(0, 1000, { default: 1 }),
  budget,
  deposits: flag({ default: true }),
  fatal: aFunction()
} as const

export const latency = {
  samples: whole(1, 1_000_000, { default: 128 }),
  minimum: whole(0, Infinity, { default: 20 })
} as const

export const rateLimit = {
  key,
  limit: number({ above: 0, below: Infinity, required: true }),
  window: length({ required: true }),
  burst: number({ above: 0, below: Infinity }),
  perTenant: flag({ default: false }),
  maxWait: length({ zero: true, infinite: true, default: 0 })
} as const

export const retry = {
  key,
  schedule: schedule(),
  retries: whole(0, Infinity, { default: 2 }),
  cap: length({ zero: true, infinite: true, default: 2000 }),
  jitter: oneOf(["none", "full", "equal", "decorrelated"], { default: "full" }),
  budget,
  usefulMillis: number({ least: 0, default: 0 }),
  classify: aFunction({ required: true })
} as const

export const retryBudget = {
  key,
  ratio: number({ least: 0, below: Infinity, default: 0.2 }),
  minimum: number({ least: 0, below: Infinity, default: 3 }),
  window: length({ default: 10_000 })
} as const

export const shed = {
  key,
  k: number({ least: 1, below: Infinity, default: 2 }),
  window: length({ default: 120_000 }),
  minimumCalls: whole(0, Infinity, { default: 20 }),
  maxShare: number({ least: 0, most: 1, default: 0.9 }),
  deadlines: either([false], number({ least: 0, most: 1, default: 0.2 })),
  dark: flag({ default: false }),
  overload: aFunction()
} as const

const phases = ["admission", "queue", "acquire", "attempt", "backoff", "decode"] as const

export const deadline = {
  key,
  // What was left of another deadline may be less than nothing: it has come.
  duration: checked<any>(
    (value, name) =>
      typeof value === "number" && value < 0
        ? []
        : length({ zero: true, infinite: true, required: true }).check(value, name),
    { required: true }
  ),
  phase: oneOf(phases, { default: "attempt" })
} as const

export const background = { grace: length({ zero: true, infinite: true, default: 5000 }) } as const

export const fault = {
  name: text(),
  keys: list<ReadonlyArray<string>>((value, name) => text().check(value, name), '["stoppage"]', { empty: true }),
  rate: number({ least: 0, most: 1, required: true }),
  latency: length({ zero: true }),
  error: aFunction(),
  hang: flag({ default: false })
} as const

export const faults = {
  faults: list<any>(group(fault, "{ rate: 0.1, hang: true }").check, "[{ rate: 0.1, hang: true }]", { empty: true })
} as const
