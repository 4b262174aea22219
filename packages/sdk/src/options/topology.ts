/** How servers are watched, what health asks, and what a snapshot holds. */
import { effect, flag, group, groups, length, list, number, oneOf, schedule, text, whole } from "./Field.ts"

export const thresholds = {
  downAfter: whole(1, Infinity, { default: 2 }),
  upAfter: whole(1, Infinity, { default: 2 }),
  rampMillis: number({ least: 0, below: Infinity, default: 10_000 }),
  rampFrom: number({ least: 0, most: 1, default: 0.1 }),
  expireMillis: number({ above: 0, default: 10_000 })
} as const

export const watch = {
  timeout: length({ default: 1000, infinite: true, bare: 10 }),
  schedule: schedule(),
  scheduleUnwell: schedule(),
  thresholds: group(thresholds, "{ downAfter: 3 }"),
  lookup: schedule(),
  always: flag({ default: false })
} as const

export const snapshot = {
  sessions: whole(1, 10_000, { required: true }),
  maxHold: length({ default: 30_000, most: "1 day", bare: 100, example: "30 seconds" }),
  lane: text({ default: "report" }),
  retries: whole(0, 10_000, { default: 0 })
} as const

const affects = ["status", "readiness", "liveness"] as const

export const run = effect({ required: true })

/** What `Health.check` is given besides. */
export const healthCheck = {
  interval: length({ default: 5000, bare: 10 }),
  timeout: length({ default: 1000, bare: 10 }),
  affects: oneOf(affects, { default: "status" })
} as const

/** What it gives. */
const check = {
  run,
  interval: length({ required: true, bare: 10 }),
  timeout: length({ required: true, bare: 10 }),
  affects: oneOf(affects, { required: true })
} as const

export const health = {
  required: list<ReadonlyArray<string>>((value, name) => text().check(value, name), '["fleet/primary"]', {
    empty: true
  }),
  unreadyAfter: length({ default: 2000, zero: true, infinite: true }),
  readyAfter: length({ default: 1000, zero: true, infinite: true }),
  startGrace: length({ default: 30_000, zero: true, infinite: true }),
  interval: length({ default: 250, bare: 10 }),
  checks: groups(check, ["{ billing: Health.check(ping) }", "Health.check(ping)"])
} as const
