/**
 * What a pool is told at its start: the options with their defaults, and the check that they can hold together.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { fields, unknownFields } from "../internal/fields.ts"
import type { LastError } from "../ReportError.ts"
import type { Poolable } from "./Poolable.ts"
import type { PoolListener } from "./PoolEvents.ts"

/** The lane of health and control statements. Its sessions are its own, beyond `max`: it never waits behind users. */
export const controlLane = "control"

/**
 * The lane of sessions that LISTEN: each is held as long as somebody listens, and is not taken for a leak. As any other
 * lane, it has neither reserve nor cap unless it is declared.
 */
export const listenLane = "listen"

/** A named share of the pool. */
export interface LaneOptions {
  /** Sessions of `max` that no other lane may use. Default 0. */
  readonly reserved?: number | undefined
  /** The most sessions this lane may hold at once. Default `max`. */
  readonly cap?: number | undefined
  /** The most callers that may wait in this lane. Default: the pool's `maxWaiting`. */
  readonly maxWaiting?: number | undefined
  /** Priority of requests that name none; higher is served first. Default 0. */
  readonly priority?: number | undefined
}

/** How the pool starts. `schedule` says how often, and for how long, a failing start is tried again; without one, once. */
export interface BootOptions {
  readonly mode: "lazy" | "connect-one" | "fill"
  readonly schedule?: Schedule.Schedule<unknown, unknown> | undefined
}

/** Holders beyond `threshold` are reported as leaks. `stackEvery: n` records the stack of every n-th lease (0: never). */
export interface LeakOptions {
  readonly threshold: Duration.Input
  readonly stackEvery?: number | undefined
}

export interface PoolHooks<S> {
  /** Runs on a new session before anybody gets it. Its failure is a failed connect. */
  readonly afterConnect?: ((session: S) => Effect.Effect<void, SqlError>) | undefined
  /** Asked on the hot path, hence synchronous: `false` closes the session and takes another. */
  readonly beforeReuse?: ((session: S) => boolean) | undefined
  /** Runs in the background after a session was returned (and reset), before it is used again. */
  readonly afterRelease?: ((session: S) => Effect.Effect<void, SqlError>) | undefined
}

export interface PoolOptions<S extends Poolable> {
  /** Which pool this is, in errors and metrics: `fleet/primary@127.0.0.1:5432`. */
  readonly name: string
  /** One attempt, bounded by itself, cleaning up after itself when it is interrupted. */
  readonly connect: Effect.Effect<S, SqlError>
  /** What a failed connect means. `password` is tried once more after `refreshPassword`, then it is permanent. */
  readonly classifyConnect: (error: SqlError) => "transient" | "permanent" | "password"
  readonly refreshPassword?: Effect.Effect<void, SqlError> | undefined
  /** What of an error may leave the process. */
  readonly describeError?: ((error: SqlError) => LastError) | undefined
  /** Sessions kept open. Default 2, or `max` if that is less. */
  readonly min?: number | undefined
  /** The most sessions for users. Default 20. The server may see `max + drainBudget + 2 * control` in all. */
  readonly max?: number | undefined
  /** Sessions of the control lane, beyond `max`, opened when first asked for. Default 1; 0 puts the lane inside `max`, first in line. */
  readonly control?: number | undefined
  /** The most callers that may wait. Default 10,000. */
  readonly maxWaiting?: number | undefined
  /** The longest a caller waits, connecting and validating included. Default 30 seconds (the promise made to users). */
  readonly acquireTimeout?: Duration.Input | undefined
  /** Connects at the same time. Default 2; one while the node is failing. */
  readonly connectConcurrency?: number | undefined
  /** Ceiling of the pause after each failed connect; the pause itself is a random part of it (full jitter). Default 50 ms doubling to 750 ms. */
  readonly connectBackoff?: Schedule.Schedule<unknown, SqlError> | undefined
  /** The longest pause after a connect failed for good (wrong password, no such database): it doubles from a second. Default 30 seconds. */
  readonly permanentPause?: Duration.Input | undefined
  /** A node that has been down for longer fails new callers at once, if no session is left. Default 2 seconds. */
  readonly failFastAfter?: Duration.Input | undefined
  /** A connect that takes longer no longer keeps a fresh one from being tried for those who wait. Default 1 second. */
  readonly connectPatience?: Duration.Input | undefined
  /** Idle sessions above `min` are closed after this. Default 10 minutes. */
  readonly idleTimeout?: Duration.Input | undefined
  /** No session gets older, except in the hands of its holder. Default 30 minutes. */
  readonly maxLifetime?: Duration.Input | undefined
  /** Each session's lifetime is shorter than `maxLifetime` by a random part of this fraction. Default 0.1. */
  readonly lifetimeJitter?: number | undefined
  /** A session that has been silent for longer is asked for a sign of life before it is used. Default 1 second. */
  readonly validateAfterIdle?: Duration.Input | undefined
  /** Idle sessions are asked for a sign of life this often. Default: never. */
  readonly keepalive?: Duration.Input | undefined
  /** How many sessions may be draining or closing beyond `max`. Default a quarter of `max`, at least 1. */
  readonly drainBudget?: number | undefined
  /** What happens to sessions beyond the budget: `hold` their place until they are at rest (default), or `destroy` them at once. */
  readonly drainOverflow?: "hold" | "destroy" | undefined
  readonly lanes?: Readonly<Record<string, LaneOptions>> | undefined
  /** Default `lazy`: `make` returns at once and `min` is filled in the background. */
  readonly boot?: BootOptions | undefined
  readonly leakDetection?: LeakOptions | undefined
  readonly hooks?: PoolHooks<S> | undefined
  /** How often lifetimes, idle times, leaks and the clock itself are looked at. Default 1 second. */
  readonly housekeepingInterval?: Duration.Input | undefined
  /** How long the scope's end lets waiters and holders finish before it cancels them. Default 5 seconds. */
  readonly closeGraceful?: Duration.Input | undefined
  /** How long after that until sessions are destroyed. Default 2 seconds. */
  readonly closeHard?: Duration.Input | undefined
  readonly listener?: PoolListener | undefined
}

