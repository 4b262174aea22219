/** What a session is told when it connects, and the defaults of what it is not told. */
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import type * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import type { ConnectionOptions } from "node:tls"
import type { Notice } from "../../DatabaseOptions.ts"
import { millisOf, refuse, tableOf } from "../../options/Field.ts"
import { session as table } from "../../options/session.ts"

/** As libpq means them: `require` encrypts without verifying unless a `ca` is given, `prefer` falls back to plain. */
export type SslMode = "allow" | "disable" | "prefer" | "require" | "verify-ca" | "verify-full"

/** A binary codec of the application for a type that the driver does not know. */
export interface TypeCodec {
  readonly oid: number
  readonly codec: PgTypes.Codec<any>
  readonly arrayOid?: number | undefined
}

export interface SessionConfig {
  /** Default `localhost`. A value that begins with `/` is the directory of a unix socket. */
  readonly host?: string | undefined
  /** Where `host` is, already looked up: TLS still checks the name. Default: the name is looked up at every connect. */
  readonly address?: string | undefined
  /** Default 5432. */
  readonly port?: number | undefined
  /** The unix socket itself; wins over `host`. */
  readonly path?: string | undefined
  /** Default: the user's name, as PostgreSQL does. */
  readonly database?: string | undefined
  readonly username: string
  /** A value, or an Effect that is run for each connection attempt. Its failure is a typed `AuthenticationError`. */
  readonly password?: Redacted.Redacted | Effect.Effect<Redacted.Redacted, unknown> | undefined
  /** Default `sluice`. */
  readonly applicationName?: string | undefined
  /** Default `prefer`, as libpq's. Ignored on unix sockets. */
  readonly sslmode?: SslMode | undefined
  /**
   * `ca`, `cert`, `key`, `servername` and the like. What `sslmode` says about verification wins. An Effect is run for each
   * connection attempt, as the password's.
   */
  readonly ssl?: ConnectionOptions | Effect.Effect<ConnectionOptions, unknown> | undefined
  /** Bounds one attempt as a whole: password, certificates, name lookup, socket, TLS, login. Default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Default 30 seconds before the first probe. */
  readonly keepAlive?: Duration.Input | undefined
  /** The server's own limit for a statement. Default: the server's. */
  readonly statementTimeout?: Duration.Input | undefined
  readonly idleInTransactionTimeout?: Duration.Input | undefined
  readonly lockTimeout?: Duration.Input | undefined
  /** Default `false`. */
  readonly readOnly?: boolean | undefined
  /** Further settings for the session's start, as in libpq's `options`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** A pooler in transaction mode stands between: no settings at start, no named statements, no LISTEN. */
  readonly pooler?: "transaction" | undefined
  /** `false`: never name a statement. Default `true`. */
  readonly prepare?: boolean | undefined
  /** How many statements stay prepared. Default 100. */
  readonly preparedStatements?: number | undefined
  /** The longest message accepted from the server, in bytes. Default 16 MiB. */
  readonly maxMessageSize?: number | undefined
  /** How many statements may be on the wire at once. Default 64. */
  readonly pipelineDepth?: number | undefined
  /** A session with statements on the wire that hears nothing for this long is destroyed. Default: never. */
  readonly silence?: Duration.Input | undefined
  /** For a ROLLBACK and a reset, of which nobody waits for the answer. Default 5 seconds. */
  readonly controlTimeout?: Duration.Input | undefined
  /** For COMMIT and savepoints, where no deadline of the caller comes first. Default: `statementTimeout` and 5 seconds more, so that the server has the word; else 65 seconds. */
  readonly commitTimeout?: Duration.Input | undefined
  /**
   * What is undone before somebody else gets the session. `changed`: what is known to have changed. `always`: everything, after
   * each use. `never`: nothing but an open transaction. Default `changed`.
   */
  readonly reset?: "changed" | "always" | "never" | undefined
  /** What an error of the server means for the session. Default: it is kept. */
  readonly judge?: ((error: SqlError) => "keep" | "reset" | "drop") | undefined
  /** For the answer to a sign-of-life question. Default 500 milliseconds. */
  readonly validationTimeout?: Duration.Input | undefined
  /** From the cancel request to the session at rest. Default 1 second. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long an abandoned statement may finish by itself before it is cancelled. Default 10 milliseconds. */
  readonly cancelGrace?: Duration.Input | undefined
  /** From Terminate to the destroyed socket. Default 1 second. */
  readonly closeTimeout?: Duration.Input | undefined
  readonly types?: ReadonlyArray<TypeCodec> | undefined
  /** Called with each notice and warning of the server. */
  readonly onNotice?: ((notice: Notice) => void) | undefined
  /** What could have said where the server is, and did not: told where nobody is there. */
  readonly unset?: string | undefined
}

