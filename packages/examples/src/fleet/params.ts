/** What callers of the reports give. Whatever a schema can see, it refuses by the name of the field. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Metres, MetresPerSecond } from "./units.ts"

/** Registration of one vehicle; null (or nothing) means all. */
export const vehicle = Schema.NullOr(Schema.NonEmptyString).pipe(Schema.withConstructorDefault(Effect.succeed(null)))

/** Half open: `from` belongs to the period, `to` does not, so that periods laid end to end count nothing twice. */
export const period = { from: Schema.DateTimeUtc, to: Schema.DateTimeUtc }

interface Period {
  readonly from: DateTime.Utc
  readonly to: DateTime.Utc
}

/** For the struct that holds a {@link period}. */
export const endsAfterItBegins = Schema.makeFilter<Period>(
  ({ from, to }) => DateTime.isGreaterThan(to, from) || { path: ["to"], issue: "must be later than from" }
)

/** A length of time, not below zero, with a default. */
export const duration = (fallback: Duration.Input) =>
  Schema.Duration.check(
    Schema.makeFilter((value) => !Duration.isNegative(value) || "must not be below zero"),
    Schema.makeFilter((value) => Duration.isFinite(value) || "must be finite")
  ).pipe(Schema.withConstructorDefault(Effect.succeed(Duration.fromInputUnsafe(fallback))))

const notNegative = Schema.isGreaterThanOrEqualTo(0, { message: "must not be below zero" })

/** A length in metres, not below zero, with a default. */
export const metres = (fallback: number) =>
  Metres.check(notNegative).pipe(Schema.withConstructorDefault(Effect.succeed(Metres.make(fallback))))

/** A speed in metres per second, not below zero, with a default. */
export const metresPerSecond = (fallback: number) =>
  MetresPerSecond.check(notNegative).pipe(Schema.withConstructorDefault(Effect.succeed(MetresPerSecond.make(fallback))))

/** The rule's name and its thresholds. Two rules give different intervals of the same positions, so a report names its own. */
export const confirmedRuns = {
  rule: Schema.Literals(["confirmed-runs"]).pipe(
    Schema.withConstructorDefault(Effect.succeed("confirmed-runs" as const))
  ),
  /** Moving is faster than this. Default 0.5 m/s: what a receiver at rest reports stays below. */
  motionThreshold: metresPerSecond(0.5),
  /** A run of movement is a trip from this distance on ... */
  minTripDistance: metres(500),
  /** ... or from this time on. */
  minTripDuration: duration("5 minutes"),
  /** A run without movement ends a trip from this time on. */
  minParking: duration("5 minutes"),
  /** A silence this long ends a trip at the last position before it. */
  silence: duration("1 hour"),
  /**
   * How far before `from` positions are read, to know in which state the period begins; one more is read, however old. Default
   * 1 day. A parking, a trip or a silence in that time is enough for the halves of a period to join to the whole.
   */
  reach: duration("1 day"),
  /** Whether an ignition that is off confirms a stop at once. */
  useIgnition: Schema.Boolean.pipe(Schema.withConstructorDefault(Effect.succeed(false)))
}
