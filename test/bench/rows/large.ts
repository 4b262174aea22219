/** A large result, collected and streamed: each run in a process of its own, so that its memory is its own. */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { fileURLToPath } from "node:url"
import { inChild } from "../Child.ts"
import { collectGarbage, figures, type Row } from "../Row.ts"
import type { Subject } from "../Subject.ts"
import { driver, sluiceSql } from "../subjects/effects.ts"
import { pgPool } from "../subjects/pg.ts"
import { pgWideSchema, sluiceWide } from "../subjects/wide.ts"
import { kysely, postgresJs } from "../subjects/promises.ts"

type Way = "collect" | "stream"

interface Figures extends Record<"rowsPerSecond" | "residentBytes" | "heapBytes" | "stallMillis", number> {}

const subjects: Record<Way, ReadonlyArray<Subject>> = {
  collect: [sluiceWide, pgWideSchema, sluiceSql, driver, pgPool, postgresJs, kysely],
  stream: [sluiceWide, pgWideSchema, sluiceSql, driver, pgPool, postgresJs]
}

const self = fileURLToPath(import.meta.url)

const rowsOf = (way: Way, how: string): ReadonlyArray<Row> =>
  figures({
    rounds: 3,
    warmUp: false,
    subjects: subjects[way].map(({ beside, name }) => ({
      subject: name,
      beside: beside === "sluice lease" ? "sluice sql" : beside,
      // When it only has to run, one process shows that processes run.
      run: ({ node, quick, url }) =>
        quick && name !== "sluice"
          ? measure(name, way, 20_000, url)
          : inChild<Figures>([...node.typescript, self, name, way, quick ? "20000" : "1000000", url])
    })),
    rows: [
      {
        name: `large-${way}-rows`,
        about: `1 million rows of 6 columns ${how}, checked by a report and by hand (schema), or as the client gives them; a process per run: rows a second`,
        brief: `1 million rows, ${way}ed`,
        unit: "op/s",
        figure: "rowsPerSecond"
      },
      {
        name: `large-${way}-memory`,
        about: "the same: peak resident memory (RSS) above what the process had before, at least 1 MB",
        brief: "the same: peak resident memory",
        unit: "bytes",
        figure: "residentBytes"
      },
      {
        name: `large-${way}-heap`,
        about:
          "the same: most heap and buffers in use (garbage included), sampled every 5 ms, above what was before, at least 1 MB",
        brief: "the same: most heap in use",
        unit: "bytes",
        figure: "heapBytes"
      },
      {
        name: `large-${way}-stall`,
        about: "the same: longest stall of the event loop (monitorEventLoopDelay)",
        brief: "the same: longest stall of the event loop",
        unit: "ms",
        figure: "stallMillis"
      }
    ]
  })

export const large: ReadonlyArray<Row> = [
  ...rowsOf("collect", "collected into an array"),
  ...rowsOf("stream", "streamed, no more than a chunk in memory")
]

const inUse = () => {
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

const measure = async (name: string, way: Way, rows: number, url: string): Promise<Figures> => {
  const querying = await subjects[way].find((subject) => subject.name === name)!.open({ url, pool: 1 })
  const run = querying[way]
  if (run === undefined) throw new Error(`${name} does not ${way}`)
  await run(1_000)
  collectGarbage()
  const resident = process.memoryUsage.rss()
  const used = inUse()
  let most = used
  const sampling = setInterval(() => (most = Math.max(most, inUse())), 5)
  const resolution = 1
  const delay = monitorEventLoopDelay({ resolution })
  delay.enable()
  const began = performance.now()
  const sum = await run(rows)
  const seconds = (performance.now() - began) / 1_000
  most = Math.max(most, inUse())
  // The last stall is only counted when the loop has turned once more.
  await new Promise((resolve) => setTimeout(resolve, 5 * resolution))
  delay.disable()
  clearInterval(sampling)
  await querying.close()
  if (sum !== (rows * (rows + 1)) / 4) throw new Error(`wrong sum ${sum}`)
  return {
    rowsPerSecond: rows / seconds,
    residentBytes: Math.max(1e6, process.resourceUsage().maxRSS * 1_024 - resident),
    heapBytes: Math.max(1e6, most - used),
    stallMillis: Math.max(0.001, delay.max / 1e6 - resolution)
  }
}

if (process.argv[1] === self) {
  const [, , name, way, rows, url] = process.argv as ReadonlyArray<string>
  console.log(JSON.stringify(await measure(name!, way as Way, Number(rows), url!)))
}
