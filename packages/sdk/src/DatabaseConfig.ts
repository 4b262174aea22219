/**
 * Options out of the environment: `DATABASE_URL` or `DB_*`, a `.env` file when there is one, a prefix for a second
 * database. A wrong value is told together with all the others, by the name of its variable.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import {
  type Boot,
  type Field,
  type Options,
  type Pooler,
  rangeOf,
  type Resolved,
  resolve,
  type SslMode,
  variables,
  type Reset
} from "./DatabaseOptions.ts"
import { withoutUndefined } from "./internal/connectionString.ts"
import { show } from "./internal/poolFields.ts"
import type { Profile } from "./Profile.ts"
import { InvalidConfiguration } from "./ReportError.ts"

export interface Source {
  /** `"REPLICA"` reads `REPLICA_DATABASE_URL`, `REPLICA_DB_HOST`, ... Default: none. */
  readonly prefix?: string | undefined
  /** The file that fills in what the environment leaves out. `false`: none is read. Default `.env`, which need not exist; one that is named must. */
  readonly dotEnv?: string | false | undefined
}

/** Reads and checks everything, with options in code winning over the environment. */
export const load = (
  subject: string,
  source: Source = {},
  overrides: Options = {}
): Effect.Effect<Resolved, InvalidConfiguration> =>
  Effect.gen(function* () {
    const prefix = source.prefix === undefined || source.prefix === "" ? "" : `${source.prefix.replace(/_$/, "")}_`
    const environment = yield* ConfigProvider.ConfigProvider
    const issues: Array<InvalidConfiguration["issues"][number]> = []
    const file = source.dotEnv === false ? undefined : readDotEnv(source.dotEnv === undefined ? ".env" : source.dotEnv)
    if (file === undefined && source.dotEnv !== false && source.dotEnv !== undefined) {
      const expected = "a file that can be read; left out for .env if it is there, false for none"
      issues.push({ name: "dotEnv", value: show(source.dotEnv), expected })
    }
    const provider = file === undefined ? environment : ConfigProvider.orElse(environment, file)

    const given: { [K in Field]?: string } = {}
    for (const [field, variable] of Object.entries(variables) as Array<[Field, string]>) {
      const value = yield* Config.option(Config.String(`${prefix}${variable}`)).parse(provider)
      if (Option.isSome(value) && value.value !== "") given[field] = value.value
    }

    const whole = (field: Parameters<typeof rangeOf>[0]): number | undefined => {
      const text = given[field]
      if (text === undefined) return undefined
      if (/^-?\d{1,9}$/.test(text.trim())) return Number(text)
      issues.push({ name: `${prefix}${variables[field]}`, value: `"${text}"`, expected: rangeOf(field) })
      return undefined
    }
    const duration = (field: Field): Duration.Duration | undefined => {
      const text = given[field]
      if (text === undefined) return undefined
      const parsed = parseDuration(text)
      if (parsed !== undefined) return parsed
      issues.push({
        name: `${prefix}${variables[field]}`,
        value: `"${text}"`,
        expected: "seconds, or a number with a unit, such as 30, 30s, 500ms or 2 minutes"
      })
      return undefined
    }
    const options: Options = {
      url: given.url === undefined ? undefined : Redacted.make(given.url),
      host: given.host,
      port: whole("port"),
      name: given.name,
      user: given.user,
      password: given.password === undefined ? undefined : Redacted.make(given.password),
      sslmode: given.sslmode as SslMode | undefined,
      applicationName: given.applicationName,
      minConnections: whole("minConnections"),
      maxConnections: whole("maxConnections"),
      connectionTimeout: duration("connectionTimeout"),
      connectTimeout: duration("connectTimeout"),
      maxWaiting: whole("maxWaiting"),
      idleTimeout: duration("idleTimeout"),
      maxLifetime: duration("maxLifetime"),
      statementTimeout: duration("statementTimeout"),
      maxMessageSize: whole("maxMessageSize"),
      reset: given.reset as Reset | undefined,
      profile: given.profile as Profile | undefined,
      pooler: given.pooler as Pooler | undefined,
      boot: given.boot as Boot | undefined
    }
    // A URL in code is the whole address: single fields of the environment must not bend it.
    const address = overrides.url === undefined ? options : omitAddress(options)
    const resolved = resolve(subject, { ...address, ...withoutUndefined(overrides) }, (field) =>
      overrides[field] === undefined ? `${prefix}${variables[field]}` : field
    )
    if (Result.isSuccess(resolved) && issues.length === 0) return resolved.success
    const more = Result.isFailure(resolved) ? resolved.failure.issues : []
    return yield* new InvalidConfiguration({ subject, issues: [...issues, ...more] })
  }).pipe(
    Effect.catchTag("ConfigError", (error) =>
      Effect.fail(
        new InvalidConfiguration({
          subject,
          issues: [{ name: "configuration", expected: `readable: ${error.message}` }]
        })
      )
    )
  )

const omitAddress = ({
  host: _h,
  name: _n,
  password: _p,
  port: _o,
  sslmode: _s,
  user: _u,
  ...rest
}: Options): Options => rest

const readDotEnv = (path: unknown): ConfigProvider.ConfigProvider | undefined => {
  // A number would be an open file, and reading it might never end.
  if (typeof path !== "string") return undefined
  try {
    return ConfigProvider.fromDotEnvContents(readFileSync(path, "utf8"))
  } catch {
    // No file is the usual case in production, where the environment is complete.
    return undefined
  }
}

const units: Readonly<Record<string, number>> = {
  ms: 1,
  milli: 1,
  millis: 1,
  millisecond: 1,
  milliseconds: 1,
  s: 1000,
  sec: 1000,
  second: 1000,
  seconds: 1000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  hours: 3_600_000
}

/** A number alone is seconds: that is what `DB_CONNECTION_TIMEOUT=30` has always meant to its users. */
export const parseDuration = (text: string): Duration.Duration | undefined => {
  if (/^\s*infinity\s*$/i.test(text)) return Duration.infinity
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text)
  if (match === null) return undefined
  const unit = match[2] === "" ? 1000 : units[match[2]!.toLowerCase()]
  return unit === undefined ? undefined : Duration.millis(Number(match[1]) * unit)
}
