/**
 * What a pool is told at its start: the options with their defaults, and the check that they can hold together.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { fields, unknownFields } from "../internal/fields.ts"
import {
  groupWrongs,
  isRecord,
  lanesWrongs,
  leakWrongs,
  lengthWrongs,
  lifetimes,
  limitOf,
  millisOf,
  oneOfWrongs,
  optional,
  reservedWrongs,
  show,
  wholeWrongs,
  type Wrong
} from "../internal/poolFields.ts"
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

const none = (given: unknown, names: ReadonlyArray<string>, path = ""): ReadonlyArray<string> =>
  isRecord(given) ? unknownFields(given, names, path).map(({ name, problem }) => `${name}: ${problem}`) : []

const unknownIn = ({ boot, hooks, lanes, leakDetection, ...options }: PoolOptions<any>): ReadonlyArray<string> => [
  ...none(options, known.pool),
  ...none(boot, known.boot, "boot."),
  ...none(hooks, known.hooks, "hooks."),
  ...Object.entries(lanes ?? {}).flatMap(([name, lane]) => none(lane, known.lane, `lanes.${name}.`)),
  ...none(leakDetection, known.leakDetection, "leakDetection.")
]

/** How each duration may be. */
const durations = {
  acquireTimeout: { infinite: true },
  permanentPause: {},
  failFastAfter: { zero: true, infinite: true },
  connectPatience: { zero: true, infinite: true },
  validateAfterIdle: { zero: true, infinite: true },
  keepalive: { zero: true, infinite: true },
  housekeepingInterval: { infinite: true },
  closeGraceful: { zero: true, infinite: true },
  closeHard: { zero: true, infinite: true }
} as const

const isFunction = (name: string, value: unknown): ReadonlyArray<Wrong> =>
  value === undefined || typeof value === "function" ? [] : [{ name, value: show(value), expected: "a function" }]

const isSchedule = (name: string, value: unknown): ReadonlyArray<Wrong> =>
  value === undefined || Schedule.isSchedule(value) ? [] : [{ name, value: show(value), expected: "a Schedule" }]

/** Fields whose value cannot be, whatever the others are. */
const wrongIn = (options: PoolOptions<any>): ReadonlyArray<Wrong> => {
  const { boot, drainOverflow, hooks, leakDetection, lifetimeJitter: jitter = 0, listener } = options
  return [
    ...Object.entries(durations).flatMap(([name, may]) => {
      const value = options[name as keyof typeof durations]
      return optional(value, () => lengthWrongs(name, value, may))
    }),
    ...lifetimesOf(options).wrongs,
    ...leakWrongs(leakDetection),
    ...optional(drainOverflow, () => oneOfWrongs("drainOverflow", drainOverflow, ["hold", "destroy"])),
    ...(typeof jitter === "number" && jitter >= 0 && jitter < 1
      ? []
      : [{ name: "lifetimeJitter", value: show(jitter), expected: "at least 0 and below 1" }]),
    ...isSchedule("connectBackoff", options.connectBackoff),
    ...groupWrongs("boot", boot, '{ mode: "fill" }', ({ mode, schedule }) => [
      ...oneOfWrongs("boot.mode", mode, ["lazy", "connect-one", "fill"]),
      ...isSchedule("boot.schedule", schedule)
    ]),
    ...groupWrongs("hooks", hooks, "{ afterConnect }", (each) =>
      known.hooks.flatMap((name) => isFunction(`hooks.${name}`, each[name]))
    ),
    ...groupWrongs("listener", listener, "{ onEvent }", ({ onAcquire, onEvent, onRelease }) => [
      ...isFunction("listener.onAcquire", onAcquire),
      ...isFunction("listener.onEvent", onEvent),
      ...isFunction("listener.onRelease", onRelease)
    ])
  ]
}

const lifetimesOf = ({ idleTimeout, maxLifetime }: PoolOptions<any>) =>
  lifetimes(
    idleTimeout,
    maxLifetime,
    { idleTimeout: 600_000, maxLifetime: 1_800_000 },
    { idleTimeout: "idleTimeout", maxLifetime: "maxLifetime" }
  )

