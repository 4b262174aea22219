/**
 * The pipeline of one session: what is waiting to be written, what is on the wire, and whose answer comes next.
 *
 * Every operation is one or more cycles, and every cycle ends with its own Sync, so the server answers in order, ends
 * each answer with ReadyForQuery, and an error skips the rest of its own cycle alone. Operations that are submitted in
 * one tick share one write. An operation whose caller has left is dropped when it was not written yet; on the wire it
 * is marked abandoned and its answer is thrown away.
 *
 * The session dies once: by a fatal message, by the socket, by bytes that cannot be read, or by one of our timers.
 * Each operation is then told what is known of its own outcome.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import type { SqlError } from "effect/sql/SqlError"
import type { ResolvedConfig } from "./Config.ts"
import { connectionError, isFatalSeverity, serverError, type SessionFacts, statementError, withFacts } from "./Facts.ts"
import { type Catalogue, makeCatalogue } from "./Columns.ts"
import { type BindEncoder, makeBindEncoder, ParameterError, RefusedError } from "./Parameters.ts"
import { changed, changesNames, stateChangeOf } from "./SessionState.ts"
import { ParameterTypes } from "./ParameterTypes.ts"
import { OperationQueue } from "./OperationQueue.ts"
import { afterSilence } from "./Silence.ts"
import type { Started } from "./Startup.ts"
import { DescriptionCache, frames, join, StatementCache } from "./Statements.ts"

export type Message = PgProtocol.BackendMessage<unknown>

/** One piece of work on the wire. The wire calls, the operation answers its caller. */
export interface Operation {
  /** Its caller has left: nobody waits for the answer. */
  abandoned: boolean
  /** The bytes of its current cycle are on the wire. */
  written: boolean
  /** It ends a transaction, so a lost answer leaves its outcome unknown even inside one. */
  readonly commit: boolean
  /** Its current cycle executes nothing, so nothing can have been applied by it. */
  readonly harmless: boolean
  /** The server has said that its command is done, though not yet that it is at rest again. */
  readonly completed: boolean
  /** The session's own housekeeping: what it changes is remembered elsewhere. */
  readonly ours: boolean
  /** Goes out even while the wire is held. */
  readonly urgent: boolean
  /** Takes BEGIN along when one is due. */
  readonly opens: boolean
  /** The one behind it; the queue's own. */
  next: Operation | undefined
  /** Reads the rows of its current cycle. */
  readField: PgProtocol.FieldReader<unknown> | undefined
  /** The next cycle's bytes. May throw. */
  frame(prefix: Uint8Array | undefined): Uint8Array
  onMessage(message: Message): void
  /** Its cycle is over. */
  onReady(): void
  reject(error: SqlError): void
}

/** COPY speaks a protocol of its own. */
export const copyRefused =
  "COPY to or from the client is not carried by a session of the pool; use psql or a driver's COPY, or SELECT and INSERT"

export type TransactionStatus = "failed" | "idle" | "transaction"

/** A session that is younger tells where its address leads now. */
const youngMillis = 1_000

const isUtf8 = (encoding: string): boolean => /^(?:utf-?8|unicode)$/i.test(encoding)

/** Settings that a server reports and that a caller may have changed. PostgreSQL 18 reports the search path, too. */
const ownedByCaller: ReadonlySet<string> = new Set([
  "application_name",
  "DateStyle",
  "IntervalStyle",
  "TimeZone",
  "is_superuser",
  "search_path",
  "session_authorization",
  "standard_conforming_strings"
])

interface Shared {
  readonly descriptions: DescriptionCache
  readonly catalogue: Catalogue
  readonly parameterTypes: ParameterTypes
  readonly encodeBind: BindEncoder
}

const sharedByConfig = new WeakMap<ResolvedConfig, Shared>()

const sharedOf = (config: ResolvedConfig): Shared => {
  const known = sharedByConfig.get(config)
  if (known !== undefined) return known
  const catalogue = makeCatalogue(config.types)
  const made = {
    descriptions: new DescriptionCache(1000),
    catalogue,
    parameterTypes: new ParameterTypes(1000),
    encodeBind: makeBindEncoder(catalogue.registry)
  }
  sharedByConfig.set(config, made)
  return made
}

