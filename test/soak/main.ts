/**
 * `npm run soak`: mixed work through Sluice in bad weather, with an account of every call, every write and every leftover.
 *
 *     npm run soak -- --minutes 20 --json soak.json
 *     npm run soak -- --seed 7
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { PgBinaries } from "@sluice/sdk/testing"
import { argumentsOf, numberOf } from "../support/arguments.ts"
import { describe } from "../support/machine.ts"
import { runMain } from "../support/main.ts"
import { broken, heapGrowth, soak } from "./soak.ts"

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`

const usage = `npm run soak -- [options]
  --minutes N   how long, default 2
  --seed N      repeats the order of work and weather
  --workers N   callers, default 24
  --json FILE   the result
Exits with 1 when something is lost, doubled, wrong, late or leaked, or when the heap grew by more than ${mebibytes(heapGrowth)}.`

const args = argumentsOf(usage, {
  minutes: { type: "string" },
  seed: { type: "string" },
  workers: { type: "string" },
  json: { type: "string" }
})

const minutes = numberOf("minutes", args.minutes, "a number above 0") ?? 2
const workers = numberOf("workers", args.workers, "a whole number above 0") ?? 24
const seed = numberOf("seed", args.seed, "a whole number") ?? Math.floor(Math.random() * 2 ** 31)

const program = Effect.gen(function* () {
  const { version } = yield* PgBinaries.find()
  console.log(
    `${describe(["effect", "@effect/sql-pg"], version)}\nseed ${seed}; ${minutes} minutes, ${workers} workers\n`
  )
  const { account, faults, longestAbsence, missed, result } = yield* soak({
    minutes,
    seed,
    workers,
    pool: 10,
    tell: (line) => console.log(line)
  })
  if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(result, null, 2)}\n`)
  console.log("")
  for (const [ending, count] of [...account.endings].toSorted(([a], [b]) => a.localeCompare(b))) {
    console.log(`${String(count).padStart(8)}  ${ending}`)
  }
  console.log(`\nfaults: ${[...faults].map(([name, count]) => `${count} x ${name}`).join(", ")}; ${missed} missed`)
  console.log(`${account.appliedUnknown} of ${account.unknown} writes of unknown outcome were applied`)
  console.log(`this process was away for up to ${Math.round(longestAbsence)} ms`)
  console.log(`heap ${mebibytes(result.heapStart)}, at the end ${mebibytes(result.heapEnd)}\n`)
  console.log(JSON.stringify(result, null, 2))
  for (const problem of account.problems) console.log(`PROBLEM ${problem}`)
  const found = broken(result)
  console.log(found.length === 0 ? "kept" : `BROKEN: ${found.join(", ")}; seed ${seed}`)
  if (found.length > 0) process.exitCode = 1
})

runMain(program)
