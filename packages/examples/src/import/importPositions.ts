/**
 * Takes a CSV file of positions into the fleet: all of its good lines or, if anything goes wrong, none.
 *
 * The lines go into a staging table first; one transaction holds it all. A file of this kind has no odometer: that of its
 * vehicles is computed from the path between their positions, and computed again from the first new position on when
 * older lines arrive later.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { type Line, lines, type Position, type RejectedLine, shown, type SpeedUnit } from "./PositionsCsv.ts"

export interface ImportOptions {
  /** The unit of the column `speed`. Default `m/s`. */
  readonly speedUnit?: SpeedUnit | undefined
  /** Whether vehicles that the fleet does not know are added to it. Default false: their lines are rejected. */
  readonly createVehicles?: boolean | undefined
  /**
   * Whether a line about an instant of which the fleet has another position replaces that. Default false: the stored one
   * holds, and the summary counts the line as `differing`.
   */
  readonly replace?: boolean | undefined
  /** Whether a single rejected line refuses the file. Default false. */
  readonly strict?: boolean | undefined
  /** Rejected lines that the summary lists; all are counted. Default 1000. */
  readonly listed?: number | undefined
  /** Called as the file is read: lines, and bytes of the file as it lies on the disk. */
  readonly onProgress?: ((lines: number, bytes: number) => Effect.Effect<void>) | undefined
}

/**
 * What became of the lines of a file:
 * `lines = imported + repeated + contradicting + alreadyThere + differing + rejected`.
 */
export interface ImportSummary {
  readonly file: string
  /** Without the header and empty lines. */
  readonly lines: number
  readonly imported: number
  /** Of the imported lines: those that replaced a stored position (`replace`). */
  readonly corrected: number
  readonly vehicles: number
  readonly vehiclesCreated: number
  /** Lines that say again what an earlier line said. Harmless. */
  readonly repeated: number
  /** Lines that say something else about an instant of which an earlier line spoke: the earlier one holds. */
  readonly contradicting: number
  /** Lines that say again what the fleet had stored before. Harmless. */
  readonly alreadyThere: number
  /** Lines that say something else than what is stored about the same instant, which holds. */
  readonly differing: number
  /** Imported lines older than the line before them of the same vehicle. Harmless. */
  readonly outOfOrder: number
  readonly rejected: number
  readonly reasons: ReadonlyArray<{ readonly field: string; readonly reason: string; readonly lines: number }>
  readonly rejectedLines: ReadonlyArray<RejectedLine>
  readonly from: Date | null
  readonly to: Date | null
}

/** Lines were rejected, and `strict` was asked for. Nothing was imported. */
export class LinesRejected extends Schema.TaggedError<LinesRejected>("@sluice/examples/LinesRejected")(
  "LinesRejected",
  {
    file: Schema.String,
    rejected: Schema.Int,
    lines: Schema.Array(
      Schema.Struct({ line: Schema.Int, field: Schema.String, reason: Schema.String, value: Schema.String })
    )
  },
  { httpApiStatus: 422 }
) {
  override get message(): string {
    const [first] = this.lines
    const lines = this.rejected === 1 ? "1 line is rejected" : `${this.rejected} lines are rejected`
    const example =
      first === undefined ? "" : `, ${this.rejected === 1 ? "" : "the first is "}line ${first.line}: ${tell(first)}`
    return `${this.file}: ${lines}${example}`
  }
}

/** `speed is not a number: "0x10"`. */
export const tell = ({ field, reason, value }: Omit<RejectedLine, "line">): string =>
  `${field} ${reason}${value === "" ? "" : `: "${value}"`}`

/** Collects rejected lines: all of them counted by reason, the first ones kept. */
const makeRejections = (keep: number) => {
  const byReason = new Map<string, { readonly field: string; readonly reason: string; lines: number }>()
  const kept: Array<RejectedLine> = []
  let count = 0
  return {
    add: ({ field, line, reason, value }: RejectedLine): void => {
      count += 1
      if (kept.length < keep) kept.push({ line, field, reason, value })
      const key = `${field} ${reason}`
      const known = byReason.get(key)
      if (known === undefined) byReason.set(key, { field, reason, lines: 1 })
      else known.lines += 1
    },
    count: () => count,
    reasons: () => [...byReason.values()].sort((a, b) => b.lines - a.lines),
    lines: () => kept.sort((a, b) => a.line - b.line)
  }
}

