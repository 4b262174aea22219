/**
 * Connection strings and addresses, by libpq's grammar: URIs, and `key=value` pairs.
 *
 * Strict where libpq and the field's parser (`pg-connection-string`) guess: that parser drops what it does not know in
 * silence and takes a damaged escape for text, so that a program logs in as somebody else. Here each part is taken, or the
 * whole is refused with the cure. No part of the text is in any message: any of it may be a piece of the password.
 *
 * What differs from libpq: the user's part ends at the last `@` before the first `/` (libpq takes the first, and would ask
 * DNS for the rest of the password), and an `@` behind that is refused.
 */
import * as Redacted from "effect/Redacted"
import type { Address, Options, SslMode } from "../DatabaseOptions.ts"
import { nearest } from "./names.ts"

export const withoutUndefined = (options: Options): Options =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))

export const validPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535

/** An IPv6 address, perhaps of a scope: `fe80::1%eth0`. */
const isIPv6 = (text: string): boolean =>
  /^[0-9A-Fa-f:.]+(?:%[\w.-]+)?$/.test(text) && URL.canParse(`http://[${text.replace(/%.*$/, "")}]`)

const isIPv4 = (text: string): boolean => /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/.test(text)

/** `host`, `host:port`, `[v6]:port`, `v6`, or the directory of a socket. */
export const parseAddress = (text: string): Address | undefined => {
  const trimmed = text.trim()
  if (trimmed.includes("\0")) return undefined
  if (trimmed.startsWith("/")) return { host: trimmed }
  if (isIPv6(trimmed)) return { host: trimmed }
  const found = /^(?:\[([^\]]+)\]|([^:[\]@/\\?#\s]+))(?::(\d{1,5}))?$/.exec(trimmed)
  if (found === null) return undefined
  const [, bracketed, name, port] = found
  if (bracketed !== undefined && !isIPv6(bracketed)) return undefined
  const host = bracketed ?? name!
  return port === undefined ? { host } : { host, port: Number(port) }
}

/** Why a connection string is refused: what is expected instead. */
export class Refusal {
  readonly expected: string
  constructor(expected: string) {
    this.expected = expected
  }
}

const refuse = (expected: string): never => {
  throw new Refusal(expected)
}

const encoded = "percent-encode special characters: @ is %40, / is %2F, % is %25, ? is %3F"

/** Percent-decoded, or refused: a damaged escape may be a password that nobody encoded. */
const decode = (text: string, part: string): string => {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) refuse(`written with %25 for a % in the ${part}; ${encoded}`)
  let decoded = ""
  try {
    decoded = decodeURIComponent(text)
  } catch {
    refuse(`written with the ${part} in UTF-8 behind its percent escapes`)
  }
  return decoded.includes("\0") ? refuse(`written without a NUL character in the ${part}`) : decoded
}

const tlsCure = "the option tls: { ca, cert, key } with the text of the files"
const ownCure = "Sluice does this by itself"
/** What libpq, Prisma, PgBouncer, pg and others know, and the option that stands for it here. */
const cures: Readonly<Record<string, string>> = {
  channel_binding: "sslmode=verify-full proves the server",
  require_auth: "a server that skips SCRAM's proof is refused in any case",
  connect_timeout: "the option connectTimeout",
  target_session_attrs: "the option target, and fallback",
  load_balance_hosts: ownCure,
  options: "the option startupParameters, or ALTER ROLE ... SET on the server",
  search_path: "the option startupParameters, or ALTER ROLE ... SET search_path on the server",
  schema: "the option startupParameters: { search_path }, or ALTER ROLE ... SET search_path on the server",
  statement_timeout: "the option statementTimeout",
  idle_in_transaction_session_timeout: "the option idleInTransactionTimeout",
  lock_timeout: "the option startupParameters",
  fallback_application_name: "application_name",
  client_encoding: "sessions speak UTF8",
  replication: "replication is another protocol",
  passfile: "the option password: read the file yourself",
  service: "the single fields: read the service file yourself",
  servicefile: "the single fields: read the service file yourself",
  gssencmode: "GSSAPI is not supported",
  krbsrvname: "GSSAPI is not supported",
  gsslib: "GSSAPI is not supported",
  gssdelegation: "GSSAPI is not supported",
  requirepeer: "see the socket's directory's permissions",
  keepalives: ownCure,
  keepalives_idle: ownCure,
  keepalives_interval: ownCure,
  keepalives_count: ownCure,
  tcp_user_timeout: ownCure,
  sslrootcert: tlsCure,
  sslcert: tlsCure,
  sslkey: tlsCure,
  sslpassword: tlsCure,
  sslcrl: tlsCure,
  sslcrldir: tlsCure,
  sslcertmode: tlsCure,
  sslsni: "the option tls: { servername }",
  sslnegotiation: "TLS begins with PostgreSQL's own request",
  sslcompression: "compression is never used",
  sslaccept: "sslmode",
  sslidentity: tlsCure,
  ssl: "sslmode",
  ssl_min_protocol_version: tlsCure,
  ssl_max_protocol_version: tlsCure,
  connection_limit: "the option maxConnections",
  pool_timeout: "the option connectionTimeout",
  socket_timeout: "the deadline of a report",
  pgbouncer: 'the option pooler: "transaction"',
  pool_mode: 'the option pooler: "transaction"',
  pool_size: "the option maxConnections",
  statement_cache_size: "behind a pooler none is prepared",
  prepared_statements: "behind a pooler none is prepared",
  max: "the option maxConnections",
  min: "the option minConnections",
  uselibpqcompat: "sslmode means what libpq means"
}

const taken = ["host", "hostaddr", "port", "user", "password", "dbname", "sslmode", "application_name"] as const
type Taken = (typeof taken)[number]

/** Names that are known may be shown; any other could be a piece of the password. */
const unknownName = (name: string): never => {
  const near = nearest(name, [...taken, ...Object.keys(cures)])
  return refuse(
    near === undefined
      ? `written without parameters other than ${taken.join(", ")}`
      : `written without a parameter that there is not (did you mean ${near}?)`
  )
}

type Given = { -readonly [Name in Taken]?: string }

const take = (given: Given, name: string, value: string): void => {
  if (name === "client_encoding" && /^(?:utf-?8|auto)$/i.test(value)) return
  const cure = Object.hasOwn(cures, name) ? cures[name] : undefined
  if (cure !== undefined) refuse(`written without the parameter ${name} (${cure})`)
  if (!(taken as ReadonlyArray<string>).includes(name)) unknownName(name)
  const key = name as Taken
  if (given[key] !== undefined && given[key] !== value) refuse(`written with the parameter ${name} once`)
  given[key] = value
}

/** Lists of hosts, addresses and ports, side by side, as libpq pairs them. */
const addressesOf = ({ host, hostaddr, port }: Given): Pick<Options, "host" | "hosts" | "port"> => {
  const hosts = host === undefined || host === "" ? [] : host.split(",")
  const addresses = hostaddr === undefined || hostaddr === "" ? [] : hostaddr.split(",")
  const ports = port === undefined || port === "" ? [] : port.split(",")
  const count = Math.max(1, hosts.length, addresses.length)
  if (hosts.length > 0 && addresses.length > 0 && hosts.length !== addresses.length) {
    refuse("written with as many addresses in hostaddr as names in host")
  }
  if (ports.length > 1 && ports.length !== count) refuse("written with one port, or one for each host")
  const list = Array.from({ length: count }, (_, index): { host: string; port?: number; address?: string } => {
    const name = hosts[index] ?? addresses[index] ?? "localhost"
    const parsed = parseAddress(name)
    if (parsed === undefined || (parsed.port !== undefined && ports.length > 0)) {
      return refuse(`written with names or addresses as hosts; ${encoded}`)
    }
    const text = ports.length === 1 ? ports[0]! : (ports[index] ?? "")
    const number = text === "" ? parsed.port : /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
    if (number !== undefined && !validPort(number)) refuse(`written with a port from 1 to 65535; ${encoded}`)
    const address = hosts.length > 0 ? addresses[index] : undefined
    if (address !== undefined && !isIPv4(address) && !isIPv6(address))
      refuse("written with addresses in hostaddr, not names")
    return {
      host: parsed.host,
      ...(number === undefined ? undefined : { port: number }),
      ...(address === undefined ? undefined : { address })
    }
  })
  const [first] = list
  if (list.length > 1 || first!.address !== undefined) return { hosts: list }
  return { host: hosts.length + addresses.length === 0 ? undefined : first!.host, port: first!.port }
}

const toOptions = (given: Given): Options => {
  const { application_name, dbname, password, sslmode, user } = given
  return withoutUndefined({
    ...addressesOf(given),
    name: dbname === "" ? undefined : dbname,
    user: user === "" ? undefined : user,
    password: password === undefined || password === "" ? undefined : Redacted.make(password),
    sslmode: sslmode as SslMode | undefined,
    applicationName: application_name
  })
}

/** `postgres://user:password@host:port,host2/name?parameter=value`. */
const parseUri = (text: string): Given => {
  const given: Given = {}
  const rest = text.replace(/^postgres(?:ql)?:\/\//, "")
  const slash = rest.indexOf("/")
  const head = slash < 0 ? rest : rest.slice(0, slash)
  const at = head.lastIndexOf("@")
  // Without a user's part, a question mark ends the hosts. In one, it may belong to the password.
  const behind = rest.slice(at + 1)
  const end = /[/?]/.exec(behind)?.index ?? behind.length
  const authority = behind.slice(0, end)
  const tail = behind.slice(end)
  if (tail.includes("@")) refuse(`written without an @ behind the hosts; ${encoded}`)
  if (at >= 0) {
    const userinfo = rest.slice(0, at)
    const colon = userinfo.indexOf(":")
    take(given, "user", decode(colon < 0 ? userinfo : userinfo.slice(0, colon), "user's name"))
    if (colon >= 0) take(given, "password", decode(userinfo.slice(colon + 1), "password"))
  }
  const question = tail.indexOf("?")
  const path = question < 0 ? tail : tail.slice(0, question)
  if (path.length > 1) take(given, "dbname", decode(path.slice(1), "database's name"))
  if (authority !== "") {
    const hosts: Array<string> = []
    const ports: Array<string> = []
    for (const one of authority.split(",")) {
      const found = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(one)
      if (found === null) return refuse(`written with hosts and ports such as db1:5432,db2 or [::1]:5432; ${encoded}`)
      const bracketed = /^\[(.*)\]$/.exec(found[1]!)?.[1]
      const host = decode(bracketed ?? found[1]!, "host")
      if (bracketed !== undefined && !isIPv6(host)) refuse(`written with names or addresses as hosts; ${encoded}`)
      hosts.push(host)
      ports.push(found[2] ?? "")
    }
    if (hosts.some((host) => host.includes(","))) refuse("written with one host between two commas")
    if (hosts.some((host) => host !== "") && hosts.includes(""))
      refuse("written with a host on both sides of each comma")
    if (hosts.some((host) => host !== "")) given.host = hosts.join(",")
    if (ports.some((port) => port !== "")) given.port = ports.map((port) => (port === "" ? "5432" : port)).join(",")
  }
  if (question >= 0) {
    for (const pair of tail.slice(question + 1).split("&")) {
      if (pair === "") continue
      const equals = pair.indexOf("=")
      if (equals < 0 || pair.indexOf("=", equals + 1) >= 0)
        refuse(`written with parameters such as sslmode=require; ${encoded}`)
      const name = decode(pair.slice(0, equals), "name of a parameter")
      take(given, name, decode(pair.slice(equals + 1), "value of a parameter"))
    }
  }
  return given
}

/** `host=db port=5432 password='it''s'`: quotes around a value, a backslash before a quote or a backslash. */
const parsePairs = (text: string): Given => {
  const given: Given = {}
  const pair = /\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\[^])*)'|((?:[^\s'\\]|\\[^])*))(?=\s|$)/y
  while (pair.lastIndex < text.length) {
    if (/^\s*$/.test(text.slice(pair.lastIndex))) break
    const found = pair.exec(text)
    if (found === null)
      return refuse("written in pairs such as host=db password='with a space', with a backslash before ' and \\")
    const value = (found[2] ?? found[3] ?? "").replace(/\\([^])/g, "$1")
    if (value.includes("\0")) refuse("written without NUL characters")
    take(given, found[1]!, value)
  }
  return given
}

/** A connection string as libpq reads it, for one host or several; or why it is none. */
export const parseUrl = (text: string): Options | Refusal => {
  try {
    if (/^postgres(?:ql)?:\/\//.test(text)) return toOptions(parseUri(text))
    // Another scheme is a mistake, and no list of pairs.
    if (/^\s*[A-Za-z_]+\s*=/.test(text)) return toOptions(parsePairs(text))
    return new Refusal("postgres://user:password@host:port/name, or pairs such as host=db user=app")
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
}
