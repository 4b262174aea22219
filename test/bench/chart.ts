/** One picture of a run: a card for each group, a bar for each subject, the longer the better or worse as it says. */
import type { Shown } from "./markdown.ts"
import { outcome, readable, times, wrap } from "./present.ts"
import { isSluice, type Measured, type Row } from "./Row.ts"

const card = { width: 600, gap: 24, padding: 20, bar: 15, step: 24, labels: 172, values: 150 }
const columns = 2
const width = columns * card.width + (columns + 1) * card.gap

const colors = {
  paper: "#f4f5f7",
  card: "#ffffff",
  edge: "#e2e5ea",
  ink: "#1c2430",
  soft: "#5f6b7a",
  faint: "#eef0f3",
  held: "#15803d",
  broken: "#b91c1c"
}

/** One colour a client, in every card; what builds on it has the same. Sluice's are of one family. */
const palette: ReadonlyArray<readonly [RegExp, string]> = [
  [/^sluice full/, "#1e3a8a"],
  [/^sluice (sql|lease|shared lease)/, "#7ba4f5"],
  [/^sluice/, "#2f6bed"],
  [/^driver|^schema by hand|^opossum/, "#8b5cf6"],
  [/^connection per query/, "#991b1b"],
  [/^pg \+ cockatiel|^cockatiel/, "#c2570c"],
  [/^pg/, "#f59e0b"],
  [/^postgres/, "#0d9488"],
  [/^slonik|^zod/, "#db4d8a"],
  [/^kysely/, "#65a30d"]
]

const colorOf = (subject: string) => palette.find(([pattern]) => pattern.test(subject))?.[1] ?? "#94a3b8"

const escape = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")

const text = (x: number, y: number, content: string, attributes = "") =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escape(content)}</text>`

const rect = (x: number, y: number, w: number, h: number, attributes: string) =>
  `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${w.toFixed(1)}" height="${h.toFixed(1)}" ${attributes}/>`

interface Card {
  readonly height: number
  readonly draw: (x: number, y: number) => string
}

const cardOf = (row: Row, measured: ReadonlyArray<Measured>, title: string, about: ReadonlyArray<string>): Card => {
  const head = about.flatMap((each) => wrap(each, 88))
  const top = 34 + head.length * 15 + 12
  const height = top + measured.length * card.step + card.padding - 8
  // A few that are far beyond the rest must not flatten it: they are cut, and say so.
  const sorted = measured.map(({ result }) => result.value).toSorted((a, b) => a - b)
  const limit = row.promised !== undefined && "atMost" in row.promised ? row.promised.atMost : undefined
  const cap = Math.max(Math.min(sorted.at(-1)!, 6 * sorted[sorted.length >> 1]!), (limit ?? 0) * 1.25)
  const labels = Math.max(card.labels, ...measured.map(({ result }) => result.subject.length * 7.1 + 10))
  const room = card.width - 2 * card.padding - labels - card.values
  const draw = (x: number, y: number) => {
    const zero = x + card.padding + labels
    const at = (value: number) => (Math.min(value, cap) / cap) * room
    const direction = row.unit === "op/s" ? "more is better" : "less is better"
    return [
      rect(x, y, card.width, height, `rx="10" fill="${colors.card}" stroke="${colors.edge}"`),
      text(x + card.padding, y + 30, title, `font-size="15" font-weight="600" fill="${colors.ink}"`),
      text(x + card.width - card.padding, y + 30, direction, `text-anchor="end" font-size="11" fill="${colors.soft}"`),
      ...head.map((each, index) =>
        text(x + card.padding, y + 49 + index * 15, each, `font-size="11.5" fill="${colors.soft}"`)
      ),
      ...measured.flatMap((each, index) => {
        const { result, sluice } = each
        const mid = y + top + index * card.step
        const base = mid + card.bar - 3.5
        const bold = isSluice(result.subject) ? 'font-weight="600"' : ""
        const cut = result.value > cap
        const ratio = result.ratio?.["promise"]
        const judged = isSluice(result.subject) ? outcome(row, each) : undefined
        const remark = judged?.replace(/:.*/, "") ?? (sluice === undefined ? "" : times(sluice.ratio))
        const tint = judged === undefined ? colors.soft : ratio! >= 1 ? colors.held : colors.broken
        return [
          text(zero - 10, base, result.subject, `text-anchor="end" font-size="12" ${bold} fill="${colors.ink}"`),
          rect(zero, mid, room, card.bar, `rx="3" fill="${colors.faint}"`),
          rect(zero, mid, Math.max(2, at(result.value)), card.bar, `rx="3" fill="${colorOf(result.subject)}"`),
          cut
            ? text(zero + room - 6, base, "…", `text-anchor="end" font-size="13" font-weight="700" fill="#ffffff"`)
            : result.min === result.max
              ? ""
              : `<path d="M${(zero + at(result.min)).toFixed(1)} ${mid + card.bar / 2}H${(zero + at(result.max)).toFixed(1)}" stroke="${colors.ink}" stroke-opacity="0.55" stroke-width="1.5"/>`,
          text(
            zero + room + 78,
            base,
            readable(row.unit, result.value),
            `text-anchor="end" font-size="12" ${bold} fill="${colors.ink}"`
          ),
          text(zero + room + card.values, base, remark, `text-anchor="end" font-size="12" fill="${tint}"`)
        ]
      }),
      limit === undefined
        ? ""
        : `<path d="M${(zero + at(limit)).toFixed(1)} ${y + top - 4}v${measured.length * card.step}" stroke="${colors.broken}" stroke-width="1.5" stroke-dasharray="4 3"/>`
    ].join("\n")
  }
  return { height, draw }
}

