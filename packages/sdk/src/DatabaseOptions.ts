/**
 * The options of a role's pool: one table of names, defaults and limits, for options in code and for variables of the
 * environment alike.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { parseAddress, parseUrl, Refusal, validPort, withoutUndefined } from "./internal/connectionString.ts"
import { bareSecrets, brokenMaterial, unknownIn } from "./internal/databaseFields.ts"
import {
  choiceWrongs,
  lanesWrongs,
  leakWrongs,
  lengthWrongs,
  lifetimes,
  millisOf,
  optional,
  reservedWrongs,
  show as showAny,
  shutdownWrongs,
  wholeWrongs
} from "./internal/poolFields.ts"
import { type Profile, profiles, traits } from "./Profile.ts"
import { InvalidConfiguration } from "./ReportError.ts"

/** How much of TLS is asked for, as libpq means it. */
export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full"

/** Certificates in PEM. */
export interface TlsMaterial {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: Redacted.Redacted | undefined
  readonly servername?: string | undefined
}

/**
 * What a name with several addresses is. `each`: every address is a server of its own, found and left as the name's
 * addresses change. `any`: the name is one server, and a session goes to whichever address answers.
 */
export type Addresses = "each" | "any"

/** What stands between the service and the server. `transaction`: PgBouncer and its like in transaction mode. */
export type Pooler = "none" | "transaction"

/** What is undone before another caller gets a session. */
export type Reset = "changed" | "always" | "never"

/** When the layer counts as built. `lazy`: at once. `connect-one`: with one session. `fill`: with `minConnections`. */
export type Boot = "lazy" | "connect-one" | "fill"

/** What a role asks of a server, where there are several. */
export type Target = "primary" | "replica" | "any"

/** Where a server is. */
export interface Address {
  readonly host: string
  /** Default: the option `port`. */
  readonly port?: number | undefined
  /** Where the name leads, if it is not to be looked up: libpq's `hostaddr`. TLS still checks the name. */
  readonly address?: string | undefined
  readonly zone?: string | undefined
}

/** The options of a role's pool. What is left out has the default of {@link defaults}; a `url` gives way to single fields. */
export interface Options {
  /** `postgres://user:password@host:port/name?sslmode=...&application_name=...` */
  readonly url?: Redacted.Redacted | undefined
  /** Name, address, or the directory of a unix socket; several with commas, each with `:port` if it differs. Default `localhost`. */
  readonly host?: string | undefined
  /** Default 5432. */
  readonly port?: number | undefined
  /** The database's name. Default: the user's name. */
  readonly name?: string | undefined
  /** Default `postgres`. */
  readonly user?: string | undefined
  /** A value, or an Effect that is asked at every connect (and once more after a refusal), so that passwords may rotate. */
  readonly password?: Redacted.Redacted | Effect.Effect<Redacted.Redacted, unknown> | undefined
  /** Default `prefer`, as libpq; with `tls` it is `verify-full`. */
  readonly sslmode?: SslMode | undefined
  /** Certificates in PEM: a value, or an Effect that is asked at every connect (and once more after a refusal), so that they may rotate. */
  readonly tls?: TlsMaterial | Effect.Effect<TlsMaterial, unknown> | undefined
  /** Shown by the server. Default `database/role`. */
  readonly applicationName?: string | undefined
  /** Sessions kept open. Default 2, or `maxConnections` if that is less. Equal to `maxConnections` makes a fixed pool, the best choice for a service. */
  readonly minConnections?: number | undefined
  /** Sessions at most. Default 20. */
  readonly maxConnections?: number | undefined
  /** The longest a caller waits for a session, connecting included. Default 30 seconds. */
  readonly connectionTimeout?: Duration.Input | undefined
  /** The longest one connect may take. Default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Callers that may wait; one more is refused at once. Default 1000. */
  readonly maxWaiting?: number | undefined
  /**
   * A session above the minimum is closed after this long without use; 0 or infinity: never. Default 10 minutes (HikariCP's), or
   * `maxLifetime` if that is less; a longer one is refused.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /** A session is replaced before this age; 0 or infinity: never. Default 30 minutes (HikariCP's). */
  readonly maxLifetime?: Duration.Input | undefined
  /** The server ends a statement after this long. Default 60 seconds (slonik's); shorter attempts are cut by their own timeout. */
  readonly statementTimeout?: Duration.Input | undefined
  /** The longest message that a server may send, in bytes: a value, or a row. Default 16 MiB (the driver's). A longer one costs the session. */
  readonly maxMessageSize?: number | undefined
  /**
   * What is undone before another caller gets a session. `changed`: what the session knows to have changed. `always`: everything,
   * one round trip after each use. `never`: nothing but an open transaction. Default `changed`; see the README for its limits.
   */
  readonly reset?: Reset | undefined
  /** Settings of each session from its start, such as `search_path`; a reset comes back to them. Not behind a pooler. Default: none. */
  readonly startupParameters?: Readonly<Record<string, string>> | undefined
  /** What the servers are, see `Profile`. Default `postgres`. */
  readonly profile?: Profile | undefined
  /** Default: as the profile says; else `none`. */
  readonly pooler?: Pooler | undefined
  /** Default `lazy`. */
  readonly boot?: Boot | undefined
  /** The servers of the database, in place of `host` and `port`: `"10.0.0.1:5432"`, or with a zone. */
  readonly hosts?: ReadonlyArray<string | Address> | undefined
  /** What a name with several addresses is. Default: `each` in a list of servers, `any` for one; `any` where the profile says that an endpoint switches. */
  readonly addresses?: Addresses | undefined
  /** This role may read a little of the past from the nearest copy, and never writes. CockroachDB and YugabyteDB. Default: no. */
  readonly followerReads?: boolean | undefined
  /** Which of several servers serve. Default: the role's name, if it is `primary` or `replica`; else `any`. */
  readonly target?: Target | undefined
  /** A replica farther behind does not serve. Default: any distance. */
  readonly maxLag?: Duration.Input | undefined
  /** Where no replica serves, the primary does. Default: none. */
  readonly fallback?: "primary" | undefined
  /** Servers of this zone are preferred. */
  readonly zone?: string | undefined
  /**
   * When the layer is closed (SIGTERM): new callers are refused at once, those who wait or hold a session have `graceful`
   * (default 5 seconds); then what runs is cancelled, and after `hard` more (default 2 seconds) sessions are destroyed.
   */
  readonly shutdown?:
    | { readonly graceful?: Duration.Input | undefined; readonly hard?: Duration.Input | undefined }
    | undefined
  /** Shares of the pool by name. A lane that is not named here has neither reserve nor cap. */
  readonly lanes?: Readonly<Record<string, LaneOptions>> | undefined
  /** Reports holders beyond a threshold, with the stack of every n-th lease. Default: off. */
  readonly leakDetection?: { readonly threshold: Duration.Input; readonly stackEvery?: number | undefined } | undefined
}

