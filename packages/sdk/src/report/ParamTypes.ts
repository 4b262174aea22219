/**
 * The number of a report's field has the type of its schema, for every value: `Schema.Int` is an integer, `Schema.Finite` and
 * `Schema.Number` are floats, also where the value is whole or null.
 *
 * A query gives values, not fields. So the first time that a text is seen, the query is asked once more with numbers that
 * nobody writes by chance: where one of them comes out unchanged stands its field. Where the query computes with a field, or
 * builds another text of it, a number has the type of its value.
 */
import * as SchemaAST from "effect/SchemaAST"
import { FieldNumber } from "../pool/session/Parameters.ts"

type Kind = "integer" | "real"

interface Field {
  readonly name: string
  readonly kind: Kind
  readonly isArray: boolean
}

/** Where a text's parameters come from. */
type Places = ReadonlyArray<Field | undefined>

interface Node {
  readonly _tag: string
  readonly checks?: ReadonlyArray<{ readonly annotations?: object; readonly checks?: ReadonlyArray<unknown> }>
  readonly types?: ReadonlyArray<Node>
  readonly elements?: ReadonlyArray<Node>
  readonly rest?: ReadonlyArray<Node>
  readonly propertySignatures?: ReadonlyArray<{ readonly name: PropertyKey; readonly type: Node }>
}

const isInteger = (node: Node): boolean =>
  (node.checks ?? []).some(({ annotations, checks }) => {
    const { meta, representation } = (annotations ?? {}) as { readonly meta?: object; readonly representation?: object }
    const id = JSON.stringify(representation ?? meta ?? "")
    return (
      id.includes("isInt") || (checks !== undefined && isInteger({ _tag: "", checks: checks as Node["checks"] & {} }))
    )
  })

const kindOf = (node: Node): { readonly kind: Kind; readonly isArray: boolean } | undefined => {
  switch (node._tag) {
    case "Number":
      return { kind: isInteger(node) ? "integer" : "real", isArray: false }
    case "Arrays": {
      const [element, more] = [...(node.elements ?? []), ...(node.rest ?? [])]
      const found = element === undefined || more !== undefined ? undefined : kindOf(element)
      return found === undefined || found.isArray ? undefined : { kind: found.kind, isArray: true }
    }
    case "Union": {
      const others = (node.types ?? []).filter(({ _tag }) => _tag !== "Null" && _tag !== "Undefined")
      const kinds = others.map(kindOf)
      const [first] = kinds
      return first !== undefined && kinds.every((one) => one?.kind === first.kind && one.isArray === first.isArray)
        ? first
        : undefined
    }
    default:
      return undefined
  }
}

/** The fields of a report's parameters that are numbers, as a query is given them. */
const fieldsOf = (params: { readonly ast: SchemaAST.AST }): ReadonlyArray<Field> => {
  const encoded = SchemaAST.toEncoded(params.ast) as unknown as Node
  return (encoded.propertySignatures ?? []).flatMap(({ name, type }) => {
    const found = typeof name === "string" ? kindOf(type) : undefined
    return found === undefined ? [] : [{ name: name as string, ...found }]
  })
}

/** Numbers that nobody writes. */
const marked = (index: number, { isArray, kind }: Field): unknown => {
  const number = kind === "integer" ? 1_234_567_011 + 7 * index : 1.2345678901e-7 * (index + 1)
  return isArray ? [number] : number
}

interface Compiled {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

/** Texts that a query builds of its values are without number. */
const mostTexts = 200

/** Gives the values of a statement the types of their fields. `undefined`: no field is a number. */
export const make = (params: {
  readonly ast: SchemaAST.AST
}):
  | ((given: unknown, statement: Compiled, again: (given: unknown) => Compiled | undefined) => ReadonlyArray<unknown>)
  | undefined => {
  const fields = fieldsOf(params)
  if (fields.length === 0) return undefined
  const known = new Map<string, Places | undefined>()

  const find = (
    given: object,
    { sql }: Compiled,
    again: (given: unknown) => Compiled | undefined
  ): Places | undefined => {
    const marks = new Map<unknown, Field>()
    const asked: Record<string, unknown> = { ...given }
    fields.forEach((field, index) => {
      const mark = marked(index, field)
      marks.set(mark, field)
      asked[field.name] = mark
    })
    let other: Compiled | undefined
    try {
      other = again(asked)
    } catch {
      // A query that refuses such a number has no places that could be found.
    }
    if (other === undefined || other.sql !== sql) return undefined
    const places = other.params.map((value) => marks.get(value))
    return places.some((field) => field !== undefined) ? places : undefined
  }

  return (given, statement, again) => {
    const { params, sql } = statement
    if (params.length === 0 || typeof given !== "object" || given === null) return params
    let places = known.get(sql)
    if (places === undefined && !known.has(sql)) {
      if (known.size >= mostTexts) return params
      known.set(sql, (places = find(given, statement, again)))
    }
    if (places === undefined || places.length !== params.length) return params
    const typed: Array<unknown> = []
    for (let index = 0; index < params.length; index++) {
      const value = params[index]
      const field = places[index]
      typed.push(field === undefined ? value : new FieldNumber(field.kind, field.isArray, value))
    }
    return typed
  }
}