export class Wire {
  readonly config: ResolvedConfig
  readonly started: Started
  readonly shared: Shared
  readonly statements: StatementCache
  readonly parameters: Map<string, string>
  readonly listeners = new Map<string, Set<(notification: PgProtocol.NotificationResponse) => void>>()
  status: TransactionStatus = "idle"
  dead: SqlError | undefined
  /** What was changed that outlives a transaction; see `SessionState`. */
  dirty = 0
  /** Nobody may use the session again: the pool closes it instead of lending it. */
  unfit = false
  /** A statement of a caller was sent since the last reset. */
  used = false
  /** The transaction was begun as one that reads only. */
  readsOnly = false
  /** Nothing is written while a cancellation of ours is under way. */
  held = false
  /** A cancellation of ours is under way. */
  cancelling = false
  /** An abandoned statement that is alone on the wire is cancelled at once; for sessions that several callers share. */
  onAlone: (() => void) | undefined
  /** A stream whose rows are read only as they are taken, until somebody waits behind it: its consumer may be the one. */
  streaming: { readonly operation: Operation; readonly hurry: () => void } | undefined
  /** Counts what may have given names another meaning: a plan of an earlier count may be stale. */
  plans = 0
  /** Transactions that were begun. */
  transactions = 0
  /** In this transaction, so that its end counts too. */
  #renamedInside = false
  /** BEGIN, due with the next statement. */
  begin: Uint8Array | undefined
  /** The statement limit that the server has now, as far as is known; `null` is the session's own default. */
  limit: number | null | undefined = null
  /** Whether the server has been told to refuse writes, beyond the session's own default; `undefined`: not known. */
  guarded: boolean | undefined = false

  readonly #socket: Started["channel"]["socket"]
  readonly #parser: PgProtocol.Parser<unknown>
  readonly #deaths = new Set<(error: SqlError) => void>()
  readonly #idle: Array<() => void> = []
  readonly #pending = new OperationQueue()
  readonly #flying = new OperationQueue()
  #abandoned = 0
  #scheduled = false
  #opening: Operation | undefined
  #asking: Operation | undefined
  #lastNotice: PgProtocol.ErrorFields | undefined
  #heardAt = 0
  #watchdog: (() => void) | undefined

  /** Milliseconds without a word from the server, with statements on the wire, after which the session is destroyed. */
  silence: number | undefined

  constructor(config: ResolvedConfig, started: Started) {
    this.config = config
    this.silence = config.silence
    this.started = started
    this.shared = sharedOf(config)
    this.statements = new StatementCache(config.preparedStatements)
    this.parameters = started.parameters
    this.#bornReadOnly = this.#setReadOnly
    this.#bornOnStandby = this.#onStandby
    this.#socket = started.channel.socket
    this.#parser = started.parser
    started.takeOver?.(this.#dispatch)
    started.channel.receive(this.#onData)
    this.#socket.on("error", (cause) => this.die(connectionError(cause, `Connection lost: ${cause.message}`, "query")))
    this.#socket.on("end", () => this.#onClose())
    this.#socket.on("close", () => this.#onClose())
  }

  /** Operations on the wire. */
  get depth(): number {
    return this.#flying.size
  }

  get waiting(): number {
    return this.#pending.size
  }

  /** Something is on the wire whose caller has left. */
  get busy(): boolean {
    return this.#abandoned > 0
  }

  readonly #bornReadOnly: boolean
  readonly #bornOnStandby: boolean
  readonly #bornAt = performance.now()

  /** The server was asked to refuse writes: its refusal is no news. */
  get refusesByDesign(): boolean {
    return this.guarded === true || this.readsOnly
  }

  /** Another session would refuse a write as this one does: its settings did from the first, or the address has just led to a standby. */
  get refusesFromTheFirst(): boolean {
    return this.#bornReadOnly || (this.#bornOnStandby && performance.now() - this.#bornAt < youngMillis)
  }

  get #setReadOnly(): boolean {
    return this.parameters.get("default_transaction_read_only") === "on" || this.config.readOnly
  }

  get #onStandby(): boolean {
    return this.parameters.get("in_hot_standby") === "on"
  }

  get readOnly(): boolean {
    return this.#onStandby || this.#setReadOnly
  }

  /** The server refuses writes of what is sent now. */
  get guardsWrites(): boolean {
    return this.guarded === true || this.readOnly
  }

  /** Which of the changes are undone before somebody else gets the session. */
  get undone(): number {
    return this.config.reset === "never" ? changed.cancelled : -1
  }

  /** Something has to be undone before somebody else gets the session. */
  get mustReset(): boolean {
    return (this.dirty & this.undone) !== 0 || this.unfit || (this.used && this.config.reset === "always")
  }

  /** What an error means for the session, whoever has left meanwhile. */
  judge(error: SqlError): void {
    const verdict = this.config.judge?.(error)
    if (verdict === "drop") this.unfit = true
    else if (verdict === "reset") this.dirty |= changed.settings
  }

  /** All of that was undone. */
  settle(): void {
    this.dirty = 0
    this.used = false
  }

