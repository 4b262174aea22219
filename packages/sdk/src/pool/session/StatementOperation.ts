/**
 * One statement: encode, describe where that is still to be done, execute, collect.
 *
 * | what is known | on the wire | round trips |
 * |---|---|---|
 * | prepared on this session | Bind Execute Sync | 1 |
 * | described by another session of this configuration | Parse Bind Describe Execute Sync | 1 |
 * | nothing | Parse Describe Sync, then Bind Execute Sync | 2 |
 *
 * The third happens once for each statement text: before its columns are known nobody can ask for the format in which
 * each of them can be read truthfully.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import {
  asWanted,
  type ColumnError,
  type Description,
  describe,
  type Field,
  takeFailure,
  withFormats
} from "./Columns.ts"
import { serverError, statementError, withFacts } from "./Facts.ts"
import { bind } from "./Parameters.ts"
import { stateChangeIn } from "./SessionState.ts"
import { DescriptionCache, frames, join, type Prepared } from "./Statements.ts"
import type { Message, Operation, Wire } from "./Wire.ts"
import type * as PgTypes from "@effect/sql-pg/PgTypes"

/** What a statement gave. The same shape as the driver's, so that `executeRaw` keeps its meaning. */
export interface StatementResult {
  readonly command: string
  readonly rowCount: number
  readonly oid: number | null
  readonly fields: ReadonlyArray<Field>
  /** Objects by column name, or arrays of values when those were asked for. */
  readonly rows: ReadonlyArray<any>
  /** More rows came than `maxRows` let through. */
  readonly truncated: boolean
}

export interface StatementOptions {
  /** Arrays of values instead of objects. */
  readonly values?: boolean | undefined
  /** The server's own limit for this statement, in milliseconds (`statement_timeout`). Default: the session's. */
  readonly timeout?: number | undefined
  /**
   * Rows to keep; those beyond are read and dropped. Not the protocol's own row limit: with it PostgreSQL runs a parallel
   * plan without its workers.
   */
  readonly maxRows?: number | undefined
  /** Must not change data: the server refuses it with 25006. Not behind a pooler. Default: the session's. */
  readonly readOnly?: boolean | undefined
  /** `false`: never under a name. */
  readonly prepare?: boolean | undefined
  /** Known to return no rows (transaction control): no need to describe it. */
  readonly noRows?: boolean | undefined
  /** A setting that the session changes and remembers by itself. */
  readonly ours?: boolean | undefined
  /** What the error calls the operation. Default `query`. */
  readonly operation?: string | undefined
}

const noFields: ReadonlyArray<Field> = []
// Behind a comment the word alone is enough: too careful is fine.
const transactionEnd = /^\s*(?:(?:;|--|\/\*)[^]*?\b)?(?:commit|end|prepare\s+transaction)\b/i

interface Command {
  readonly command: string
  readonly rowCount: number
  readonly oid: number | null
}

/** Most answers are one of a few tags: `SELECT 1`. */
const knownTags = new Map<string, Command>()

const commandOf = (tag: string): Command => {
  let command = knownTags.get(tag)
  if (command === undefined) {
    command = parseTag(tag)
    if (knownTags.size < 256) knownTags.set(tag, command)
  }
  return command
}

const parseTag = (tag: string): Command => {
  const last = tag.lastIndexOf(" ")
  const count = last < 0 ? Number.NaN : Number(tag.slice(last + 1))
  if (Number.isNaN(count)) return { command: last < 0 ? tag : tag.slice(0, tag.indexOf(" ")), rowCount: 0, oid: null }
  const first = tag.indexOf(" ")
  return {
    command: tag.slice(0, first),
    rowCount: count,
    oid: first === last ? null : Number(tag.slice(first + 1, last))
  }
}

export class StatementOperation implements Operation {
  abandoned = false
  written = false
  next: Operation | undefined = undefined
  completed = false
  readonly opens: boolean
  readonly ours: boolean
  readonly urgent: boolean = false
  readField: PgProtocol.FieldReader<unknown> | undefined = undefined

