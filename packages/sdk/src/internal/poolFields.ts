/**
 * What the fields of a pool's options must be, whoever is given them: a role (`DatabaseOptions.ts`) or the pool itself
 * (`PoolOptions.ts`). Values come from JSON and JavaScript too, so each may be anything.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** A value that cannot be: its field, what it looks like, and what would do. */
export interface Wrong {
  readonly name: string
  readonly value: string
  readonly expected: string
}

type Wrongs = ReadonlyArray<Wrong>

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** A value in a line, whatever it is. */
export const show = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 60))
  if (Duration.isDuration(value)) return String(value)
  if (Array.isArray(value)) return "a list"
  if (typeof value === "function") return "a function"
  return typeof value === "object" && value !== null ? "an object" : String(value)
}

const wrong = (name: string, value: unknown, expected: string): Wrongs => [{ name, value: show(value), expected }]

const units = new Set(["weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"])

/** Effect takes numbers that are none, and objects that it does not know, for a duration of zero. */
const isLength = (input: unknown): boolean => {
  if (Duration.isDuration(input)) return true
  if (Array.isArray(input)) return input.length === 2 && input.every(Number.isFinite)
  if (!isRecord(input)) return !Number.isNaN(input)
  const parts = Object.entries(input)
  return parts.length > 0 && parts.every(([unit, value]) => units.has(unit) && Number.isFinite(value))
}

/** The milliseconds of a duration; `"infinity"` is one. `undefined`: none, or one that nobody can wait for. */
export const millisOf = (input: unknown): number | undefined => {
  if (typeof input === "string" && /^infinity$/i.test(input)) return Infinity
  if (!isLength(input)) return undefined
  const length = Option.map(Duration.fromInput(input as Duration.Input), Duration.toMillis)
  return Option.isSome(length) && length.value >= 0 ? length.value : undefined
}

/** As {@link millisOf}, of a limit that is switched off by zero. */
export const limitOf = (input: unknown): number | undefined => {
  const millis = millisOf(input)
  return millis === 0 ? Infinity : millis
}

