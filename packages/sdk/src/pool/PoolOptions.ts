/**
 * What a pool is told at its start: the options with their defaults, and the check that they can hold together.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { fill, type Filled, issuesIn, line, soundIn, tableOf } from "../options/Field.ts"
import { poolFields as fields } from "../options/pool.ts"
import { laneIssues, leakDetection, lifetimeIssues } from "../options/role.ts"
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
  /** What a failed connect means. `password` is tried once more after `refreshPassword`, then it is permanent, as `login` is. */
  readonly classifyConnect: (error: SqlError) => "transient" | "permanent" | "password" | "login"
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
  /** Idle sessions above `min` are closed after this; 0 or infinity: never. Default 10 minutes, or `maxLifetime` if that is less. */
  readonly idleTimeout?: Duration.Input | undefined
  /** No session gets older, except in the hands of its holder; 0 or infinity: no limit. Default 30 minutes. */
  readonly maxLifetime?: Duration.Input | undefined
  /** Each session's lifetime is shorter than `maxLifetime` by a random part of this fraction. Default 0.1. */
  readonly lifetimeJitter?: number | undefined
  /** A session that has been silent for longer is asked for a sign of life before it is used. Default 1 second. */
  readonly validateAfterIdle?: Duration.Input | undefined
  /** Idle sessions are asked for a sign of life this often; 0 or infinity: never. Default: never. */
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

const table = tableOf<PoolOptions<any>>()(fields)

/** The options in the pool's own units, filled in: milliseconds and whole numbers. */
export interface Settings extends Filled<typeof table> {
  readonly leakThreshold: number
  readonly stackEvery: number
}

export const settingsOf = (options: PoolOptions<any>): Settings => {
  const filled = fill(table, options)
  const { stackEvery, threshold } = fill(leakDetection, options.leakDetection)
  return {
    ...filled,
    // The default gives way to a lifetime that is shorter; whoever names both means both.
    idleTimeout:
      options.idleTimeout === undefined ? Math.min(filled.idleTimeout, filled.maxLifetime) : filled.idleTimeout,
    leakThreshold: threshold ?? Infinity,
    stackEvery
  }
}

/** 50 ms doubling to 750 ms: a server that is back is found within 750 ms, at fewer than three attempts a second. */
export const defaultConnectBackoff: Schedule.Schedule<unknown, SqlError> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("750 millis")
])

/** The lanes within `max`: the control lane's sessions are its own, where it has any. */
const lanesWithin = ({ lanes }: PoolOptions<any>, control: number): NonNullable<PoolOptions<any>["lanes"]> =>
  Object.fromEntries(Object.entries(lanes ?? {}).filter(([name]) => name !== controlLane || control === 0))

/** What is wrong with sizes that are right by themselves, and with what the lanes keep of them. */
const sizeIssues = (options: PoolOptions<any>, min: number, max: number, control: number): Array<string> => [
  ...(min > max ? [`min (${min}) is above max (${max})`] : []),
  ...laneIssues(lanesWithin(options, control), max, "max").map(line)
]

export interface Sizes {
  readonly min: number
  readonly max: number
  readonly control: number
  readonly drainBudget: number
}

/** The sizes of a new pool, whose options are right. */
export const sizesOf = (options: PoolOptions<any>): Sizes => {
  const { control, max, min } = fill(table, options)
  return {
    max,
    min: options.min ?? Math.min(min, max),
    control,
    drainBudget: options.drainBudget ?? Math.max(1, Math.ceil(max / 4))
  }
}

/** Everything that is wrong with the options of a new pool. */
export const optionIssues = (options: PoolOptions<any>): Array<string> => {
  const issues = issuesIn(table, options).map(line)
  if (typeof options !== "object" || options === null) return issues
  const sound = soundIn(table, options)
  const isSound = (name: "max" | "maxLifetime"): boolean => options[name] === undefined || sound[name] !== undefined
  const { control, max, min } = sizesOf(sound)
  const names = { idleTimeout: "idleTimeout", maxLifetime: "maxLifetime" }
  return [
    ...issues,
    ...(isSound("maxLifetime") ? lifetimeIssues(sound.idleTimeout, settingsOf(sound), names).map(line) : []),
    ...(isSound("max") ? sizeIssues(sound, min, max, control) : [])
  ]
}

const sizeFields = { min: fields.min, max: fields.max }

/** What is wrong with a new size of a living pool, which was `now`. */
export const resizeIssues = (options: PoolOptions<any>, size: unknown, now: Sizes): Array<string> => {
  const issues = issuesIn(sizeFields, size).map(line)
  if (issues.length > 0) return issues
  const { max, min } = resized(size as Partial<Sizes>, now)
  return sizeIssues(options, min, max, now.control)
}

/** A new size that was given in part: the minimum gives way to a maximum that is less. */
export const resized = (
  size: { readonly min?: number | undefined; readonly max?: number | undefined },
  now: Pick<Sizes, "min" | "max">
): Pick<Sizes, "min" | "max"> => {
  const max = size.max ?? now.max
  return { max, min: size.min ?? Math.min(now.min, max) }
}
