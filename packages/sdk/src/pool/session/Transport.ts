/**
 * A socket to one server, plain or under TLS. Used by sessions and by their cancel requests alike, so that a cancel goes
 * to the same address, over the same kind of channel, as the session it belongs to.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import * as Net from "node:net"
import * as Tls from "node:tls"
import type { ResolvedConfig, SslMode } from "./Config.ts"
import { connectionError } from "./Facts.ts"

/** `tls-if-offered` goes on in plain text when the server answers the TLS request with no. */
export type Security = "plain" | "tls" | "tls-if-offered"

/** Where a session really is, after name lookup. */
export type Address = { readonly path: string } | { readonly address: string; readonly port: number }

/** Whoever is told of bytes has taken what it needs of them when it returns: they lie in a buffer that is used again. */
export type Receiver = (bytes: Uint8Array) => void

export interface Channel {
  readonly socket: Net.Socket
  /** From here on what the server says goes there, and to nobody else. */
  readonly receive: (receiver: Receiver) => void
  readonly encrypted: boolean
  readonly address: Address
}

/** The attempts that an `sslmode` stands for, in libpq's order. The second is made only when the server refuses the first kind of channel. */
export const attemptsOf = (sslmode: SslMode): ReadonlyArray<Security> => {
  switch (sslmode) {
    case "disable":
      return ["plain"]
    case "allow":
      return ["plain", "tls"]
    case "prefer":
      return ["tls-if-offered", "plain"]
    default:
      return ["tls"]
  }
}

/** libpq verifies under `require` too when it was given a root certificate, but never the name. */
const verification = (config: ResolvedConfig): Tls.ConnectionOptions => {
  switch (config.sslmode) {
    case "verify-full":
      return { rejectUnauthorized: true }
    case "verify-ca":
      return { rejectUnauthorized: true, checkServerIdentity: () => undefined }
    case "require":
      return config.material.current?.ca === undefined
        ? { rejectUnauthorized: false }
        : { rejectUnauthorized: true, checkServerIdentity: () => undefined }
    default:
      return { rejectUnauthorized: false }
  }
}

const tlsOptions = (config: ResolvedConfig, socket: Net.Socket): Tls.ConnectionOptions => ({
  host: config.host,
  ...(Net.isIP(config.host) === 0 && { servername: config.host }),
  ...config.material.current,
  ...verification(config),
  socket
})

const ignore = (): void => {}

/**
 * One buffer for what all sockets in plain text read, one after another. Else Node makes one of 64 KiB for each read, to
 * cut it to the few bytes that came, which is more work than all that a short statement asks of the pool.
 */
const inbox = Buffer.allocUnsafeSlow(65_536)

/** Told whether TLS itself failed, so that `prefer` can try again without it. */
export interface ChannelFailure {
  readonly error: SqlError
  readonly negotiation: boolean
}

/**
 * Opens a channel and calls back exactly once, unless the returned function gives up on it before.
 */
export const open = (
  config: ResolvedConfig,
  security: Security,
  at: Address | undefined,
  onDone: (result: Result.Result<Channel, ChannelFailure>) => void
): (() => void) => {
  let finished = false
  let socket: Net.Socket
  let negotiating = false

  const release = (): void => {
    socket.off("error", onError)
    socket.off("close", onClose)
  }
  const fail = (cause: unknown, message: string): void => {
    if (finished) return
    finished = true
    release()
    socket.destroy()
    onDone(Result.fail({ error: connectionError(cause, message, "connect"), negotiation: negotiating }))
  }
  const succeed = (encrypted: boolean): void => {
    if (finished) return
    finished = true
    release()
    onDone(Result.succeed({ socket, receive, encrypted, address: resolvedAddress }))
  }
  const onError = (cause: Error): void =>
    fail(cause, `Cannot connect: ${cause.message || (cause as NodeJS.ErrnoException).code}`)
  const onClose = (): void => fail(undefined, "The server closed the connection before it was usable")

  const adopt = (next: Net.Socket): void => {
    socket = next
    // Stays for the socket's life: an 'error' event without a listener would end the process.
    socket.on("error", ignore)
    socket.on("error", onError)
    socket.on("close", onClose)
  }

  let resolvedAddress: Address = at ?? { path: "" }
  let receiver: Receiver = ignore
  const receive: Channel["receive"] = (next) => {
    receiver = next
  }

  const secure = (): void => {
    release()
    negotiating = true
    const raw = socket
    let upgraded: Tls.TLSSocket
    try {
      upgraded = Tls.connect(tlsOptions(config, raw))
    } catch (cause) {
      // Our own certificates: without them the channel would not be what was asked for.
      negotiating = false
      return fail(
        Object.assign(new Error("Cannot start TLS", { cause }), { code: "ERR_TLS_MATERIAL" }),
        "Cannot start TLS"
      )
    }
    adopt(upgraded)
    upgraded.on("data", (bytes: Uint8Array) => receiver(bytes))
    upgraded.once("secureConnect", () => succeed(true))
  }

  const onAnswer: Receiver = (chunk) => {
    receiver = ignore
    // One byte and nothing behind it: whatever follows in plain text could have been put there by somebody else.
    const answer = chunk.length === 1 ? PgProtocol.decodeSslResponse(chunk[0]!) : undefined
    if (answer === undefined || Result.isFailure(answer)) {
      negotiating = true
      return fail(undefined, "The server did not understand the TLS request")
    }
    if (answer.success === "S") return secure()
    if (security === "tls-if-offered") return succeed(false)
    const message = `The server does not offer TLS, and sslmode is ${config.sslmode}`
    fail(Object.assign(new Error(message), { code: "ERR_TLS_NOT_OFFERED" }), message)
  }

  const onConnect = (): void => {
    if (at === undefined) {
      resolvedAddress =
        config.path === undefined
          ? { address: socket.remoteAddress ?? config.target, port: socket.remotePort ?? config.port }
          : { path: config.path }
    }
    if (security === "plain") return succeed(false)
    receive(onAnswer)
    socket.write(PgProtocol.encodeSslRequest())
  }

  const endpoint =
    at ?? (config.path === undefined ? { address: config.target, port: config.port } : { path: config.path })
  // Made before it is told where to go, because an impossible port or path throws.
  adopt(
    new Net.Socket({
      onread: {
        buffer: inbox,
        callback: (size) => {
          receiver(inbox.subarray(0, size))
          return true
        }
      }
    })
  )
  socket!.once("connect", onConnect)
  try {
    if ("path" in endpoint) socket!.connect({ path: endpoint.path })
    else {
      socket!.connect({
        host: endpoint.address,
        port: endpoint.port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: config.keepAlive
      })
    }
  } catch (cause) {
    queueMicrotask(() => fail(cause, "Cannot connect there"))
  }

  return () => {
    if (finished) return
    finished = true
    release()
    socket.destroy()
  }
}
