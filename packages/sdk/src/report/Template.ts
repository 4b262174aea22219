/**
 * The `sql` that a report's query is given: Effect's client, with the text of each template remembered.
 *
 * A report builds the same statement at every call; only its values differ. Effect's statement makes a segment for each
 * piece of the template and joins them again, which costs as much as the rest of the call. Here a template whose values
 * are all plain is compiled once, by Effect itself, and from then on is its text and the values. Anything else (fragments,
 * helpers, identifiers) is Effect's statement as ever.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"

/** What a query may return and a pipeline needs of it. */
export interface Compilable {
  readonly compile: () => readonly [sql: string, params: ReadonlyArray<unknown>]
}

const isPlain = (value: unknown): boolean => {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
    case "bigint":
      return true
    case "object":
      return value === null || value instanceof Date || DateTime.isDateTime(value) || Duration.isDuration(value)
    default:
      return false
  }
}

/** A template with its values. Inside of another statement it is the fragment that Effect would have made. */
class Plain implements Compilable {
  readonly #sql: SqlClient.SqlClient
  readonly #strings: TemplateStringsArray
  readonly #text: string
  readonly #values: ReadonlyArray<unknown>

  constructor(sql: SqlClient.SqlClient, strings: TemplateStringsArray, text: string, values: ReadonlyArray<unknown>) {
    this.#sql = sql
    this.#strings = strings
    this.#text = text
    this.#values = values
  }

  compile(): readonly [string, ReadonlyArray<unknown>] {
    return [this.#text, this.#values]
  }

  get segments(): ReadonlyArray<Statement.Segment> {
    return this.#sql(this.#strings, ...(this.#values as Array<never>)).segments
  }
}

// What marks a fragment is Effect's business: it is taken over from one.
const { segments: _, ...mark } = Statement.fragment([])
Object.assign(Plain.prototype, mark)

const clients = new WeakMap<SqlClient.SqlClient, SqlClient.SqlClient>()

/** The remembering form of a client: one for each. */
export const remember = (sql: SqlClient.SqlClient): SqlClient.SqlClient => {
  const known = clients.get(sql)
  if (known !== undefined) return known
  /** Text by template, or `false` where a template cannot be remembered. */
  const texts = new WeakMap<TemplateStringsArray, string | false>()
  const template = (strings: unknown, ...values: ReadonlyArray<unknown>): unknown => {
    const original = sql as unknown as (...args: ReadonlyArray<unknown>) => Statement.Statement<unknown>
    if (!Array.isArray(strings) || !("raw" in strings) || !values.every(isPlain)) return original(strings, ...values)
    const key = strings as unknown as TemplateStringsArray
    const text = texts.get(key)
    if (text === false) return original(strings, ...values)
    if (text !== undefined) return new Plain(sql, key, text, values)
    const statement = original(strings, ...values)
    const [compiled, params] = statement.compile()
    const same = params.length === values.length && params.every((param, index) => param === values[index])
    texts.set(key, same ? compiled : false)
    return statement
  }
  const remembering = Object.assign(template, sql) as unknown as SqlClient.SqlClient
  clients.set(sql, remembering)
  return remembering
}

/** Whether a query gave a statement, and not an effect that makes one. */
export const isCompilable = (built: unknown): built is Compilable =>
  typeof built === "object" && built !== null && "compile" in built
