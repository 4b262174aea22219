/**
 * From JavaScript values to bound parameters.
 *
 * | value | sent as |
 * |---|---|
 * | `null`, `undefined` | NULL |
 * | string | text of unknown type: the server infers it from the statement |
 * | boolean | bool |
 * | number | int4, int8 when it does not fit, float8 when it is no integer; -0 is 0 |
 * | number of a report's field | `Schema.Int`: int4; `Schema.Finite`, `Schema.Number`: float8, whole numbers too, and null |
 * | bigint | int8, numeric when it does not fit |
 * | Date | timestamptz, to the millisecond in any year |
 * | Uint8Array | bytea |
 * | array of numbers and bigints | the narrowest of int4[], int8[], float8[] (numeric[]) that holds every element exactly |
 * | array of anything above | an array of that type; elements that are null stay null |
 * | empty array, array of nulls | an array literal of unknown type |
 * | nested arrays | an array literal of the element's array type |
 * | `PgTypes.int8(...)` and the like | what they say |
 *
 * Some of these types give way to what the statement itself asks for, which the server is asked once for each text
 * (`ParameterTypes`): a float8 to numeric, with all digits of the number; an int4 to int8, numeric or float8; a timestamptz to
 * timestamp or date, of the instant in UTC whatever the server's TimeZone; a text[] to an array of another type.
 *
 * Whatever has no single true answer fails with the parameter's position, before anything is sent.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"

/** A parameter as it is bound. `type` is what Parse declares; text goes out with `value` as a literal. */
export interface Bound {
  readonly type: number
  readonly parameter: PgTypes.Parameter
}

/** A number, or an array of numbers, whose type its field's schema tells: the same for every value. */
export class FieldNumber {
  readonly kind: "integer" | "real"
  readonly isArray: boolean
  readonly value: unknown
  constructor(kind: "integer" | "real", isArray: boolean, value: unknown) {
    this.kind = kind
    this.isArray = isArray
    this.value = value
  }
}

/** Why a parameter cannot be sent. `at` is `$1`, or `$1[3]` for an element. */
export class ParameterError extends Error {
  readonly at: string
  constructor(at: Place, problem: string, options?: ErrorOptions) {
    const place = typeof at === "number" ? `$${at}` : at
    super(`Parameter ${place}: ${problem}`, options)
    this.at = place
  }
}

/** Why a statement cannot be sent, in words without values or SQL text. */
export class RefusedError extends Error {}

/** It says itself which type it has: `PgTypes.int8(...)`, `sql.json(...)`. */
export const isTyped = PgTypes.isParameter

/** A parameter's number, from 1; spelled out only where something is wrong with it. Elements have a text. */
type Place = number | string

const { OID } = PgTypes

const make = (oid: number, value: unknown): PgTypes.Parameter => ({
  [PgTypes.ParameterTypeId]: PgTypes.ParameterTypeId,
  oid,
  value
})

const nothing = make(0, null)

const int64Min = -(2n ** 63n)
const int64Max = 2n ** 63n - 1n
const fitsInt4 = (value: number): boolean => value >= -2147483648 && value <= 2147483647
const fitsInt8 = (value: bigint): boolean => value >= int64Min && value <= int64Max

const isWellFormed: ((this: string) => boolean) | undefined = (
  String.prototype as { readonly isWellFormed?: () => boolean }
).isWellFormed

const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

/** What the server could not store, or would store as something else. */
const checkText = (value: string, at: Place): string => {
  if (value.includes("\0")) throw new ParameterError(at, "PostgreSQL text cannot hold a NUL character")
  if (isWellFormed === undefined ? loneSurrogate.test(value) : !isWellFormed.call(value))
    throw new ParameterError(at, "the string holds half of a surrogate pair, which is no character")
  return value
}

const describeValue = (value: unknown): string =>
  typeof value === "object" ? (value?.constructor?.name ?? "object") : typeof value

