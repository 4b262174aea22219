/** A large result, collected and streamed: each run in a process of its own, so that its memory is its own. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Context, Row, Unit } from "../Row.ts"
import type { Subject } from "../Subject.ts"
import { driver, sluiceSql } from "../subjects/effects.ts"
import { pgPool } from "../subjects/pg.ts"
import { kysely, postgresJs } from "../subjects/promises.ts"

type Way = "collect" | "stream"

interface Figures {
  readonly rowsPerSecond: number
  readonly peakBytes: number
  readonly stallMillis: number
}

const subjects: Record<Way, ReadonlyArray<Subject>> = {
  collect: [sluiceSql, driver, pgPool, postgresJs, kysely],
  stream: [sluiceSql, driver, pgPool, postgresJs]
}

const self = fileURLToPath(import.meta.url)

const inChild = (subject: string, way: Way, rows: number, url: string): Promise<Figures> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...process.execArgv, self, subject, way, String(rows), url], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    child.stdout.on("data", (chunk) => (output += chunk))
    child.on("error", reject)
    child.on("close", (code) => (code === 0 ? resolve(JSON.parse(output)) : reject(new Error(`ended with ${code}`))))
  })

/** One run gives three figures; the rows of one way share it. */
const runs = new Map<string, Promise<Figures>>()

const row = (way: Way, what: string, about: string, unit: Unit, figure: (figures: Figures) => number): Row => ({
  name: `large-${way}-${what}`,
  about,
  unit,
  rounds: 3,
  warmUp: false,
  groups: ({ quick, url }: Context) => [
    {
      contenders: subjects[way].map(({ name }) => ({
        subject: name,
        open: async () => {
          let round = 0
          return {
            subject: name,
            round: async () => {
              const key = `${way} ${name} ${round++}`
              const run = runs.get(key) ?? inChild(name, way, quick ? 100_000 : 1_000_000, url)
              runs.set(key, run)
              return figure(await run)
            },
            close: async () => {}
          }
        }
      }))
    }
  ]
})

const rowsOf = (way: Way, how: string): ReadonlyArray<Row> => [
  row(way, "rows", `1 million rows of 6 columns ${how}: rows a second`, "op/s", (figures) => figures.rowsPerSecond),
  row(
    way,
    "memory",
    `the same: peak resident memory above what the process had before`,
    "bytes",
    (figures) => figures.peakBytes
  ),
  row(way, "stall", `the same: longest stall of the event loop`, "ms", (figures) => figures.stallMillis)
]

export const large: ReadonlyArray<Row> = [
  ...rowsOf("collect", "collected into an array"),
  ...rowsOf("stream", "streamed, no more than a chunk in memory")
]

const child = async (name: string, way: Way, rows: number, url: string): Promise<Figures> => {
  const querying = await subjects[way].find((subject) => subject.name === name)!.open({ url, pool: 1 })
  const run = querying[way]
  if (run === undefined) throw new Error(`${name} does not ${way}`)
  await run(1_000)
  const before = process.memoryUsage().rss
  let stall = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    stall = Math.max(stall, now - last - 1)
    last = now
  }, 1)
  const began = performance.now()
  const sum = await run(rows)
  const seconds = (performance.now() - began) / 1_000
  clearInterval(timer)
  await querying.close()
  if (sum !== (rows * (rows + 1)) / 4) throw new Error(`wrong sum ${sum}`)
  return {
    rowsPerSecond: rows / seconds,
    peakBytes: Math.max(1, process.resourceUsage().maxRSS * 1_024 - before),
    stallMillis: stall
  }
}

if (process.argv[1] === self) {
  const [, , name, way, rows, url] = process.argv as ReadonlyArray<string>
  console.log(JSON.stringify(await child(name!, way as Way, Number(rows), url!)))
}
