/**
 * Units as types. The store and the reports are metric: metres, metres per second, degrees, durations, instants. A reader's
 * kilometres and miles appear at the edge only, by the conversions in here, and are rounded there, after all sums.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

export const Metres = Schema.Finite.pipe(Schema.brand("Metres"))
export type Metres = typeof Metres.Type

export const MetresPerSecond = Schema.Finite.pipe(Schema.brand("MetresPerSecond"))
export type MetresPerSecond = typeof MetresPerSecond.Type

export const Kilometres = Schema.Finite.pipe(Schema.brand("Kilometres"))
export type Kilometres = typeof Kilometres.Type

export const Miles = Schema.Finite.pipe(Schema.brand("Miles"))
export type Miles = typeof Miles.Type

export const KilometresPerHour = Schema.Finite.pipe(Schema.brand("KilometresPerHour"))
export type KilometresPerHour = typeof KilometresPerHour.Type

export const MilesPerHour = Schema.Finite.pipe(Schema.brand("MilesPerHour"))
export type MilesPerHour = typeof MilesPerHour.Type

/** Degrees of WGS 84. */
export const Latitude = Schema.Finite.check(Schema.isBetween({ minimum: -90, maximum: 90 })).pipe(
  Schema.brand("Latitude")
)
export type Latitude = typeof Latitude.Type

export const Longitude = Schema.Finite.check(Schema.isBetween({ minimum: -180, maximum: 180 })).pipe(
  Schema.brand("Longitude")
)
export type Longitude = typeof Longitude.Type

/** Degrees clockwise from north. */
export const Heading = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0), Schema.isLessThan(360)).pipe(
  Schema.brand("Heading")
)
export type Heading = typeof Heading.Type

// An offset such as "+01:00" is refused: PostgreSQL would read it with the opposite sign.
const isZone = (id: string): boolean => /^[A-Za-z]/.test(id) && Option.isSome(DateTime.zoneMakeNamed(id))

/** The name of a time zone as a caller writes it; checked, not branded, so that a report can refuse it by its field. */
export const TimeZoneParameter = Schema.String.check(
  Schema.makeFilter((id) => isZone(id) || "is not the name of a time zone, such as Europe/Berlin")
)

/** The name of a time zone, such as `Europe/Berlin`. */
export const TimeZoneName = TimeZoneParameter.pipe(Schema.brand("TimeZoneName"))
export type TimeZoneName = typeof TimeZoneName.Type

/** A day of a calendar, `2026-03-02`. It means nothing without its time zone. */
export const LocalDay = Schema.String.check(Schema.isPattern(/^\d{4}-\d{2}-\d{2}$/)).pipe(Schema.brand("LocalDay"))
export type LocalDay = typeof LocalDay.Type

const metresPerMile = 1609.344
const metresPerKilometre = 1000
const secondsPerHour = 3600

/** The systems of units that a reader may choose from. */
export type UnitSystem = "metric" | "imperial"

export const kilometres = (length: Metres): Kilometres => Kilometres.make(length / metresPerKilometre)
export const miles = (length: Metres): Miles => Miles.make(length / metresPerMile)
export const kilometresPerHour = (speed: MetresPerSecond): KilometresPerHour =>
  KilometresPerHour.make((speed * secondsPerHour) / metresPerKilometre)
export const milesPerHour = (speed: MetresPerSecond): MilesPerHour =>
  MilesPerHour.make((speed * secondsPerHour) / metresPerMile)

/** From what a reader writes to what a report takes. */
export const fromKilometresPerHour = (speed: number): MetresPerSecond =>
  MetresPerSecond.make((speed * metresPerKilometre) / secondsPerHour)
export const fromMilesPerHour = (speed: number): MetresPerSecond =>
  MetresPerSecond.make((speed * metresPerMile) / secondsPerHour)

/** Codecs for an edge that speaks kilometres or miles: metres inside, the reader's unit outside. */
export const MetresFromKilometres = Kilometres.pipe(
  Schema.decodeTo(
    Metres,
    SchemaTransformation.transform({
      decode: (length) => length * metresPerKilometre,
      encode: (length) => Kilometres.make(length / metresPerKilometre)
    })
  )
)
export const MetresFromMiles = Miles.pipe(
  Schema.decodeTo(
    Metres,
    SchemaTransformation.transform({
      decode: (length) => length * metresPerMile,
      encode: (length) => Miles.make(length / metresPerMile)
    })
  )
)

/** Adds lengths of the store; round the sum, not the parts. */
export const sumMetres = (lengths: Iterable<Metres>): Metres => {
  let sum = 0
  for (const length of lengths) sum += length
  return Metres.make(sum)
}

/** Adds durations. */
export const sumDurations = (durations: Iterable<Duration.Duration>): Duration.Duration => {
  let sum = Duration.zero
  for (const duration of durations) sum = Duration.sum(sum, duration)
  return sum
}
