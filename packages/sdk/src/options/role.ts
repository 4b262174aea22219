/** The options of a role, and of what is in them. */
import { format, millis } from "effect/Duration"
import { isEffect } from "effect/Effect"
import type { Address, LaneOptions, Options, SharedLaneOptions, TlsMaterial, TypeCodec } from "../DatabaseOptions.ts"
import { profiles } from "../Profile.ts"
import { parseAddress } from "./connectionString.ts"
import {
  aFunction,
  checked,
  either,
  flag,
  group,
  groups,
  isRecord,
  issuesIn,
  type Issues,
  isWhole,
  length,
  list,
  made,
  number,
  oneOf,
  redacted,
  type Table,
  text,
  whole,
  wholeFrom,
  wrong
} from "./Field.ts"

/** Node's timers and PostgreSQL's settings are 32-bit milliseconds. */
const longest = "24 days"

export const shared = {
  sessions: whole(1),
  statements: whole(1, 10_000, { default: 16 }),
  silence: length({ default: 5000, infinite: true, bare: 100 })
} as const satisfies Table<SharedLaneOptions>

export const lane = {
  reserved: whole(0),
  cap: checked<number>((value, name) => (value === Infinity ? [] : whole(1).check(value, name))),
  maxWaiting: whole(1),
  priority: number(),
  shared: group<SharedLaneOptions>(shared, "{} or { sessions: 2 }")
} as const satisfies Table<LaneOptions>

export const leakDetection = {
  threshold: length({ required: true, bare: 100 }),
  stackEvery: whole(0, Infinity, { default: 0 })
} as const satisfies Table<NonNullable<Options["leakDetection"]>>

export const shutdown = {
  graceful: length({ default: 5000, zero: true, bare: 100 }),
  hard: length({ default: 2000, zero: true, bare: 100 })
} as const satisfies Table<NonNullable<Options["shutdown"]>>

const address = {
  host: text({ required: true }),
  port: whole(1, 65_535),
  address: text(),
  zone: text()
} as const satisfies Table<Address>

export const tls = {
  ca: text({ hidden: true }),
  cert: text({ hidden: true }),
  key: redacted({ what: "a text in PEM" }),
  servername: text()
} as const satisfies Table<TlsMaterial>

const typeCodec = {
  oid: whole(1, 4_294_967_295, { required: true }),
  arrayOid: whole(1, 4_294_967_295),
  codec: made(["encode", "decode"], "a codec: { encode, decode }, as PgTypes of @effect/sql-pg has them", {
    required: true
  })
} as const satisfies Table<TypeCodec>

const example = "10.0.0.1:5432"

/** Somebody may have put a whole URL there: a text is not shown. */
const isAddress = (value: unknown): value is string => typeof value === "string" && parseAddress(value) !== undefined

const addressIssues = (value: unknown, name: string): Issues => {
  if (isRecord(value)) return issuesIn(address, value, (field) => `${name}.${field}`)
  const expected = `an address such as ${example}`
  if (typeof value !== "string") return wrong(name, value, expected)
  return isAddress(value) ? [] : [{ name, expected }]
}

/** Parameters of the startup packet that have an option of their own, or none because a session could not work with them. */
const ownParameters: Readonly<Record<string, string>> = {
  user: "user",
  database: "name",
  application_name: "applicationName",
  statement_timeout: "statementTimeout",
  idle_in_transaction_session_timeout: "idleInTransactionTimeout",
  client_encoding: "none: sessions speak UTF8",
  replication: "none",
  options: "startupParameters itself",
  default_transaction_read_only: "none: a report that does not declare writes only reads"
}

