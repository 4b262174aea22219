/**
 * `npm run bench`: Sluice beside what one would use otherwise, in one run on one machine, ratios first.
 *
 *     npm run bench -- --list
 *     npm run bench -- --only select --json bench.json
 *     npm run bench -- --only large --quick
 */
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { parseArgs } from "node:util"
import { describe, table } from "../support/machine.ts"
import { runMain } from "../support/main.ts"
import { type Context, measure, type Result, type Row } from "./Row.ts"
import { large } from "./rows/large.ts"
import { pipeline, policies } from "./rows/policies.ts"
import * as pool from "./rows/pool.ts"
import * as topology from "./rows/topology.ts"
import { keys } from "./Subject.ts"

const rows: ReadonlyArray<Row> = [
  pool.select,
  pool.perQuery,
  pool.transaction,
  pool.shared,
  pool.acquire,
  pool.five,
  pool.roundTrips,
  pool.transactionRoundTrips,
  pipeline,
  policies,
  topology.routing,
  topology.snapshot,
  ...large
]

const { values: args } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    json: { type: "string" },
    list: { type: "boolean" },
    quick: { type: "boolean" },
    rounds: { type: "string", default: "5" },
    millis: { type: "string", default: "400" },
    help: { type: "boolean" }
  }
})

const usage = `npm run bench -- [options]
  --list         the rows, and what each measures
  --only NAME    rows whose name begins so; may be given more than once
  --json FILE    the results as an array
  --rounds N     rounds that count, default 5 (one more warms up)
  --millis N     length of a round, default 400
  --quick        short rounds and a tenth of the large result: to see that it runs, not how fast it is`

const chosen = rows.filter((row) => args.only === undefined || args.only.some((name) => row.name.startsWith(name)))

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 })

/** The ratio of Sluice to each peer first, absolutes beside it. A row without a report of Sluice compares its client. */
const show = (results: ReadonlyArray<Result>): string => {
  const mine =
    results.find((each) => each.subject === "sluice") ?? results.find((each) => each.subject.startsWith("sluice"))
  return table([
    ["subject", `${mine?.subject ?? "sluice"} is`, "median", "min", "max"],
    ...results.map((result) => {
      const ratio = mine?.ratio?.[result.subject]
      return [
        result.subject,
        ratio === undefined ? "" : `${ratio.toFixed(2)} x`,
        `${number.format(result.value)} ${result.unit}`,
        number.format(result.min),
        number.format(result.max)
      ]
    })
  ])
}

const program = Effect.gen(function* () {
  const { primary } = yield* PgCluster.make({ settings: { max_connections: 300 } })
  const proxy = yield* FaultProxy.make({ target: primary })
  const [setting] = yield* primary.query("show server_version")
  yield* primary.query("create table items (id int primary key, name text not null, value float8 not null)")
  yield* primary.query(`insert into items select g, 'item ' || g, g / 7.0 from generate_series(1, ${keys}) g`)
  yield* primary.query("vacuum analyze items")
  const context: Context = {
    url: primary.url,
    counted: {
      url: proxy.url(primary.url),
      reset: () => Effect.runPromise(proxy.resetCounters),
      roundTrips: () => Effect.runPromise(Effect.map(proxy.counters, (counters) => counters.roundTrips))
    },
    quick: args.quick === true
  }
  const packages = ["effect", "@effect/sql-pg", "pg", "postgres", "slonik", "kysely"]
  console.log(`${describe(packages, String(setting?.server_version))}\n`)
  const all: Array<Result> = []
  for (const row of chosen) {
    console.log(`${row.name}: ${row.about}`)
    for (const group of row.groups(context)) {
      const results = yield* Effect.promise(() =>
        measure(row, group, {
          rounds: args.quick === true ? 2 : Number(args.rounds),
          millis: args.quick === true ? 50 : Number(args.millis),
          say: (line) => console.log(`  ${line}`)
        })
      )
      all.push(...results)
      console.log(
        `${group.fibers === undefined ? "" : `${group.fibers} ${group.fibers === 1 ? "fiber" : "fibers"}\n`}${show(results)}\n`
      )
    }
  }
  if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(all, null, 2)}\n`)
})

if (args.help === true) console.log(usage)
else if (args.list === true) console.log(rows.map((row) => `${row.name.padEnd(26)}${row.about}`).join("\n"))
else if (chosen.length === 0) {
  console.error(`no row begins with ${args.only?.join(" or ")}; --list names them`)
  process.exitCode = 1
} else runMain(Effect.scoped(program))
