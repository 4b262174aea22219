/** From an open channel to a session that is ready: startup message, authentication, first parameters. */
import * as PgAuth from "@effect/sql-pg/PgAuth"
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import type { ResolvedConfig } from "./Config.ts"
import { authenticationError, connectionError, serverError } from "./Facts.ts"
import type { Channel } from "./Transport.ts"

/** A password as it was given, and as SCRAM wants it. */
export interface Password {
  readonly raw: string
  readonly prepared: string
}

/** What the server has told by the time it is ready. The parser goes on where startup stopped reading. */
export interface Started {
  readonly channel: Channel
  readonly parser: PgProtocol.Parser<unknown>
  readonly parameters: Map<string, string>
  readonly processId: number
  readonly secret: number
  /** Whoever takes over says so here: the messages behind the login's last, in the same read, are for it. */
  readonly takeOver?: (dispatch: (message: PgProtocol.BackendMessage<unknown>) => void) => void
}

type Scram = PgAuth.ScramFirst | PgAuth.ScramFinal | "done" | undefined

/**
 * Logs in, and calls back exactly once, in the tick of the last message, so that the next reader misses nothing.
 * The returned function gives up.
 */
export const start = (
  config: ResolvedConfig,
  channel: Channel,
  password: Password | undefined,
  onDone: (result: Result.Result<Started, SqlError>) => void
): (() => void) => {
  const { socket } = channel
  const parser = PgProtocol.makeParser<unknown>({ maxMessageSize: config.maxMessageSize })
  const parameters = new Map<string, string>()
  let processId = 0
  let secret = 0
  let scram: Scram
  let finished = false
  let successor: ((message: PgProtocol.BackendMessage<unknown>) => void) | undefined
  const takeOver: Started["takeOver"] = (dispatch) => {
    successor = dispatch
  }

  const release = (): void => {
    finished = true
    socket.off("error", onError)
    socket.off("close", onClose)
  }
  const fail = (error: SqlError): void => {
    if (finished) return
    release()
    socket.destroy()
    onDone(Result.fail(error))
  }
  const desync = (message: string): void => fail(connectionError(undefined, message, "connect"))
  const refuse = (cause: unknown, message: string): void => fail(authenticationError(cause, message))
  const onError = (cause: Error): void =>
    fail(connectionError(cause, `Connection lost during login: ${cause.message}`, "connect"))
  const onClose = (): void => fail(connectionError(undefined, "Connection closed during login", "connect"))

  const answerPassword = (make: (password: string) => Result.Result<string, PgAuth.AuthError>): void => {
    if (password === undefined) return refuse(undefined, "The server asks for a password and none is configured")
    const answer = make(password.raw)
    if (Result.isFailure(answer)) return refuse(answer.failure, "Cannot answer the password challenge")
    socket.write(PgProtocol.encodePasswordMessage({ password: answer.success }))
  }

  const beginScram = (mechanisms: ReadonlyArray<string>): void => {
    if (!mechanisms.includes(PgAuth.SCRAM_SHA_256)) {
      return refuse(undefined, `The server offers no login this session knows: ${mechanisms.join(", ")}`)
    }
    if (password === undefined) return refuse(undefined, "The server asks for a password and none is configured")
    const first = PgAuth.scramInit({ password: password.prepared, nonce: randomBytes(18).toString("base64") })
    if (Result.isFailure(first)) return refuse(first.failure, "Cannot begin SCRAM")
    scram = first.success.state
    socket.write(
      PgProtocol.encodeSASLInitialResponse({
        mechanism: PgAuth.SCRAM_SHA_256,
        initialResponse: first.success.response
      })
    )
  }

  const onMessage = (message: PgProtocol.BackendMessage<unknown>): void => {
    if (finished) return successor?.(message)
    switch (message._tag) {
      case "AuthenticationOk":
        // A server that skips its proof may be somebody else.
        if (scram !== undefined && scram !== "done")
          return refuse(undefined, "The server did not prove itself by SCRAM")
        return
      case "AuthenticationCleartextPassword":
        return answerPassword((value) => Result.succeed(value))
      case "AuthenticationMD5Password":
        return answerPassword((value) =>
          PgAuth.md5Password({ user: config.username, password: value, salt: message.salt })
        )
      case "AuthenticationSASL":
        return beginScram(message.mechanisms)
      case "AuthenticationSASLContinue": {
        if (scram === undefined || scram === "done" || scram._tag !== "ScramFirst") {
          return desync("SCRAM challenge out of order")
        }
        const next = PgAuth.scramContinue(scram, message.data)
        if (Result.isFailure(next)) return refuse(next.failure, "SCRAM failed")
        scram = next.success.state
        socket.write(PgProtocol.encodeSASLResponse({ data: next.success.response }))
        return
      }
      case "AuthenticationSASLFinal": {
        if (scram === undefined || scram === "done" || scram._tag !== "ScramFinal") {
          return desync("SCRAM signature out of order")
        }
        const proof = PgAuth.scramFinish(scram, message.data)
        if (Result.isFailure(proof)) return refuse(proof.failure, "The server's SCRAM signature is wrong")
        scram = "done"
        return
      }
      case "AuthenticationUnsupported":
        return refuse(undefined, `The server asks for a login this session does not know (${message.method})`)
      case "ParameterStatus":
        parameters.set(message.name, message.value)
        return
      case "BackendKeyData":
        processId = message.pid
        secret = message.secret
        return
      case "NoticeResponse":
      case "NegotiateProtocolVersion":
        return
      case "ErrorResponse":
        return fail(serverError(message.fields, "connect", { fatal: true }))
      case "ReadyForQuery":
        release()
        return onDone(Result.succeed({ channel, parser, parameters, processId, secret, takeOver }))
      default:
        return desync(`Unexpected ${message._tag} during login`)
    }
  }

  const onData = (chunk: Uint8Array): void => {
    try {
      parser.pushEach(chunk, onMessage)
    } catch (cause) {
      fail(connectionError(cause, "The server's login messages cannot be read", "connect"))
    }
  }

  channel.receive(onData)
  socket.on("error", onError)
  socket.on("close", onClose)
  socket.write(PgProtocol.encodeStartupMessage(config.startup))

  return () => {
    if (finished) return
    release()
    socket.destroy()
  }
}