const startupIssues = (value: unknown, name: string): Issues => {
  if (!isRecord(value)) return [{ name, expected: 'settings by name, such as { search_path: "tenant" }' }]
  return Object.entries(value).flatMap(([own, setting]): Issues => {
    const key = own.toLowerCase()
    if (!/^[A-Za-z_][\w.]{0,62}$/.test(own)) return [{ name, expected: "names of settings" }]
    if (Object.hasOwn(ownParameters, key)) {
      return [{ name: `${name}.${own}`, expected: `left out: its option is ${ownParameters[key]}` }]
    }
    return typeof setting === "string" && !setting.includes("\0")
      ? []
      : [{ name: `${name}.${own}`, expected: "a text without NUL characters" }]
  })
}

/** `server`: what the server, its database or the login's role say, by `ALTER ROLE ... SET` for one. */
const orServer = <Default extends number>(timeout: Default, variable: string) =>
  either(
    ["server"],
    length({ default: timeout, most: longest, bare: 100, variable, example: "30 seconds" }),
    () => undefined
  )

/** What each role says for itself, where several have their servers in common. */
export const own = {
  target: oneOf(["primary", "replica", "any"]),
  maxLag: length({ zero: true, infinite: true, bare: 10 }),
  fallback: oneOf(["primary"]),
  zone: text()
} as const satisfies Table<Pick<Options, "target" | "maxLag" | "fallback" | "zone">>

/** Where the one server is; in a list of servers, each says so for itself. */
const place = {
  host: checked<string, "localhost">(
    (value, name) => {
      const issues = text({ hidden: true }).check(value, name)
      const right = issues.length > 0 || (value as string).split(",").every(isAddress)
      return right ? issues : [{ name, expected: `addresses such as ${example}` }]
    },
    { default: "localhost", variable: "DB_HOST" }
  ),
  port: whole(1, 65_535, { default: 5432, variable: "DB_PORT" })
} as const satisfies Table<Pick<Options, "host" | "port">>

/** What all servers and roles may have in common. */
export const common = {
  url: redacted({ variable: "DATABASE_URL" }),
  name: text({ hidden: true, variable: "DB_NAME" }),
  user: text({ hidden: true, default: "postgres", variable: "DB_USER" }),
  password: redacted<NonNullable<Options["password"]>>({ effect: true, variable: "DB_PASSWORD" }),
  sslmode: oneOf(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], {
    default: "prefer",
    variable: "DB_SSLMODE"
  }),
  tls: checked<NonNullable<Options["tls"]>>((value, name) =>
    isEffect(value) ? [] : group(tls, "{ ca }, or an Effect of it").check(value, name)
  ),
  applicationName: text({ hidden: true, variable: "DB_APPLICATION_NAME" }),
  minConnections: whole(0, 10_000, { default: 2, variable: "DB_MIN_CONNECTIONS" }),
  maxConnections: whole(1, 10_000, { default: 20, variable: "DB_MAX_CONNECTIONS" }),
  connectionTimeout: length({ default: 30_000, bare: 100, variable: "DB_CONNECTION_TIMEOUT" }),
  connectTimeout: length({
    default: 5000,
    most: longest,
    bare: 100,
    variable: "DB_CONNECT_TIMEOUT",
    example: "30 seconds"
  }),
  maxWaiting: whole(1, 1_000_000, { default: 1000, variable: "DB_MAX_WAITING" }),
  idleTimeout: length({
    default: 600_000,
    never: true,
    bare: 1000,
    variable: "DB_IDLE_TIMEOUT",
    example: "10 minutes"
  }),
  maxLifetime: length({
    default: 1_800_000,
    never: true,
    bare: 1000,
    variable: "DB_MAX_LIFETIME",
    example: "10 minutes"
  }),
  statementTimeout: orServer(60_000, "DB_STATEMENT_TIMEOUT"),
  idleInTransactionTimeout: orServer(60_000, "DB_IDLE_IN_TRANSACTION_TIMEOUT"),
  keepAlive: length({ bare: 1000, most: longest, variable: "DB_KEEP_ALIVE", example: "30 seconds" }),
  maxMessageSize: whole(1024, 1_073_741_824, { default: 16_777_216, variable: "DB_MAX_MESSAGE_SIZE" }),
  reset: oneOf(["changed", "always", "never"], { default: "changed", variable: "DB_RESET" }),
  startupParameters: checked<NonNullable<Options["startupParameters"]>>(startupIssues),
  types: list<NonNullable<Options["types"]>>(group(typeCodec, "{ oid, codec }").check, "[{ oid, codec }]"),
  onNotice: aFunction<NonNullable<Options["onNotice"]>>(),
  transformQueryNames: aFunction<NonNullable<Options["transformQueryNames"]>>(),
  transformResultNames: aFunction<NonNullable<Options["transformResultNames"]>>(),
  transformJson: flag({ default: true }),
  spanAttributes: checked<NonNullable<Options["spanAttributes"]>>((value, name) =>
    isRecord(value) ? [] : wrong(name, value, 'an object such as { "service.tenant": "a" }')
  ),
  profile: oneOf(profiles, { default: "postgres", variable: "DB_PROFILE" }),
  pooler: oneOf(["none", "transaction"], { default: "none", variable: "DB_POOLER" }),
  boot: oneOf(["lazy", "connect-one", "fill"], { default: "lazy", variable: "DB_BOOT" }),
  addresses: oneOf(["each", "any"]),
  followerReads: flag({ default: false }),
  shutdown: group<NonNullable<Options["shutdown"]>>(shutdown, '{ graceful: "5 seconds" }'),
  lanes: groups<NonNullable<Options["lanes"]>>(lane, ["{ report: { cap: 4 } }", "{ cap: 4 }"]),
  leakDetection: group<NonNullable<Options["leakDetection"]>>(leakDetection, '{ threshold: "1 minute" }')
} as const satisfies Table<Omit<Options, "host" | "port" | "hosts" | keyof typeof own>>

