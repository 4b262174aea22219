/**
 * Brings a session whose callers have left back to rest, or gives up on it.
 *
 * A CancelRequest carries no statement: the server interrupts whatever the session runs when the signal arrives. It
 * travels on a connection of its own, so it may arrive after the statement has ended, and hit the next one. The server
 * closes the cancel connection only after it has sent the signal, and a backend that is about to read a message takes
 * pending signals first. So a session is handed on only when
 *
 * 1. its statements have been answered,
 * 2. the server (not the network, not our timer) has closed each cancel connection, and
 * 3. a question without effect, asked after that, was answered: a signal that was still on its way has hit that.
 *
 * 57014 alone proves nothing: `statement_timeout` reports the same while our signal is still under way. A session behind
 * a pooler is never handed on after a cancel, because the pooler closes the connection before the server has the signal.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { connectionError } from "./Facts.ts"
import { changed } from "./SessionState.ts"
import { afterSilence } from "./Silence.ts"
import { frames, join } from "./Statements.ts"
import { open } from "./Transport.ts"
import type { Message, Operation, Wire } from "./Wire.ts"

const question = Uint8Array.from(
  join([
    Result.getOrThrow(PgProtocol.encodeParse({ name: "", query: "", parameterTypes: [] })),
    Result.getOrThrow(PgProtocol.encodeBind({ portal: "", statement: "", parameters: [] })),
    frames.executeSync
  ])
)

/** The empty statement: an answer and nothing else. */
export class SignOfLife implements Operation {
  abandoned = false
  written = false
  next: Operation | undefined = undefined
  readonly commit = false
  readonly harmless = true
  readonly completed = false
  readonly opens = false
  readonly ours = true
  readonly urgent: boolean
  readonly readField = undefined
  readonly #onDone: (error: SqlError | undefined) => void

  constructor(urgent: boolean, onDone: (error: SqlError | undefined) => void) {
    this.urgent = urgent
    this.#onDone = onDone
  }
  frame(): Uint8Array {
    return question
  }
  onMessage(_message: Message): void {
    // An ErrorResponse is a sign of life too: inside of a failed transaction, or a late cancel that has found its mark.
  }
  onReady(): void {
    this.#onDone(undefined)
  }
  reject(error: SqlError): void {
    this.#onDone(error)
  }
}

/** `confirmed`: the server has closed the connection, so the signal is sent. `unsent`: nothing has left. */
type CancelOutcome = "confirmed" | "unknown" | "unsent"

interface CancelRequest {
  readonly left: boolean
  readonly giveUp: () => void
}

/** Sends one CancelRequest to where the session is. Calls back once, unless given up. */
const requestCancel = (wire: Wire, onDone: (outcome: CancelOutcome) => void): CancelRequest => {
  const { channel, processId, secret } = wire.started
  let left = false
  let finished = false
  let destroy: (() => void) | undefined
  const finish = (outcome: CancelOutcome): void => {
    if (finished) return
    finished = true
    destroy?.()
    onDone(outcome)
  }
  const stopConnecting = open(wire.config, channel.encrypted ? "tls" : "plain", channel.address, (result) => {
    if (Result.isFailure(result)) return finish("unsent")
    const { socket } = result.success
    destroy = () => socket.destroy()
    socket.on("end", () => finish("confirmed"))
    socket.on("error", () => finish("unknown"))
    socket.on("close", () => finish("unknown"))
    socket.resume()
    left = true
    socket.write(PgProtocol.encodeCancelRequest({ pid: processId, secret }))
  })
  return {
    get left() {
      return left
    },
    giveUp: () => {
      if (finished) return
      finished = true
      stopConnecting()
      destroy?.()
    }
  }
}

/** Sends a cancel for whatever the session runs, under a bound, and calls back when that is done. */
export const cancel = (wire: Wire, onDone: () => void): (() => void) => {
  const finish = (): void => {
    heard()
    wire.whenIdle(() => {
      wire.cancelling = false
    })
    onDone()
  }
  wire.cancelling = true
  wire.dirty |= changed.cancelled
  const request = requestCancel(wire, finish)
  const heard = afterSilence(wire.config.drainTimeout, () => {
    request.giveUp()
    finish()
  })
  return () => {
    heard()
    if (!request.left) request.giveUp()
  }
}

/** Cancels and waits, as described above. Calls back once. `false`: the session has been destroyed. */
export const drain = (wire: Wire, onDone: (ok: boolean) => void): void => {
  const { cancelGrace, drainTimeout, pooler } = wire.config
  let sent = false
  let confirmed = true
  let request: CancelRequest | undefined
  let grace: NodeJS.Timeout | undefined
  let finished = false

  const finish = (ok: boolean): void => {
    if (finished) return
    finished = true
    heard()
    clearTimeout(grace)
    request?.giveUp()
    wire.cancelling = false
    if (!ok) {
      wire.die(
        connectionError(
          undefined,
          pooler && sent
            ? "A session behind a pooler is not handed on after a cancellation"
            : "The server did not confirm a cancellation in time",
          "cancel",
          { bound: "drain" }
        )
      )
    }
    wire.hold(false)
    onDone(ok)
  }
  const heard = afterSilence(drainTimeout + cancelGrace, () => finish(false))

  const settle = (): void => {
    if (finished) return
    if (wire.dead !== undefined) return finish(false)
    clearTimeout(grace)
    // On its way: wait until the server says so. Still connecting: nothing has left, so nothing can arrive late.
    if (request?.left === true) return
    request?.giveUp()
    request = undefined
    if (!sent) return finish(true)
    if (!confirmed || pooler) return finish(false)
    wire.submit(new SignOfLife(true, (error) => finish(error === undefined)), true)
  }

  const attempt = (): void => {
    if (finished || wire.depth === 0) return
    // Somebody still waits for an answer on this wire: the signal could hit theirs.
    if (!wire.allAbandoned) {
      grace = setTimeout(attempt, cancelGrace)
      return
    }
    wire.cancelling = true
    request = requestCancel(wire, (outcome) => {
      request = undefined
      if (outcome !== "unsent") sent = true
      if (outcome === "unknown") confirmed = false
      if (wire.depth === 0) settle()
      // What was behind the cancelled statement runs now, and nobody waits for it either.
      else grace = setTimeout(attempt, outcome === "unsent" ? 100 : Math.max(cancelGrace, 10))
    })
  }

  wire.hold(true)
  grace = setTimeout(attempt, cancelGrace)
  wire.whenIdle(settle)
}
