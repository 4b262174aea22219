/** Values for people. */
import { table } from "../support/machine.ts"
import { isSluice, type Measured, type Promised, type Row, type Unit } from "./Row.ts"

const number = (digits: number) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits })

const scales: Record<"time" | "bytes", ReadonlyArray<readonly [factor: number, name: string]>> = {
  time: [
    [1e9, "s"],
    [1e6, "ms"],
    [1e3, "µs"],
    [1, "ns"]
  ],
  bytes: [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
    [1, "B"]
  ]
}

const scaled = (kind: "time" | "bytes", value: number, digits: number) => {
  const [factor, name] = scales[kind].find(([each]) => value >= each) ?? scales[kind].at(-1)!
  return `${number(digits).format(value / factor)} ${name}`
}

/** A value in a unit that suits its size. */
export const readable = (unit: Unit, value: number, digits = 3): string => {
  switch (unit) {
    case "op/s":
      return `${number(digits).format(value)}/s`
    case "ns/op":
      return scaled("time", value, digits)
    case "ms":
      return scaled("time", value * 1e6, digits)
    case "bytes":
      return scaled("bytes", value, digits)
    case "round trips":
      return number(digits).format(value)
  }
}

export const times = (ratio: number): string =>
  `${ratio >= 100 ? ratio.toFixed(0) : ratio < 0.1 ? ratio.toPrecision(2) : ratio.toPrecision(3)} x`

export const verdict = (ratio: number): string => (ratio >= 1 ? "held" : "NOT held")

const limitOf = (promised: Promised) => ("atMost" in promised ? `at most ${promised.atMost} ms` : `${promised.times} x`)

/** What a promise came to: `0.19 ms of 0.21 ms`. */
export const outcome = (row: Row, { result }: Measured): string | undefined => {
  const { promised } = row
  const ratio = result.ratio?.["promise"]
  if (promised === undefined || ratio === undefined) return undefined
  const what = "atMost" in promised ? readable(row.unit, result.value) : times(result.ratio![promised.than]!)
  return `${verdict(ratio)}: ${what}, ${limitOf(promised)} promised`
}

/** The ratio of the like subject of Sluice to each peer first, absolutes beside it. */
export const show = (row: Row, measured: ReadonlyArray<Measured>): string => {
  const judged = row.promised !== undefined
  return table([
    ["subject", "median", "min", "max", "Sluice is", "spread", "compared with", ...(judged ? ["promise"] : [])],
    ...measured.map((each) => {
      const { result, sluice } = each
      return [
        result.subject,
        readable(row.unit, result.value, 4),
        readable(row.unit, result.min),
        readable(row.unit, result.max),
        sluice === undefined ? "" : times(sluice.ratio),
        sluice === undefined || (sluice.min === sluice.max && sluice.min === sluice.ratio)
          ? ""
          : `${sluice.min.toPrecision(3)} - ${sluice.max.toPrecision(3)}`,
        sluice?.subject ?? "",
        ...(judged ? [isSluice(result.subject) ? (outcome(row, each) ?? "") : ""] : [])
      ]
    })
  ])
}

/** Lines of at most so many characters. */
export const wrap = (content: string, most: number): ReadonlyArray<string> => {
  const lines: Array<string> = [""]
  for (const word of content.split(" ")) {
    const last = lines.length - 1
    if (lines[last]!.length + word.length + 1 > most && lines[last] !== "") lines.push(word)
    else lines[last] = lines[last] === "" ? word : `${lines[last]} ${word}`
  }
  return lines
}
