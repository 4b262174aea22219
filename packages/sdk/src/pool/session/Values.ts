/**
 * One value in binary to JavaScript: the driver's codec, and what has to be done where that alone is not the whole truth.
 * Which type is read how is told in `Columns.ts`.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"

/** Throws for a value that JavaScript cannot hold truthfully. */
export type Reader = (bytes: Uint8Array, offset: number, size: number) => unknown

const { OID } = PgTypes

const readInt32 = (bytes: Uint8Array, offset: number): number =>
  (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!

const driverReader = (oid: number, registry?: PgTypes.Registry): Reader => {
  const read = Result.getOrThrow(PgTypes.makeFieldReader([{ dataTypeOid: oid, format: 1 }], registry))
  return (bytes, offset, size) => read(bytes, offset, size, 0)
}

const readDriverText = driverReader(OID.text)
const keepsMark = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The driver drops a byte order mark from a text that also holds U+FFFD. */
export const readText: Reader = (bytes, offset, size) =>
  bytes[offset] === 0xef && bytes[offset + 1] === 0xbb && size > 2
    ? keepsMark.decode(bytes.subarray(offset, offset + size))
    : readDriverText(bytes, offset, size)

/** Milliseconds between 1970 and 2000, where PostgreSQL counts from. */
const epoch = 946_684_800_000
const maxDate = 8.64e15

/** Microseconds since 2000. Rounded down like every clock: the driver rounds what lies before 2000 up. */
const readInstant: Reader = (bytes, offset, size) => {
  if (size !== 8) throw new Error("an instant has 8 bytes")
  const high = readInt32(bytes, offset)
  const low = readInt32(bytes, offset + 4) >>> 0
  // The ends of int64 stand for infinity.
  if (high === 0x7fffffff && low === 0xffffffff) return Number.POSITIVE_INFINITY
  if (high === -0x80000000 && low === 0) return Number.NEGATIVE_INFINITY
  const micros = high * 4_294_967_296 + low
  const millis = Number.isSafeInteger(micros) ? Math.floor(micros / 1000) : floorMillis(high, low)
  const time = millis + epoch
  if (time > maxDate || time < -maxDate) {
    throw new Error("the value lies outside of what a Date can hold; cast the column to text")
  }
  return new Date(time)
}

const floorMillis = (high: number, low: number): number => {
  const micros = BigInt(high) * 4_294_967_296n + BigInt(low)
  const rest = ((micros % 1000n) + 1000n) % 1000n
  return Number((micros - rest) / 1000n)
}

/** The driver counts years as astronomers do, with a year 0; PostgreSQL prints, and reads, `BC`. */
const readDate = (read: Reader): Reader => {
  const beforeChrist = /^(?:-(\d+)|0000)(-\d\d-\d\d)$/
  return (bytes, offset, size) => {
    const text = read(bytes, offset, size) as string
    const first = text.charCodeAt(0)
    // Neither `-` nor `0`.
    if (first > 48) return text
    const match = beforeChrist.exec(text)
    return match === null ? text : `${String(1 + Number(match[1] ?? 0)).padStart(4, "0")}${match[2]} BC`
  }
}

/** The driver drops the seconds of a zone, which local mean times have. */
const readTimeTz =
  (read: Reader): Reader =>
  (bytes, offset, size) => {
    const text = read(bytes, offset, size) as string
    const seconds = Math.abs(readInt32(bytes, offset + 8)) % 60
    return seconds === 0 ? text : `${text}:${String(seconds).padStart(2, "0")}`
  }

/** Since PostgreSQL 17: the ends of all three parts. */
const readInterval =
  (read: Reader): Reader =>
  (bytes, offset, size) => {
    const value = read(bytes, offset, size) as PgTypes.Interval
    const { days, months } = value
    if (days === months && (days === 0x7fffffff || days === -0x80000000)) {
      const end = days > 0 ? 2n ** 63n - 1n : -(2n ** 63n)
      if (value.microseconds === end) throw new Error("the interval is infinite; cast the column to text")
    }
    return value
  }

/** The driver counts the groups of four digits as a signed number. */
const readNumeric =
  (read: Reader): Reader =>
  (bytes, offset, size) => {
    if (bytes[offset]! > 0x7f) throw new Error("the number has too many digits; cast the column to text")
    return read(bytes, offset, size)
  }

const mayBeInexact = /\d{16}|e\+?\d{3}/i

/** The numbers of a json text, strings passed over. Not by a regular expression: a long string overflows its stack. */
function* numbersOf(text: string): Generator<string> {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 34) {
      for (at++; at < text.length && text.charCodeAt(at) !== 34; at++) if (text.charCodeAt(at) === 92) at++
    } else if (code === 45 || (code >= 48 && code <= 57)) {
      const from = at
      while (at + 1 < text.length && inNumber(text.charCodeAt(at + 1))) at++
      yield text.slice(from, at + 1)
    }
  }
}

/** `0` to `9`, `.`, `+`, `-`, `e`, `E`. */
const inNumber = (code: number): boolean =>
  (code >= 48 && code <= 57) || code === 46 || code === 43 || code === 45 || code === 101 || code === 69

/** Digits before the exponent, without sign, point, and zeros that say nothing. */
const significant = (text: string): string => text.replace(/[-.]|e.*/gi, "").replace(/^0+|0+$/g, "")

