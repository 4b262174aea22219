/** Values that people type, JSON brings and programs compute, where they do not belong. */
import * as Duration from "effect/Duration"

export const hostile: ReadonlyArray<unknown> = [
  0,
  -1,
  0.5,
  1.5,
  1e300,
  Number.MAX_SAFE_INTEGER,
  Number.NaN,
  Infinity,
  -Infinity,
  "",
  "soon",
  "5",
  "-5 seconds",
  "40 days",
  "infinity",
  null,
  true,
  [],
  [Number.NaN, 1],
  {},
  { seconds: Number.NaN },
  { fortnights: 2 },
  Object.create(null),
  () => 1,
  Symbol("x"),
  10n,
  new Date(0),
  Duration.millis(-1)
]

/** Sets a field by its path: `lanes.report.cap`. */
export const withField = (path: string, value: unknown, base: object = {}): object => {
  const [first, ...rest] = path.split(".")
  const inner = (base as Record<string, unknown>)[first!] as object | undefined
  return { ...base, [first!]: rest.length === 0 ? value : withField(rest.join("."), value, inner) }
}

/** Whether a message names a field. */
export const isShown = (message: string, path: string): boolean =>
  ["is ", "("].some((what) => message.includes(`${path} ${what}`)) ||
  [": ", ".", "["].some((what) => message.includes(`${path}${what}`))
