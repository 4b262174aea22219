/** Connection strings and addresses, as libpq reads them. */
import * as Redacted from "effect/Redacted"
import type { Address, Options, SslMode } from "../DatabaseOptions.ts"

export const withoutUndefined = (options: Options): Options =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))

export const validPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535

/** `host`, `host:port`, `[v6]:port`, `v6`, or the directory of a socket. */
export const parseAddress = (text: string): Address | undefined => {
  const found = /^(\[[^\]]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text.trim())
  if (found !== null) {
    const host = found[1]!.replace(/^\[(.*)\]$/, "$1")
    return found[2] === undefined ? { host } : { host, port: Number(found[2]) }
  }
  return /^[0-9A-Fa-f:.]+$/.test(text) && text.includes("::") ? { host: text } : undefined
}

/** A connection string as libpq reads it, for one host or several. `undefined`: it is not one. */
export const parseUrl = (text: string): Options | undefined => {
  const several = /^(postgres(?:ql)?:\/\/(?:[^@/?#]*@)?)([^@/?#]*,[^@/?#]*)(.*)$/.exec(text)
  if (several !== null) {
    const [first, ...others] = several[2]!.split(",")
    const one = others.includes("") || first === "" ? undefined : parseUrl(`${several[1]}${first}${several[3]}`)
    return one === undefined ? undefined : { ...one, hosts: [first!, ...others] }
  }
  if (!/^postgres(ql)?:\/\//.test(text) || !URL.canParse(text)) return undefined
  const url = new URL(text)
  const decode = (part: string): string | undefined => {
    try {
      return part === "" ? undefined : decodeURIComponent(part)
    } catch {
      return undefined
    }
  }
  const query = url.searchParams
  // Dropped in silence, a misspelt `sslmode` would mean less security than was asked for.
  for (const name of query.keys()) if (/^ssl/i.test(name) && name !== "sslmode") return undefined
  const password = decode(url.password)
  const sslmode = query.get("sslmode") ?? undefined
  const host = query.get("host") ?? decode(url.hostname.replace(/^\[(.*)\]$/, "$1"))
  const port = query.get("port") ?? url.port
  return withoutUndefined({
    host,
    port: port === "" ? undefined : Number(port),
    name: decode(url.pathname.slice(1)),
    user: decode(url.username),
    password: password === undefined ? undefined : Redacted.make(password),
    sslmode: sslmode as SslMode | undefined,
    applicationName: query.get("application_name") ?? undefined
  })
}
