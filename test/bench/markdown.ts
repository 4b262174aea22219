/** The block of README.md between its `bench` markers, as it is printed. */
import { outcome, readable, times, wrap } from "./present.ts"
import { isSluice, type Measured, type Row } from "./Row.ts"

export interface Shown {
  readonly row: Row
  readonly measured: ReadonlyArray<Measured>
  readonly note: string | undefined
}

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) => [
  line(head),
  line(head.map((_, column) => (column === 0 ? "---" : "---:"))),
  ...rows.map(line)
]

const value = (row: Row, { result }: Measured) => readable(row.unit, result.value)

/** Sluice's own value, or for a peer the ratio first: `**1.3 x** (4,560/s)`. */
const cell = (row: Row, each: Measured | undefined) =>
  each === undefined
    ? ""
    : each.sluice === undefined
      ? value(row, each)
      : `**${times(each.sluice.ratio)}** (${value(row, each)})`

/** A row with several widths: a line for each subject, a column for each number of fibers. */
const wide = ({ measured, row }: Shown): ReadonlyArray<string> => {
  const widths = [...new Set(measured.map(({ result }) => result.fibers!))]
  const subjects = [...new Set(measured.map(({ result }) => result.subject))]
  const find = (subject: string, fibers: number) =>
    measured.find(({ result }) => result.subject === subject && result.fibers === fibers)
  return [
    `\`${row.name}\`: ${row.brief ?? row.about}.`,
    "",
    ...table(
      ["", "beside", ...widths.map((fibers) => `${fibers.toLocaleString("en")} fiber${fibers === 1 ? "" : "s"}`)],
      subjects.map((subject) => [
        subject,
        measured.find(({ result }) => result.subject === subject)?.sluice?.subject ?? "",
        ...widths.map((fibers) => cell(row, find(subject, fibers)))
      ])
    ),
    ""
  ]
}

const promised = (shown: ReadonlyArray<Shown>): ReadonlyArray<string> => {
  const judged = shown.filter(({ row }) => row.promised !== undefined)
  if (judged.length === 0) return []
  return [
    "What the document of the origin system promised, on this machine:",
    "",
    ...table(
      ["promise", "measured", "a report", "with all policies", "a lease"],
      judged.map(({ measured, note, row }) => {
        const of = (subject: string) => {
          const each = measured.find(({ result }) => result.subject === subject)
          return each === undefined ? "" : (outcome(row, each) ?? "").replace(/,.*/, "")
        }
        const missing = measured.length === 0 ? "NOT held: no answer" : ""
        return [
          row.promised!.text,
          `${row.brief ?? row.about}${note === undefined ? "" : ` (${note})`}`,
          of("sluice") || missing,
          of("sluice full"),
          of("sluice lease")
        ]
      })
    ),
    ""
  ]
}

/** All other rows: a line each, Sluice first, then every peer with its ratio. */
const others = (shown: ReadonlyArray<Shown>): ReadonlyArray<string> => {
  if (shown.length === 0) return []
  return [
    "Each of the others by its ratio first, then its own value:",
    "",
    ...table(
      ["row", "Sluice", "beside it"],
      shown.map(({ measured, row }) => {
        const own = measured.filter(({ result }) => isSluice(result.subject))
        const peers = measured.filter(({ result }) => !isSluice(result.subject))
        const named = (each: Measured) => `${each.result.subject.replace(/^sluice,? /, "")} ${cell(row, each)}`
        return [
          `\`${row.name}\`: ${row.brief ?? row.about}`,
          own
            .map((each) => (own.length === 1 && each.result.subject === "sluice" ? value(row, each) : named(each)))
            .join("; "),
          peers.map(named).join("; ")
        ]
      })
    ),
    ""
  ]
}

export const markdown = (head: string, shown: ReadonlyArray<Shown>): string => {
  const wides = shown.filter(
    ({ measured, row }) => row.promised === undefined && new Set(measured.map(({ result }) => result.fibers)).size > 1
  )
  const rest = shown.filter((each) => each.row.promised === undefined && !wides.includes(each))
  return [
    "<!-- bench -->",
    ...wrap(
      `Measured by \`npm run bench\` on ${head.replace("\n", "; ")}. Medians of alternating rounds. A ratio says how many ` +
        "times better the subject of Sluice in `beside` is, which does the same work; it is the median of the ratios of " +
        "each round. Machines differ and so do hours: read the ratios, and run it yourself.",
      125
    ),
    "",
    "`sluice lease` is a statement's text on a leased session, as with `pg`; `sluice sql` is Effect's `SqlClient` over the same",
    "pool; `sluice` is a report with a deadline, checked parameters, checked rows and metrics; `sluice full` is a report with retry,",
    "breaker, bulkhead and attempt timeout, too, and `pg + cockatiel + schema` is what matches it by hand.",
    "",
    ...promised(shown),
    ...wides.flatMap(wide),
    ...others(rest),
    "<!-- /bench -->",
    ""
  ].join("\n")
}
