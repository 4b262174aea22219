/**
 * What a report gives back besides its rows: where they come from and what they cost.
 */
import type * as DateTime from "effect/DateTime"

/** Where the rows of a result come from. Nothing is kept yet, so that no result is `cache` or `stale`. */
export type Source = "live" | "cache" | "stale" | "hedge" | "fallback"

/** The rows of one call with their provenance. */
export interface ReportResult<out Row> {
  readonly rows: ReadonlyArray<Row>
  readonly source: Source
  /** The node that answered, as `host:port`; absent when no node was asked. */
  readonly node: string | undefined
  /** Executions that this call cost, 0 when the rows were not read for it. */
  readonly attempts: number
  /** When the rows were read. */
  readonly asOf: DateTime.Utc
  /** Age of the rows when the call returned, in milliseconds; 0 for rows that were read for this call. */
  readonly ageMillis: number
  /** `true`: more rows exist than `maxRows` let through. The rows contain data only. */
  readonly truncated: boolean
  /** Rows that its INSERT, UPDATE, DELETE or MERGE has changed. `undefined`: another statement, of which the server does not tell. */
  readonly changed: number | undefined
}

/** What is known of a stream when it has ended. */
export interface StreamInfo {
  /** Rows that were given. */
  readonly rows: number
  /** `true`: more rows exist than `maxRows` let through. */
  readonly truncated: boolean
  readonly node: string
  readonly asOf: DateTime.Utc
}