/** A named share of the pool. */
export interface LaneOptions {
  /** Sessions of `maxConnections` that no other lane may use. Default 0. */
  readonly reserved?: number | undefined
  /** The most sessions this lane may hold at once. Default `maxConnections`. */
  readonly cap?: number | undefined
  /** The most callers that may wait in this lane. Default `maxWaiting`. */
  readonly maxWaiting?: number | undefined
  /** Priority of requests that name none; higher is served first. Default 0. */
  readonly priority?: number | undefined
  /**
   * Puts statements of several callers on one session, in one write: several times the throughput, for short statements
   * that only read. A statement waits for those before it. Writes and streams have a session of their own in any case.
   * Default: off.
   */
  readonly shared?: SharedLaneOptions | undefined
}

/** How the sessions of a lane are shared. */
export interface SharedLaneOptions {
  /** Sessions at the most, up to the lane's `cap`. Default: the lane's `cap`, or half of `maxConnections`. */
  readonly sessions?: number | undefined
  /** Statements on one session at a time. Default 16. */
  readonly statements?: number | undefined
  /** A session that hears nothing for this long, with statements on the wire, is destroyed; infinity: never. Default 5 seconds. */
  readonly silence?: Duration.Input | undefined
}

/** Every option filled in and checked; durations in milliseconds. */
export interface Resolved {
  readonly host: string
  readonly port: number
  readonly name: string
  readonly user: string
  readonly password: Options["password"]
  readonly sslmode: SslMode
  readonly tls: Options["tls"]
  readonly applicationName: string | undefined
  readonly minConnections: number
  readonly maxConnections: number
  readonly connectionTimeout: number
  readonly connectTimeout: number
  readonly maxWaiting: number
  readonly idleTimeout: number
  readonly maxLifetime: number
  readonly statementTimeout: number
  readonly maxMessageSize: number
  readonly reset: Reset
  readonly startupParameters: Readonly<Record<string, string>>
  readonly profile: Profile
  readonly pooler: Pooler
  readonly boot: Boot
  readonly shutdown: { readonly graceful: number; readonly hard: number }
  readonly lanes: NonNullable<Options["lanes"]>
  readonly leakDetection: Options["leakDetection"]
  /** All servers, the one of `host` and `port` first. */
  readonly hosts: ReadonlyArray<Place>
  readonly addresses: Addresses
  readonly followerReads: boolean
  readonly target: Target | undefined
  readonly maxLag: number | undefined
  readonly fallback: "primary" | undefined
  readonly zone: string | undefined
}