/** A fraction is rounded, as all of float8 is. An integer that comes out as another one is an id that is wrong. */
const isExact = (token: string): boolean => {
  const value = Number(token)
  if (!Number.isFinite(value)) return false
  if (!/^-?\d+$/.test(token)) return true
  return significant(value.toExponential()) === significant(token) || BigInt(value) === BigInt(token)
}

const parseJson = (text: string): unknown => {
  if (mayBeInexact.test(text)) {
    for (const token of numbersOf(text)) {
      if (isExact(token)) continue
      throw new Error(
        "it holds a number that JavaScript would change; cast the column to text, or the number to a string"
      )
    }
  }
  return JSON.parse(text)
}

/** A copy: a part of the buffer that was read would keep all of it. */
const readBytes: Reader = (bytes, offset, size) => Uint8Array.prototype.slice.call(bytes, offset, offset + size)

const readJson: Reader = (bytes, offset, size) => parseJson(readText(bytes, offset, size) as string)

const readJsonb: Reader = (bytes, offset, size) => {
  if (bytes[offset] !== 1) throw new Error("a version of jsonb that is not known; cast the column to text")
  return parseJson(readText(bytes, offset + 1, size - 1) as string)
}

/** A reader of its own for a type whose codec alone does not tell the whole truth. */
const specialReader = (oid: number, registry: PgTypes.Registry | undefined): Reader | undefined => {
  switch (oid) {
    case OID.text:
    case OID.varchar:
    case OID.bpchar:
    case OID.name:
      return readText
    case OID.timestamp:
    case OID.timestamptz:
      return readInstant
    case OID.date:
      return readDate(driverReader(oid, registry))
    case OID.timetz:
      return readTimeTz(driverReader(oid, registry))
    case OID.interval:
      return readInterval(driverReader(oid, registry))
    case OID.numeric:
      return readNumeric(driverReader(oid, registry))
    case OID.bytea:
      return readBytes
    case OID.json:
      return readJson
    case OID.jsonb:
      return readJsonb
    default:
      return undefined
  }
}

/** `undefined`: the driver's own reader will do, as it always does for the application's codecs. */
export const readerOf = (
  oid: number,
  catalogue: {
    readonly registry: PgTypes.Registry | undefined
    readonly elementOf: (oid: number) => number | undefined
    readonly isOwn: (oid: number) => boolean
  }
): Reader | undefined => {
  if (catalogue.isOwn(oid)) return undefined
  const element = catalogue.elementOf(oid)
  if (element === undefined) return specialReader(oid, catalogue.registry)
  return readArray(element, readerOf(element, catalogue) ?? driverReader(element, catalogue.registry))
}

const maxDimensions = 6

/** An array of any number of dimensions: the elements lie in one row, and are folded from the innermost out. */
const readArray =
  (elementOid: number, readElement: Reader): Reader =>
  (bytes, offset, size) => {
    const end = offset + size
    const dimensions = size < 12 ? -1 : readInt32(bytes, offset)
    let at = offset + 12 + dimensions * 8
    if (dimensions < 0 || dimensions > maxDimensions || at > end) throw new Error("a broken array")
    if (readInt32(bytes, offset + 8) >>> 0 !== elementOid) throw new Error("an array of another type")
    if (dimensions === 0) return []
    const lengths = Array.from({ length: dimensions }, (_, index) => readInt32(bytes, offset + 12 + index * 8))
    const count = lengths.reduce((product, length) => product * length, 1)
    // Each element has a length of its own in front: a count beyond that is no count.
    if (!(count >= 0 && count * 4 <= end - at)) throw new Error("a broken array")
    const values: Array<unknown> = []
    for (let index = 0; index < count; index++) {
      const length = at + 4 > end ? end : readInt32(bytes, at)
      at += 4
      if (length < 0) values.push(null)
      else if (at + length > end) throw new Error("a broken array")
      else {
        values.push(readElement(bytes, at, length))
        at += length
      }
    }
    return dimensions === 1 ? values : nest(values, lengths)
  }

/**
 * The text of an array, `{a,"b c",NULL,{...}}`, as nested arrays of texts: what PostgreSQL prints of an array whose elements
 * nobody reads in binary.
 */
export const readArrayText: Reader = (bytes, offset, size) => {
  const text = readText(bytes, offset, size) as string
  // Bounds that do not begin at 1 stand in front: `[0:1]={a,b}`.
  let at = text.charCodeAt(0) === 91 ? text.indexOf("=") + 1 : 0
  const broken = (): never => {
    throw new Error("a broken array")
  }
  const element = (): unknown => {
    if (text[at] === "{") return list()
    if (text[at] === '"') {
      let value = ""
      for (at++; text[at] !== '"'; at++) {
        if (at >= text.length) broken()
        if (text[at] === "\\") at++
        value += text[at]
      }
      at++
      return value
    }
    const from = at
    while (at < text.length && text[at] !== "," && text[at] !== "}") at++
    const value = text.slice(from, at)
    return value === "NULL" ? null : value
  }
  const list = (): ReadonlyArray<unknown> => {
    const values: Array<unknown> = []
    at++
    if (text[at] === "}") {
      at++
      return values
    }
    for (;;) {
      values.push(element())
      const next = text[at++]
      if (next === "}") return values
      if (next !== ",") broken()
    }
  }
  return text[at] === "{" ? list() : broken()
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
