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
 *
 * A statement is repeated here at most once, and only while it has certainly not begun: the server refused its Parse or its
 * Bind. Whatever fails after BindComplete may have been applied, by a COMMIT inside of a procedure for one, and is told as it is.
 *
 * | refused before BindComplete with | because | repeated |
 * |---|---|---|
 * | 26000 | the server has lost the name (`DEALLOCATE`, a pooler) | without a name |
 * | 0A000 of `RevalidateCachedQuery` | the columns have changed since the statement was prepared | without a name |
 * | 08P01, formats taken from another session | the number of columns has changed since that session asked | asks for the columns first |
 *
 * Inside of a transaction such an error has spoiled the transaction. It is repeated only where nothing but BEGIN came
 * before it: then BEGIN is repeated with it. A repeat counts as an attempt (`StatementResult.repeated`).
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { blame } from "./Blame.ts"
import {
  asWanted,
  type ColumnError,
  strangers,
  type Description,
  describe,
  type Field,
  takeFailure,
  withFormats
} from "./Columns.ts"
import { serverError, statementError, withFacts } from "./Facts.ts"
import {
  bind,
  bindAs,
  checkFits,
  driverCounts,
  encodeParse,
  isFlexible,
  mostParameters,
  RefusedError,
  resolveType
} from "./Parameters.ts"
import { fromFirstWord } from "./FirstWord.ts"
import { stateChangeIn } from "./SessionState.ts"
import { DescriptionCache, frames, join, longText, type Prepared } from "./Statements.ts"
import { beginFrame } from "./Transaction.ts"
import { copyRefused, type Message, type Operation, type Wire } from "./Wire.ts"
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
  /** The server refused it once before it had begun, and it was sent a second time. */
  readonly repeated: boolean
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
  /** Called when it is sent for the second time, for whoever is not given a result. */
  readonly onRepeat?: (() => void) | undefined
  /** What the error calls the operation. Default `query`. */
  readonly operation?: string | undefined
}

