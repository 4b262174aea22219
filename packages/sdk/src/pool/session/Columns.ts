/**
 * From result columns to JavaScript values: the truth, or an error that names the column and the cast to write.
 *
 * The driver has binary codecs for the types of `PgTypes.OID`. It reads every other type's binary form as if it were
 * text, which is garbage for most of them. So each column's format is asked for by its type:
 *
 * | column type | format | value |
 * |---|---|---|
 * | a type of `PgTypes.OID`, or one with a codec of the application | binary | what the codec gives, except for what follows |
 * | its array, of any number of dimensions and with any lower bound | binary | nested arrays of the element's values |
 * | timestamp, timestamptz | binary | a `Date`, rounded down to its millisecond; `Infinity`, `-Infinity` |
 * | date | binary | `2026-01-02`, `0044-03-15 BC`, `infinity`: what PostgreSQL prints |
 * | time | binary | microseconds since midnight, a bigint |
 * | timetz | binary | `12:34:56+05:30`, with seconds of the zone where it has some |
 * | regclass | binary | its oid |
 * | inet, cidr | binary | the address in the form of RFC 5952 |
 * | json, jsonb | binary | what `JSON.parse` gives; its fractions are the nearest float8 |
 * | enums, domains over them | text | the label |
 * | arrays of enums, of domains, of any type of an extension | text | nested arrays of the elements' texts |
 * | ranges, multiranges, composites, `record` | text | PostgreSQL's literal, such as `[1,5)` |
 * | macaddr, hstore, tsvector, tsquery, pg_lsn, xid, xid8, bit, varbit, money, point and other geometry, xml, void, any type of an extension | text | what psql prints |
 *
 * These fail their statement, and say that the column has to be cast to text: an instant outside of what a `Date` can
 * hold, an infinite interval, a numeric of more than 131,068 digits, json with an integer that JavaScript would change or
 * a number beyond float8. The same inside an array.
 *
 * A value that fails to decode fails its own statement. The session and its neighbours on the wire go on.
 */
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"
import type { TypeCodec } from "./Config.ts"
import { type Reader, readArrayText, readerOf, readText } from "./Values.ts"

export interface Field {
  readonly name: string
  readonly dataTypeId: number
}

export type Row = { readonly [column: string]: unknown }

/** Everything a statement needs to read its rows. */
export interface Description {
  readonly fields: ReadonlyArray<Field>
  /** The result formats to ask for in Bind: one code for all, or one for each column. */
  readonly formats: ReadonlyArray<0 | 1>
  /** Never throws: what it could not read is kept for `takeFailure`, which the reader of the row asks next. */
  readonly readField: PgProtocol.FieldReader<unknown>
  readonly makeRow: (values: ReadonlyArray<unknown>) => Row
}

/** A value that JavaScript cannot hold truthfully. */
export class ColumnError extends Error {
  readonly column: string
  readonly typeOid: number
  /** The row, from 0, once it is known. */
  row: number | undefined
  /** The column came in a format that was meant for the type it had before. */
  stale = false
  constructor(column: string, typeOid: number, problem: string, options?: ErrorOptions) {
    super(`Column "${column}" (type ${typeName(typeOid)}): ${problem}`, options)
    this.column = column
    this.typeOid = typeOid
  }
}

const names = new Map<number, string>(
  Object.entries(PgTypes.OID).map(([name, oid]) => [oid, name.replace(/Array$/, "[]")])
)

/** The types that the driver knows. */
export const typeNameOf = (oid: number): string | undefined => names.get(oid)

const typeName = (oid: number): string => typeNameOf(oid) ?? `oid ${oid}`

const builtin: ReadonlySet<number> = new Set(Object.values(PgTypes.OID))

const arrayElements = new Map<number, number>()
for (const oid of builtin) {
  const array = PgTypes.arrayOidFor(oid)
  if (array !== undefined) arrayElements.set(array, oid)
}

/** The codecs of one configuration. */
export interface Catalogue {
  readonly registry: PgTypes.Registry | undefined
  readonly has: (oid: number) => boolean
  readonly elementOf: (oid: number) => number | undefined
  /** The application's own codec, which knows best. */
  readonly isOwn: (oid: number) => boolean
  /** Of types that are neither: whether they are arrays. The server is asked once for each. */
  readonly arrays: Map<number, boolean>
}

/** Types of columns of which nobody knows yet whether they are arrays. Below are PostgreSQL's own. */
export const strangers = (
  columns: ReadonlyArray<PgProtocol.FieldDescription>,
  catalogue: Catalogue
): ReadonlyArray<number> => {
  let found: Array<number> | undefined
  for (const { dataTypeOid } of columns) {
    if (dataTypeOid < 16_384 || catalogue.has(dataTypeOid) || catalogue.arrays.has(dataTypeOid)) continue
    if (found === undefined) found = [dataTypeOid]
    else if (!found.includes(dataTypeOid)) found.push(dataTypeOid)
  }
  return found ?? none
}