const cardsOf = ({ measured, note, row }: Shown): ReadonlyArray<Card> => {
  const groups = new Map<number | undefined, Array<Measured>>()
  for (const each of measured) {
    const { fibers } = each.result
    groups.set(fibers, [...(groups.get(fibers) ?? []), each])
  }
  const about = [
    ...(row.promised === undefined ? [] : [`Promised: ${row.promised.text}.`]),
    note === undefined ? row.about : `${row.about}; ${note}`
  ]
  return [...groups].map(([fibers, each], index) => {
    const wide =
      fibers === undefined || groups.size === 1
        ? ""
        : `, ${fibers.toLocaleString("en")} fiber${fibers === 1 ? "" : "s"}`
    return cardOf(row, each, `${row.name}${wide}`, index === 0 ? about : ["the same"])
  })
}

export const chart = (head: string, shown: ReadonlyArray<Shown>): string => {
  const lines = head.split("\n").flatMap((each) => wrap(each, 170))
  const start = 78 + lines.length * 17
  const heights = Array.from({ length: columns }, () => start)
  const drawn = shown.flatMap(cardsOf).map(({ draw, height }) => {
    // To the left unless that is clearly the longer one: rows stay in their order.
    const column = heights[0]! <= heights[1]! + 40 ? 0 : 1
    const y = heights[column]!
    heights[column] = y + height + card.gap
    return draw(card.gap + column * (card.width + card.gap), y)
  })
  const total = Math.max(...heights)
  const explained =
    "Bar: median of the rounds; line: lowest to highest; dashed: what was promised. Beside each peer: how many times better the subject of Sluice is that does the same work."
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" width="${width}" height="${total}" font-family="'Inter', 'Segoe UI', 'DejaVu Sans', 'Helvetica', sans-serif">`,
    rect(0, 0, width, total, `fill="${colors.paper}"`),
    text(card.gap, 42, "Sluice beside its peers", `font-size="24" font-weight="700" fill="${colors.ink}"`),
    ...[explained, ...lines].map((each, index) =>
      text(card.gap, 66 + index * 17, each, `font-size="12" fill="${colors.soft}"`)
    ),
    ...drawn,
    "</svg>",
    ""
  ].join("\n")
}
