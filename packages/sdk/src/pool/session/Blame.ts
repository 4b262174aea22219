/**
 * What of a server's error names the culprit and holds no value: names of objects, the message of a check of names and types,
 * and the place in the statement's text.
 *
 * PostgreSQL checks names and types before it looks at a value, and then tells the place in the statement. So a message of
 * class 42 with a place holds names and types only. Two exceptions keep their message to themselves: a syntax error quotes
 * the text, and a literal that is read as a name is quoted, too. A function may raise any code, message and name: nothing of
 * that is told.
 */
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import type { LocalFacts, ServerNames } from "../../PgFailure.ts"
import { isRaiser } from "../../PgFailure.ts"

const fields = ["schema", "table", "column", "constraint", "dataType", "routine"] as const

const namesIn = (told: PgProtocol.ErrorFields): ServerNames | undefined => {
  const names: Record<string, string> = {}
  for (const field of fields) {
    const name = told[field]
    if (name !== undefined && name !== "") names[field] = name
  }
  return Object.keys(names).length === 0 ? undefined : names
}

/** `'abc'`, `E'abc'`, `U&'abc'`, `$$abc$$`, `$tag$abc$tag$`; not the parameter `$1`. */
const literal = /^(?:(?:[EBXN]|U&)?'|\$(?:[^\W\d]\w*)?\$)/i

const checksNames = (told: PgProtocol.ErrorFields, at: string): boolean =>
  told.code?.startsWith("42") === true && told.code !== "42601" && at !== "" && !literal.test(at)

/** A privilege that is missing, of an object that is there. */
const lacksPrivilege = (told: PgProtocol.ErrorFields): boolean =>
  told.code === "42501" && told.routine === "aclcheck_error"

const violations: Readonly<Record<string, (names: ServerNames) => string>> = {
  "23502": ({ column, table }) => `column ${column} of ${table} may not be null`,
  "23503": ({ constraint, table }) => `foreign key ${constraint} of ${table} is violated`,
  "23505": ({ constraint, table }) => `unique constraint ${constraint} of ${table} is violated`,
  "23514": ({ constraint, table }) => `check ${constraint} of ${table} is violated`,
  "23P01": ({ constraint, table }) => `exclusion constraint ${constraint} of ${table} is violated`
}

const violation = (code: string | undefined, names: ServerNames | undefined): string | undefined => {
  if (names?.table === undefined || (names.constraint === undefined && names.column === undefined)) return undefined
  return code === "23502" && names.column === undefined ? undefined : violations[code ?? ""]?.(names)
}

const around = 100

const lineAt = (sql: string, index: number): Pick<LocalFacts, "line" | "excerpt"> => {
  const before = sql.slice(0, index)
  const line = before.split("\n").length
  const start = before.lastIndexOf("\n") + 1
  const end = sql.indexOf("\n", index)
  // Of a long line what is around the place.
  const from = Math.max(start, index - around)
  const text = sql.slice(from, Math.min(end < 0 ? sql.length : end, index + around)).trimEnd()
  const caret = before.slice(from).replace(/[^\t]/g, " ")
  return { line, excerpt: `line ${line}: ${text}\n${" ".repeat(`line ${line}: `.length)}${caret}^` }
}

type Blame = Pick<LocalFacts, "excerpt" | "line" | "names" | "position" | "problem">

/** What can be told of an error that the server gave to the statement `sql`. */
export const blame = (told: PgProtocol.ErrorFields, sql: string): Blame | undefined => {
  if (isRaiser(told.routine)) return undefined
  const names = namesIn(told)
  // PostgreSQL counts characters, from 1; JavaScript counts units of UTF-16.
  const position = told.position === undefined ? undefined : Number(told.position)
  const before =
    position === undefined
      ? undefined
      : Array.from(sql)
          .slice(0, position - 1)
          .join("")
  const at = before === undefined ? "" : sql.slice(before.length)
  const problem = checksNames(told, at) || lacksPrivilege(told) ? told.message : violation(told.code, names)
  return {
    ...(names !== undefined && { names }),
    ...(problem !== undefined && { problem }),
    ...(position !== undefined && { position, ...lineAt(sql, before!.length) })
  }
}