export const hosts = list<NonNullable<Options["hosts"]>>(addressIssues, `["${example}"]`)

export const role = { ...place, ...common, hosts, ...own } as const satisfies Table<Options>

export type Field = keyof typeof role

// What the fields of one group must be beside each other.

/** A session that is idle for longer than it lives is none. Whoever names both means both. */
export const lifetimeIssues = (
  idleTimeout: unknown,
  filled: { readonly idleTimeout: number; readonly maxLifetime: number },
  names: { readonly idleTimeout: string; readonly maxLifetime: string }
): Issues => {
  const { idleTimeout: idle, maxLifetime: oldest } = filled
  if (idleTimeout === undefined || idle === Infinity || !(idle > oldest)) return []
  const most = `at most ${names.maxLifetime} (${format(millis(oldest))}); 0 or infinity for never`
  return wrong(names.idleTimeout, idleTimeout, most)
}

/** What lanes may have of `max` sessions, alone and together. Of lanes that are right by themselves. */
export const laneIssues = (lanes: Options["lanes"], max: number, maxName: string): Issues => {
  const each = Object.entries(lanes ?? {})
  const alone = each.flatMap(([name, { cap = Infinity, reserved = 0, shared }]): Issues => {
    const most = Math.min(cap, max)
    const sessions = shared?.sessions ?? 1
    return [
      ...(isWhole(reserved, 0, max) ? [] : wrong(`lanes.${name}.reserved`, reserved, wholeFrom(0, max))),
      ...(isWhole(sessions, 1, most) ? [] : wrong(`lanes.${name}.shared.sessions`, sessions, wholeFrom(1, most))),
      ...(reserved > cap ? wrong(`lanes.${name}.reserved`, reserved, `at most the lane's cap (${cap})`) : [])
    ]
  })
  if (alone.length > 0) return alone
  const reserved = each.reduce((sum, [, lane]) => sum + (lane.reserved ?? 0), 0)
  if (reserved <= max) return []
  return [{ name: "lanes", value: `${reserved} reserved in all`, expected: `at most ${maxName} (${max})` }]
}
