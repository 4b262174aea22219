/** A bar that moves on a terminal; elsewhere (a log, a pipe) one plain line for each quarter. */
import * as Effect from "effect/Effect"

export interface Progress {
  /** `done` of `total`, with what to say beside it. */
  readonly at: (done: number, total: number, beside: string) => Effect.Effect<void>
  /** `done` of a total that nobody knows. */
  readonly count: (done: number, beside: string) => Effect.Effect<void>
  /** Leaves the line as it is and goes on to the next. */
  readonly end: Effect.Effect<void>
}

interface Output {
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
  write(text: string): unknown
}

export const progress = (title: string, output: Output = process.stdout): Progress => {
  if (output.isTTY !== true) {
    let quarter = 0
    let millions = 0
    return {
      count: (done, beside) =>
        Effect.sync(() => {
          const reached = Math.floor(done / 1_000_000)
          if (reached <= millions) return
          millions = reached
          output.write(`${title}: ${beside}\n`)
        }),
      at: (done, total, beside) =>
        Effect.sync(() => {
          const reached = Math.floor((4 * done) / total)
          if (reached <= quarter) return
          quarter = reached
          output.write(`${title}: ${25 * quarter} %, ${beside}\n`)
        }),
      end: Effect.void
    }
  }
  let drawn = false
  const draw = (line: string) =>
    Effect.sync(() => {
      output.write(`\r\u001b[2K${line.slice(0, (output.columns ?? 80) - 1)}`)
      drawn = true
    })
  return {
    count: (_, beside) => draw(`${title}  ${beside}`),
    at: (done, total, beside) => {
      const width = 24
      const full = Math.round((width * done) / total)
      return draw(
        `${title} [${"#".repeat(full)}${".".repeat(width - full)}] ${Math.round((100 * done) / total)} %  ${beside}`
      )
    },
    end: Effect.sync(() => {
      if (drawn) output.write("\n")
      drawn = false
    })
  }
}