const inferNumber = (value: number): PgTypes.Parameter => {
  if (Number.isInteger(value)) {
    if (fitsInt4(value)) return make(OID.int4, value)
    if (Number.isSafeInteger(value)) return make(OID.int8, BigInt(value))
  }
  return make(OID.float8, value)
}

/** Digits before the point of the longest numeric. The driver would send a longer one as another number. */
const maxNumericDigits = 131_072

const checkNumeric = (text: string, at: Place): string => {
  if (text.length > 5) {
    const [, digits = "", exponent = "0"] = /^[+-]?0*(\d*)[^eE]*(?:[eE](.*))?$/.exec(text) ?? []
    if (digits.length + Number(exponent) > maxNumericDigits) {
      throw new ParameterError(at, `a numeric has at most ${maxNumericDigits} digits before its point`)
    }
  }
  return text
}

const checkTyped = (parameter: PgTypes.Parameter, at: Place): PgTypes.Parameter => {
  const { oid, value } = parameter
  if (oid === OID.numeric && typeof value === "string") checkNumeric(value, at)
  else if (oid === OID.numericArray && Array.isArray(value)) {
    for (const one of value) if (typeof one === "string") checkNumeric(one, at)
  }
  return parameter
}

/** Where microseconds since 1970 are no exact number any more: the driver would send another millisecond. */
const farMillis = 7e13

const isFar = (value: unknown): value is Date => value instanceof Date && Math.abs(value.getTime()) > farMillis

/** As PostgreSQL prints it: it does not read the years of ISO 8601 beyond 9999 and before Christ. */
const instantText = (date: Date): string => {
  const year = date.getUTCFullYear()
  const text = date.toISOString()
  const rest = text
    .slice(text.indexOf("T") - 6)
    .replace("T", " ")
    .replace("Z", "+00")
  const shown = String(year > 0 ? year : 1 - year).padStart(4, "0")
  return year > 0 ? shown + rest : `${shown}${rest} BC`
}

const inferScalar = (value: unknown, at: Place): PgTypes.Parameter => {
  switch (typeof value) {
    case "string":
      return make(0, checkText(value, at))
    case "number":
      return inferNumber(value)
    case "undefined":
      return nothing
    case "boolean":
      return make(OID.bool, value)
    case "bigint":
      return fitsInt8(value) ? make(OID.int8, value) : make(OID.numeric, checkNumeric(value.toString(), at))
    case "object":
      if (value === null) return nothing
      if (PgTypes.isParameter(value)) return checkTyped(value, at)
      if (value instanceof Date) {
        if (Number.isNaN(value.getTime())) throw new ParameterError(at, "an invalid Date is no point in time")
        return make(OID.timestamptz, value)
      }
      if (value instanceof Uint8Array) return make(OID.bytea, value)
      if (value instanceof Int8Array) {
        return make(OID.bytea, new Uint8Array(value.buffer, value.byteOffset, value.byteLength))
      }
      throw new ParameterError(
        at,
        `${describeValue(value)} has no PostgreSQL type; wrap it with sql.json(...) or name its type`
      )
    default:
      throw new ParameterError(at, `a ${typeof value} has no PostgreSQL type`)
  }
}

/** Numbers widen together, as long as every element keeps its exact value. */
const widen = (values: ReadonlyArray<PgTypes.Parameter>, at: string): PgTypes.Parameter | undefined => {
  let float = false
  let wide = false
  let numeric = false
  for (const { oid, value } of values) {
    if (value === null) continue
    if (oid === OID.float8) float = true
    else if (oid === OID.int8) wide = true
    else if (oid === OID.numeric) numeric = true
    else if (oid !== OID.int4) return undefined
  }
  const exact = (one: PgTypes.Parameter): unknown => one.value
  if (numeric) {
    return make(
      OID.numericArray,
      values.map((one) => (one.value === null ? null : String(one.value)))
    )
  }
  if (float) {
    for (const { oid, value } of values) {
      if (oid === OID.int8 && !Number.isSafeInteger(Number(value))) {
        throw new ParameterError(at, "the array mixes fractions with integers that a float8 cannot hold; name its type")
      }
    }
    return make(
      OID.float8Array,
      values.map((one) => (one.value === null ? null : Number(one.value)))
    )
  }
  if (wide) {
    return make(
      OID.int8Array,
      values.map((one) => (one.value === null ? null : BigInt(one.value as number | bigint)))
    )
  }
  return make(OID.int4Array, values.map(exact))
}