  readonly wire: Wire
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
  readonly #values: boolean
  #named: boolean
  readonly #noRows: boolean
  readonly #maxRows: number
  readonly #operation: string
  readonly #onDone: (result: Result.Result<StatementResult, SqlError>) => void

  #types: ReadonlyArray<number> | undefined
  #parameters: ReadonlyArray<PgTypes.Parameter> = []
  #prepared: Prepared | undefined
  /** This cycle only asks for the columns. */
  #describing = false
  /** This cycle carries the Parse of a named statement. */
  #parsing = false
  /** BEGIN travels ahead: its answer comes first. */
  #prefixed = false
  /** What this cycle asked for has been answered to its end: only rest can follow, or an error of its commit. */
  #ended = false
  #description: Description | null | undefined
  #failure: SqlError | undefined
  #unreadable: ColumnError | undefined
  #tag = ""
  #rows: Array<unknown> = []
  #count = 0
  #truncated = false
  #stale = false
  /** The formats were asked for by what another session was told of the columns. */
  #guessed = false

  constructor(
    wire: Wire,
    sql: string,
    params: ReadonlyArray<unknown>,
    options: StatementOptions | undefined,
    onDone: (result: Result.Result<StatementResult, SqlError>) => void
  ) {
    this.wire = wire
    this.sql = sql
    this.params = params
    this.#values = options?.values === true
    this.#named = options?.prepare !== false && wire.config.preparedStatements > 0
    this.#noRows = options?.noRows === true
    this.#maxRows = options?.maxRows ?? Infinity
    this.#operation = options?.operation ?? "query"
    this.ours = options?.ours === true
    this.opens = !this.ours
    this.#onDone = onDone
  }

  /** Asked only of what was lost. */
  get commit(): boolean {
    return transactionEnd.test(this.sql)
  }

  get harmless(): boolean {
    return this.#describing
  }