/** A server, filled in. */
export interface Place {
  readonly host: string
  readonly port: number
  readonly zone: string | undefined
  /** Where the name leads. Absent: it is looked up at every connect. */
  readonly address?: string | undefined
}

/** A server's name in errors, metrics and logs: `db.internal:5432`, and `db.internal/10.0.0.1:5432` once it was looked up. */
export const nameOf = ({ address, host, port }: Place): string =>
  address === undefined || address === host ? `${host}:${port}` : `${host}/${address}:${port}`

/** Defaults; durations in milliseconds. */
export const defaults = {
  host: "localhost",
  port: 5432,
  user: "postgres",
  sslmode: "prefer",
  minConnections: 2,
  maxConnections: 20,
  connectionTimeout: 30_000,
  connectTimeout: 5000,
  maxWaiting: 1000,
  idleTimeout: 600_000,
  maxLifetime: 1_800_000,
  statementTimeout: 60_000,
  maxMessageSize: 16_777_216,
  reset: "changed",
  shutdown: { graceful: 5000, hard: 2000 },
  profile: "postgres",
  pooler: "none",
  boot: "lazy"
} as const

export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const
export const poolers = ["none", "transaction"] as const
export const resets = ["changed", "always", "never"] as const
export const boots = ["lazy", "connect-one", "fill"] as const

/** The variable of each option, without prefix. */
export const variables = {
  url: "DATABASE_URL",
  host: "DB_HOST",
  port: "DB_PORT",
  name: "DB_NAME",
  user: "DB_USER",
  password: "DB_PASSWORD",
  sslmode: "DB_SSLMODE",
  applicationName: "DB_APPLICATION_NAME",
  minConnections: "DB_MIN_CONNECTIONS",
  maxConnections: "DB_MAX_CONNECTIONS",
  connectionTimeout: "DB_CONNECTION_TIMEOUT",
  connectTimeout: "DB_CONNECT_TIMEOUT",
  maxWaiting: "DB_MAX_WAITING",
  idleTimeout: "DB_IDLE_TIMEOUT",
  maxLifetime: "DB_MAX_LIFETIME",
  statementTimeout: "DB_STATEMENT_TIMEOUT",
  maxMessageSize: "DB_MAX_MESSAGE_SIZE",
  reset: "DB_RESET",
  profile: "DB_PROFILE",
  pooler: "DB_POOLER",
  boot: "DB_BOOT"
} as const

export type Field = keyof typeof variables

type Issue = InvalidConfiguration["issues"][number]

/** The range of each whole number. */
const wholes = {
  port: [1, 65_535],
  minConnections: [0, 10_000],
  maxConnections: [1, 10_000],
  maxWaiting: [1, 1_000_000],
  maxMessageSize: [1024, 1_073_741_824]
} as const

/** What such an option must be. */
export const rangeOf = (field: keyof typeof wholes): string =>
  `a whole number from ${wholes[field][0]} to ${wholes[field][1]}`

/** Node's timers and PostgreSQL's settings are 32-bit milliseconds. */
const longest = 2_147_483_647

/**
 * Fills in and checks. `fieldOf` says how a problem names a field: as the option, or as the variable it came from.
 */
