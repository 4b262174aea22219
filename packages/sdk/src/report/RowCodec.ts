/**
 * Rows: from what the driver read to the declared type, with the row and the field that do not fit.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import type { RowDecodeError } from "../ReportError.ts"
import { type Column, explain } from "./RowProblem.ts"

export type RowDecoder<Row extends Schema.Top> = (
  rows: ReadonlyArray<unknown>,
  firstRow?: number,
  columns?: ReadonlyArray<Column>
) => Effect.Effect<ReadonlyArray<Row["Type"]>, RowDecodeError, Row["DecodingServices"]>

/** Rows that are decoded at a stretch: about a millisecond for a row of six fields. Then others have their turn. */
const stretch = 2_000

/**
 * Decodes row by row. A schema without services answers with an exit, so that the usual case is a plain loop (0.3
 * microseconds a row); the first row that needs more than that takes the rest through Effect. A result of up to
 * {@link stretch} rows is decoded at once.
 */
export const make = <Row extends Schema.Top>(report: string, schema: Row): RowDecoder<Row> => {
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const failure = (index: number, row: unknown, issue: SchemaIssue.Issue, columns: ReadonlyArray<Column> | undefined) =>
    explain(report, schema, index, row, issue, columns)
  const from = (
    rows: ReadonlyArray<unknown>,
    firstRow: number,
    columns: ReadonlyArray<Column> | undefined,
    decoded: Array<Row["Type"]>,
    begin: number
  ): ReturnType<RowDecoder<Row>> => {
    const end = Math.min(rows.length, begin + stretch)
    for (let index = begin; index < end; index++) {
      const step = decode(rows[index])
      if (!Exit.isExit(step))
        return rest(decode, rows, decoded, index, (offset, row, issue) =>
          failure(firstRow + offset, row, issue, columns)
        )
      if (step._tag === "Success") decoded.push(step.value)
      else {
        const issue = Cause.findError(step.cause)
        return Result.isSuccess(issue)
          ? Effect.fail(failure(firstRow + index, rows[index], issue.success as SchemaIssue.Issue, columns))
          : Effect.failCause(issue.failure)
      }
    }
    return end === rows.length
      ? Effect.succeed(decoded)
      : Effect.andThen(
          Effect.yieldNow,
          Effect.suspend(() => from(rows, firstRow, columns, decoded, end))
        )
  }
  return (rows, firstRow = 0, columns) => from(rows, firstRow, columns, [], 0)
}

const rest = <A, R>(
  decode: (row: unknown) => Effect.Effect<A, SchemaIssue.Issue, R>,
  rows: ReadonlyArray<unknown>,
  decoded: Array<A>,
  from: number,
  failure: (index: number, row: unknown, issue: SchemaIssue.Issue) => RowDecodeError
): Effect.Effect<ReadonlyArray<A>, RowDecodeError, R> =>
  Effect.as(
    Effect.forEach(
      rows.slice(from),
      (row, offset) =>
        Effect.map(
          Effect.mapError(decode(row), (issue) => failure(from + offset, row, issue)),
          (value) => {
            decoded.push(value)
          }
        ),
      { discard: true }
    ),
    decoded
  )