  submit(operation: Operation, first = false): void {
    if (this.dead !== undefined) return operation.reject(withFacts(this.dead, { sent: false, commit: false }))
    if (this.streaming !== undefined && this.streaming.operation !== operation) this.streaming.hurry()
    if (first) this.#pending.unshift(operation)
    else this.#pending.push(operation)
    this.#schedule()
  }

  /** As `submit`, and written in this step where one caller has the session and nothing is on the wire. */
  send(operation: Operation): void {
    const free = this.depth === 0 && this.streaming === undefined && this.dead === undefined
    if (this.onAlone !== undefined || !free) return this.submit(operation)
    this.#pending.push(operation)
    this.#flush()
  }

  /** The caller of an operation leaves. Returns in this tick, whatever the server does. */
  abandon(operation: Operation): void {
    if (operation.abandoned) return
    operation.abandoned = true
    if (!operation.written || this.dead !== undefined) return
    this.#abandoned++
    if (this.#abandoned === this.depth) this.onAlone?.()
  }

  /** Nobody waits for anything that is on the wire. */
  get allAbandoned(): boolean {
    return this.#abandoned === this.depth
  }

  /** Calls back when nothing is on the wire, or the session is dead. */
  whenIdle(callback: () => void): void {
    if (this.depth === 0 || this.dead !== undefined) callback()
    else this.#idle.push(callback)
  }

  /** The returned function takes the callback back. */
  onDeath(callback: (error: SqlError) => void): () => void {
    if (this.dead !== undefined) callback(this.dead)
    else this.#deaths.add(callback)
    return () => void this.#deaths.delete(callback)
  }

  hold(held: boolean): void {
    this.held = held
    if (!held) this.#schedule()
  }

  pause(paused: boolean): void {
    if (this.dead !== undefined) return
    if (paused) {
      // The silence is ours.
      this.#unwatch()
      this.#socket.pause()
    } else {
      this.#socket.resume()
      if (this.depth > 0) this.#watch()
    }
  }

  /** Rows are read by this from here on, until the cycle ends. */
  readWith(readField: PgProtocol.FieldReader<unknown> | undefined): void {
    this.#parser.readField = readField
  }

  /** Tables, columns or the search path may mean something else from here on. */
  renamed(): void {
    this.plans++
    if (this.status !== "idle") this.#renamedInside = true
  }

  readonly #schedule = (): void => {
    if (this.#scheduled || this.#pending.size === 0) return
    this.#scheduled = true
    queueMicrotask(this.#flush)
  }

  readonly #flush = (): void => {
    this.#scheduled = false
    // A socket that has ended tells so soon: what was not written is then known to be not sent.
    if (this.dead !== undefined || this.#socket.destroyed) return
    const wasIdle = this.depth === 0
    let frame: Uint8Array | undefined
    let more: Array<Uint8Array> | undefined
    while (this.#opening === undefined && this.#asking === undefined && this.depth < this.config.pipelineDepth) {
      if (this.held && this.#pending.first?.urgent !== true) break
      const operation = this.#pending.shift()
      if (operation === undefined) break
      if (operation.abandoned) continue
      const next = this.#frameOf(operation)
      if (next === undefined) continue
      if (frame === undefined) frame = next
      else if (more === undefined) more = [frame, next]
      else more.push(next)
    }
    // A caller who was told that its statement cannot be sent may have ended the session.
    if (frame === undefined || this.dead !== undefined) return
    if (wasIdle) {
      this.#parser.readField = this.#flying.first!.readField
      this.#watch()
    }
    this.#socket.write(more === undefined ? frame : join(more))
  }

  /** The bytes of an operation that flies from here on; one that cannot be sent has been told so. */
  #frameOf(operation: Operation): Uint8Array | undefined {
    const begin = operation.opens ? this.begin : undefined
    if (begin !== undefined) this.transactions++
    let frame: Uint8Array
    try {
      frame = operation.frame(begin)
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause)
      const isKnown = cause instanceof ParameterError || cause instanceof RefusedError
      const message = isKnown ? why : `The statement cannot be sent: ${why}`
      // What a value threw while it was read (`toJSON`) may hold that value.
      const problem = isKnown ? why : "a value of the statement cannot be encoded"
      operation.reject(statementError(cause, message, "query", { refused: true, problem }))
      return undefined
    }
    // What a parameter does while it is read (`toJSON`) may end the session: then this is in no queue that `die` empties.
    if (this.dead !== undefined) {
      operation.reject(withFacts(this.dead, { sent: false, commit: false }))
      return undefined
    }
    if (begin !== undefined) {
      // Until the server confirms the transaction nothing else may follow: it would run outside of one if BEGIN failed.
      this.begin = undefined
      this.#opening = operation
    }
    operation.written = true
    if (!operation.ours) this.used = true
    this.#flying.push(operation)
    // It only asks how to go on; whoever was submitted after it must not overtake it.
    if (operation.harmless) this.#asking = operation
    return frame
  }

  readonly #onData = (chunk: Uint8Array): void => {
    if (this.silence !== undefined) this.#heardAt = performance.now()
    try {
      this.#parser.pushEach(chunk, this.#dispatch)
    } catch (cause) {
      this.#unreadable(cause)
    }
  }

