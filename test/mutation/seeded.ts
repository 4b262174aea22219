/**
 * `npm run mutate:seeded`: seeds one bug at a time into a copy of the SDK, and runs the random tests of its part. Every one
 * has to be caught; without a bug all of them have to pass. Prints which test caught which bug, and exits 1 otherwise.
 *
 *     npm run mutate:seeded -- --only breaker
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { argumentsOf, refuse } from "../support/arguments.ts"
import { bugs, tests } from "./bugs.ts"
import { type Ask, type Outcome, Worker } from "./Runner.ts"
import * as Sandbox from "./Sandbox.ts"

const parts = [...new Set(bugs.map(({ part }) => part))].join(", ")

const usage = `npm run mutate:seeded -- [options]
  --only PART  only the bugs of one part: ${parts}
Exits with 1 when a bug is not caught.`

const args = argumentsOf(usage, { only: { type: "string" } })
const wanted = bugs.filter(({ part }) => args.only === undefined || args.only === part)
if (wanted.length === 0) refuse(`no such part (there are ${parts}): ${args.only}`)

/** The random tests of a part: their places and names, asked of a process that has loaded them. */
const run = async (folder: string, part: keyof typeof tests): Promise<string | undefined> => {
  const { files, named } = tests[part]
  const worker = new Worker(
    folder,
    files.map((file) => `test/unit/${file}`)
  )
  try {
    const names = await worker.ask<ReadonlyArray<string>>("names", 60_000)
    const places = names.flatMap((name, place) => (named.test(name) ? [place] : []))
    if (places.length === 0) throw new Error(`no test of ${files.join(", ")} is named like ${named}`)
    const ask: Ask = {
      mutant: -1,
      tests: places,
      patience: places.map(() => 60_000),
      hits: places.map(() => Number.MAX_SAFE_INTEGER)
    }
    const { hung, killedBy } = await worker.ask<Outcome>(ask, 300_000).catch((problem: Error): Outcome => ({
      mutant: -1,
      killedBy: places[0]!,
      hung: problem.message === "timeout"
    }))
    return killedBy === undefined
      ? undefined
      : `${names[killedBy]!.replace(/,? from SLUICE.*/, "")}${hung === true ? " (hung)" : ""}`
  } finally {
    worker.close()
  }
}

const short = (text: string): string => (text.length > 100 ? `${text.slice(0, 97)}...` : text)
const sandbox = Sandbox.make({ realVitest: false })
const rows: Array<ReadonlyArray<string>> = [["part", "bug", "caught by"]]
let missed = 0
try {
  for (const part of new Set(wanted.map((one) => one.by ?? one.part))) {
    const broken = await run(sandbox.folder, part)
    if (broken !== undefined) throw new Error(`without any bug: ${part}: ${broken}`)
  }
  for (const { bug, by, file, from, part, to } of wanted) {
    const text = fs.readFileSync(path.join(Sandbox.sdk, file), "utf8")
    if (text.split(from).length !== 2) throw new Error(`the bug "${bug}" no longer fits ${file}`)
    sandbox.replace(file, text.replace(from, to))
    const caught = await run(sandbox.folder, by ?? part)
    sandbox.replace(file, text)
    if (caught === undefined) missed++
    rows.push([part, bug, caught === undefined ? "NOBODY" : short(caught)])
  }
} finally {
  sandbox.remove()
}
for (const [part, bug, caught] of rows) console.log(`${part!.padEnd(9)} ${bug!.padEnd(60)} ${caught}`)
console.log(`\n${rows.length - 1} bugs, ${rows.length - 1 - missed} caught`)
process.exit(missed > 0 ? 1 : 0)