const millis = (input: Duration.Input | undefined, otherwise: number): number =>
  input === undefined ? otherwise : (millisOf(input) ?? otherwise)

export const settingsOf = <S extends Poolable>(options: PoolOptions<S>): Settings => {
  const { idleTimeout, maxLifetime } = lifetimesOf(options)
  return {
    acquireTimeout: millis(options.acquireTimeout, 30_000),
    maxWaiting: options.maxWaiting ?? 10_000,
    connectConcurrency: options.connectConcurrency ?? 2,
    permanentPause: millis(options.permanentPause, 30_000),
    failFastAfter: millis(options.failFastAfter, 2_000),
    connectPatience: millis(options.connectPatience, 1_000),
    idleTimeout,
    maxLifetime,
    lifetimeJitter: options.lifetimeJitter ?? 0.1,
    validateAfterIdle: millis(options.validateAfterIdle, 1_000),
    keepalive: limitOf(options.keepalive ?? Infinity) ?? Infinity,
    drainOverflow: options.drainOverflow ?? "hold",
    housekeepingInterval: millis(options.housekeepingInterval, 1_000),
    closeGraceful: millis(options.closeGraceful, 5_000),
    closeHard: millis(options.closeHard, 2_000),
    leakThreshold: millis(options.leakDetection?.threshold, Infinity),
    stackEvery: options.leakDetection?.stackEvery ?? 0
  }
}

/** 50 ms doubling to 750 ms: a server that is back is found within 750 ms, at fewer than three attempts a second. */
export const defaultConnectBackoff: Schedule.Schedule<unknown, SqlError> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("750 millis")
])

const told = (wrongs: ReadonlyArray<Wrong>): Array<string> =>
  wrongs.map(({ expected, name, value }) => `${name} is ${value}, but must be ${expected}`)

/** The lanes within `max`: the control lane's sessions are its own, where it has any. */
const lanesWithin = ({ lanes }: PoolOptions<any>, control: number): NonNullable<PoolOptions<any>["lanes"]> =>
  Object.fromEntries(Object.entries(lanes ?? {}).filter(([name]) => name !== controlLane || control === 0))

/** Everything that is wrong with a size, and with what the lanes keep of it. */
export const sizeIssues = (options: PoolOptions<any>, min: number, max: number, control: number): Array<string> => {
  const wrongs = [...wholeWrongs("max", max, 1), ...wholeWrongs("min", min, 0)]
  if (wrongs.length > 0) return told(wrongs)
  return [
    ...(min > max ? [`min (${min}) is above max (${max})`] : []),
    ...told(reservedWrongs(lanesWithin(options, control), max, "max"))
  ]
}

export interface Sizes {
  readonly min: number
  readonly max: number
  readonly control: number
  readonly drainBudget: number
}

/** The sizes of a new pool; what was given is not checked yet. */
export const sizesOf = (options: PoolOptions<any>): Sizes => {
  const max = options.max ?? 20
  const known = Number.isInteger(max)
  return {
    max,
    min: options.min ?? (known ? Math.min(2, max) : 0),
    control: options.control ?? 1,
    drainBudget: options.drainBudget ?? (known ? Math.max(1, Math.ceil(max / 4)) : 1)
  }
}

/** Everything that is wrong with the options of a new pool. */
export const optionIssues = (
  options: PoolOptions<any>,
  settings: Settings,
  { control, drainBudget, max, min }: Sizes
): Array<string> => {
  const lanes = lanesWrongs(options.lanes, Number.isInteger(max) ? max : Infinity)
  return [
    ...unknownIn(options),
    ...told([
      ...lanes,
      ...wrongIn(options),
      ...wholeWrongs("maxWaiting", settings.maxWaiting, 1),
      ...wholeWrongs("connectConcurrency", settings.connectConcurrency, 1),
      ...wholeWrongs("drainBudget", drainBudget, 0),
      ...wholeWrongs("control", control, 0)
    ]),
    ...sizeIssues(lanes.length > 0 ? { ...options, lanes: {} } : options, min, max, control)
  ]
}
