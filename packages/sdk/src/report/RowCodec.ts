/**
 * Rows: from what the driver read to the declared type, with the row and the field that do not fit.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { RowDecodeError } from "../ReportError.ts"

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

const failure = (report: string, row: number, issue: SchemaIssue.Issue): RowDecodeError => {
  const [first] = formatIssues(issue).issues
  return new RowDecodeError({
    report,
    row,
    field: first?.path === undefined || first.path.length === 0 ? "(row)" : first.path.map(String).join("."),
    problem: first?.message ?? "does not fit the declared row"
  })
}

export type RowDecoder<Row extends Schema.Top> = (
  rows: ReadonlyArray<unknown>,
  firstRow?: number
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
  const from = (
    rows: ReadonlyArray<unknown>,
    firstRow: number,
    decoded: Array<Row["Type"]>,
    begin: number
  ): ReturnType<RowDecoder<Row>> => {
    const end = Math.min(rows.length, begin + stretch)
    for (let index = begin; index < end; index++) {
      const step = decode(rows[index])
      if (!Exit.isExit(step)) return rest(report, decode, rows, firstRow, decoded, index)
      if (step._tag === "Success") decoded.push(step.value)
      else {
        const issue = Cause.findError(step.cause)
        return Result.isSuccess(issue)
          ? Effect.fail(failure(report, firstRow + index, issue.success as SchemaIssue.Issue))
          : Effect.failCause(issue.failure)
      }
    }
    return end === rows.length
      ? Effect.succeed(decoded)
      : Effect.andThen(
          Effect.yieldNow,
          Effect.suspend(() => from(rows, firstRow, decoded, end))
        )
  }
  return (rows, firstRow = 0) => from(rows, firstRow, [], 0)
}

const rest = <A, R>(
  report: string,
  decode: (row: unknown) => Effect.Effect<A, SchemaIssue.Issue, R>,
  rows: ReadonlyArray<unknown>,
  firstRow: number,
  decoded: Array<A>,
  from: number
): Effect.Effect<ReadonlyArray<A>, RowDecodeError, R> =>
  Effect.as(
    Effect.forEach(
      rows.slice(from),
      (row, offset) =>
        Effect.map(
          Effect.mapError(decode(row), (issue) => failure(report, firstRow + from + offset, issue)),
          (value) => {
            decoded.push(value)
          }
        ),
      { discard: true }
    ),
    decoded
  )
