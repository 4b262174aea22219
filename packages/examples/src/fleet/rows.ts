/** Columns that several reports share, as the driver delivers them: floats, dates, milliseconds. */
import * as Schema from "effect/Schema"

export const Registration = Schema.String.pipe(Schema.brand("Registration"))
export type Registration = typeof Registration.Type

/** An instant: a `timestamptz`, which arrives as a Date. */
export const Instant = Schema.DateTimeUtcFromDate

/** A length of time: float milliseconds. */
export const Lasting = Schema.DurationFromMillis

/** Whose it is. A vehicle that was imported may have no depot. */
export const owner = {
  vehicle: Registration,
  depot: Schema.NullOr(Schema.String),
  region: Schema.NullOr(Schema.String)
}

/** An interval with what the period cut off: it may have begun before its first, or last beyond its last position. */
export const interval = {
  start: Instant,
  end: Instant,
  duration: Lasting,
  openStart: Schema.Boolean,
  openEnd: Schema.Boolean
}