/** `SessionConfig` with every default filled in and every duration in milliseconds. */
export interface ResolvedConfig {
  readonly host: string
  /** What the socket connects to: the address, if one was given, else the name. */
  readonly target: string
  readonly port: number
  readonly path: string | undefined
  readonly sslmode: SslMode
  readonly ssl: SessionConfig["ssl"]
  /** What `ssl` said last: a cancellation uses it too, for the server that it goes to may have a new certificate by then. */
  readonly material: { current: ConnectionOptions | undefined }
  readonly username: string
  readonly password: SessionConfig["password"]
  readonly startup: PgProtocol.StartupParameters
  readonly readOnly: boolean
  readonly pooler: boolean
  readonly preparedStatements: number
  readonly maxMessageSize: number
  readonly pipelineDepth: number
  readonly connectTimeout: number
  readonly keepAlive: number
  readonly silence: number | undefined
  readonly controlTimeout: number
  readonly commitTimeout: number
  readonly reset: "changed" | "always" | "never"
  readonly judge: SessionConfig["judge"]
  readonly validationTimeout: number
  readonly drainTimeout: number
  readonly cancelGrace: number
  readonly closeTimeout: number
  /** The server's limit as the session starts, in milliseconds; `undefined` when it was not set by us. */
  readonly statementTimeout: number | undefined
  readonly types: ReadonlyArray<TypeCodec>
  readonly onNotice: SessionConfig["onNotice"]
  readonly unset: string | undefined
}

/** Node's timers and PostgreSQL's settings both end here, and Node takes anything above for nothing at all. */
const longest = 2_147_483_647

const optionalMillis = (input: Duration.Input | undefined): number | undefined =>
  input === undefined ? undefined : Math.min(longest, Math.round(millisOf(input)!))

const millis = (input: Duration.Input | undefined, fallback: number): number => optionalMillis(input) ?? fallback

const reserved = new Set(["user", "database", "replication", "options", "client_encoding"])

const startupOf = (config: SessionConfig): PgProtocol.StartupParameters => {
  const settings: Record<string, string> = {}
  if (config.pooler === undefined) {
    for (const [name, value] of Object.entries(config.settings ?? {})) {
      const key = name.toLowerCase()
      if (!reserved.has(key)) settings[key] = value
    }
    const limits = {
      statement_timeout: config.statementTimeout,
      idle_in_transaction_session_timeout: config.idleInTransactionTimeout,
      lock_timeout: config.lockTimeout
    }
    for (const [name, value] of Object.entries(limits)) {
      const limit = optionalMillis(value)
      if (limit !== undefined) settings[name] = String(limit)
    }
    if (config.readOnly === true) settings["default_transaction_read_only"] = "on"
  }
  return {
    ...settings,
    user: config.username,
    database: config.database,
    application_name: config.applicationName ?? "sluice"
  }
}

const fields = tableOf<SessionConfig>()(table)

const resolved = new WeakMap<SessionConfig, ResolvedConfig>()

/** Fills in the defaults, once for each configuration. */
export const resolve = (config: SessionConfig): ResolvedConfig => {
  const known = resolved.get(config)
  if (known !== undefined) return known
  refuse("Session.connect", fields, config)
  const host = config.host ?? "localhost"
  const port = config.port ?? 5432
  const path = config.path ?? (host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : undefined)
  const result: ResolvedConfig = {
    host,
    target: config.address ?? host,
    port,
    path,
    sslmode: path === undefined ? (config.sslmode ?? "prefer") : "disable",
    ssl: config.ssl,
    material: { current: config.ssl === undefined || Effect.isEffect(config.ssl) ? undefined : config.ssl },
    username: config.username,
    password: config.password,
    startup: startupOf(config),
    readOnly: config.readOnly === true,
    pooler: config.pooler === "transaction",
    preparedStatements:
      config.pooler !== undefined || config.prepare === false ? 0 : (config.preparedStatements ?? 100),
    maxMessageSize: config.maxMessageSize ?? 16 * 1024 * 1024,
    pipelineDepth: Math.max(1, config.pipelineDepth ?? 64),
    connectTimeout: millis(config.connectTimeout, 5000),
    keepAlive: millis(config.keepAlive, 30_000),
    silence: optionalMillis(config.silence),
    controlTimeout: millis(config.controlTimeout, 5000),
    commitTimeout: millis(config.commitTimeout, Math.min(longest, millis(config.statementTimeout, 60_000) + 5000)),
    reset: config.reset ?? "changed",
    judge: config.judge,
    validationTimeout: millis(config.validationTimeout, 500),
    drainTimeout: millis(config.drainTimeout, 1000),
    cancelGrace: millis(config.cancelGrace, 10),
    closeTimeout: millis(config.closeTimeout, 1000),
    statementTimeout: config.pooler === undefined ? optionalMillis(config.statementTimeout) : undefined,
    types: config.types ?? [],
    onNotice: config.onNotice,
    unset: config.unset
  }
  resolved.set(config, result)
  return result
}
