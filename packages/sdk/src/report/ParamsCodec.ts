/**
 * Parameters: from what a caller writes, through the declared schema, to what the driver can bind.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { isThere } from "../internal/there.ts"
import { isTyped } from "../pool/session/Parameters.ts"
import { InvalidParameters } from "../ReportError.ts"

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

/** Every problem of an issue with the path of its field. Values are left out: they may be secret. */
export const problems = (issue: SchemaIssue.Issue): ReadonlyArray<{ field: string; problem: string }> =>
  formatIssues(issue).issues.map(({ message, path }) => ({
    field: path === undefined || path.length === 0 ? "parameters" : path.map(String).join("."),
    problem: message
  }))

/**
 * Checks and encodes in one step. A class of mistakes ends here: nothing that fails the schema reaches a session, and
 * the caller is told every field at once.
 */
export const make = <Params extends Schema.Top>(
  report: string,
  schema: Params,
  told: (error: InvalidParameters) => InvalidParameters = (error) => error
): ((input: unknown) => Effect.Effect<Params["Encoded"], InvalidParameters, Params["EncodingServices"]>) => {
  const all = { errors: "all" } as const
  const construct = SchemaParser.makeEffect(schema)
  // What a caller writes is what a query is given: nothing is left to encode, and it was checked once. (Both sides of a schema
  // with a transformation at its root may be the same, but not the schema itself.)
  const { ast } = schema
  const isEncoded = SchemaAST.toEncoded(ast) === ast && SchemaAST.toType(ast) === ast
  const encode = isEncoded
    ? (value: unknown) => Effect.succeed(value as Params["Encoded"])
    : SchemaParser.encodeUnknownEffect(schema)
  const refuse = (issue: SchemaIssue.Issue) => told(new InvalidParameters({ report, issues: problems(issue) }))
  return (input) => {
    const value = construct(input as Params["~type.make.in"], { parseOptions: all })
    if (isEncoded && isThere(value)) return Effect.succeed(value.value)
    // Schemas without services answer with an exit: then so does this.
    const encoded = isThere(value) ? encode(value.value, all) : Effect.flatMap(value, (value) => encode(value, all))
    return isThere(encoded) ? Effect.succeed(encoded.value) : Effect.mapError(encoded, refuse)
  }
}

/**
 * The driver binds scalars, dates, bytes and arrays of these. Effect's own time types have one true counterpart in
 * PostgreSQL each. A plain object, or an array of some, goes as its JSON text, which the server reads as what the statement
 * asks for: json or jsonb. Whatever else is an object is left to the session to refuse by position.
 */
export const toDriver = (params: ReadonlyArray<unknown>): ReadonlyArray<unknown> => {
  for (let index = 0; index < params.length; index++) {
    const value = params[index]
    if (typeof value === "object" && value !== null && isOurs(value)) {
      return params.map(toDriverValue)
    }
  }
  return params
}

const isOurs = (value: object): boolean =>
  Array.isArray(value) ? holdsJson(value) : DateTime.isDateTime(value) || Duration.isDuration(value) || isJson(value)

/** An array has values of one kind. */
const holdsJson = (values: ReadonlyArray<unknown>): boolean =>
  isJson(values.find((one) => one !== null && one !== undefined))

/** Not a value that names its type. */
const isJson = (value: unknown): boolean => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return (prototype === Object.prototype || prototype === null) && !isTyped(value)
}

const toJson = (value: unknown): unknown => {
  try {
    return JSON.stringify(value)
  } catch {
    return value
  }
}

const toDriverValue = (value: unknown): unknown => {
  if (isJson(value) || (Array.isArray(value) && holdsJson(value))) return toJson(value)
  if (DateTime.isDateTime(value)) return DateTime.toDateUtc(value)
  if (Duration.isDuration(value)) return `${Duration.toMillis(value)} milliseconds`
  return value
}
