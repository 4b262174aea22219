/** What a report declares, in lines for people. */
import { Report } from "@sluice/sdk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import { count } from "./table.ts"

const wrapped = (words: ReadonlyArray<string>, first: string, width: number): string => {
  const lines = [first]
  for (const [index, word] of words.entries()) {
    const piece = index === words.length - 1 ? word : `${word},`
    if (`${lines.at(-1)} ${piece}`.length > width) lines.push(`${" ".repeat(first.length)} ${piece}`)
    else lines.push(`${lines.pop()} ${piece}`)
  }
  return lines.join("\n")
}

/** Title, description and declared semantics. */
export const declaration = (report: Report.Any): string => {
  const { deadlineMillis, failures, lane, maxRows, role } = Report.explain(report)
  const title = Context.get(report.annotations, Report.Title) ?? report.name
  const description = Context.get(report.annotations, Report.Description)
  const limit = maxRows === undefined ? "any number of rows" : `at most ${count(maxRows)} rows`
  const head = `${title}${description === undefined ? "" : ` - ${description}`}`
  return [
    head,
    `  reads      ${role}, lane ${lane}`,
    `  answers    within ${Duration.format(Duration.millis(deadlineMillis))}, ${limit}`,
    wrapped(failures, "  fails with", 110)
  ].join("\n")
}