  #bindParameters(): ReadonlyArray<number> {
    const length = this.params.length
    const types: Array<number> = []
    const parameters: Array<PgTypes.Parameter> = []
    for (let index = 0; index < length; index++) {
      const bound = bind(this.params[index], index + 1)
      types.push(bound.type)
      parameters.push(bound.parameter)
    }
    this.#parameters = parameters
    this.#types = types
    return types
  }

  #parse(name: string, types: ReadonlyArray<number>): Uint8Array {
    if (this.sql.includes("\0")) throw new Error("its text holds a NUL character")
    return Result.getOrThrow(PgProtocol.encodeParse({ name, query: this.sql, parameterTypes: types }))
  }

  #bind(name: string, description: Description | null): Uint8Array {
    return withFormats(this.wire.shared.encodeBind(name, this.#parameters), description?.formats ?? allBinary)
  }

  frame(prefix: Uint8Array | undefined): Uint8Array {
    this.#ended = false
    const types = this.#types ?? this.#bindParameters()
    if (!this.#named) return this.#unnamedFrame(types, prefix)
    let prepared = this.#prepared
    if (prepared === undefined || prepared.state === "lost") {
      prepared = this.wire.statements.get(this.sql, types)
      this.#prepared = prepared
    }
    this.wire.dirty |= prepared.changes
    if (prepared.state === "ready") {
      const bound = this.#bind(prepared.name, prepared.description!)
      this.#expect(prepared.description!)
      return this.#with(prefix, [bound, frames.executeSync])
    }
    const known = this.#noRows ? null : this.wire.shared.descriptions.get(DescriptionCache.key(this.sql, types))
    if (prepared.state === "parsing") {
      if (known === undefined) {
        this.#named = false
        return this.#unnamedFrame(types, prefix)
      }
      // Its Parse is on the wire, ahead of this. Should it fail, the name is not there, and that is seen to.
      this.#guessed = true
      const bound = this.#bind(prepared.name, known)
      this.#expect(undefined)
      return this.#with(prefix, [bound, frames.describeExecuteSync])
    }
    const parse = this.#parse(prepared.name, types)
    let rest: ReadonlyArray<Uint8Array>
    if (known === undefined) {
      rest = [parse, PgProtocol.encodeDescribe({ target: "statement", name: prepared.name }), frames.sync]
      this.#describing = true
    } else {
      this.#guessed = true
      rest = [parse, this.#bind(prepared.name, known), frames.describeExecuteSync]
      this.#expect(undefined)
    }
    prepared.state = "parsing"
    this.#parsing = true
    return this.#with(prefix, rest)
  }

  #unnamedFrame(types: ReadonlyArray<number>, prefix: Uint8Array | undefined): Uint8Array {
    this.#prepared = undefined
    const known = this.#noRows ? null : this.wire.shared.descriptions.get(DescriptionCache.key(this.sql, types))
    const parse = this.#parse("", types)
    this.wire.dirty |= stateChangeIn(this.sql)
    if (known === undefined) {
      this.#describing = true
      return this.#with(prefix, [parse, describeUnnamed, frames.sync])
    }
    this.#guessed = true
    const bound = this.#bind("", known)
    this.#expect(undefined)
    return this.#with(prefix, [parse, bound, frames.describeExecuteSync])
  }

  #with(prefix: Uint8Array | undefined, rest: ReadonlyArray<Uint8Array>): Uint8Array {
    const closes = this.wire.statements.takeCloses()
    if (prefix === undefined && closes.length === 0) return join(rest)
    this.#prefixed = prefix !== undefined
    return join(prefix === undefined ? [...closes, ...rest] : [...closes, prefix, ...rest])
  }

  #expect(description: Description | null | undefined): void {
    this.#description = description
    this.readField = description?.readField
  }

  onMessage(message: Message): void {
    // Whose answer is it, then? Taken for a part of this one it would be rows of somebody else.
    if (this.#ended && (message._tag !== "ErrorResponse" || this.#describing || this.#failure !== undefined)) {
      return this.wire.desync(`Unexpected ${message._tag}`)
    }
    switch (message._tag) {
      case "DataRow": {
        const unreadable = takeFailure()
        if (unreadable !== undefined && this.#unreadable === undefined) {
          unreadable.row = this.#count
          this.#unreadable = unreadable
        }
        this.#count++
        if (this.abandoned || this.#unreadable !== undefined) return
        const description = this.#description
        if (description === undefined || description === null) return this.wire.desync("Unexpected DataRow")
        if (this.#rows.length >= this.#maxRows) {
          this.#truncated = true
          return
        }
        const values = message.values
        if (values.length !== description.fields.length) return this.wire.desync("A row has another number of columns")
        this.onRow(this.#values ? values : description.makeRow(values))
        return
      }
      case "CommandComplete":
        if (this.#prefixed) {
          this.#prefixed = false
          return
        }
        this.#tag = message.commandTag
        this.completed = true
        this.#ended = true
        return
      case "EmptyQueryResponse":
        this.#ended = true
        return
      case "BindComplete":
      case "CloseComplete":
      case "ParameterDescription":
      case "ParseComplete":
        return
      case "RowDescription":
        return this.#isAsking() ? this.#described(message.fields) : this.wire.desync("Unexpected RowDescription")
      case "NoData":
        return this.#isAsking() ? this.#describedNothing() : this.wire.desync("Unexpected NoData")
      case "ErrorResponse": {
        this.#ended = true
        const code = message.fields.code
        this.#stale =
          (!this.#parsing && this.#prepared !== undefined && (code === "26000" || isStalePlan(message.fields))) ||
          // The statement has another number of columns by now. Bind was refused, so nothing has run.
          (this.#guessed && code === "08P01")
        // The server skips what is left of this cycle.
        this.#ended = true
        this.#failure = serverError(message.fields, this.#operation, {
          sent: true,
          ...(this.#prepared !== undefined && { prepared: !this.#parsing }),
          inTransaction: this.wire.status !== "idle",
          ...(code === "57014" && this.wire.cancelling && { cancelledBy: "us" })
        })
        return
      }
      default:
        return this.wire.desync(`Unexpected ${message._tag}`)
    }
  }

  /** Columns were asked for, and are not known yet. */
  #isAsking(): boolean {
    return this.#describing || this.#description === undefined
  }

  /** A row is complete. Streams take it from here. */
  onRow(row: unknown): void {
    this.#rows.push(row)
  }

  #described(columns: ReadonlyArray<PgProtocol.FieldDescription>): void {
    this.#ended = this.#describing
    const { catalogue, descriptions } = this.wire.shared
    const key = DescriptionCache.key(this.sql, this.#types!)
    if (this.#describing) {
      const description = describe(columns, catalogue, false)
      this.#remember(description)
      descriptions.set(key, description)
      return
    }
    const confirmed = asWanted(columns, catalogue)
    const description = describe(columns, catalogue, !confirmed)
    if (confirmed) this.#remember(description)
    descriptions.set(key, confirmed ? description : describe(columns, catalogue, false))
    this.#expect(description)
    this.wire.readWith(description.readField)
  }

  #describedNothing(): void {
    this.#ended = this.#describing
    this.#remember(null)
    if (!this.#noRows) this.wire.shared.descriptions.set(DescriptionCache.key(this.sql, this.#types!), null)
    this.#expect(null)
  }

  #remember(description: Description | null): void {
    if (this.#prepared !== undefined) this.#prepared.description = description
  }

  onReady(): void {
    const failure = this.#failure
    if (failure === undefined && !this.#ended) return this.#unanswered()
    const prepared = this.#prepared
    if (this.#parsing && prepared !== undefined) this.#parsed(prepared, failure === undefined)
    if (failure !== undefined) return this.#failed(failure)
    if (this.#describing) {
      this.#describing = false
      if (!this.abandoned) this.wire.submit(this, true)
      return
    }
    if (this.abandoned) return
    const unreadable = this.#unreadable
    if (unreadable !== undefined) {
      // The server has done it all the same, for good if nothing can take it back.
      const answered = this.wire.status === "idle"
      return this.finish(
        Result.fail(statementError(unreadable, unreadable.message, this.#operation, { sent: true, answered }))
      )
    }
    const { command, oid, rowCount } = commandOf(this.#tag)
    this.finish(
      Result.succeed({
        command,
        rowCount,
        oid,
        fields: this.#description?.fields ?? noFields,
        rows: this.#rows,
        truncated: this.#truncated
      })
    )
  }

  /** The server is at rest and has not answered: nothing that it says from here on can be trusted, and this is no empty result. */
  #unanswered(): void {
    this.wire.desync("Unexpected ReadyForQuery")
    this.reject(withFacts(this.wire.dead!, { sent: true, commit: !this.#describing, readOnly: this.wire.readOnly }))
  }

  #parsed(prepared: Prepared, ok: boolean): void {
    this.#parsing = false
    if (ok && prepared.description !== undefined) prepared.state = "ready"
    else this.wire.statements.forget(prepared)
  }

  #failed(failure: SqlError): void {
    if (this.#stale) {
      // The server has lost the name, or the statement has other columns now: prepare it again. Inside of a transaction
      // the error has already spoiled everything, and has to be seen.
      if (this.#prepared !== undefined) this.wire.statements.forget(this.#prepared)
      this.wire.shared.descriptions.delete(DescriptionCache.key(this.sql, this.#types!))
      if (this.wire.status === "idle" && !this.abandoned) {
        // Without a name this time: it cannot be lost again.
        this.#named = false
        this.#stale = false
        this.#guessed = false
        this.#failure = undefined
        this.#unreadable = undefined
        this.#prepared = undefined
        return this.wire.submit(this, true)
      }
    }
    this.finish(Result.fail(failure))
  }

  reject(error: SqlError): void {
    this.finish(Result.fail(error))
  }

  finish(result: Result.Result<StatementResult, SqlError>): void {
    if (!this.abandoned) this.#onDone(result)
  }
}

/** The code also says that a feature is missing, which procedures may find out after a COMMIT: only the former is repeated. */
const isStalePlan = (fields: PgProtocol.ErrorFields): boolean =>
  fields.code === "0A000" && (fields.routine === undefined || fields.routine === "RevalidateCachedQuery")

const allBinary: ReadonlyArray<0 | 1> = [1]
const describeUnnamed = Uint8Array.from(PgProtocol.encodeDescribe({ target: "statement", name: "" }))