const none: ReadonlyArray<number> = []

export const makeCatalogue = (types: ReadonlyArray<TypeCodec>): Catalogue => {
  if (types.length === 0) {
    return {
      registry: undefined,
      has: (oid) => builtin.has(oid),
      elementOf: (oid) => arrayElements.get(oid),
      isOwn: () => false,
      arrays: new Map()
    }
  }
  const registry = PgTypes.makeRegistry()
  const known = new Set(builtin)
  const elements = new Map(arrayElements)
  for (const { arrayOid, codec, oid } of types) {
    registry.register(oid, codec, { arrayOid })
    known.add(oid)
    if (arrayOid !== undefined) {
      known.add(arrayOid)
      elements.set(arrayOid, oid)
    }
  }
  const own = new Set(types.map(({ oid }) => oid))
  return {
    registry,
    has: (oid) => known.has(oid),
    elementOf: (oid) => elements.get(oid),
    isOwn: (oid) => own.has(oid),
    arrays: new Map()
  }
}

// One row is read at a time, in one tick, so one place to leave a failure is enough and costs no closure for each statement.
let failure: ColumnError | undefined

/** What the row that was just read could not hold, once. */
export const takeFailure = (): ColumnError | undefined => {
  const taken = failure
  failure = undefined
  return taken
}

/** Assignment is fast, and wrong for one name alone. */
const makeRow = (fields: ReadonlyArray<Field>): Description["makeRow"] => {
  const columns = fields.map((field) => field.name)
  const length = columns.length
  if (columns.includes("__proto__")) {
    return (values) => Object.fromEntries(columns.map((column, index) => [column, values[index]])) as Row
  }
  return (values) => {
    const row: Record<string, unknown> = {}
    for (let index = 0; index < length; index++) row[columns[index]!] = values[index]
    return row
  }
}

/**
 * How to ask for and read the columns of a statement. `received` tells that `columns` carries the formats of rows to
 * come (a described portal) instead of a statement's types; a format that was not meant for its type fails each row.
 */
export const describe = (
  columns: ReadonlyArray<PgProtocol.FieldDescription>,
  catalogue: Catalogue,
  received: boolean
): Description => {
  const fields = columns.map((column): Field => ({ name: column.name, dataTypeId: column.dataTypeOid }))
  const wanted = columns.map((column): 0 | 1 => (catalogue.has(column.dataTypeOid) ? 1 : 0))
  const read = Result.getOrThrow(
    PgTypes.makeFieldReader(
      columns.map(({ dataTypeOid }) => ({ dataTypeOid, format: 1 })),
      catalogue.registry
    )
  )
  const specials = columns.map((column, index): Reader | undefined => {
    if (received && column.format !== wanted[index]) return changed
    // Text is read by the codec of text, whatever the type behind it.
    if (wanted[index] === 1) return readerOf(column.dataTypeOid, catalogue)
    return catalogue.arrays.get(column.dataTypeOid) === true ? readArrayText : readText
  })
  const uniform = wanted.every((format) => format === wanted[0])
  return {
    fields,
    formats: uniform ? wanted.slice(0, 1) : wanted,
    readField: (bytes, offset, size, column) => {
      if (size < 0) return null
      try {
        const own = specials[column]
        return own === undefined ? read(bytes, offset, size, column) : own(bytes, offset, size)
      } catch (cause) {
        const field = fields[column]!
        const problem = cause instanceof Error ? cause.message : String(cause)
        if (failure === undefined) {
          failure = new ColumnError(field.name, field.dataTypeId, problem, { cause })
          failure.stale = cause instanceof ChangedType
        }
        return undefined
      }
    },
    makeRow: makeRow(fields)
  }
}

class ChangedType extends Error {}

const changed: Reader = () => {
  throw new ChangedType(
    "the column has another type than when the statement was described, so this answer cannot be read"
  )
}

/** Whether rows that arrive with these formats are those that `describe` would have asked for. */
export const asWanted = (columns: ReadonlyArray<PgProtocol.FieldDescription>, catalogue: Catalogue): boolean =>
  columns.every((column) => column.format === (catalogue.has(column.dataTypeOid) ? 1 : 0))

/**
 * The driver's Bind frame ends by asking for every column in binary. This puts the formats in place of that trailer.
 */
export const withFormats = (bind: Uint8Array, formats: ReadonlyArray<0 | 1>): Uint8Array => {
  if (formats.length === 0 || (formats.length === 1 && formats[0] === 1)) return bind
  const kept = bind.length - 4
  const frame = new Uint8Array(kept + 2 + formats.length * 2)
  frame.set(bind.subarray(0, kept), 0)
  const view = new DataView(frame.buffer)
  view.setInt16(kept, formats.length)
  formats.forEach((format, index) => view.setInt16(kept + 2 + index * 2, format))
  view.setInt32(1, frame.length - 1)
  return frame
}