/** Options that cannot hold together. One error for all of them. */
export class InvalidPoolOptions extends Schema.TaggedError<InvalidPoolOptions>("@sluice/sdk/InvalidPoolOptions")(
  "InvalidPoolOptions",
  { pool: Schema.String, issues: Schema.Array(Schema.String) },
  { httpApiStatus: 500 }
) {
  override get message(): string {
    return `${this.pool}: ${this.issues.join("; ")}`
  }
}

/** The options in the pool's own units: milliseconds and whole numbers. */
export interface Settings {
  readonly acquireTimeout: number
  readonly maxWaiting: number
  readonly connectConcurrency: number
  readonly permanentPause: number
  readonly failFastAfter: number
  readonly connectPatience: number
  readonly idleTimeout: number
  readonly maxLifetime: number
  readonly lifetimeJitter: number
  readonly validateAfterIdle: number
  readonly keepalive: number
  readonly drainOverflow: "hold" | "destroy"
  readonly housekeepingInterval: number
  readonly closeGraceful: number
  readonly closeHard: number
  readonly leakThreshold: number
  readonly stackEvery: number
  /** Fields that no pool has, each with its cure, and durations that are none. */
  readonly wrong: ReadonlyArray<string>
}

const known = {
  pool: fields<PoolOptions<Poolable>>({
    name: true,
    connect: true,
    classifyConnect: true,
    refreshPassword: true,
    describeError: true,
    min: true,
    max: true,
    control: true,
    maxWaiting: true,
    acquireTimeout: true,
    connectConcurrency: true,
    connectBackoff: true,
    permanentPause: true,
    failFastAfter: true,
    connectPatience: true,
    idleTimeout: true,
    maxLifetime: true,
    lifetimeJitter: true,
    validateAfterIdle: true,
    keepalive: true,
    drainBudget: true,
    drainOverflow: true,
    lanes: true,
    boot: true,
    leakDetection: true,
    hooks: true,
    housekeepingInterval: true,
    closeGraceful: true,
    closeHard: true,
    listener: true
  }),
  // `shared` is the business of who uses the pool.
  lane: [...fields<LaneOptions>({ reserved: true, cap: true, maxWaiting: true, priority: true }), "shared"],
  boot: fields<BootOptions>({ mode: true, schedule: true }),
  leakDetection: fields<LeakOptions>({ threshold: true, stackEvery: true }),
  hooks: fields<PoolHooks<Poolable>>({ afterConnect: true, beforeReuse: true, afterRelease: true })
}

const unknownIn = ({ boot, hooks, lanes, leakDetection, ...options }: PoolOptions<any>): ReadonlyArray<string> =>
  [
    ...unknownFields(options, known.pool),
    ...unknownFields(boot ?? {}, known.boot, "boot."),
    ...unknownFields(hooks ?? {}, known.hooks, "hooks."),
    ...Object.entries(lanes ?? {}).flatMap(([name, lane]) => unknownFields(lane, known.lane, `lanes.${name}.`)),
    ...unknownFields(leakDetection ?? {}, known.leakDetection, "leakDetection.")
  ].map(({ name, problem }) => `${name}: ${problem}`)

const millis = (input: Duration.Input | undefined, otherwise: number): number =>
  input === undefined ? otherwise : (millisOf(input) ?? otherwise)

