/**
 * Why a row does not fit its declaration: for each field what the column gives, what was declared, and what to write.
 *
 * Computed after the failure alone. Values are not told: the type of a column and of its JavaScript value are.
 */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { nearest } from "../options/names.ts"
import { typeNameOf } from "../pool/Session.ts"
import { RowDecodeError } from "../ReportError.ts"

/** A column that came. */
export interface Column {
  readonly name: string
  readonly dataTypeId: number
}

interface Problem {
  readonly path: ReadonlyArray<string>
  readonly message: string
}

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

const listed = (issue: SchemaIssue.Issue): ReadonlyArray<Problem> =>
  formatIssues(issue).issues.map(({ message, path }) => ({ message, path: (path ?? []).map(String) }))

/** All of them, where decoding the row once more needs nothing but the row. */
const problemsOf = (schema: Schema.Top, row: unknown, first: SchemaIssue.Issue): ReadonlyArray<Problem> => {
  const again = SchemaParser.decodeUnknownEffect(schema, { errors: "all" })(row)
  const all = Exit.isExit(again) && Exit.isFailure(again) ? Cause.findError(again.cause) : undefined
  return listed(all !== undefined && Result.isSuccess(all) ? (all.success as SchemaIssue.Issue) : first)
}

/** What JavaScript has of a value, and the types of PostgreSQL that give it, where the column's type is not known. */
const kindOf = (value: unknown): readonly [kind: string, types: string] => {
  if (value === null || value === undefined) return ["NULL", ""]
  if (Array.isArray(value)) return ["an array", "an array type"]
  if (value instanceof Date) return ["a Date", "timestamptz or timestamp"]
  if (value instanceof Uint8Array) return ["a Uint8Array", "bytea"]
  switch (typeof value) {
    case "bigint":
      return ["a bigint", "int8 or time"]
    case "number":
      return Number.isInteger(value) ? ["a number", "int4, int2 or float8"] : ["a number", "float8 or float4"]
    case "boolean":
      return ["a boolean", "bool"]
    case "string":
      return ["a string", "text, numeric, date or another type that is read as text"]
    default:
      return ["an object", "json or interval"]
  }
}

type Cure = readonly [gives: RegExp, declared: string, cure: string]

/** By the kind of the value, or the type of the column, and the tag of the declared schema's encoded side. */
const cures: ReadonlyArray<Cure> = [
  [/^int8$|^a bigint$/, "Number", "cast to ::int4 or ::float8, or declare Schema.BigInt"],
  [/^int8$|^a bigint$/, "String", "cast to ::text, or declare Schema.BigInt"],
  [/^numeric$/, "Number", "cast to ::float8, or declare Schema.FiniteFromString or Schema.BigDecimalFromString"],
  [/^a string$/, "Number", "cast to ::int4 or ::float8, or declare Schema.FiniteFromString"],
  [/^numeric$|^a string$/, "BigInt", "cast to ::int8, or declare Schema.BigIntFromString"],
  [/^a number$/, "BigInt", "cast to ::int8, or declare Schema.Int or Schema.Finite"],
  [/^a number$/, "String", "cast to ::text, or declare Schema.Int or Schema.Finite"],
  [/^a number$/, "Boolean", "write a comparison, or declare Schema.Int"],
  [/^a boolean$/, "String|Number|BigInt", "declare Schema.Boolean"],
  [/^date$/, "Declaration", "cast to ::timestamptz, or declare Schema.String"],
  [/^a Date$/, "String", "declare Schema.Date or Schema.DateTimeUtcFromDate, or cast to ::text"],
  [/^a Date$/, "Number", "declare Schema.Date, or write extract(epoch from ...)"],
  [/^a string$/, "Declaration", "cast to ::timestamptz or to the type that gives what is declared"],
  [/^a string$/, "Boolean", "cast to ::bool"],
  [/^a Uint8Array$/, "String", "declare Schema.Uint8Array, or write encode(..., 'hex')"],
  [/^an object$/, "String", "cast to ::text, or declare a Schema.Struct"],
  [/^an array$/, "String|Number|BigInt|Boolean|Declaration", "declare Schema.Array, or unnest it"],
  [/^a /, "Arrays", "write array_agg, or declare a single value"]
]

