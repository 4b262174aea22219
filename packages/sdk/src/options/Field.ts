/**
 * One option: what it may be, its default, and its variable of the environment. A group of options is a table of fields, and
 * everything else about them follows from the table.
 *
 * Values come from JSON and plain JavaScript too, so each may be anything: it is refused by its name with what would do, or it
 * works.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { InvalidConfiguration } from "../ReportError.ts"
import { unknownFields } from "./names.ts"

/** What is wrong with an option. */
export type Issue = InvalidConfiguration["issues"][number]
export type Issues = ReadonlyArray<Issue>

/** `Given` is what a user may write, `Read` what the code that serves it reads. */
export interface Field<in out Given, out Read = Given, out Default = unknown> {
  /** What is wrong with a value, under the name by which its user knows it. */
  readonly check: (value: unknown, name: string) => Issues
  readonly read: (value: Given) => Read
  readonly default: Default
  readonly isRequired: boolean
  /** The variable of the environment, without prefix, and how its text is read; `undefined`: it cannot be. */
  readonly variable: string | undefined
  readonly parse: (text: string) => Given | undefined
  /** What such a text must be, where it is not what the option must be. */
  readonly text: string | undefined
  /** The fields inside, where it is a group; `each`: of each of several, by name. */
  readonly inside: Table | undefined
  readonly each: Table | undefined
}

/** The fields of a group. With an options type, exactly its fields, each of which takes exactly what the type says. */
export type Table<Options = Readonly<Record<string, any>>> = {
  readonly [K in keyof Options]-?: Field<Exclude<Options[K], undefined>, any>
}

/** What the code reads: durations are milliseconds, and what was left out has its default. */
export type Filled<T> = {
  readonly [K in keyof T]: T[K] extends Field<any, infer Read, infer Default> ? Read | Default : never
}

/** Holds a table to a type that its room cannot import. */
export const tableOf =
  <Options>() =>
  <const T extends Table<Options>>(table: T & { readonly [K in Exclude<keyof T, keyof Options>]: never }): T =>
    table

/** What all kinds of fields may say of themselves. What the place asks for is no reason for a default: `NoInfer` in their types. */
export interface About<Default> {
  readonly default?: Default
  readonly required?: boolean
  readonly variable?: string
}

interface Kind<Given, Read> {
  readonly check: (value: unknown, name: string) => Issues
  readonly read?: (value: Given) => Read
  readonly parse?: (text: string) => Given | undefined
  readonly text?: string
  readonly inside?: Table
  readonly each?: Table
}

const make = <Given, Read = Given, const Default = undefined>(
  { check, each, inside, parse, read, text }: Kind<Given, Read>,
  about: About<Default> = {}
): Field<Given, Read, Default> => ({
  check,
  read: read ?? ((value) => value as unknown as Read),
  default: about.default as Default,
  isRequired: about.required === true,
  variable: about.variable,
  parse: parse ?? ((text) => text as Given),
  text,
  inside,
  each
})

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

export const wrong = (name: string, value: unknown, expected: string): Issues => [
  { name, value: show(value), expected }
]

/** A kind that is one question. `hidden`: the value may be a secret, or hold one. */
const kind =
  (takes: (value: unknown) => boolean, expected: string, hidden = false): Kind<any, any>["check"] =>
  (value, name) =>
    takes(value) ? [] : hidden ? [{ name, expected }] : wrong(name, value, expected)

// Durations

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

const textUnits: ReadonlyArray<readonly [names: RegExp, millis: number]> = [
  [/^(?:ms|milli(?:second)?s?)$/i, 1],
  [/^(?:|s|sec|seconds?)$/i, 1000],
  [/^(?:m|min|minutes?)$/i, 60_000],
  [/^(?:h|hours?)$/i, 3_600_000]
]

