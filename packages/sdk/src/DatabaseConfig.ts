/**
 * Options out of the environment: `DATABASE_URL` or `DB_*`, a `.env` file when there is one, a prefix for a second
 * database. A wrong value is told together with all the others, by the name of its variable.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { readFileSync } from "node:fs"
import { type Field, type Options, type Resolved, resolve } from "./DatabaseOptions.ts"
import { withoutUndefined } from "./options/connectionString.ts"
import { checked, type Issue, issuesIn, show, tableOf, wrong } from "./options/Field.ts"
import { role } from "./options/role.ts"
import { InvalidConfiguration } from "./ReportError.ts"

export { parseDuration } from "./options/Field.ts"

export interface Source {
  /** `"REPLICA"` reads `REPLICA_DATABASE_URL`, `REPLICA_DB_HOST`, ... Default: none. */
  readonly prefix?: string | undefined
  /** The file that fills in what the environment leaves out. `false`: none is read. Default `.env`, which need not exist; one that is named must. */
  readonly dotEnv?: string | false | undefined
}

const file = "a file that can be read; left out for .env if it is there, false for none"

export const sourceFields = tableOf<Source>()({
  prefix: checked<string>((value, name) =>
    typeof value === "string" && /^\w*$/.test(value) ? [] : wrong(name, value, "letters, digits and _, such as REPLICA")
  ),
  // A number would be an open file, and reading it might never end.
  dotEnv: checked<string | false>((value, name) =>
    value === false || (typeof value === "string" && value !== "") ? [] : wrong(name, value, file)
  )
})

/** Reads and checks everything, with options in code winning over the environment. */
export const load = (
  subject: string,
  source: Source = {},
  overrides: Options = {}
): Effect.Effect<Resolved, InvalidConfiguration> =>
  Effect.gen(function* () {
    const unusable = issuesIn(sourceFields, source)
    if (unusable.length > 0) return yield* new InvalidConfiguration({ subject, issues: unusable })
    const prefix = source.prefix === undefined || source.prefix === "" ? "" : `${source.prefix.replace(/_$/, "")}_`
    const environment = yield* ConfigProvider.ConfigProvider
    const issues: Array<Issue> = []
    const { dotEnv = ".env" } = source
    const contents = dotEnv === false ? undefined : readDotEnv(dotEnv)
    if (contents === undefined && typeof source.dotEnv === "string") issues.push(...wrong("dotEnv", dotEnv, file))
    const provider = contents === undefined ? environment : ConfigProvider.orElse(environment, contents)

    const options: { [K in Field]?: unknown } = {}
    const variableOf = (field: Field): string => {
      const { variable } = role[field]
      return variable === undefined ? field : `${prefix}${variable}`
    }
    for (const [field, { parse, text, variable }] of Object.entries(role)) {
      if (variable === undefined) continue
      const name = variableOf(field as Field)
      const found = yield* Config.option(Config.String(name)).parse(provider)
      if (Option.isNone(found) || found.value === "") continue
      const value = parse(found.value)
      if (value === undefined) issues.push({ name, value: show(found.value), expected: text! })
      else options[field as Field] = value
    }
    // A URL in code is the whole address: single fields of the environment must not bend it.
    const address = overrides.url === undefined ? (options as Options) : omitAddress(options as Options)
    const resolved = resolve(subject, { ...address, ...withoutUndefined(overrides) }, (field) =>
      overrides[field] === undefined ? variableOf(field) : field
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

const readDotEnv = (path: string): ConfigProvider.ConfigProvider | undefined => {
  try {
    return ConfigProvider.fromDotEnvContents(readFileSync(path, "utf8"))
  } catch {
    // No file is the usual case in production, where the environment is complete.
    return undefined
  }
}
