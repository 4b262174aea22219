/**
 * From result columns to JavaScript values: the truth, or an error that names the column and the cast to write.
 *
 * The driver has binary codecs for the types of `PgTypes.OID`. It reads every other type's binary form as if it were
 * text, which is garbage for most of them. So each column's format is asked for by its type:
 *
 * | column type | format | value |
 * |---|---|---|
 * | a type of `PgTypes.OID`, or one with a codec of the application | binary | what the codec gives |
 * | its one-dimensional array | binary | array, whatever its lower bound |
 * | its array of more dimensions | binary | nested arrays |
 * | timestamp, timestamptz `infinity` | binary | `Infinity`, `-Infinity` |
 * | timestamp, timestamptz outside of what a `Date` can hold | binary | the statement fails: cast to text |
 * | the same two inside an array | binary | the statement fails: cast to text[] |
 * | enums, domains over them | text | the label |
 * | arrays of enums, ranges, multiranges, composites, `record` | text | PostgreSQL's literal, such as `{a,b}` or `[1,5)` |
 * | macaddr, hstore, tsvector, tsquery, pg_lsn, xid, xid8, bit, varbit, money, point and other geometry, xml, void, any type of an extension | text | what psql prints |
 *
 * A value that fails to decode fails its own statement. The session and its neighbours on the wire go on.
 */
import type * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"
import type { TypeCodec } from "./Config.ts"

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
  constructor(column: string, typeOid: number, problem: string, options?: ErrorOptions) {
    super(`Column "${column}" (type ${typeName(typeOid)}): ${problem}`, options)
    this.column = column
    this.typeOid = typeOid
  }
}

const names = new Map<number, string>(
  Object.entries(PgTypes.OID).map(([name, oid]) => [oid, name.replace(/Array$/, "[]")])
)

const typeName = (oid: number): string => names.get(oid) ?? `oid ${oid}`

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
}

export const makeCatalogue = (types: ReadonlyArray<TypeCodec>): Catalogue => {
  if (types.length === 0) {
    return { registry: undefined, has: (oid) => builtin.has(oid), elementOf: (oid) => arrayElements.get(oid) }
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
  return { registry, has: (oid) => known.has(oid), elementOf: (oid) => elements.get(oid) }
}

type Reader = (bytes: Uint8Array, offset: number, size: number) => unknown

const readInt32 = (bytes: Uint8Array, offset: number): number =>
  (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!

const isInstant = (oid: number): boolean => oid === PgTypes.OID.timestamp || oid === PgTypes.OID.timestamptz

const unrepresentable = "the value lies outside of what a Date can hold; cast the column to text"

/** PostgreSQL writes infinity as the ends of int64. */
const readInstant =
  (read: Reader): Reader =>
  (bytes, offset, size) => {
    const value = read(bytes, offset, size)
    if (!(value instanceof Date) || !Number.isNaN(value.getTime())) return value
    const high = readInt32(bytes, offset)
    const low = readInt32(bytes, offset + 4)
    if (high === 0x7fffffff && low === -1) return Number.POSITIVE_INFINITY
    if (high === -0x80000000 && low === 0) return Number.NEGATIVE_INFINITY
    throw new Error(unrepresentable)
  }

const nest = (values: ReadonlyArray<unknown>, lengths: ReadonlyArray<number>): ReadonlyArray<unknown> => {
  let level = values
  for (let dimension = lengths.length - 1; dimension > 0; dimension--) {
    const length = lengths[dimension]!
    const next: Array<unknown> = []
    for (let index = 0; index < level.length; index += length) next.push(level.slice(index, index + length))
    level = next
  }
  return level
}

/** The driver reads arrays of one dimension that begin at 1. Others are shown to it as one, then folded. */
const readArray =
  (read: Reader, instants: boolean): Reader =>
  (bytes, offset, size) => {
    const dimensions = size >= 12 ? readInt32(bytes, offset) : 0
    let values: ReadonlyArray<unknown>
    if (dimensions === 0 || (dimensions === 1 && readInt32(bytes, offset + 16) === 1)) {
      values = read(bytes, offset, size) as ReadonlyArray<unknown>
    } else {
      const lengths = Array.from({ length: dimensions }, (_, index) => readInt32(bytes, offset + 12 + index * 8))
      const header = 12 + dimensions * 8
      const flat = new Uint8Array(20 + size - header)
      const view = new DataView(flat.buffer)
      view.setInt32(0, 1)
      flat.set(bytes.subarray(offset + 4, offset + 12), 4)
      view.setInt32(
        12,
        lengths.reduce((product, length) => product * length, 1)
      )
      view.setInt32(16, 1)
      flat.set(bytes.subarray(offset + header, offset + size), 20)
      values = nest(read(flat, 0, flat.length) as ReadonlyArray<unknown>, lengths)
    }
    if (
      instants &&
      (values as ReadonlyArray<any>).flat(6).some((value) => value !== null && Number.isNaN(value.getTime()))
    ) {
      throw new Error("an element is infinite or lies outside of what a Date can hold; cast the column to text[]")
    }
    return values
  }

/** Where the driver's codec alone does not tell the truth. */
const special = (oid: number, catalogue: Catalogue, read: Reader): Reader | undefined => {
  if (isInstant(oid)) return readInstant(read)
  const element = catalogue.elementOf(oid)
  return element === undefined ? undefined : readArray(read, isInstant(element))
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
  // Text is read by the codec of text, whatever the type behind it.
  const read = Result.getOrThrow(
    PgTypes.makeFieldReader(
      columns.map((column, index) => ({
        dataTypeOid: wanted[index] === 1 ? column.dataTypeOid : PgTypes.OID.text,
        format: 1
      })),
      catalogue.registry
    )
  )
  const specials = columns.map((column, index): Reader | undefined => {
    if (received && column.format !== wanted[index]) return changed
    if (wanted[index] === 0) return undefined
    return special(column.dataTypeOid, catalogue, (bytes, offset, size) => read(bytes, offset, size, index))
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
        failure ??= new ColumnError(field.name, field.dataTypeId, problem, { cause })
        return undefined
      }
    },
    makeRow: makeRow(fields)
  }
}

const changed: Reader = () => {
  throw new Error("the column's type has changed since the statement was described; run the statement again")
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
