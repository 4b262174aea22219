/**
 * The options of a role's pool, in code and in the environment. What each may be, its default and its variable are in the table
 * `options/role.ts`, which is held to the types here.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { brokenMaterial } from "./options/certificates.ts"
import { parseAddress, parseUrl, Refusal, withoutUndefined } from "./options/connectionString.ts"
import { fill, type Filled, isRecord, type Issue, issuesIn, show, soundIn } from "./options/Field.ts"
import * as Table from "./options/role.ts"
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

/** A codec of the application for a type of its database, as the driver's `PgTypes.Codec`. */
export interface TypeCodec {
  readonly oid: number
  /** Of its arrays. */
  readonly arrayOid?: number | undefined
  readonly codec: {
    readonly encode: (value: any) => Result.Result<Uint8Array, any>
    readonly decode: (bytes: Uint8Array) => Result.Result<any, any>
  }
}

/** What a server tells besides answers. */
export interface Notice {
  /** `NOTICE`, `WARNING`, `INFO`, ... */
  readonly severity: string
  readonly sqlState: string
  readonly message: string
}

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
  /**
   * The server ends a statement after this long. Default 60 seconds (slonik's); shorter attempts are cut by their own timeout.
   * `"server"`: as the server, the database or the login's role (`ALTER ROLE ... SET statement_timeout`) say.
   */
  readonly statementTimeout?: Duration.Input | "server" | undefined
  /** The server ends a session that is idle in a transaction for this long. Default 60 seconds (slonik's); `"server"`: as `statementTimeout`. */
  readonly idleInTransactionTimeout?: Duration.Input | "server" | undefined
  /** How long a connection may be silent before TCP asks whether the other side is there. Default: the profile's, else 30 seconds. */
  readonly keepAlive?: Duration.Input | undefined
  /** The longest message that a server may send, in bytes: a value, or a row. Default 16 MiB (the driver's). A longer one costs the session. */
  readonly maxMessageSize?: number | undefined
  /**
   * What is undone before another caller gets a session. `changed`: what the session knows to have changed. `always`: everything,
   * one round trip after each use. `never`: nothing but an open transaction. Default `changed`; see the README for its limits.
   */
  readonly reset?: Reset | undefined
  /** Settings of each session from its start, such as `search_path`; a reset comes back to them. Not behind a pooler. Default: none. */
  readonly startupParameters?: Readonly<Record<string, string>> | undefined
  /** Codecs of types that the driver does not know, by their OIDs in this database. Default: none; such a column is refused with the cast to write. */
  readonly types?: ReadonlyArray<TypeCodec> | undefined
  /** Called with each notice or warning that a server sends, `RAISE NOTICE` for one. It may hold values. Default: none is told. */
  readonly onNotice?: ((notice: Notice) => void) | undefined
  /** Names in queries of `sql`, from the program's to the server's: camelCase to snake_case for one. Reports write their own. Default: as they are. */
  readonly transformQueryNames?: ((name: string) => string) | undefined
  /** Names of columns in results of `sql`. A report's rows have the names that it declares. Default: as they are. */
  readonly transformResultNames?: ((name: string) => string) | undefined
  /** Whether the two transform names inside of JSON, too. Default `true`. */
  readonly transformJson?: boolean | undefined
  /** Attributes of every span of `sql`. Default: none. */
  readonly spanAttributes?: Readonly<Record<string, unknown>> | undefined
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
export interface Resolved extends Omit<
  Filled<typeof Table.role>,
  "url" | "hosts" | "name" | "shutdown" | "startupParameters" | "lanes" | "addresses"