export const resolve = (
  subject: string,
  options: Options,
  fieldOf: (field: Field) => string = (field) => field
): Result.Result<Resolved, InvalidConfiguration> => {
  if (typeof options !== "object" || options === null) {
    const none: Issue = { name: "options", value: show(options), expected: "an object of options" }
    return Result.fail(new InvalidConfiguration({ subject, issues: [none] }))
  }
  const issues: Array<Issue> = [...unknownIn(options)]
  const refuse = (field: Field, value: unknown, expected: string): void => {
    issues.push({ name: fieldOf(field), value: show(value), expected })
  }

  const redacted = options.url === undefined || Redacted.isRedacted(options.url)
  const fromUrl = options.url === undefined || !redacted ? {} : parseUrl(Redacted.value(options.url))
  if (!redacted) issues.push({ name: fieldOf("url"), expected: "Redacted.make(...) of a text" })
  issues.push(...bareSecrets(options, fieldOf("password")), ...brokenMaterial(options.tls))
  // The value holds a password: it is not shown.
  if (fromUrl instanceof Refusal) issues.push({ name: fieldOf("url"), expected: fromUrl.expected })
  const asked: Options = { ...(fromUrl instanceof Refusal ? undefined : fromUrl), ...withoutUndefined(options) }
  const profile = asked.profile ?? defaults.profile
  const known = profiles.includes(profile)
  if (!known) refuse("profile", profile, `one of ${profiles.join(", ")}`)
  const kind = traits[known ? profile : defaults.profile]
  const given: Options = { ...kind.defaults, ...asked }

  const whole = (field: keyof typeof wholes): number => {
    const value = given[field] ?? defaults[field]
    const [least, most] = wholes[field]
    if (!Number.isInteger(value) || value < least || value > most) refuse(field, value, rangeOf(field))
    return value
  }
  /** A timer of Node's, or a setting of the server. */
  const millis = (field: "connectTimeout" | "statementTimeout"): number => {
    const value = given[field]
    if (value === undefined) return defaults[field]
    const length = millisOf(value) ?? Number.NaN
    if (!(length >= 1 && length <= longest)) {
      refuse(field, value, "a duration above zero and below 24 days, such as 30 seconds")
    }
    return length
  }
  const oneOf = <A extends string>(field: "sslmode" | "pooler" | "boot" | "reset", allowed: ReadonlyArray<A>): A => {
    const value = (given[field] ?? defaults[field]) as A
    if (!allowed.includes(value)) refuse(field, value, `one of ${allowed.join(", ")}`)
    return value
  }
  const text = (field: "host" | "user" | "name" | "applicationName", fallback: string): string => {
    const value: unknown = given[field] ?? fallback
    if (typeof value === "string" && value !== "" && !value.includes("\0")) return value
    // What enters the startup packet ends at a NUL: behind it would stand other parameters.
    issues.push({ name: fieldOf(field), expected: "a text that is not empty, without NUL characters" })
    return fallback
  }
  if (subject.includes("\0")) issues.push({ name: "database/role", expected: "names without NUL characters" })

  const user = text("user", defaults.user)
  const maxConnections = whole("maxConnections")
  // A maximum below the default minimum means it: a pool of one is one.
  const minConnections =
    given.minConnections === undefined && Number.isInteger(maxConnections)
      ? Math.min(defaults.minConnections, maxConnections)
      : whole("minConnections")
  const port = whole("port")
  const hosts = (given.hosts ?? text("host", defaults.host).split(",")).map((address) => {
    const parsed = typeof address === "string" ? parseAddress(address) : address
    if (
      typeof parsed?.host !== "string" ||
      parsed.host === "" ||
      (parsed.port !== undefined && !validPort(parsed.port))
    ) {
      // Somebody may have put a whole URL there: it is not shown.
      const shown = typeof address === "string" ? undefined : { value: show(address) }
      issues.push({ name: fieldOf("host"), ...shown, expected: "addresses such as 10.0.0.1:5432" })
    }
    return { host: parsed?.host ?? "", port: parsed?.port ?? port, zone: parsed?.zone, address: parsed?.address }
  })
  if (hosts.length === 0) refuse("host", "", "at least one address")
  if (new Set(hosts.map(nameOf)).size < hosts.length) {
    refuse("host", given.host ?? "", "different addresses")
  }
  const { fallback, followerReads, maxLag, target, zone } = given
  const patience = given.connectionTimeout
  issues.push(
    ...choiceWrongs(given),
    ...shutdownWrongs(given.shutdown),
    ...optional(patience, () => lengthWrongs(fieldOf("connectionTimeout"), patience, {}))
  )
  const shutdown = (part: "graceful" | "hard"): number => millisOf(given.shutdown?.[part]) ?? defaults.shutdown[part]
  const lives = lifetimes(given.idleTimeout, given.maxLifetime, defaults, {
    idleTimeout: fieldOf("idleTimeout"),
    maxLifetime: fieldOf("maxLifetime")
  })
  const sessions = wholeWrongs("", maxConnections, ...wholes.maxConnections).length === 0 ? maxConnections : Infinity
  const lanes = lanesWrongs(given.lanes, sessions)
  issues.push(...lives.wrongs, ...leakWrongs(given.leakDetection), ...lanes)
  if (lanes.length === 0) issues.push(...reservedWrongs(given.lanes ?? {}, sessions, fieldOf("maxConnections")))
  const addresses = given.addresses ?? (hosts.length > 1 && !kind.switching ? "each" : "any")
  if (addresses !== "each" && addresses !== "any") {
    issues.push({ name: "addresses", value: show(addresses), expected: "one of each, any" })
  } else if (addresses === "each" && kind.switching) {
    const expected = `any: with profile ${profile} a name leads to one server after another`
    issues.push({ name: "addresses", value: show(addresses), expected })
  }
  if (followerReads === true && kind.followerReads === undefined) {
    const able = profiles.filter((name) => traits[name].followerReads !== undefined).join(", ")
    issues.push({ name: "followerReads", value: "true", expected: `false, or the profile ${able}` })
  }
  const resolved: Resolved = {
    host: hosts[0]?.host ?? "",
    port: hosts[0]?.port ?? port,
    hosts,
    addresses,
    followerReads: followerReads === true,
    target,
    maxLag: millisOf(maxLag),
    fallback,
    zone,
    name: text("name", user),
    user,
    password: given.password,
    // Whoever gives certificates wants to know who is there: nothing less, unless it is said.
    sslmode: given.sslmode === undefined && given.tls !== undefined ? "verify-full" : oneOf("sslmode", sslModes),
    tls: given.tls,
    applicationName: given.applicationName === undefined ? undefined : text("applicationName", ""),
    minConnections,
    maxConnections,
    connectionTimeout: millisOf(patience) ?? defaults.connectionTimeout,
    connectTimeout: millis("connectTimeout"),
    maxWaiting: whole("maxWaiting"),
    idleTimeout: lives.idleTimeout,
    maxLifetime: lives.maxLifetime,
    statementTimeout: millis("statementTimeout"),
    maxMessageSize: whole("maxMessageSize"),
    reset: oneOf("reset", resets),
    startupParameters: startupParametersOf(given, issues),
    profile,
    pooler: oneOf("pooler", poolers),
    boot: oneOf("boot", boots),
    shutdown: { graceful: shutdown("graceful"), hard: shutdown("hard") },
    lanes: given.lanes ?? {},
    leakDetection: given.leakDetection
  }
  const shared = Object.entries(lanes.length > 0 ? {} : resolved.lanes).find(([, lane]) => lane.shared !== undefined)
  if (resolved.reset === "always" && shared !== undefined) {
    const expected = `changed, or no shared sessions in lane ${shared[0]}: several callers use one at once`
    refuse("reset", resolved.reset, expected)
  }
  if (Number.isInteger(minConnections) && minConnections > sessions) {
    const most = `${fieldOf("maxConnections")} (${resolved.maxConnections})`
    refuse("minConnections", resolved.minConnections, `at most ${most}`)
  }
  return issues.length === 0 ? Result.succeed(resolved) : Result.fail(new InvalidConfiguration({ subject, issues }))
}