/** `undefined`: no duration, or one that a program cannot wait for. */
const millisOf = (input: Duration.Input): number | undefined => {
  const length = Option.map(Duration.fromInput(input), Duration.toMillis)
  return Option.isSome(length) && length.value >= 0 ? length.value : undefined
}

const durations = [
  "acquireTimeout",
  "permanentPause",
  "failFastAfter",
  "connectPatience",
  "idleTimeout",
  "maxLifetime",
  "validateAfterIdle",
  "keepalive",
  "housekeepingInterval",
  "closeGraceful",
  "closeHard"
] as const

const wrongDurations = (options: PoolOptions<any>): ReadonlyArray<string> => {
  const given = durations.map((name) => [name, options[name]] as const)
  return [...given, ["leakDetection.threshold", options.leakDetection?.threshold] as const].flatMap(([name, input]) =>
    input === undefined || millisOf(input) !== undefined
      ? []
      : [`${name} is ${typeof input === "string" ? `"${input}"` : String(input)}, but must be a duration`]
  )
}

export const settingsOf = <S extends Poolable>(options: PoolOptions<S>): Settings => ({
  acquireTimeout: millis(options.acquireTimeout, 30_000),
  maxWaiting: options.maxWaiting ?? 10_000,
  connectConcurrency: options.connectConcurrency ?? 2,
  permanentPause: millis(options.permanentPause, 30_000),
  failFastAfter: millis(options.failFastAfter, 2_000),
  connectPatience: millis(options.connectPatience, 1_000),
  idleTimeout: millis(options.idleTimeout, 600_000),
  maxLifetime: millis(options.maxLifetime, 1_800_000),
  lifetimeJitter: options.lifetimeJitter ?? 0.1,
  validateAfterIdle: millis(options.validateAfterIdle, 1_000),
  keepalive: millis(options.keepalive, Infinity),
  drainOverflow: options.drainOverflow ?? "hold",
  housekeepingInterval: millis(options.housekeepingInterval, 1_000),
  closeGraceful: millis(options.closeGraceful, 5_000),
  closeHard: millis(options.closeHard, 2_000),
  leakThreshold: options.leakDetection === undefined ? Infinity : millis(options.leakDetection.threshold, Infinity),
  stackEvery: options.leakDetection?.stackEvery ?? 0,
  wrong: [...unknownIn(options), ...wrongDurations(options)]
})

/** 50 ms doubling to 750 ms: a server that is back is found within 750 ms, at fewer than three attempts a second. */
export const defaultConnectBackoff: Schedule.Schedule<unknown, SqlError> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("750 millis")
])

const whole = (name: string, value: number, least: number): Array<string> =>
  Number.isInteger(value) && value >= least
    ? []
    : [`${name} is ${value}, but must be a whole number of at least ${least}`]

const above0 = (name: string, value: number): Array<string> =>
  value > 0 ? [] : [`${name} is ${value} ms, but must be above zero`]

/** Everything that is wrong with a size and its lanes. */
export const sizeIssues = (
  min: number,
  max: number,
  lanes: Iterable<readonly [name: string, reserved: number, cap: number]>
): Array<string> => {
  const issues = [...whole("max", max, 1), ...whole("min", min, 0)]
  if (min > max) issues.push(`min (${min}) is above max (${max})`)
  let reserved = 0
  for (const [name, laneReserved, cap] of lanes) {
    issues.push(...whole(`lanes.${name}.reserved`, laneReserved, 0))
    if (cap !== Infinity) issues.push(...whole(`lanes.${name}.cap`, cap, 1))
    if (laneReserved > cap) issues.push(`lane ${name} reserves ${laneReserved} sessions, but its cap is ${cap}`)
    reserved += laneReserved
  }
  if (reserved > max) issues.push(`the lanes reserve ${reserved} sessions, but max is ${max}`)
  return issues
}

/** Everything that is wrong with the other settings. */
export const settingsIssues = (settings: Settings, drainBudget: number, control: number): Array<string> => [
  ...settings.wrong,
  ...whole("maxWaiting", settings.maxWaiting, 1),
  ...whole("connectConcurrency", settings.connectConcurrency, 1),
  ...whole("drainBudget", drainBudget, 0),
  ...whole("control", control, 0),
  ...above0("acquireTimeout", settings.acquireTimeout),
  ...above0("maxLifetime", settings.maxLifetime),
  ...above0("idleTimeout", settings.idleTimeout),
  ...above0("housekeepingInterval", settings.housekeepingInterval),
  ...(settings.lifetimeJitter >= 0 && settings.lifetimeJitter < 1
    ? []
    : [`lifetimeJitter is ${settings.lifetimeJitter}, but must be at least 0 and below 1`])
]