/** A number alone is seconds: that is what `DB_CONNECTION_TIMEOUT=30` has always meant to its users. */
export const parseDuration = (text: string): Duration.Duration | undefined => {
  if (/^\s*infinity\s*$/i.test(text)) return Duration.infinity
  const [, count, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? []
  const found = unit === undefined ? undefined : textUnits.find(([names]) => names.test(unit))
  return found === undefined ? undefined : Duration.millis(Number(count) * found[1])
}

/** How a duration may be. */
export interface LengthOptions<Default> extends About<Default> {
  readonly zero?: boolean
  readonly infinite?: boolean
  /** Zero and infinity are the same: never. */
  readonly never?: boolean
  readonly most?: Duration.Input
  /**
   * A bare number below it, in milliseconds, is a mistake: whoever writes 30 means the seconds that the variables of the
   * environment have. A text such as "30 millis" is always meant.
   */
  readonly bare?: number
  readonly example?: string
}

export const length = <const Default = undefined>(
  options: LengthOptions<Default> = {}
): Field<Duration.Input, number, NoInfer<Default>> => {
  const { bare = 0, example = "5 seconds", most } = options
  const never = options.never === true
  const zero = never || options.zero === true
  const infinite = never || options.infinite === true
  const longest = most === undefined ? Infinity : Duration.toMillis(Duration.fromInputUnsafe(most))
  const takes = (millis: number | undefined): millis is number =>
    millis !== undefined && (zero || millis > 0) && (infinite || millis < Infinity) && millis <= longest
  const limit = most === undefined ? "" : zero ? ` of at most ${String(most)}` : `, at most ${String(most)}`
  const or = never ? "; 0 or infinity for never" : infinite ? ", or infinity" : ""
  const expected = `a duration${zero ? "" : " above zero"}${limit}, such as ${example}${or}`
  return make<Duration.Input, number, Default>(
    {
      check: (value, name) => {
        const millis = millisOf(value)
        if (!takes(millis)) return wrong(name, value, expected)
        const isBare = (typeof value === "number" || typeof value === "bigint") && millis > 0 && millis < bare
        if (!isBare) return []
        const [meant, written] = [`"${String(value)} seconds"`, `"${Number(millis.toFixed(6))} millis"`]
        return wrong(name, value, `written with its unit, ${meant} or ${written}: a bare number is milliseconds`)
      },
      read: (value) => {
        const millis = millisOf(value) ?? Number.NaN
        return never && millis === 0 ? Infinity : millis
      },
      parse: parseDuration,
      text: "seconds, or a number with a unit, such as 30, 30s, 500ms or 2 minutes"
    },
    options
  )
}

// Other kinds

export const isWhole = (value: unknown, least: number, most = Infinity): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most

export const wholeFrom = (least: number, most = Infinity): string =>
  `a whole number ${most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`}`

export const whole = <const Default = undefined>(
  least: number,
  most = Infinity,
  about?: About<Default>
): Field<number, number, NoInfer<Default>> =>
  make<number, number, Default>(
    {
      check: kind((value) => isWhole(value, least, most), wholeFrom(least, most)),
      parse: (text) => (/^\s*-?\d{1,9}\s*$/.test(text) ? Number(text) : undefined),
      text: wholeFrom(least, most)
    },
    about
  )

/** A number between bounds; `above` and `below` are not taken themselves. */
export const number = <const Default = undefined>(
  about: About<Default> & {
    readonly least?: number
    readonly above?: number
    readonly most?: number
    readonly below?: number
  } = {}
): Field<number, number, NoInfer<Default>> => {
  const { above, below, least, most } = about
  const limits = [
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(least === undefined ? [] : [`of at least ${least}`]),
    ...(below === undefined || below === Infinity ? [] : [`below ${below}`]),
    ...(most === undefined ? [] : [`at most ${most}`])
  ]
  const isWithin = (value: number): boolean =>
    !Number.isNaN(value) &&
    (above === undefined || value > above) &&
    (below === undefined || value < below) &&
    (least === undefined || value >= least) &&
    (most === undefined || value <= most)
  return make<number, number, Default>(
    {
      check: kind(
        (value) => typeof value === "number" && isWithin(value),
        limits.length === 0 ? "a number" : `a number ${limits.join(" and ")}`
      )
    },
    about
  )
}

/** A share: above 0 and at most 1. */
export const share = <const Default = undefined>(about?: About<Default>) => number({ ...about, above: 0, most: 1 })

export const oneOf = <const Allowed extends string | boolean, const Default extends Allowed | undefined = undefined>(
  allowed: ReadonlyArray<Allowed>,
  about?: About<Default>
): Field<Allowed, Allowed, NoInfer<Default>> =>
  make<Allowed, Allowed, Default>(
    { check: kind((value) => allowed.includes(value as Allowed), `one of ${allowed.join(", ")}`) },
    about
  )

export const flag = <const Default = undefined>(about?: About<Default>): Field<boolean, boolean, NoInfer<Default>> =>
  make<boolean, boolean, Default>(
    {
      check: kind((value) => typeof value === "boolean", "true or false"),
      parse: (text) => (text === "true" ? true : text === "false" ? false : undefined),
      text: "true or false"
    },
    about
  )

/** What enters the startup packet ends at a NUL: behind it would stand other parameters. */
export const text = <const Default = undefined>(
  about: About<Default> & { readonly hidden?: boolean } = {}
): Field<string, string, NoInfer<Default>> =>
  make<string, string, Default>(
    {
      check: kind(
        (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
        "a text that is not empty, without NUL characters",
        about.hidden
      )
    },
    about
  )

/** A secret in a bare text would be printed by whoever prints the options. It is not shown here either. */
export const redacted = <Given = Redacted.Redacted>(
  about: About<undefined> & { readonly effect?: boolean; readonly what?: string } = {}
): Field<Given, Given, undefined> =>
  make<Given, Given>(
    {
      check: kind(
        (value) =>
          (Redacted.isRedacted(value) && typeof Redacted.value(value) === "string") ||
          (about.effect === true && Effect.isEffect(value)),
        `Redacted.make(...) of ${about.what ?? "a text"}${about.effect === true ? ", or an Effect of it" : ""}`,
        true
      ),
      parse: (text) => Redacted.make(text) as Given
    },
    about
  )

export const aFunction = <Given = any>(about?: About<undefined>): Field<Given, Given, undefined> =>
  make<Given>({ check: kind((value) => typeof value === "function", "a function") }, about)

export const schedule = <Given = any>(about?: About<undefined>): Field<Given, Given, undefined> =>
  make<Given>({ check: kind(Schedule.isSchedule, "a Schedule") }, about)

export const effect = <Given = any>(about?: About<undefined>): Field<Given, Given, undefined> =>
  make<Given>({ check: kind(Effect.isEffect, "an Effect") }, about)

/** What is made by another function of the SDK: an object that has these members. */
export const made = <Given = any>(
  members: ReadonlyArray<string>,
  by: string,
  about?: About<undefined>
): Field<Given, Given, undefined> =>
  make<Given>({ check: kind((value) => isRecord(value) && members.every((member) => member in value), by) }, about)

/** By a check of its own. */
export const checked = <Given, const Default = undefined>(
  check: Kind<Given, Given>["check"],
  about?: About<Default>
): Field<Given, Given, NoInfer<Default>> => make<Given, Given, Default>({ check }, about)

/** One of a few words, or what another field takes. `read`: what the words are for whoever reads them. */
export const either = <const Word extends string | boolean, Given, Read, Default, ReadWord = Word>(
  words: ReadonlyArray<Word>,
  field: Field<Given, Read, Default>,
  read: (word: Word) => ReadWord = (word) => word as unknown as ReadWord
): Field<Given | Word, Read | ReadWord, Default> => {
  const isWord = (value: unknown): value is Word => words.includes(value as Word)
  return {
    ...field,
    check: (value, name) =>
      isWord(value)
        ? []
        : field.check(value, name).map((issue) => ({
            ...issue,
            expected: `${issue.expected}, or ${words.map((word) => show(word)).join(", ")}`
          })),
    read: (value) => (isWord(value) ? read(value) : field.read(value)),
    parse: (text) => (isWord(text) ? text : field.parse(text))
  }
}

/** An object of options. */
export const group = <Given = any>(
  table: Table,
  example: string,
  about?: About<undefined>
): Field<Given, Given, undefined> =>
  make<Given>(
    {
      check: (value, name) =>
        isRecord(value)
          ? issuesIn(table, value, (field) => `${name}.${field}`)
          : wrong(name, value, `an object such as ${example}`),
      inside: table
    },
    about
  )

/** Objects of options by names of the user's. */
export const groups = <Given = any>(
  table: Table,
  examples: readonly [all: string, one: string],
  about?: About<undefined>
): Field<Given, Given, undefined> =>
  make<Given>(
    {
      check: (value, name) => {
        if (!isRecord(value)) return wrong(name, value, `an object such as ${examples[0]}`)
        const one = group(table, examples[1])
        return Object.entries(value).flatMap(([own, inner]) => one.check(inner, `${name}.${own}`))
      },
      each: table
    },
    about
  )

export const list = <Given = any>(
  one: Kind<any, any>["check"],
  example: string,
  about: About<undefined> & { readonly empty?: boolean } = {}
): Field<Given, Given, undefined> =>
  make<Given>(
    {
      check: (value, name) =>
        Array.isArray(value) && (about.empty === true || value.length > 0)
          ? value.flatMap((inner, index) => one(inner, `${name}[${index}]`))
          : wrong(name, value, `a list such as ${example}`)
    },
    about
  )

// Tables

const same = (field: string): string => field

const issuesOf = (field: Field<any, any>, value: unknown, name: string): Issues =>
  value === undefined && !field.isRequired ? [] : field.check(value, name)

/** Everything that is wrong with options: names that there are not, what is missing, and values that cannot be. */
export const issuesIn = (table: Table, given: unknown, name: (field: string) => string = same): Issues => {
  if (!isRecord(given)) return wrong("options", given, "an object of options")
  return [
    ...unknownIn(table, given, name),
    ...Object.entries(table).flatMap(([field, one]) => issuesOf(one, given[field], name(field)))
  ]
}

/** The options whose values are right, to look at them beside each other: what is wrong is as good as not given. */
export const soundIn = <Options extends object>(table: Table, given: Options): Options =>
  Object.fromEntries(
    Object.entries(given).filter(
      ([name, value]) => Object.hasOwn(table, name) && issuesOf(table[name]!, value, name).length === 0
    )
  ) as Options

/** Names that there are not. */
export const unknownIn = (
  table: Readonly<Record<string, unknown>>,
  given: unknown,
  name: (field: string) => string = same,
  what = "option"
): Issues => {
  const names = Object.keys(table)
  return isRecord(given)
    ? unknownFields(given, names, "", what).map((one) => ({
        name: name(one.name),
        expected: `one of ${names.join(", ")}`,
        problem: one.problem
      }))
    : []
}

/** Those of the options that a table has. */
export const pick = (table: Table, given: unknown): Readonly<Record<string, unknown>> =>
  isRecord(given) ? Object.fromEntries(Object.entries(given).filter(([name]) => Object.hasOwn(table, name))) : {}

/** An issue in one line, as `InvalidConfiguration` tells it. */
export const line = ({ expected, name, problem, value }: Issue): string =>
  `${name}${value === undefined ? "" : ` is ${value}`}: ${problem ?? `must be ${expected}`}`

/** For whom wrong options are a mistake of the program: throws. */
export const refuse = (subject: string, table: Table, given: unknown): void => {
  const [first] = issuesIn(table, given)
  if (first !== undefined) throw new Error(`${subject}: ${line(first)}`)
}

/** What is given, read, and the defaults of what is not. Of options that were checked. */
export const fill = <T extends Table>(table: T, given: object = {}): Filled<T> =>
  Object.fromEntries(
    Object.entries(table).map(([name, field]) => {
      const value = (given as Readonly<Record<string, unknown>>)[name]
      return [name, value === undefined ? field.default : field.read(value)]
    })
  ) as Filled<T>

/** {@link refuse}, then {@link fill}. */
export const readOf = <T extends Table>(subject: string, table: T, given: unknown): Filled<T> => {
  refuse(subject, table, given)
  return fill(table, given as object)
}
