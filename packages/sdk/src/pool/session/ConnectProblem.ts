/**
 * Why a session could not be had, in words for who has to mend it: what was tried, what said no, and the option or variable
 * that stands for it. By Node's codes and SQLSTATEs; nothing secret is in them.
 */
import type { SqlError } from "effect/sql/SqlError"
import type { ResolvedConfig } from "./Config.ts"
import { factsOf, withFacts } from "./Facts.ts"

const untrusted = "its authority is not trusted; give that authority's certificate as tls.ca"

const tls = (config: ResolvedConfig, code: string): string => {
  switch (code) {
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      return `the server's certificate was refused (${code}): ${untrusted}`
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return `the server's certificate was refused (${code}): renew it, or set the clock`
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the server's certificate is for another name than ${config.host} (${code}): connect by its name, or give tls.servername`
    case "ERR_TLS_NOT_OFFERED":
      return `the server does not offer TLS, and sslmode is ${config.sslmode}`
    case "ERR_TLS_MATERIAL":
      return "tls.ca, tls.cert or tls.key cannot be used"
    default:
      return `TLS failed (${code})`
  }
}

const socket = (config: ResolvedConfig, code: string): string | undefined => {
  const at = config.path ?? `${config.target}:${config.port}`
  switch (code) {
    case "ECONNREFUSED":
      return `nobody listens at ${at}`
    case "ENOTFOUND":
      return `the name ${config.target} is unknown`
    case "EAI_AGAIN":
      return `the name ${config.target} cannot be looked up now`
    case "EHOSTUNREACH":
    case "EHOSTDOWN":
    case "ENETUNREACH":
      return `there is no route to ${at}`
    case "ENOENT":
      return `there is no socket at ${at}`
    case "EACCES":
      return `the socket at ${at} may not be used`
    case "ECONNRESET":
    case "EPIPE":
    case "EOF":
      return `the connection to ${at} was closed during the login`
    case "ETIMEDOUT":
      return `there was no answer from ${at}`
    default:
      return undefined
  }
}

const said = (config: ResolvedConfig, sqlState: string): string | undefined => {
  const { database, user } = config.startup
  switch (sqlState) {
    case "28P01":
      return `the server refused the password of user ${user}`
    case "28000":
      return `the server's rules (pg_hba.conf) or its roles do not let user ${user} in`
    case "3D000":
      return `there is no database ${database ?? user}`
    default:
      return undefined
  }
}

/** The same error, with its reason in words. */
export const explain = (config: ResolvedConfig, error: SqlError): SqlError => {
  const facts = factsOf(error)
  if (facts === undefined || facts.problem !== undefined) return error
  const code = codeOf(error)
  const at = config.path ?? `${config.target}:${config.port}`
  const problem =
    facts.sqlState !== undefined
      ? said(config, facts.sqlState)
      : facts.transport === "TLS"
        ? tls(config, code ?? "TLS")
        : facts.bound === "connect"
          ? `no session at ${at} within ${config.connectTimeout} ms`
          : socket(config, facts.transport ?? "EOF")
  if (problem === undefined) return error
  const unset = config.unset === undefined ? "" : `; ${config.host} is the default: neither ${config.unset} is set`
  return withFacts(error, { problem: problem + unset })
}

/** Node's code, wherever it lies in the chain of causes. */
const codeOf = (error: SqlError): string | undefined => {
  let cause: unknown = error.reason.cause
  for (let depth = 0; depth < 5 && typeof cause === "object" && cause !== null; depth++) {
    const { code } = cause as { readonly code?: unknown }
    if (typeof code === "string") return code
    cause = (cause as { readonly cause?: unknown }).cause
  }
  return undefined
}