interface Ast {
  readonly _tag: string
  readonly types?: ReadonlyArray<Ast>
  readonly literal?: unknown
  readonly encoding?: ReadonlyArray<{ readonly to: Ast }>
}

const primitives: Readonly<Record<string, string>> = {
  string: "String",
  number: "Number",
  boolean: "Boolean",
  bigint: "BigInt"
}

/** Tags of what the encoded side may be; NULL aside. */
const tagsOf = (ast: Ast): ReadonlyArray<string> => {
  const encoded = ast.encoding?.at(-1)?.to ?? ast
  switch (encoded._tag) {
    case "Union":
      return (encoded.types ?? []).flatMap(tagsOf)
    case "Null":
      return []
    case "Literal":
      return [primitives[typeof encoded.literal] ?? encoded._tag]
    case "TemplateLiteral":
      return ["String"]
    default:
      return [encoded._tag]
  }
}

const cureOf = (kind: string, type: string | undefined, tags: ReadonlyArray<string>): string | undefined => {
  for (const what of type === undefined ? [kind] : [type, kind]) {
    const found = cures.find(
      ([gives, declared]) => gives.test(what) && tags.every((tag) => declared.split("|").includes(tag))
    )
    if (found !== undefined && tags.length > 0) return found[2]
  }
  return undefined
}

const declaredFields = (schema: Schema.Top): Readonly<Record<string, Schema.Top>> =>
  "fields" in schema && typeof schema.fields === "object" && schema.fields !== null
    ? (schema.fields as Record<string, Schema.Top>)
    : {}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1)

const problemOf = (
  { message, path }: Problem,
  schema: Schema.Top,
  row: Readonly<Record<string, unknown>>,
  columns: ReadonlyArray<Column> | undefined
): string => {
  const [name] = path
  if (name === undefined || !Object.hasOwn(row, name)) {
    const returned = Object.keys(row)
    const near = name === undefined ? undefined : nearest(name, returned)
    const there = returned.length === 0 ? "none" : returned.map((each) => JSON.stringify(each)).join(", ")
    return name === undefined
      ? lower(message)
      : `the statement returns no such column; ${near === undefined ? `it returns ${there}` : `did you mean ${JSON.stringify(near)}?`}`
  }
  const value = row[name]
  const declared = message.replace(/^Expected /, "")
  const oid = columns?.find((column) => column.name === name)?.dataTypeId
  const type = oid === undefined ? undefined : typeNameOf(oid)
  const [kind, types] = kindOf(value)
  // Inside of a json value or an array the column is not to blame.
  if (path.length > 1 && !message.startsWith("Expected "))
    return `${type ?? kind} came, and this part of it does not fit: ${lower(message)}`
  if (path.length > 1) return `${type ?? kind} came, and ${declared} was declared for this part of it`
  if (kind === "NULL") return `NULL came, and ${declared} was declared; declare Schema.NullOr, or write coalesce`
  const tags = tagsOf((declaredFields(schema)[name] ?? schema).ast as unknown as Ast)
  const cure = cureOf(kind, type, tags)
  if (tags.includes(primitives[typeof value] ?? "")) {
    return `${type ?? "the column"} gives ${kind}, and ${declared} was declared: this value does not fit`
  }
  const gives = type === undefined ? `${kind} came (${types})` : `${type} gives ${kind}`
  return `${gives}, and ${declared} was declared${cure === undefined ? "" : `; ${cure}`}`
}

/** Everything that is wrong with `row`, which did not fit `schema` for the reason `first`. */
export const explain = (
  report: string,
  schema: Schema.Top,
  index: number,
  row: unknown,
  first: SchemaIssue.Issue,
  columns: ReadonlyArray<Column> | undefined
): RowDecodeError => {
  const values = typeof row === "object" && row !== null ? (row as Record<string, unknown>) : {}
  const fields = problemsOf(schema, row, first).map((issue) => ({
    field: issue.path.length === 0 ? "(row)" : issue.path.join("."),
    problem: problemOf(issue, schema, values, columns)
  }))
  const [{ field, problem }, ...more] = fields as [{ field: string; problem: string }]
  return new RowDecodeError({ report, row: index, field, problem, ...(more.length > 0 && { more }) })
}
