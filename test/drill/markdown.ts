/** The results in Markdown: a table of everything, and the block that stands in README between its `drill` marks. */
import type { Line } from "../support/failures/observe.ts"
import { type DrillResult, zeros } from "./harness.ts"

const columns = [
  "calls",
  "succeeded",
  "failedAsDeclared",
  "failedOtherwise",
  "late",
  "lost",
  "doubled",
  "wrong",
  "leaked",
  "recoveryMs"
] as const
export const titles = ["calls", "ok", "declared", "otherwise", "late", "lost", "doubled", "wrong", "leaked", "recovery"]

const recovery = ({ recoveryMs }: DrillResult) => (recoveryMs === null ? "never" : `${recoveryMs} ms`)

export const cells = (result: DrillResult): ReadonlyArray<string> =>
  columns.map((column) => (column === "recoveryMs" ? recovery(result) : String(result[column])))

const line = (each: ReadonlyArray<string>) => `| ${each.join(" | ")} |`
const cell = (text: string) => text.replace(/\|/g, "\\|").replace(/\n/g, " ")

/** Everything, for `reports/drill.md`. */
export const markdown = (head: string, results: ReadonlyArray<DrillResult>): string =>
  [
    "# Drill",
    "",
    ...head.split("\n").map((each) => `${each}  `),
    "",
    line(["fault", "subject", ...titles, "note"]),
    line(["---", "---", ...titles.map(() => "---:"), "---"]),
    ...results.map((result) =>
      line([
        /^(bound|failure)-/.test(result.fault) ? result.fault : `[${result.fault}](drill-${result.fault}.svg)`,
        result.subject,
        ...cells(result),
        cell(result.note ?? "")
      ])
    ),
    ""
  ].join("\n")

/** What README is made of, besides the results. */
export interface Told {
  readonly head: string
  readonly abouts: ReadonlyMap<string, string>
  readonly failures: ReadonlyMap<string, ReadonlyArray<Line>>
}

/** Failed, late, back after; what must not be is bold and named. */
const short = (result: DrillResult | undefined): string => {
  if (result === undefined) return ""
  const failed = result.failedAsDeclared + result.failedOtherwise
  const named = zeros.filter((field) => field !== "late" && result[field] > 0)
  const bad = named.map((field) => `; **${field === "failedOtherwise" ? "otherwise" : field} ${result[field]}**`)
  return `${failed}, ${result.late > 0 ? `**${result.late}**` : 0}, ${recovery(result)}${bad.join("")}`
}

const goodput = (result: DrillResult | undefined): string =>
  /goodput: ([^;]*)/.exec(result?.note ?? "")?.[1]?.replace(/,/g, ";") ?? ""

/** To be pasted into README as it is. */
export const readme = ({ abouts, failures, head }: Told, results: ReadonlyArray<DrillResult>): string => {
  const of = (fault: string, subject: DrillResult["subject"]) =>
    results.find((result) => result.fault === fault && result.subject === subject)
  const names = [...new Set(results.map(({ fault }) => fault))]
  const about = (name: string) => cell(abouts.get(name) ?? name)
  const faults = names.filter((name) => !/^(bound|failure)-|^overload-/.test(name))
  const overloads = names.filter((name) => name.startsWith("overload-"))
  const bounds = results.filter(({ fault }) => fault.startsWith("bound-"))
  const three = (row: (subject: DrillResult["subject"]) => string) => [row("sluice"), row("driver"), row("pg")]
  return [
    ...head.split("\n").map((each, index, all) => (index === all.length - 1 ? each : `${each};`)),
    ...(faults.length === 0
      ? []
      : [
          "",
          "| fault | Sluice: failed, late, back after | bare driver | `pg` |",
          "| --- | --- | --- | --- |",
          ...faults.map((name) => line([about(name), ...three((subject) => short(of(name, subject)))]))
        ]),
    ...overloads.flatMap((name) => [
      "",
      "| overload | Sluice: answered in time | bare driver | `pg` |",
      "| --- | --- | --- | --- |",
      line([about(name), ...three((subject) => goodput(of(name, subject)))])
    ]),
    ...(bounds.length === 0
      ? []
      : [
          "",
          "| bound | measured |",
          "| --- | --- |",
          ...bounds.map(({ fault, note }) => line([about(fault), cell(note ?? "")]))
        ]),
    ...(failures.size === 0
      ? []
      : [
          "",
          "| failure | call | class | attempts | result |",
          "| --- | --- | --- | --- | --- |",
          ...[...failures].flatMap(([name, lines]) =>
            lines.map(({ case: call, seen }) =>
              line([about(name), cell(call), seen.class, String(seen.attempts), `\`${cell(seen.result)}\``])
            )
          )
        ]),
    ""
  ].join("\n")
}
