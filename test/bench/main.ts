/**
 * `npm run bench`: Sluice beside what one would use otherwise, in one run on one machine, ratios first.
 *
 *     npm run bench -- --list
 *     npm run bench -- --only select --json bench.json
 *     npm run bench -- --only scale --scale 42000000
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { argumentsOf, numberOf, refuse, namesOf } from "../support/arguments.ts"
import { describe } from "../support/machine.ts"
import { runMain } from "../support/main.ts"
import * as Apart from "./Apart.ts"
import { chart } from "./chart.ts"
import { makeContext } from "./Ground.ts"
import { markdown, type Shown } from "./markdown.ts"
import { show } from "./present.ts"
import { measure, type Measured, type Row } from "./Row.ts"
import { rows } from "./rows/index.ts"

const usage = `npm run bench -- [options]
  --list           the rows, and what each measures
  --only NAME      rows whose name begins so; several with commas
  --json FILE      the results as an array
  --markdown FILE  the tables as README.md has them
  --reports DIR    where the picture bench.svg goes, default reports
  --rounds N       rounds that count (one more warms up); default 7, and 3 to 9 for rows that run processes
  --millis N       length of a round, default 250
  --scale N        positions in the tables of the rows scale-*, default 2,000,000
  --quick          short rounds and small tables: to see that it runs, not how fast it is
Exits with 1 when a subject could not be measured.`

const args = argumentsOf(usage, {
  only: { type: "string", multiple: true },
  json: { type: "string" },
  markdown: { type: "string" },
  reports: { type: "string", default: "reports" },
  list: { type: "boolean" },
  quick: { type: "boolean" },
  rounds: { type: "string" },
  millis: { type: "string" },
  scale: { type: "string" }
})

const whole = (name: "rounds" | "millis" | "scale") => numberOf(name, args[name], "a whole number above 0")

const quick = args.quick === true
/** What is given holds for every row; the default only for those that do not say. */
const most = whole("rounds")
const settings = quick
  ? { rounds: 2, most: 2, millis: 50 }
  : { rounds: most ?? 7, most, millis: whole("millis") ?? 250, warmMillis: 1_500 }
const scale = quick ? 50_000 : (whole("scale") ?? 2_000_000)

const only = namesOf(args.only)
const chosen = rows.filter((row) => only === undefined || only.some((name) => row.name.startsWith(name)))

const packages = ["effect", "@effect/sql-pg", "pg", "postgres", "slonik", "kysely", "cockatiel"]

const program = Effect.gen(function* () {
  const leftOut: Array<string> = []
  const shown: Array<Shown> = []
  const node = { plain: [], sdk: [], typescript: process.execArgv }
  const { context, version } = yield* makeContext({ quick, scale, node, say: (line) => console.log(`  ${line}`) })
  const head = describe(packages, version)
  console.log(`${head}\n`)
  /** What there is so far: a long run that is stopped has not been for nothing. */
  const write = () => {
    fs.mkdirSync(args.reports, { recursive: true })
    fs.writeFileSync(`${args.reports}/bench.svg`, chart(head, shown))
    if (args.markdown !== undefined) fs.writeFileSync(args.markdown, markdown(head, shown))
    const results = shown.flatMap(({ measured }) => measured.map(({ result }) => result))
    if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(results, null, 2)}\n`)
  }
  const runRow = Effect.fnUntraced(function* (row: Row) {
    console.log(`${row.name}: ${row.about}${row.promised === undefined ? "" : `\npromised: ${row.promised.text}`}`)
    const all: Array<Measured> = []
    for (const group of row.groups(context)) {
      const told = (line: string) => {
        leftOut.push(line)
        console.log(`  ${line}`)
      }
      const measured = yield* Effect.promise(() => measure(row, group, { ...settings, leftOut: told }))
      all.push(...measured)
      const { fibers } = group
      console.log(
        `${fibers === undefined ? "" : `${fibers} ${fibers === 1 ? "fiber" : "fibers"}\n`}${show(row, measured)}\n`
      )
    }
    const note = row.note?.(context)
    if (note !== undefined) console.log(`${note}\n`)
    shown.push({ row, measured: all, note })
    write()
  })
  yield* Effect.addFinalizer(() => Effect.promise(Apart.close))
  for (const row of chosen) yield* runRow(row)
  console.log(`${chosen.length} rows; ${args.reports}/bench.svg`)
  if (leftOut.length > 0) {
    console.error(`could not be measured:\n  ${leftOut.join("\n  ")}`)
    process.exitCode = 1
  }
})

if (args.list === true) console.log(rows.map((row) => `${row.name.padEnd(26)}${row.about}`).join("\n"))
else if (chosen.length === 0) refuse(`no row begins so (--list names them): ${args.only?.join(", ")}`)
else runMain(Effect.scoped(program))