const literalElement = (value: unknown, at: string): string => {
  if (Array.isArray(value)) {
    return `{${value.map((one, index) => literalElement(one, `${at}[${index + 1}]`)).join(",")}}`
  }
  const parameter = inferScalar(value, at)
  if (parameter.value === null) return "NULL"
  if (parameter.value instanceof Date) return `"${instantText(parameter.value)}"`
  if (parameter.value instanceof Uint8Array) {
    return `"\\\\x${Array.from(parameter.value, (byte) => byte.toString(16).padStart(2, "0")).join("")}"`
  }
  if (typeof parameter.value === "object") {
    throw new ParameterError(at, "a typed value inside a nested array has no literal; name the whole array's type")
  }
  return `"${String(parameter.value).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`
}

/** The array type of a nested array is the one of its leaves: in PostgreSQL int4[] has any number of dimensions. */
const inferNested = (value: ReadonlyArray<unknown>, at: string): Bound => {
  const leaves: Array<unknown> = value.flat(Number.POSITIVE_INFINITY)
  const leaf = inferArray(leaves, at)
  return { type: leaf.type, parameter: make(0, literalElement(value, at)) }
}

const inferArray = (value: ReadonlyArray<unknown>, at: string): Bound => {
  for (let index = 0; index < value.length; index++) {
    if (!(index in value))
      throw new ParameterError(`${at}[${index + 1}]`, "is missing; a sparse array has no values there")
  }
  if (value.some(Array.isArray)) return inferNested(value, at)
  const elements = value.map((one, index) => inferScalar(one, `${at}[${index + 1}]`))
  if (elements.every((one) => one.value === null)) {
    return { type: 0, parameter: make(0, `{${elements.map(() => "NULL").join(",")}}`) }
  }
  const numbers = widen(elements, at)
  if (numbers !== undefined) return { type: numbers.oid, parameter: numbers }
  let element: number | undefined
  for (let index = 0; index < elements.length; index++) {
    const one = elements[index]!
    if (one.value === null) continue
    // A lone string is text of unknown type, an array has to name its elements' type.
    const oid = one.oid === 0 ? OID.text : one.oid
    if (element === undefined) element = oid
    else if (element !== oid) {
      throw new ParameterError(
        `${at}[${index + 1}]`,
        "is of another type than the elements before it; name the array's type"
      )
    }
  }
  const array = PgTypes.arrayOidFor(element!)
  if (element === OID.timestamptz && elements.some((one) => isFar(one.value))) {
    return { type: OID.timestamptzArray, parameter: make(0, literalElement(value, at)) }
  }
  if (array === undefined) throw new ParameterError(at, `no array type is known for elements of type ${element}`)
  return {
    type: array,
    parameter: make(
      array,
      elements.map((one) => one.value)
    )
  }
}

/** Types that give way, and to what. */
const yields = new Map<number, ReadonlySet<number> | "arrays">([
  [OID.float8, new Set([OID.numeric])],
  [OID.float8Array, new Set([OID.numericArray])],
  [OID.int4, new Set([OID.int8, OID.numeric, OID.float8, OID.float4])],
  [OID.int4Array, new Set([OID.int8Array, OID.numericArray, OID.float8Array])],
  [OID.timestamptz, new Set([OID.timestamp, OID.date])],
  [OID.timestamptzArray, new Set([OID.timestampArray, OID.dateArray])],
  [OID.textArray, "arrays"]
])

/** Whether the type of a bound value is only what it is without a better one. An int4 of a plain number is meant. */
export const isFlexible = (type: number, value: unknown): boolean =>
  type === OID.int4 || type === OID.int4Array ? value instanceof FieldNumber : yields.has(type)

