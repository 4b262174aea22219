/** One picture per fault: for each subject calls a second, failures, and latency, over the fault's own time. */
import type { Call } from "./harness.ts"

export interface Panel {
  readonly subject: string
  readonly calls: ReadonlyArray<Call>
  /** Milliseconds since the load began. */
  readonly began: number
  readonly healed: number
}

const bucket = 100
const width = 900
const height = 150
const left = 60
const gap = 46

const colors = { ok: "#3b82f6", declared: "#f59e0b", bad: "#dc2626", latency: "#111827", fault: "#fee2e2" }

const escape = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;")

const bar = (x: number, y: number, w: number, h: number, color: string) =>
  h <= 0
    ? ""
    : `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${w.toFixed(1)}" height="${h.toFixed(1)}" fill="${color}"/>`

const panelOf = (panel: Panel, top: number, end: number, most: number, slowest: number): string => {
  const x = (millis: number) => left + (millis / end) * (width - left - 20)
  const buckets = Array.from({ length: Math.ceil(end / bucket) }, () => ({ ok: 0, declared: 0, bad: 0, slowest: 0 }))
  for (const call of panel.calls) {
    const at = buckets[Math.min(buckets.length - 1, Math.floor(call.ended / bucket))]!
    at[call.kind === "ok" ? "ok" : call.kind === "declared" ? "declared" : "bad"]++
    at.slowest = Math.max(at.slowest, call.ended - call.began)
  }
  const scale = height / Math.max(1, most)
  const bars = buckets.map(({ bad, declared, ok }, index) => {
    const w = Math.max(1, x(bucket) - x(0) - 1)
    const at = x(index * bucket)
    const floor = top + height
    return (
      bar(at, floor - ok * scale, w, ok * scale, colors.ok) +
      bar(at, floor - (ok + declared) * scale, w, declared * scale, colors.declared) +
      bar(at, floor - (ok + declared + bad) * scale, w, bad * scale, colors.bad)
    )
  })
  const line = buckets.flatMap(({ slowest: value }, index) =>
    value === 0
      ? []
      : [`${x(index * bucket + bucket / 2).toFixed(1)},${(top + height - (value / slowest) * height).toFixed(1)}`]
  )
  const perSecond = Math.round((most * 1_000) / bucket)
  return [
    bar(x(panel.began), top, Math.max(2, x(panel.healed) - x(panel.began)), height, colors.fault),
    ...bars,
    `<polyline points="${line.join(" ")}" fill="none" stroke="${colors.latency}" stroke-width="1"/>`,
    `<text x="${left}" y="${top - 8}" font-weight="bold">${panel.subject}</text>`,
    `<text x="${left - 6}" y="${top + 10}" text-anchor="end">${perSecond}/s</text>`,
    `<text x="${left - 6}" y="${top + height}" text-anchor="end">0</text>`,
    `<text x="${width - 20}" y="${top - 8}" text-anchor="end">line: slowest call, full height ${Math.round(slowest)} ms</text>`,
    `<line x1="${left}" y1="${top + height}" x2="${width - 20}" y2="${top + height}" stroke="#9ca3af"/>`
  ].join("\n")
}

export const timeline = (title: string, about: string, panels: ReadonlyArray<Panel>): string => {
  const end = Math.max(...panels.flatMap(({ calls, healed }) => [healed + 500, ...calls.map((call) => call.ended)]))
  const most = Math.max(
    ...panels.map(({ calls }) => {
      const counts = new Map<number, number>()
      for (const { ended } of calls)
        counts.set(Math.floor(ended / bucket), (counts.get(Math.floor(ended / bucket)) ?? 0) + 1)
      // A burst of failures must not flatten the rest.
      const sorted = [...counts.values()].toSorted((a, b) => a - b)
      return sorted[Math.floor(sorted.length * 0.98)] ?? 1
    })
  )
  const slowest = Math.max(...panels.flatMap(({ calls }) => calls.map((call) => call.ended - call.began)), 1)
  const total = 60 + panels.length * (height + gap) + 30
  const legend = [
    ["succeeded", colors.ok],
    ["failed as declared", colors.declared],
    ["otherwise, wrong, unanswered", colors.bad],
    ["fault", colors.fault]
  ]
    .map(
      ([name, color], index) =>
        bar(left + index * 210, 40, 10, 10, color!) + `<text x="${left + 15 + index * 210}" y="49">${name}</text>`
    )
    .join("")
  const ticks = Array.from({ length: Math.floor(end / 1_000) + 1 }, (_, second) => {
    const at = left + ((second * 1_000) / end) * (width - left - 20)
    return `<text x="${at.toFixed(1)}" y="${total - 12}" text-anchor="middle">${second} s</text>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" width="${width}" height="${total}" font-family="sans-serif" font-size="11">`,
    `<rect width="${width}" height="${total}" fill="white"/>`,
    `<text x="${left}" y="20" font-size="15" font-weight="bold">${escape(title)}</text>`,
    `<text x="${left}" y="34">${escape(about)}</text>`,
    legend,
    ...panels.map((panel, index) => panelOf(panel, 84 + index * (height + gap), end, most, slowest)),
    ...ticks,
    "</svg>",
    ""
  ].join("\n")
}
