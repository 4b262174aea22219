/** Rows as a stream: read from the socket as fast as they are taken, and no faster. */
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { StatementOperation, type StatementOptions } from "./StatementOperation.ts"
import type { Wire } from "./Wire.ts"

type Chunk = readonly [any, ...Array<any>]
type Pulled = Effect.Effect<Chunk, SqlError | Cause.Done<void>>

/** Reading stops when so many rows, or so many reads of the socket, wait for the consumer, and nobody waits behind them. */
const rowsAhead = 512
const readsAhead = 16

class StreamOperation extends StatementOperation {
  #rows: Array<any> = []
  #reads = 0
  #paused = false
  #scheduled = false
  #hurried = false
  #waiting: ((exit: Pulled) => void) | undefined
  #end: Pulled | undefined

  constructor(wire: Wire, sql: string, params: ReadonlyArray<unknown>, options: StatementOptions | undefined) {
    super(wire, sql, params, options, (result) => {
      if (wire.streaming?.operation === this) wire.streaming = undefined
      this.#end = Result.isSuccess(result) ? Cause.done() : Effect.fail(result.failure)
      this.#deliver()
    })
  }

  override onRow(row: unknown): void {
    this.#rows.push(row)
    if (this.#scheduled) return
    // Once for all rows of this read.
    this.#scheduled = true
    queueMicrotask(this.#read)
  }

  readonly #read = (): void => {
    this.#scheduled = false
    this.#reads++
    this.#deliver()
    if (
      !this.#paused &&
      !this.#hurried &&
      this.#end === undefined &&
      (this.#rows.length >= rowsAhead || this.#reads >= readsAhead)
    ) {
      this.#paused = true
      this.wire.pause(true)
    }
  }

  #deliver(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    if (this.#rows.length > 0) {
      const rows = this.#rows as unknown as Chunk
      this.#rows = []
      this.#reads = 0
      this.#waiting = undefined
      waiting(Effect.succeed(rows))
    } else if (this.#end !== undefined) {
      this.#waiting = undefined
      waiting(this.#end)
    }
  }

  #resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.wire.pause(false)
  }

  /** Somebody waits for an answer behind these rows, perhaps for the sake of one of them: read them all now. */
  hurry(): void {
    this.#hurried = true
    this.#resume()
  }

  readonly pull: Pulled = Effect.callback<Chunk, SqlError | Cause.Done<void>>((resume) => {
    this.#waiting = resume
    this.#resume()
    this.#deliver()
    return Effect.sync(() => {
      if (this.#waiting === resume) this.#waiting = undefined
    })
  })

  /** The consumer has gone. What is still on its way is read and thrown away, until the session is drained. */
  leave(): void {
    if (this.#end !== undefined) return
    this.#rows = []
    if (this.wire.streaming?.operation === this) this.wire.streaming = undefined
    this.wire.abandon(this)
    this.#resume()
  }
}

/** `onFailed`: it was left before its end, and not because its consumer had enough of it. */
export const stream = (
  wire: Wire,
  sql: string,
  params: ReadonlyArray<unknown>,
  options: StatementOptions | undefined,
  onFailed?: () => void
): Stream.Stream<any, SqlError> =>
  Stream.fromChannel(
    Channel.fromTransform((_, scope) =>
      Effect.gen(function* () {
        const operation = new StreamOperation(wire, sql, params, options)
        yield* Scope.addFinalizerExit(scope, (exit) =>
          Effect.sync(() => {
            operation.leave()
            if (exit._tag === "Failure") onFailed?.()
          })
        )
        wire.streaming = { operation, hurry: () => operation.hurry() }
        wire.submit(operation)
        return operation.pull
      })
    )
  )
