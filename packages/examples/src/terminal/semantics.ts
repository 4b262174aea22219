/** What a report declares, in lines for people. */
import { Report } from "@sluice/sdk"
import * as Context from "effect/Context"
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

/** Which errors a report can fail with that declares nothing but its deadline. */
const usual: ReadonlyArray<string> = [
  "InvalidParameters",
  "QueryFailed",
  "RowDecodeError",
  "DatabaseUnavailable",
  "AcquireTimeout",
  "DeadlineExceeded"
]

/** To be printed once, above the first {@link declaration}. */
export const usualErrors = [
  "Every report can fail with the usual six:",
  wrapped(usual, " ", 110),
  "Beside each report stands what its policies add to them."
].join("\n")

const time = (millis: number): string =>
  millis < 1000 ? `${Math.round(millis)} ms` : `${Number((millis / 1000).toFixed(1))} s`

/** What is shown of a report: in which order its rows are printed, and how to read them. */
export interface Heading {
  /** `newest first`. */
  readonly order: string
  /** The time zone of the times that are printed. */
  readonly timeZone?: string | undefined
}

/** Title, description and declared semantics. */
export const declaration = (report: Report.Any, heading?: Heading): string => {
  const explained = Report.explain(report)
  const { attempts, attemptTimeoutMillis, backoffMillis, deadlineMillis, effect, failures, lane, maxRows } = explained
  const title = Context.get(report.annotations, Report.Title) ?? report.name
  const description = Context.get(report.annotations, Report.Description)
  const shown = [heading?.order, heading?.timeZone === undefined ? undefined : `times in ${heading.timeZone}`]
  const policies = [
    attempts === 1
      ? "1 attempt"
      : `${attempts} attempts of ${time(attemptTimeoutMillis)}, ${time(backoffMillis)} of backoff`,
    explained.order.includes("breaker per node") ? "a breaker per server" : undefined,
    explained.permits === undefined
      ? undefined
      : `at most ${explained.permits}${explained.queue === undefined ? "" : `, ${explained.queue} may queue`}`
  ]
  const added = failures.filter((tag) => !usual.includes(tag))
  const missing = usual.filter((tag) => !failures.includes(tag))
  const told = (parts: ReadonlyArray<string | undefined>, between: string) =>
    parts.filter((part) => part !== undefined).join(between)
  return [
    `${title}${description === undefined ? "" : ` - ${description}`}`,
    `  ${effect === "reads" ? "reads     " : "writes    "} ${explained.role}, lane ${lane}${effect === "reads" ? "" : `, ${effect.replace("writes, ", "")}`}`,
    `  answers    within ${time(deadlineMillis)}, ${maxRows === undefined ? "any number of rows" : `at most ${count(maxRows)} row${maxRows === 1 ? "" : "s"}`}`,
    `  policies   ${told(policies, "; ")}`,
    wrapped(
      [missing.length === 0 ? "the usual six" : usual.filter((tag) => !missing.includes(tag)).join(", "), ...added],
      "  fails with",
      110
    ),
    ...(heading === undefined ? [] : [`  shown      ${told(shown, "; ")}`])
  ].join("\n")
}