  #unreadable(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause)
    const lost = connectionError(cause, `The server's messages cannot be read: ${why}`, "query")
    if (!(cause instanceof PgProtocol.ParseError && why.includes("exceeds maxMessageSize"))) return this.die(lost)
    // Its own statement would meet it again; what was behind it has only lost the connection.
    const tooLong = statementError(
      cause,
      `A value or row is longer than the ${this.config.maxMessageSize} bytes that a message may have (the role's option maxMessageSize)`,
      "query",
      {
        bound: "message",
        fatal: true,
        severity: "FATAL",
        sqlState: "54000",
        problem: `a value or row is longer than ${this.config.maxMessageSize} bytes; the role's option maxMessageSize allows more`
      }
    )
    this.die(tooLong, { neighbours: lost })
  }

  readonly #dispatch = (message: Message): void => {
    if (this.dead !== undefined) return
    switch (message._tag) {
      case "ReadyForQuery":
        return this.#ready(message.status === "I" ? "idle" : message.status === "T" ? "transaction" : "failed")
      case "ParameterStatus":
        return this.#reported(message.name, message.value)
      case "NoticeResponse":
        // A server that crashes says why in a notice, then the socket closes.
        if (message.fields.code?.startsWith("57P") === true) this.#lastNotice = message.fields
        if (this.config.onNotice !== undefined) this.#noticed(this.config.onNotice, message.fields)
        return
      case "NotificationResponse":
        this.listeners.get(message.channel)?.forEach((listener) => listener(message))
        return
      case "ErrorResponse":
        if (isFatalSeverity(message.fields.severityUnlocalized ?? message.fields.severity) || this.depth === 0) {
          return this.die(serverError(message.fields, "query", { fatal: true }), { told: true })
        }
        break
      case "CommandComplete":
        if (this.#flying.first?.ours !== true) {
          this.dirty |= stateChangeOf(message.commandTag)
          if (changesNames(message.commandTag)) this.renamed()
        }
        if (message.commandTag === "DISCARD ALL" || message.commandTag === "DEALLOCATE ALL") this.statements.clear()
        break
      case "CopyInResponse":
      case "CopyOutResponse":
      case "CopyBothResponse":
        // A statement that says so is refused before it is sent; this one is hidden from us.
        return this.die(
          statementError(undefined, copyRefused, "query", { refused: true, problem: copyRefused, fatal: true })
        )
    }
    const operation = this.#flying.first
    if (operation === undefined) return this.desync(`Unexpected ${message._tag} while nothing was asked`)
    operation.onMessage(message)
  }

  /** What is called in the middle of an answer must not be able to break the session by throwing. */
  #noticed(tell: NonNullable<ResolvedConfig["onNotice"]>, fields: PgProtocol.ErrorFields): void {
    try {
      tell({
        severity: fields.severityUnlocalized ?? fields.severity ?? "NOTICE",
        sqlState: fields.code ?? "00000",
        message: fields.message ?? ""
      })
    } catch {
      // The program's own business.
    }
  }

  /** The server tells of some settings when they change, whoever changed them: a function, too. */
  #reported(name: string, value: string): void {
    this.parameters.set(name, value)
    if (name === "client_encoding" && !isUtf8(value)) {
      const problem = `client_encoding was set to ${value}; a session of Sluice reads and writes UTF8 only`
      return this.die(
        statementError(undefined, problem, "query", { refused: true, sent: true, problem, fatal: true }),
        { told: true }
      )
    }
    if (this.#flying.first?.ours === true || !ownedByCaller.has(name)) return
    this.dirty |= changed.settings
    if (name === "search_path") this.renamed()
  }

  #ready(status: TransactionStatus): void {
    const operation = this.#flying.shift()
    if (operation === undefined) return this.desync("Unexpected ReadyForQuery while nothing was asked")
    // A rolled back transaction takes a limit with it that was set inside of it.
    if (status === "idle" && this.status !== "idle") {
      if (this.limit !== null) this.limit = undefined
      // What was set inside of the transaction is taken back by its end.
      if (this.#renamedInside) {
        this.#renamedInside = false
        this.plans++
      }
    }
    if (status === "idle") {
      // What goes out before a BEGIN that is still to come says nothing about it.
      const isDue = this.begin !== undefined || (this.#opening !== undefined && this.#opening !== operation)
      if (!isDue) this.readsOnly = false
    }
    if (status !== "idle" && this.status === "idle" && this.#opening !== operation) this.transactions++
    this.status = status
    if (this.depth === 0) this.#unwatch()
    // The rows of the next answer may be in the same chunk.
    this.#parser.readField = this.#flying.first?.readField
    if (operation.abandoned) this.#abandoned--
    operation.written = false
    if (this.#abandoned > 0 && this.#abandoned === this.depth) this.onAlone?.()
    if (this.#asking === operation) this.#asking = undefined
    if (this.#opening === operation) this.#opened(status)
    operation.onReady()
    if (this.#pending.size > 0) this.#schedule()
    if (this.depth === 0 && this.#idle.length > 0) for (const callback of this.#idle.splice(0)) callback()
  }

  #opened(status: TransactionStatus): void {
    this.#opening = undefined
    if (status !== "idle") return
    // BEGIN itself failed. What was submitted for inside of the transaction must not run outside of it.
    const error = statementError(undefined, "The transaction could not be begun", "begin")
    for (const operation of this.#pending.takeAll()) operation.reject(error)
  }

  desync(message: string): void {
    this.die(connectionError(undefined, `${message}; the session has lost its place in the protocol`, "query"))
  }

  #onClose(): void {
    const notice = this.#lastNotice
    this.die(
      notice === undefined
        ? connectionError(undefined, "Connection closed by the server", "query")
        : connectionError(undefined, notice.message ?? "Connection closed by the server", "query", {
            sqlState: notice.code,
            severity: notice.severityUnlocalized
          })
    )
  }

  /**
   * Ends the session now. `told`: the server itself said so, in its place in the order of answers. `neighbours`: what
   * is said to those behind the statement that ended it.
   */
  die(
    error: SqlError,
    options: { readonly told?: boolean; readonly keepSocket?: boolean; readonly neighbours?: SqlError } = {}
  ): void {
    if (this.dead !== undefined) return
    this.dead = error
    this.#unwatch()
    this.#parser.readField = undefined
    if (options.keepSocket !== true) this.#socket.destroy()
    const flying = this.#flying.takeAll()
    const pending = this.#pending.takeAll()
    const inTransaction = this.status !== "idle"
    this.#abandoned = 0
    const deaths = [...this.#deaths]
    this.#deaths.clear()
    for (const callback of deaths) callback(error)
    flying.forEach((operation, index) => {
      const undone = (inTransaction || operation === this.#opening) && !operation.commit
      // The server was at the first one; whatever was behind it was not begun.
      const known = options.told === true && (index > 0 || !(operation.completed || operation.commit))
      const facts: Partial<SessionFacts> = {
        sent: true,
        commit: !undone && !known && !operation.harmless,
        inTransaction: inTransaction || operation === this.#opening,
        readOnly: this.readOnly
      }
      operation.reject(withFacts(index > 0 ? (options.neighbours ?? error) : error, facts))
    })
    for (const operation of pending) operation.reject(withFacts(error, { sent: false, commit: false }))
    for (const callback of this.#idle.splice(0)) callback()
  }

  /** Says goodbye instead of breaking off; the caller destroys the socket when that takes too long. */
  retire(error: SqlError, onClosed: () => void): void {
    const socket = this.#socket
    if (socket.destroyed) {
      this.die(error)
      return onClosed()
    }
    socket.once("close", onClosed)
    if (this.depth > 0) return this.die(error)
    this.die(error, { keepSocket: true })
    socket.resume()
    socket.end(frames.terminate)
  }

  destroySocket(): void {
    this.#socket.destroy()
  }

  #watch(): void {
    const silence = this.silence
    if (silence === undefined) return
    this.#heardAt = performance.now()
    if (this.#watchdog !== undefined) return
    const look = (): void => {
      const quiet = performance.now() - this.#heardAt
      if (quiet < silence) this.#watchdog = afterSilence(silence - quiet, look)
      else {
        this.die(
          connectionError(undefined, `The server was silent for ${silence} ms with statements on the wire`, "query", {
            bound: "silence"
          })
        )
      }
    }
    this.#watchdog = afterSilence(silence, look)
  }

  #unwatch(): void {
    this.#watchdog?.()
    this.#watchdog = undefined
  }
}