/** The type to declare, where the server infers another one than the usual. */
export const resolveType = (usual: number, inferred: number): number => {
  const others = yields.get(usual)
  if (others === undefined || inferred === usual) return usual
  // A text is what an unknown type becomes.
  if (others === "arrays") return inferred !== OID.text && inferred !== OID.varcharArray ? inferred : usual
  return others.has(inferred) ? (inferred === OID.float4 ? OID.float8 : inferred) : usual
}

const decimal = (value: unknown): string =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
    ? BigInt(value).toString()
    : String(value)

/** A value under the type that the statement asks for. */
export const bindAs = (value: unknown, type: number, position: number): Bound => {
  const given = value instanceof FieldNumber ? value.value : value
  if (given === null || given === undefined) return { type, parameter: make(type, null) }
  switch (type) {
    case OID.numeric:
      return { type, parameter: make(0, decimal(given)) }
    case OID.float8:
      return { type, parameter: make(type, given) }
    case OID.int8:
      return { type, parameter: make(type, BigInt(given as number)) }
    case OID.timestamp:
    case OID.date:
      return { type, parameter: make(0, instantText(given as Date)) }
    default: {
      const elements = (given as ReadonlyArray<unknown>).map((one) => (typeof one === "number" ? decimal(one) : one))
      return { type, parameter: make(0, literalElement(elements, `$${position}`)) }
    }
  }
}

const bindField = ({ isArray, kind, value }: FieldNumber, position: number): Bound => {
  const real = kind === "real"
  if (isArray) {
    const type = real ? OID.float8Array : OID.int4Array
    if (value === null || value === undefined) return { type, parameter: make(type, null) }
    const elements = value as ReadonlyArray<number | null>
    if (elements.some(Array.isArray)) return inferArray(elements, `$${position}`)
    return { type, parameter: make(type, elements) }
  }
  const type = real ? OID.float8 : OID.int4
  if (value === null || value === undefined) return { type, parameter: make(type, null) }
  return { type, parameter: make(type, value) }
}

/** An integer of a field is an int4 where the statement does not ask for more. */
const checkInt4 = (value: unknown, at: Place): void => {
  if (typeof value === "number" && !fitsInt4(value)) {
    throw new ParameterError(at, "the integer does not fit int4, which the statement asks for; write ::int8 behind it")
  }
}

/** What a value is bound as in the end must hold it. */
export const checkFits = (value: unknown, type: number, position: number): void => {
  if (!(value instanceof FieldNumber)) return
  if (type === OID.int4) checkInt4(value.value, position)
  else if (type === OID.int4Array && Array.isArray(value.value)) {
    for (const [index, one] of value.value.entries()) checkInt4(one, `$${position}[${index + 1}]`)
  }
}

/** Binds one value. Throws `ParameterError`. */
export const bind = (value: unknown, position: number): Bound => {
  if (value instanceof FieldNumber) return bindField(value, position)
  if (Array.isArray(value)) return inferArray(value, `$${position}`)
  const parameter = inferScalar(value, position)
  const { oid, value: bound } = parameter
  if (oid === OID.timestamptz || oid === OID.timestamp) {
    if (isFar(bound)) return { type: oid, parameter: make(0, instantText(bound)) }
    if (bound instanceof Date && Number.isNaN(bound.getTime())) {
      throw new ParameterError(position, "an invalid Date is no point in time")
    }
  } else if (oid === OID.timestamptzArray || oid === OID.timestampArray) {
    if (Array.isArray(bound) && bound.some(isFar)) {
      return { type: oid, parameter: make(0, literalElement(bound, `$${position}`)) }
    }
  }
  return { type: oid, parameter }
}

/** What the protocol's 16 bits can count. */
export const mostParameters = 65_535

const encodeBuiltin = PgProtocol.makeBindEncoder(PgTypes.writeParameter, PgTypes.isTextFormat)

export type BindEncoder = (statement: string, parameters: ReadonlyArray<PgTypes.Parameter>) => Uint8Array