export const wholeWrongs = (name: string, value: unknown, least: number, most = Infinity): Wrongs =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most
    ? []
    : wrong(name, value, `a whole number ${most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`}`)

/** `zero` and `infinite`: whether they may be. */
export const lengthWrongs = (
  name: string,
  value: unknown,
  { infinite = false, zero = false }: { readonly zero?: boolean; readonly infinite?: boolean }
): Wrongs => {
  const millis = millisOf(value)
  if (millis !== undefined && (zero || millis > 0) && (infinite || millis < Infinity)) return []
  const or = infinite ? ", or infinity" : ""
  return wrong(name, value, `a duration${zero ? "" : " above zero"}, such as 5 seconds${or}`)
}

export const oneOfWrongs = (name: string, value: unknown, allowed: ReadonlyArray<string>): Wrongs =>
  allowed.includes(value as string) ? [] : wrong(name, value, `one of ${allowed.join(", ")}`)

/** An object of options, or nothing: then its fields are looked at. */
export const groupWrongs = (
  name: string,
  value: unknown,
  example: string,
  inside: (fields: Readonly<Record<string, unknown>>) => Wrongs
): Wrongs => {
  if (value === undefined) return []
  return isRecord(value) ? inside(value) : wrong(name, value, `an object such as ${example}`)
}

/** Nothing given is right: the default holds. */
export const optional = (value: unknown, check: () => Wrongs): Wrongs => (value === undefined ? [] : check())

/** How long a session may be idle, and how old it may get. */
export const lifetimes = (
  idleTimeout: unknown,
  maxLifetime: unknown,
  defaults: { readonly idleTimeout: number; readonly maxLifetime: number },
  names: { readonly idleTimeout: string; readonly maxLifetime: string }
): { readonly idleTimeout: number; readonly maxLifetime: number; readonly wrongs: Wrongs } => {
  const check = (name: string, value: unknown): Wrongs =>
    optional(value, () =>
      millisOf(value) === undefined ? wrong(name, value, "a duration such as 10 minutes; 0 or infinity for never") : []
    )
  const oldest = maxLifetime === undefined ? defaults.maxLifetime : (limitOf(maxLifetime) ?? Infinity)
  // The default gives way to a lifetime that is shorter; whoever names both means both.
  const idle = idleTimeout === undefined ? Math.min(defaults.idleTimeout, oldest) : (limitOf(idleTimeout) ?? Infinity)
  const most = `at most ${names.maxLifetime} (${Duration.format(Duration.millis(oldest))}); 0 or infinity for never`
  return {
    idleTimeout: idle,
    maxLifetime: oldest,
    wrongs: [
      ...check(names.idleTimeout, idleTimeout),
      ...check(names.maxLifetime, maxLifetime),
      ...(idle > oldest && idle < Infinity ? wrong(names.idleTimeout, idleTimeout, most) : [])
    ]
  }
}

export const leakWrongs = (leak: unknown): Wrongs =>
  groupWrongs("leakDetection", leak, '{ threshold: "1 minute" }', ({ stackEvery, threshold }) => [
    ...lengthWrongs("leakDetection.threshold", threshold, {}),
    ...optional(stackEvery, () => wholeWrongs("leakDetection.stackEvery", stackEvery, 0))
  ])

export const shutdownWrongs = (shutdown: unknown): Wrongs =>
  groupWrongs("shutdown", shutdown, '{ graceful: "5 seconds" }', ({ graceful, hard }) => [
    ...optional(graceful, () => lengthWrongs("shutdown.graceful", graceful, { zero: true })),
    ...optional(hard, () => lengthWrongs("shutdown.hard", hard, { zero: true }))
  ])

/** Which of several servers serve. A word that is not known would mean the wrong ones, in silence. */
export const choiceWrongs = (options: {
  readonly target?: unknown
  readonly fallback?: unknown
  readonly maxLag?: unknown
  readonly zone?: unknown
  readonly followerReads?: unknown
}): Wrongs => {
  const { fallback, followerReads, maxLag, target, zone } = options
  const text = typeof zone === "string" && zone !== ""
  return [
    ...optional(target, () => oneOfWrongs("target", target, ["primary", "replica", "any"])),
    ...optional(fallback, () => oneOfWrongs("fallback", fallback, ["primary"])),
    ...optional(maxLag, () => lengthWrongs("maxLag", maxLag, { zero: true, infinite: true })),
    ...optional(zone, () => (text ? [] : wrong("zone", zone, "a text that is not empty"))),
    ...optional(followerReads, () =>
      typeof followerReads === "boolean" ? [] : wrong("followerReads", followerReads, "true or false")
    )
  ]
}

/** A lane's own fields. `max`: the sessions of the pool. */
const laneWrongs = (path: string, lane: Readonly<Record<string, unknown>>, max: number): Wrongs => {
  const { cap, maxWaiting, priority, reserved, shared } = lane
  const most = typeof cap === "number" && cap < max ? cap : max
  const whole = (name: string, value: unknown, least: number, most?: number): Wrongs =>
    optional(value, () => wholeWrongs(`${path}.${name}`, value, least, most))
  return [
    ...whole("reserved", reserved, 0, max),
    ...(cap === Infinity ? [] : whole("cap", cap, 1)),
    ...whole("maxWaiting", maxWaiting, 1),
    ...optional(priority, () =>
      typeof priority === "number" && !Number.isNaN(priority) ? [] : wrong(`${path}.priority`, priority, "a number")
    ),
    ...groupWrongs(`${path}.shared`, shared, "{} or { sessions: 2 }", ({ sessions, silence, statements }) => [
      ...whole("shared.sessions", sessions, 1, most),
      ...whole("shared.statements", statements, 1, 10_000),
      ...optional(silence, () => lengthWrongs(`${path}.shared.silence`, silence, { infinite: true }))
    ])
  ]
}

/** Every lane's fields. */
export const lanesWrongs = (lanes: unknown, max: number): Wrongs =>
  groupWrongs("lanes", lanes, "{ report: { cap: 4 } }", (each) =>
    Object.entries(each).flatMap(([name, lane]) => {
      if (!isRecord(lane)) return wrong(`lanes.${name}`, lane, "an object such as { cap: 4 }")
      const { cap, reserved } = lane
      const tooMuch = typeof reserved === "number" && typeof cap === "number" && reserved > cap
      return [
        ...laneWrongs(`lanes.${name}`, lane, max),
        ...(tooMuch ? wrong(`lanes.${name}.reserved`, reserved, `at most the lane's cap (${cap})`) : [])
      ]
    })
  )

/** What the lanes keep for themselves has to be there. Only of lanes that are right by themselves. */
export const reservedWrongs = (
  lanes: Readonly<Record<string, { readonly reserved?: number | undefined }>>,
  max: number,
  maxName: string
): Wrongs => {
  const reserved = Object.values(lanes).reduce((sum, lane) => sum + (lane.reserved ?? 0), 0)
  if (reserved <= max) return []
  return [{ name: "lanes", value: `${reserved} reserved in all`, expected: `at most ${maxName} (${max})` }]
}