const noFields: ReadonlyArray<Field> = []
const noOids: ReadonlyArray<number> = []
/** Of types of extensions and of users: arrays in PostgreSQL's common form. */
const arraysAmong = `select t.oid::int8 as oid from pg_catalog.pg_type t
  join pg_catalog.pg_type e on e.oid = t.typelem and e.typarray = t.oid
  where t.oid = any($1::int8[]::oid[]) and e.typdelim = ','`
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
  readonly #onRepeat: (() => void) | undefined
  readonly #onDone: (result: Result.Result<StatementResult, SqlError>) => void

  #types: ReadonlyArray<number> | undefined
  /** A type may give way to what the statement asks for, and nobody has asked yet. */
  #undeclared = false
  /** The types that this cycle's question declares; what the server infers of the others; behind a savepoint. */
  #asked: ReadonlyArray<number> | undefined
  #inferred: ReadonlyArray<number> | undefined
  #saved = false
  /** Columns of types that nobody knows, and those types. */
  #columns: ReadonlyArray<PgProtocol.FieldDescription> | undefined
  #strangers: ReadonlyArray<number> = noOids
  #parameters: ReadonlyArray<PgTypes.Parameter> = []
  #prepared: Prepared | undefined
  /** The columns that this operation has asked for itself. */
  #ownColumns: Description | null | undefined
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
  /** What the caller did wrong, found out before anything was executed. */
  #mistake: SqlError | undefined
  #unreadable: ColumnError | undefined
  #tag = ""
  #rows: Array<unknown> = []
  #count = 0
  #truncated = false
  /** The server has bound this cycle's statement: from here on it may have begun. */
  #bound = false
  /** Refused before it had begun, for a reason that a repeat mends. */
  #stale = false
  /** It is sent for the second time. */
  #repeated = false
  /** The BEGIN that this cycle took along. */
  #begin: Uint8Array | undefined
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
    this.#named = options?.prepare !== false && wire.config.preparedStatements > 0 && sql.length <= longText
    this.#noRows = options?.noRows === true
    this.#maxRows = options?.maxRows ?? Infinity
    this.#operation = options?.operation ?? "query"
    this.#onRepeat = options?.onRepeat
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
    if (length > mostParameters) {
      throw new RefusedError(
        `The statement has ${length} parameters; PostgreSQL takes at most ${mostParameters}. Pass an array, or send it in parts`
      )
    }
    const types: Array<number> = []
    const parameters: Array<PgTypes.Parameter> = []
    let flexible = false
    for (let index = 0; index < length; index++) {
      const value = this.params[index]
      const bound = bind(value, index + 1)
      types.push(bound.type)
      parameters.push(bound.parameter)
      flexible ||= isFlexible(bound.type, value)
    }
    this.#parameters = parameters
    this.#types = types
    if (flexible && length <= driverCounts) this.#declareTypes(types, parameters)
    return this.#types
  }

  /** As the statement asks for them, if that is known. */
  #declareTypes(usual: ReadonlyArray<number>, parameters: Array<PgTypes.Parameter>): void {
    const declared = this.wire.shared.parameterTypes.get(this.sql, usual)
    if (declared === undefined) {
      this.#undeclared = true
      return
    }
    this.#undeclared = false
    this.#types = declared
    for (let index = 0; index < declared.length; index++) {
      const type = declared[index]!
      if (type !== usual[index]) parameters[index] = bindAs(this.params[index], type, index + 1).parameter
      else checkFits(this.params[index], type, index + 1)
    }
  }

  /**
   * Asks what the statement wants of its parameters: a Parse that declares nothing where a type gives way. It may fail where the
   * usual types do not; in a transaction it stands behind a savepoint.
   */
  #questionFrame(prefix: Uint8Array | undefined, usual: ReadonlyArray<number>): Uint8Array {
    this.#asked = usual.map((type, index) => (isFlexible(type, this.params[index]) ? 0 : type))
    this.#saved = prefix === undefined && this.wire.status === "transaction"
    this.#describing = true
    return this.#with(this.#saved ? savepointFrame : prefix, [
      this.#parse("", this.#asked),
      describeUnnamed,
      frames.sync
    ])
  }

  #answered(asked: ReadonlyArray<number>): void {
    const failure = this.#failure
    // Not the statement: BEGIN has failed.
    if (failure !== undefined && this.#prefixed) return this.finish(Result.fail(failure))
    const usual = this.#types!
    const inferred = failure === undefined ? this.#inferred : undefined
    const declared = usual.map((type, index) =>
      asked[index] === 0 && inferred !== undefined ? resolveType(type, inferred[index] ?? 0) : type
    )
    this.wire.shared.parameterTypes.set(this.sql, usual, declared)
    this.#asked = undefined
    this.#describing = false
    this.#failure = undefined
    this.#types = undefined
    if (this.abandoned) return
    this.wire.submit(this, true)
    if (this.#saved) {
      if (failure === undefined) this.#control("RELEASE SAVEPOINT sluice_types")
      else this.#control("ROLLBACK TO SAVEPOINT sluice_types", "RELEASE SAVEPOINT sluice_types")
    } else if (failure !== undefined && this.#begin !== undefined) {
      this.wire.begin = this.#begin
      this.#control("ROLLBACK")
    }
  }

  /** Asks which of the types that nobody knows are arrays, ahead of the next cycle. */
  #askArrays(columns: ReadonlyArray<PgProtocol.FieldDescription>): void {
    const { catalogue, descriptions } = this.wire.shared
    const oids = this.#strangers
    const key = DescriptionCache.key(this.sql, this.#types!)
    const prepared = this.#prepared
    this.#columns = undefined
    this.wire.submit(
      new StatementOperation(this.wire, arraysAmong, [oids], { ours: true, prepare: false }, (result) => {
        if (Result.isFailure(result) && this.wire.dead !== undefined) return this.finish(result)
        // Who may not ask gets their texts.
        const rows = Result.isSuccess(result) ? result.success.rows : []
        const found = new Set(rows.map((row) => Number((row as { readonly oid: unknown }).oid)))
        for (const oid of oids) catalogue.arrays.set(oid, found.has(oid))
        const description = describe(columns, catalogue, false)
        descriptions.set(key, description)
        this.#ownColumns = description
        if (prepared !== undefined) prepared.description = description
        if (!this.abandoned) this.wire.submit(this, true)
      }),
      true
    )
  }

  #control(...statements: ReadonlyArray<string>): void {
    for (const sql of statements.toReversed()) {
      this.wire.submit(new StatementOperation(this.wire, sql, noValues, rollback, ignore), true)
    }
  }

  #parse(name: string, types: ReadonlyArray<number>): Uint8Array {
    if (this.sql.includes("\0")) throw new RefusedError("The statement's text holds a NUL character")
    if (copies.test(fromFirstWord(this.sql))) throw new RefusedError(copyRefused)
    return encodeParse(name, this.sql, types)
  }

  #bind(name: string, description: Description | null): Uint8Array {
    return withFormats(this.wire.shared.encodeBind(name, this.#parameters), description?.formats ?? allBinary)
  }

  frame(prefix: Uint8Array | undefined): Uint8Array {
    this.#ended = false
    this.#bound = false
    this.#begin = prefix
    const types = this.#types ?? this.#bindParameters()
    if (this.#undeclared) return this.#questionFrame(prefix, types)
    if (!this.#named) return this.#unnamedFrame(types, prefix)
    let prepared = this.#prepared
    if (prepared === undefined || prepared.state === "lost") {
      prepared = this.wire.statements.get(this.sql, types)
      this.#prepared = prepared
    }
    if (prepared.state === "ready" && this.#mayBeStale(prepared)) {
      this.wire.statements.forget(prepared)
      prepared = this.wire.statements.get(this.sql, types)
      this.#prepared = prepared
    }
    this.wire.dirty |= prepared.changes
    if (prepared.state === "ready") {
      const bound = this.#bind(prepared.name, prepared.description!)
      this.#expect(prepared.description!)
      return this.#with(prefix, [bound, frames.executeSync])
    }
    const known = this.#known(types)
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
      rest = [parse, ...this.#askColumns(prepared.name)]
      this.#describing = true
    } else {
      this.#guessed = true
      rest = [parse, this.#bind(prepared.name, known), frames.describeExecuteSync]
      this.#expect(undefined)
    }
    prepared.state = "parsing"
    prepared.plans = this.wire.plans
    prepared.transaction = this.wire.transactions
    this.#parsing = true
    return this.#with(prefix, rest)
  }

  #unnamedFrame(types: ReadonlyArray<number>, prefix: Uint8Array | undefined): Uint8Array {
    this.#prepared = undefined
    const known = this.#known(types)
    const parse = this.#parse("", types)
    this.wire.dirty |= stateChangeIn(this.sql)
    if (known === undefined) {
      this.#describing = true
      return this.#with(prefix, [parse, ...this.#askColumns("")])
    }
    this.#guessed = true
    const bound = this.#bind("", known)
    this.#expect(undefined)
    return this.#with(prefix, [parse, bound, frames.describeExecuteSync])
  }

  /** The driver cannot read a description of so many parameters: then the portal is asked, which has none. */
  #askColumns(name: string): ReadonlyArray<Uint8Array> {
    if (this.params.length > driverCounts) return [this.#bind(name, null), frames.describeSync]
    return [name === "" ? describeUnnamed : PgProtocol.encodeDescribe({ target: "statement", name }), frames.sync]
  }

  /**
   * In a transaction a stale plan spoils all that was done, so one that may be stale is made anew. Not where it is the first
   * statement after BEGIN: that can be repeated. What gives no rows cannot go stale.
   */
  #mayBeStale(prepared: Prepared): boolean {
    const wire = this.wire
    if (wire.status !== "transaction" || prepared.description === null) return false
    return prepared.plans !== wire.plans || (prepared.followsTables && prepared.transaction !== wire.transactions)
  }

  /** What another session was told of the columns, where taking its word can do no harm. */
  #known(types: ReadonlyArray<number>): Description | null | undefined {
    if (this.#noRows) return null
    if (this.#ownColumns !== undefined) return this.#ownColumns
    const known = this.wire.shared.descriptions.get(DescriptionCache.key(this.sql, types))
    if (known === undefined || known === null) return known
    // Rows that cannot be read come too late where they tell of what was written.
    if (!this.wire.guardsWrites && writes.test(this.sql)) return undefined
    // With one format for all columns their number does not matter. Else Bind may be refused, which spoils a transaction.
    return this.wire.status === "transaction" && known.formats.length > 1 ? undefined : known
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
        // That of BEGIN comes first.
        if (!this.#prefixed && !this.#describing) this.#bound = true
        return
      case "CloseComplete":
      case "ParseComplete":
        return
      case "ParameterDescription":
        if (this.#asked !== undefined) this.#inferred = message.parameterTypes
        return this.#compareParameters(message.parameterTypes.length)
      case "RowDescription":
        return this.#isAsking() ? this.#described(message.fields) : this.wire.desync("Unexpected RowDescription")
      case "NoData":
        return this.#isAsking() ? this.#describedNothing() : this.wire.desync("Unexpected NoData")
      case "ErrorResponse": {
        this.#ended = true
        const code = message.fields.code
        this.#stale =
          !this.#bound &&
          !this.#prefixed &&
          ((!this.#parsing && this.#prepared !== undefined && (code === "26000" || isStalePlan(message.fields))) ||
            // The statement has another number of columns by now.
            (this.#guessed && code === "08P01"))
        // A refusal before this one's own Bind, or of what cannot commit by itself, has left nothing behind.
        const inTransaction = this.wire.status !== "idle" || this.#begin !== undefined
        const atomic = !this.#bound || inTransaction || !commitsInside.test(fromFirstWord(this.sql))
        this.#failure = serverError(message.fields, this.#operation, {
          sent: true,
          ...(this.#prepared !== undefined && { prepared: !this.#parsing }),
          inTransaction,
          // Told at ReadyForQuery: the session goes on.
          alive: true,
          ...(this.wire.refusesByDesign && { guarded: true }),
          ...(code === "25006" && this.wire.refusesFromTheFirst && { fromTheFirst: true }),
          ...(!atomic && !this.wire.guardsWrites && { atomic: false }),
          ...(code === "57014" && this.wire.cancelling && { cancelledBy: "us" }),
          ...blame(message.fields, this.sql)
        })
        return
      }
      default:
        return this.wire.desync(`Unexpected ${message._tag}`)
    }
  }

  /** Asked before anything is executed: what is missing is the caller's mistake, and no word of the server. */
  #compareParameters(wanted: number): void {
    if (!this.#describing || wanted <= this.params.length || this.#failure !== undefined) return
    const given = this.params.length
    const problem = `The statement has ${wanted === 1 ? "1 parameter" : `${wanted} parameters`}, and ${given === 1 ? "1 value was" : `${given} values were`} given`
    this.#mistake = statementError(undefined, problem, this.#operation, { refused: true, problem })
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
    if (this.#asked !== undefined) return
    const { catalogue, descriptions } = this.wire.shared
    const key = DescriptionCache.key(this.sql, this.#types!)
    if (this.#describing) {
      this.#strangers = strangers(columns, catalogue)
      if (this.#strangers.length > 0) this.#columns = columns
      const description = describe(columns, catalogue, false)
      this.#remember(description)
      this.#ownColumns = description
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
    if (this.#asked !== undefined) return
    this.#remember(null)
    if (this.#describing) this.#ownColumns = null
    if (!this.#noRows) this.wire.shared.descriptions.set(DescriptionCache.key(this.sql, this.#types!), null)
    this.#expect(null)
  }

  #remember(description: Description | null): void {
    if (this.#prepared !== undefined) this.#prepared.description = description
  }

  onReady(): void {
    const failure = this.#failure
    if (failure === undefined && !this.#ended) return this.#unanswered()
    if (this.#asked !== undefined && this.#mistake === undefined) return this.#answered(this.#asked)
    const prepared = this.#prepared
    if (this.#parsing && prepared !== undefined) this.#parsed(prepared, failure === undefined)
    if (failure !== undefined) return this.#failed(failure)
    if (this.#describing) {
      this.#describing = false
      if (this.#mistake !== undefined) {
        // Known, it would be bound the next time, and the mistake would be the server's word.
        this.#forget()
        return this.finish(Result.fail(this.#mistake))
      }
      if (this.abandoned) return
      if (this.#columns !== undefined) this.#askArrays(this.#columns)
      else this.wire.submit(this, true)
      return
    }
    if (this.abandoned) return
    const unreadable = this.#unreadable
    if (unreadable !== undefined) {
      // The server has done it all the same, for good if nothing can take it back.
      const answered = this.wire.status === "idle" && !this.wire.guardsWrites
      // Rows in a format that was meant for another type: asked again, they come in the right one.
      const stale = unreadable.stale ? { sqlState: "0A000", severity: "ERROR", prepared: true } : undefined
      return this.finish(
        Result.fail(
          statementError(unreadable, unreadable.message, this.#operation, {
            sent: true,
            commit: false,
            answered,
            ...stale
          })
        )
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
        truncated: this.#truncated,
        repeated: this.#repeated
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
      this.#forget()
      if (!this.#repeated && !this.abandoned && this.#isFree()) return this.#repeat()
    }
    this.wire.judge(failure)
    this.finish(Result.fail(failure))
  }

  #forget(): void {
    if (this.#prepared !== undefined) this.wire.statements.forget(this.#prepared)
    this.wire.shared.descriptions.delete(DescriptionCache.key(this.sql, this.#types!))
  }

  /** Nothing is spoiled: no transaction, or one of which the server has seen nothing but the BEGIN that came with this. */
  #isFree(): boolean {
    return this.wire.status === "idle" || this.#begin !== undefined
  }

  #repeat(): void {
    const begin = this.wire.status === "idle" ? undefined : this.#begin
    // Without a name this time: it cannot be lost again.
    this.#named = false
    this.#repeated = true
    this.#onRepeat?.()
    this.#stale = false
    this.#guessed = false
    this.#failure = undefined
    this.#unreadable = undefined
    this.#prepared = undefined
    this.#ownColumns = undefined
    if (begin === undefined) return this.wire.submit(this, true)
    this.wire.begin = begin
    this.wire.submit(this, true)
    this.wire.submit(new StatementOperation(this.wire, "ROLLBACK", noValues, rollback, ignore), true)
  }

  reject(error: SqlError): void {
    this.finish(Result.fail(error))
  }

  finish(result: Result.Result<StatementResult, SqlError>): void {
    if (!this.abandoned) this.#onDone(result)
  }
}

const writes = /\b(?:insert|update|delete|merge|call)\b/i
const copies = /^copy\b[^]*\b(?:to\s+stdout|from\s+stdin)\b/i
const savepointFrame = beginFrame("SAVEPOINT sluice_types")
const noValues: ReadonlyArray<unknown> = []
const rollback: StatementOptions = { noRows: true, ours: true, operation: "rollback" }
const ignore = (): void => {}

/** Statements that may commit before they end: an ERROR of theirs does not prove that nothing was applied. */
const commitsInside = /^(?:(?:call|do|vacuum|cluster|analyze|reindex)\b|(?:create|drop|alter)\b[^]*?\bconcurrently\b)/i

/** The code also says that a feature is missing, which procedures may find out after a COMMIT: only the former is repeated. */
const isStalePlan = (fields: PgProtocol.ErrorFields): boolean =>
  fields.code === "0A000" && (fields.routine === undefined || fields.routine === "RevalidateCachedQuery")

const allBinary: ReadonlyArray<0 | 1> = [1]
const describeUnnamed = Uint8Array.from(PgProtocol.encodeDescribe({ target: "statement", name: "" }))