/** Encodes Bind frames for the unnamed portal. Throws `ParameterError` for a value its type cannot hold. */
export const makeBindEncoder = (registry: PgTypes.Registry | undefined): BindEncoder => {
  const encode =
    registry === undefined
      ? encodeBuiltin
      : PgProtocol.makeBindEncoder(
          (sink: PgProtocol.ValueSink, parameter: PgTypes.Parameter) =>
            PgTypes.writeParameter(sink, parameter, registry),
          PgTypes.isTextFormat
        )
  const some = (statement: string, parameters: ReadonlyArray<PgTypes.Parameter>): Uint8Array =>
    Result.getOrThrow(encode({ portal: "", statement, parameters }))
  return (statement, parameters) => {
    try {
      return parameters.length <= driverCounts ? some(statement, parameters) : encodeMany(some, statement, parameters)
    } catch (cause) {
      throw locate(cause, parameters, registry)
    }
  }
}

/** The driver counts with the 15 bits of a positive number. */
export const driverCounts = 32_767

/**
 * One Bind frame out of several of the driver's: name of the portal and the statement, formats, values, and the trailer that
 * asks for binary results.
 */
const encodeMany = (
  encode: (statement: string, parameters: ReadonlyArray<PgTypes.Parameter>) => Uint8Array,
  statement: string,
  parameters: ReadonlyArray<PgTypes.Parameter>
): Uint8Array => {
  const head = 5 + 1 + Buffer.byteLength(statement) + 1
  const count = parameters.length
  const formats = new Uint8Array(4 + 2 * count)
  const formatsView = new DataView(formats.buffer)
  formatsView.setUint16(0, count)
  formatsView.setUint16(2 + 2 * count, count)
  const pieces: Array<Uint8Array> = [formats]
  let names: Uint8Array | undefined
  let trailer: Uint8Array | undefined
  for (let from = 0; from < count; from += driverCounts) {
    const part = parameters.slice(from, from + driverCounts)
    const frame = encode(statement, part)
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
    const codes = view.getUint16(head)
    part.forEach((_, index) => {
      formatsView.setUint16(2 + 2 * (from + index), view.getUint16(head + 2 + 2 * (codes === 1 ? 0 : index)))
    })
    // The encoder's pool is used again for the next part.
    pieces.push(Uint8Array.from(frame.subarray(head + 2 + 2 * codes + 2, frame.length - 4)))
    names ??= Uint8Array.from(frame.subarray(0, head))
    trailer ??= Uint8Array.from(frame.subarray(frame.length - 4))
  }
  const whole = Buffer.concat([names!, ...pieces, trailer!])
  whole.writeInt32BE(whole.length - 1, 1)
  return whole
}

/** A Parse frame with more parameter types than the driver counts. */
export const encodeParse = (name: string, query: string, types: ReadonlyArray<number>): Uint8Array => {
  const few = types.length <= driverCounts
  const frame = Result.getOrThrow(PgProtocol.encodeParse({ name, query, parameterTypes: few ? types : [] }))
  if (few) return frame
  const whole = Buffer.alloc(frame.length + 4 * types.length)
  whole.set(frame)
  whole.writeUInt16BE(types.length, frame.length - 2)
  types.forEach((type, index) => whole.writeUInt32BE(type, frame.length + 4 * index))
  whole.writeInt32BE(whole.length - 1, 1)
  return whole
}

/** The encoder does not say which parameter it failed on: ask again, one by one, now that it does not matter how long it takes. */
const locate = (
  cause: unknown,
  parameters: ReadonlyArray<PgTypes.Parameter>,
  registry: PgTypes.Registry | undefined
): unknown => {
  for (let index = 0; index < parameters.length; index++) {
    const parameter = parameters[index]!
    if (parameter.value === null || parameter.oid === 0) continue
    try {
      Result.getOrThrow(PgTypes.encodeParameter(parameter, registry))
    } catch (reason) {
      const problem = reason instanceof Error ? reason.message : String(reason)
      return new ParameterError(`$${index + 1}`, problem, { cause: reason })
    }
  }
  return cause
}
