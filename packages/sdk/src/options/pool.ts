/** The options of a pool of one server. Its one user gives it milliseconds: a bare number is taken for what it is. */
import { aFunction, effect, group, groups, length, number, oneOf, schedule, text, whole } from "./Field.ts"
import * as role from "./role.ts"

const boot = {
  mode: oneOf(["lazy", "connect-one", "fill"], { required: true }),
  schedule: schedule()
} as const

const hooks = { afterConnect: aFunction(), beforeReuse: aFunction(), afterRelease: aFunction() } as const
const listener = { onAcquire: aFunction(), onEvent: aFunction(), onRelease: aFunction() } as const

export const poolFields = {
  name: text({ required: true }),
  connect: effect({ required: true }),
  classifyConnect: aFunction({ required: true }),
  refreshPassword: effect(),
  describeError: aFunction(),
  min: whole(0, Infinity, { default: 2 }),
  max: whole(1, Infinity, { default: 20 }),
  control: whole(0, Infinity, { default: 1 }),
  maxWaiting: whole(1, Infinity, { default: 10_000 }),
  acquireTimeout: length({ default: 30_000, infinite: true }),
  connectConcurrency: whole(1, Infinity, { default: 2 }),
  connectBackoff: schedule(),
  permanentPause: length({ default: 30_000 }),
  failFastAfter: length({ default: 2000, zero: true, infinite: true }),
  connectPatience: length({ default: 1000, zero: true, infinite: true }),
  idleTimeout: length({ default: 600_000, never: true }),
  maxLifetime: length({ default: 1_800_000, never: true }),
  lifetimeJitter: number({ least: 0, below: 1, default: 0.1 }),
  validateAfterIdle: length({ default: 1000, zero: true, infinite: true }),
  keepalive: length({ default: Infinity, never: true }),
  drainBudget: whole(0),
  drainOverflow: oneOf(["hold", "destroy"], { default: "hold" }),
  lanes: groups(role.lane, ["{ report: { cap: 4 } }", "{ cap: 4 }"]),
  boot: group(boot, '{ mode: "fill" }'),
  leakDetection: group(role.leakDetection, '{ threshold: "1 minute" }'),
  hooks: group(hooks, "{ afterConnect }"),
  housekeepingInterval: length({ default: 1000, infinite: true }),
  closeGraceful: length({ default: 5000, zero: true, infinite: true }),
  closeHard: length({ default: 2000, zero: true, infinite: true }),
  listener: group(listener, "{ onEvent }")
} as const

/** How a pool is closed before its scope ends; by default as the pool's options say. */
export const closing = {
  graceful: length({ zero: true, infinite: true }),
  hard: length({ zero: true, infinite: true })
} as const

/** How long to wait until a pool is ready. */
export const ready = { timeout: length({ zero: true, infinite: true, required: true }) } as const