> {
  readonly name: string
  readonly startupParameters: Readonly<Record<string, string>>
  readonly shutdown: Filled<typeof Table.shutdown>
  readonly lanes: NonNullable<Options["lanes"]>
  /** All servers, the one of `host` and `port` first. */
  readonly hosts: ReadonlyArray<Place>
  readonly addresses: Addresses
  /** Where the server is could have been said by these, and was not: the host is the default. */
  readonly unset: string | undefined
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
export const defaults = { ...fill(Table.role), shutdown: fill(Table.shutdown) }

/** The variable of each option that has one, without prefix. */
export const variables: Readonly<Partial<Record<Field, string>>> = Object.fromEntries(
  Object.entries(Table.role).flatMap(([name, { variable }]) => (variable === undefined ? [] : [[name, variable]]))
)

export type Field = Table.Field

/**
 * Fills in and checks. `fieldOf` says how a problem names a field: as the option, or as the variable it came from.
 */
export const resolve = (
  subject: string,
  options: Options,
  fieldOf: (field: Field) => string = (field) => field
): Result.Result<Resolved, InvalidConfiguration> => {
  const issues: Array<Issue> = []
  const failed = () => Result.fail(new InvalidConfiguration({ subject, issues }))
  if (!isRecord(options)) {
    issues.push(...issuesIn(Table.role, options))
    return failed()
  }
  const refuse = (field: Field, value: unknown, expected: string): void => {
    issues.push({ name: fieldOf(field), value: show(value), expected })
  }
  if (subject.includes("\0")) issues.push({ name: "database/role", expected: "names without NUL characters" })

  const fromUrl = Redacted.isRedacted(options.url) ? parseUrl(String(Redacted.value(options.url))) : {}
  // The value holds a password: it is not shown.
  if (fromUrl instanceof Refusal) issues.push({ name: fieldOf("url"), expected: fromUrl.expected })
  const asked: Options = { ...(fromUrl instanceof Refusal ? undefined : fromUrl), ...withoutUndefined(options) }
  const kind = traits[profiles.includes(asked.profile!) ? asked.profile! : defaults.profile]
  const given: Options = { ...kind.defaults, ...asked }
  issues.push(...issuesIn(Table.role, given, (field) => fieldOf(field as Field)), ...brokenMaterial(given.tls))

  // What follows is about values beside each other. One that is wrong by itself says nothing about another.
  const sound = soundIn(Table.role, given)
  const isSound = (field: Field): boolean => given[field] === undefined || sound[field] !== undefined
  const filled = fill(Table.role, sound)
  const { maxConnections, port, reset } = filled
  // A default gives way to what somebody asked for: a maximum below the minimum, a lifetime below the idle time.
  const minConnections = sound.minConnections ?? Math.min(defaults.minConnections, maxConnections)
  const idleTimeout =
    sound.idleTimeout === undefined ? Math.min(filled.idleTimeout, filled.maxLifetime) : filled.idleTimeout
  if (isSound("maxConnections")) {
    const name = fieldOf("maxConnections")
    if (minConnections > maxConnections) refuse("minConnections", minConnections, `at most ${name} (${maxConnections})`)
    issues.push(...Table.laneIssues(sound.lanes, maxConnections, name))
  }
  if (isSound("maxLifetime")) {
    const names = { idleTimeout: fieldOf("idleTimeout"), maxLifetime: fieldOf("maxLifetime") }
    issues.push(...Table.lifetimeIssues(sound.idleTimeout, filled, names))
  }
  const hosts = (sound.hosts ?? filled.host.split(",")).map((place) => {
    const { address, host, port: own = port, zone } = typeof place === "string" ? parseAddress(place)! : place
    return { host, port: own, zone, address }
  })
  if (new Set(hosts.map(nameOf)).size < hosts.length) {
    issues.push({ name: fieldOf(sound.hosts === undefined ? "host" : "hosts"), expected: "different addresses" })
  }
  const addresses = sound.addresses ?? (hosts.length > 1 && !kind.switching ? "each" : "any")
  if (addresses === "each" && kind.switching) {
    refuse("addresses", addresses, `any: with profile ${filled.profile} a name leads to one server after another`)
  }
  if (filled.followerReads && kind.followerReads === undefined) {
    const able = profiles.filter((name) => traits[name].followerReads !== undefined).join(", ")
    refuse("followerReads", true, `false, or the profile ${able}`)
  }
  const shared = Object.entries(sound.lanes ?? {}).find(([, lane]) => lane.shared !== undefined)
  if (reset === "always" && shared !== undefined) {
    refuse("reset", reset, `changed, or no shared sessions in lane ${shared[0]}: several callers use one at once`)
  }
  const startupParameters = sound.startupParameters ?? {}
  if (filled.pooler === "transaction" && Object.keys(startupParameters).length > 0) {
    const expected = "left out behind a pooler in transaction mode, which would give them to others"
    issues.push({ name: fieldOf("startupParameters"), expected })
  }
  if (issues.length > 0) return failed()
  return Result.succeed({
    ...filled,
    host: hosts[0]!.host,
    port: hosts[0]!.port,
    hosts,
    addresses,
    unset:
      given.hosts === undefined && given.host === undefined ? `${fieldOf("url")} nor ${fieldOf("host")}` : undefined,
    name: given.name ?? filled.user,
    // Whoever gives certificates wants to know who is there: nothing less, unless it is said.
    sslmode: given.sslmode ?? (given.tls === undefined ? filled.sslmode : "verify-full"),
    minConnections,
    idleTimeout,
    shutdown: fill(Table.shutdown, given.shutdown),
    lanes: given.lanes ?? {},
    startupParameters,
    leakDetection: given.leakDetection
  })
}
