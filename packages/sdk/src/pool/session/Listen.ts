/** LISTEN on a session of one's own, which is held as long as somebody listens. */
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { Session } from "../Session.ts"
import { statementError } from "./Facts.ts"
import { StatementOperation } from "./StatementOperation.ts"
import type { Wire } from "./Wire.ts"

export interface Notification {
  readonly processId: number
  readonly channel: string
  readonly payload: string
}

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** The server cuts longer names, and notifications then come under a name that nobody listens to. */
export const channelError = (channel: string, operation: string): SqlError | undefined =>
  Buffer.byteLength(channel) <= 63
    ? undefined
    : statementError(undefined, "A channel's name may have 63 bytes at most", operation)

export const listen = (
  session: Session,
  wire: Wire,
  channel: string
): Effect.Effect<Queue.Dequeue<Notification, SqlError>, SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    const invalid = channelError(channel, "listen")
    if (invalid !== undefined) return yield* Effect.fail(invalid)
    const scope = yield* Scope.Scope
    const queue = yield* Queue.unbounded<Notification, SqlError>()
    const listener = (message: PgProtocol.NotificationResponse): void => {
      Queue.offerUnsafe(queue, { processId: message.pid, channel: message.channel, payload: message.payload })
    }
    let listeners = wire.listeners.get(channel)
    if (listeners === undefined) wire.listeners.set(channel, (listeners = new Set()))
    listeners.add(listener)
    const forget = wire.onDeath((error) => {
      Queue.failCauseUnsafe(queue, Cause.fail(error))
    })
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend((): Effect.Effect<unknown> => {
        forget()
        listeners.delete(listener)
        if (listeners.size > 0 || session.dead !== undefined) return Queue.shutdown(queue)
        wire.listeners.delete(channel)
        // Nobody waits for it: whoever leaves may be leaving a server that is silent.
        const unlisten = { noRows: true, operation: "listen" }
        wire.submit(new StatementOperation(wire, `UNLISTEN ${quote(channel)}`, [], unlisten, () => {}))
        return Queue.shutdown(queue)
      })
    )
    yield* session.query(`LISTEN ${quote(channel)}`, [], { noRows: true, operation: "listen" })
    return queue
  })