/** Parameters of the startup packet that have an option of their own, or none because a session could not work with them. */
const ownParameters: Readonly<Record<string, string>> = {
  user: "user",
  database: "name",
  application_name: "applicationName",
  statement_timeout: "statementTimeout",
  client_encoding: "none: sessions speak UTF8",
  replication: "none",
  options: "startupParameters itself",
  default_transaction_read_only: "none: a report that does not declare writes only reads"
}

const startupParametersOf = (given: Options, issues: Array<Issue>): Readonly<Record<string, string>> => {
  const parameters: unknown = given.startupParameters ?? {}
  const refuse = (name: string, expected: string) => issues.push({ name: `startupParameters${name}`, expected })
  if (typeof parameters !== "object" || parameters === null || Array.isArray(parameters)) {
    refuse("", 'settings by name, such as { search_path: "tenant" }')
    return {}
  }
  for (const [name, value] of Object.entries(parameters)) {
    const own = ownParameters[name.toLowerCase()]
    if (!/^[A-Za-z_][\w.]{0,62}$/.test(name)) refuse("", "names of settings")
    else if (own !== undefined) refuse(`.${name}`, `left out: its option is ${own}`)
    else if (typeof value !== "string" || value.includes("\0")) refuse(`.${name}`, "a text without NUL characters")
  }
  if (given.pooler === "transaction" && Object.keys(parameters).length > 0) {
    refuse("", "left out behind a pooler in transaction mode, which would give them to others")
  }
  return parameters as Readonly<Record<string, string>>
}

const show = (value: unknown): string => {
  if (typeof value === "string") return `"${value}"`
  const { host, port } = Object(value) as Partial<Address>
  return typeof host === "string" ? `${host}:${port}` : showAny(value)
}