const stage = Effect.fnUntraced(function* (
  good: ReadonlyArray<{ readonly line: number; readonly position: Position }>
) {
  const sql = yield* SqlClient.SqlClient
  const rows = good.map(({ line, position }) => ({
    line,
    registration: position.vehicle_id,
    time: position.timestamp,
    latitude_deg: position.latitude,
    longitude_deg: position.longitude,
    speed_mps: position.speed
  }))
  // One JSON text rather than arrays: the driver refuses an array that mixes 0 and 1.5 (an int4 and a float8 to it).
  yield* sql`
    insert into staged
    select * from json_to_recordset(${JSON.stringify(rows)}::text::json) as s (
      line integer, registration text, time timestamptz, latitude_deg float8, longitude_deg float8, speed_mps float8)`
})

/** Imports a file. See {@link ImportSummary} for what it tells. */
export const importPositions = Effect.fn("importPositions")(function* (file: string, options: ImportOptions = {}) {
  const sql = yield* SqlClient.SqlClient
  const now = yield* Clock.currentTimeMillis
  const rejections = makeRejections(options.listed ?? 1000)
  let read = 0

  const take = Effect.gen(function* () {
    // One import at a time: two would each compute the odometer without the other's positions.
    yield* sql`select pg_advisory_xact_lock(hashtextextended('fleet import', 0))::text`
    yield* sql`
      create temporary table staged (
        line integer, registration text, time timestamptz,
        latitude_deg float8, longitude_deg float8, speed_mps float8
      ) on commit drop`
    let bytes = 0
    const onLine = (_: number, more: number): void => void (bytes = more)
    yield* lines(file, { speedUnit: options.speedUnit ?? "m/s", now, onLine }).pipe(
      Stream.grouped(2000),
      Stream.tap((batch) => options.onProgress?.(read + batch.length, bytes) ?? Effect.void),
      Stream.runForEach((batch) => {
        read += batch.length
        const good: Array<Extract<Line, { _tag: "Good" }>> = []
        for (const line of batch) {
          if (line._tag === "Good") good.push(line)
          else rejections.add(line)
        }
        return good.length === 0 ? Effect.void : stage(good)
      })
    )
    yield* sql`analyze staged`
    const vehiclesCreated = yield* knownVehicles
    const repetitions = yield* withoutRepetitions
    if (options.strict === true && rejections.count() > 0) {
      return yield* new LinesRejected({ file, rejected: rejections.count(), lines: rejections.lines() })
    }
    return { vehiclesCreated, ...repetitions, ...(yield* insert) }
  })

  /** Adds the unknown vehicles, or rejects their lines. */
  const knownVehicles = Effect.gen(function* () {
    const created =
      options.createVehicles === true
        ? yield* sql`
            insert into fleet.vehicles (registration, odometer)
            select distinct registration, 'positions' from staged order by registration
            on conflict (registration) do nothing
            returning id`
        : []
    const strangers = yield* sql<{ readonly line: number; readonly registration: string; readonly known: boolean }>`
      delete from staged s
      where not exists (select from fleet.vehicles v where v.registration = s.registration and v.odometer = 'positions')
      returning s.line, s.registration, exists (select from fleet.vehicles v where v.registration = s.registration) as known`
    for (const { known, line, registration } of strangers.toSorted((a, b) => a.line - b.line)) {
      const reason = known ? "belongs to a vehicle that reports its odometer, which the file lacks" : "is unknown"
      rejections.add({ line, field: "vehicle_id", reason, value: shown(registration) })
    }
    return created.length
  })

  /** Leaves one line for each instant of a vehicle: none for what is stored, unless it is to be replaced. */
  const withoutRepetitions = Effect.gen(function* () {
    const [later] = yield* sql<{ readonly repeated: number; readonly contradicting: number }>`
      with ranked as (
        select
          line, row_number() over instant > 1 as is_later,
          (latitude_deg, longitude_deg, speed_mps) is not distinct from
            (first_value(latitude_deg) over instant, first_value(longitude_deg) over instant, first_value(speed_mps) over instant) as same
        from staged
        window instant as (partition by registration, time order by line)
      ),
      gone as (
        delete from staged s using ranked r where s.line = r.line and r.is_later returning r.same
      )
      select (count(*) filter (where same))::int as repeated, (count(*) filter (where not same))::int as contradicting from gone`
    const [there] = yield* sql<{ readonly same: number; readonly other: number }>`
      with stored as (
        select
          s.line, p.vehicle_id, p.time,
          (s.latitude_deg, s.longitude_deg, s.speed_mps) = (p.latitude_deg, p.longitude_deg, p.speed_mps) as same
        from staged s
        join fleet.vehicles v on v.registration = s.registration
        join fleet.positions p on p.vehicle_id = v.id and p.time = s.time
      ),
      -- what is to be replaced goes from the fleet, what holds goes from the stage
      replaced as (
        delete from fleet.positions p using stored d
        where ${options.replace === true} and not d.same and p.vehicle_id = d.vehicle_id and p.time = d.time
      ),
      held as (
        delete from staged s using stored d where s.line = d.line and (d.same or not ${options.replace === true})
      )
      select (count(*) filter (where same))::int as same, (count(*) filter (where not same))::int as other from stored`
    return {
      repeated: later!.repeated,
      contradicting: later!.contradicting,
      alreadyThere: there!.same,
      corrected: options.replace === true ? there!.other : 0,
      differing: options.replace === true ? 0 : there!.other
    }
  })

  /** Inserts what is staged, with the odometer along the path, and moves the odometer of what comes after. */
  const insert = Effect.gen(function* () {
    const [summary] = yield* sql<{
      readonly imported: number
      readonly vehicles: number
      readonly outOfOrder: number
      readonly from: Date | null
      readonly to: Date | null
    }>`
      select
        count(*)::int as imported, count(distinct registration)::int as vehicles,
        (count(*) filter (where time < previous))::int as "outOfOrder", min(time) as from, max(time) as to
      from (
        select *, lag(time) over (partition by registration order by line) as previous from staged
      ) s`
    const { from, to } = summary!
    if (from === null || to === null) return summary!
    // The months that occur, not those between: one line of 1990 is one month.
    yield* sql`
      select fleet.ensure_partitions(month, month + interval '1 second')::text
      from (select distinct date_trunc('month', time, 'UTC') as month from staged) months`
    yield* sql`
      create temporary table path on commit drop as
      with touched as (
        select v.id as vehicle_id, min(s.time) as since
        from staged s join fleet.vehicles v on v.registration = s.registration
        group by v.id
      ),
      before as (
        select t.vehicle_id, l.*
        from touched t
        cross join lateral (
          select p.time, p.latitude_deg, p.longitude_deg, p.odometer_m
          from fleet.positions p
          where p.vehicle_id = t.vehicle_id and p.time < t.since
          order by p.time desc
          limit 1
        ) l
      ),
      points as (
        select v.id as vehicle_id, s.time, s.latitude_deg, s.longitude_deg, s.speed_mps, true as is_new
        from staged s join fleet.vehicles v on v.registration = s.registration
        union all
        select p.vehicle_id, p.time, p.latitude_deg, p.longitude_deg, p.speed_mps, false
        from touched t join fleet.positions p on p.vehicle_id = t.vehicle_id and p.time >= t.since
        union all
        select vehicle_id, time, latitude_deg, longitude_deg, null, null from before
      ),
      legs as (
        select
          *,
          coalesce(fleet.distance_m(
            lag(latitude_deg) over life, lag(longitude_deg) over life, latitude_deg, longitude_deg), 0) as leg_m
        from points
        window life as (partition by vehicle_id order by time)
      )
      select
        l.*,
        coalesce(b.odometer_m, 0) + sum(leg_m) over (partition by l.vehicle_id order by l.time) as odometer_m
      from legs l
      left join before b on b.vehicle_id = l.vehicle_id`
    yield* sql`
      update fleet.positions p set odometer_m = path.odometer_m
      from path
      where path.is_new = false and p.vehicle_id = path.vehicle_id and p.time = path.time
        and p.odometer_m is distinct from path.odometer_m`
    yield* sql`
      insert into fleet.positions (vehicle_id, time, latitude_deg, longitude_deg, speed_mps, odometer_m)
      select vehicle_id, time, latitude_deg, longitude_deg, speed_mps, odometer_m
      from path
      where is_new
      order by time, vehicle_id`
    return summary!
  })

  const taken = yield* sql.withTransaction(take)
  const summary: ImportSummary = {
    file,
    lines: read,
    rejected: rejections.count(),
    reasons: rejections.reasons(),
    rejectedLines: rejections.lines(),
    ...taken
  }
  return summary
})
