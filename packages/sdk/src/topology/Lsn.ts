/**
 * Positions in the write-ahead log, and the token of read-your-writes made of one.
 *
 * @example
 * ```ts
 * Lsn.parse("16/B374D848") // 97500059720n
 * Lsn.format(97500059720n) // "16/B374D848"
 * Lsn.formatToken({ lsn: 97500059720n, timeline: 2 }) // "16/B374D848@2"
 * ```
 */
import * as Order from "effect/Order"
import * as Schema from "effect/Schema"

/** A position in the write-ahead log: bytes from its beginning. */
export type Lsn = bigint

const pattern = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/

/** Reads PostgreSQL's text form. `undefined`: it is not one. */
export const parse = (text: string): Lsn | undefined => {
  const found = pattern.exec(text)
  return found === null ? undefined : (BigInt(`0x${found[1]}`) << 32n) | BigInt(`0x${found[2]}`)
}

/** PostgreSQL's text form. */
export const format = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`

export const compare: Order.Order<Lsn> = Order.BigInt

/** Bytes from `from` to `to`; negative if `to` comes first. */
export const distance = (from: Lsn, to: Lsn): number => Number(to - from)

/**
 * What a write leaves behind: the position after its commit, and the timeline it was made on.
 *
 * A report given a token reads from a node that has replayed it. Tokens of the same timeline are ordered by position; a
 * token of an older timeline may name a write that a failover lost, which no client can see.
 */
export interface Token {
  readonly lsn: Lsn
  readonly timeline?: number | undefined
}

/** `16/B374D848@2`, or without the timeline where it is not known. Short enough for a header or a cookie. */
export const formatToken = (token: Token): string =>
  token.timeline === undefined ? format(token.lsn) : `${format(token.lsn)}@${token.timeline}`

/** Reads what {@link formatToken} wrote. `undefined`: it is not one. */
export const parseToken = (text: string): Token | undefined => {
  const [position, timeline, ...rest] = text.split("@")
  const lsn = parse(position!)
  if (lsn === undefined || rest.length > 0) return undefined
  if (timeline === undefined) return { lsn }
  return /^[1-9][0-9]{0,9}$/.test(timeline) ? { lsn, timeline: Number(timeline) } : undefined
}

/** The later of two tokens: what a caller keeps that made several writes. */
export const latest = (first: Token, second: Token): Token => {
  const older = (first.timeline ?? 0) - (second.timeline ?? 0)
  return older === 0 || first.timeline === undefined || second.timeline === undefined
    ? first.lsn >= second.lsn
      ? first
      : second
    : older > 0
      ? first
      : second
}

/** A token as it travels, in a header or a parameter: the string that {@link formatToken} makes. */
export const TokenString = Schema.String.check(
  Schema.isPattern(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}(@[1-9][0-9]{0,9})?$/)
)
