/**
 * `npm run drill`: each fault against real servers, under load, on Sluice and on what one would use otherwise.
 *
 *     npm run drill -- --list
 *     npm run drill -- --only freeze --json drill.json
 *     npm run drill -- --only restart-fast --subject sluice --seed 7
 */
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { argumentsOf, numberOf, refuse, namesOf } from "../support/arguments.ts"
import { describe, table } from "../support/machine.ts"
import { runMain } from "../support/main.ts"
import { bounds } from "./bounds.ts"
import { describeLines, drillFailures, failures } from "./failures.ts"
import { drillTopology, topologyFaults } from "./faults-topology.ts"
import { faults } from "./faults.ts"
import type { Line } from "../support/failures/observe.ts"
import { type DrillResult, zeros } from "./harness.ts"
import { cells, markdown, readme, titles } from "./markdown.ts"
import { drillOverload, overload } from "./overload.ts"
import { drill, prepare } from "./run.ts"
import { generator } from "./seeded.ts"
import { subjects } from "./subjects.ts"
import { type Panel, timeline } from "./timeline.ts"

const usage = `npm run drill -- [options]
  --list           the faults, and what is done
  --only NAME      faults whose name begins so; several with commas
  --subject NAME   sluice, driver or pg; may be given more than once; default all
  --json FILE      the results as an array
  --seed N         repeats the load of a run
  --reports DIR    where drill.md, drill-readme.md (the block in README) and a picture per fault go, default reports
Exits with 1 when Sluice is not zero in: ${zeros.join(", ")}.`

const args = argumentsOf(usage, {
  only: { type: "string", multiple: true },
  subject: { type: "string", multiple: true },
  json: { type: "string" },
  list: { type: "boolean" },
  seed: { type: "string" },
  reports: { type: "string", default: "reports" }
})

const only = namesOf(args.only)
const isChosen = ({ name }: { readonly name: string }) =>
  only === undefined || only.some((begin) => name.startsWith(begin))
const chosen = faults.filter(isChosen)
const drilled = subjects.filter(({ name }) => args.subject === undefined || args.subject.includes(name))
const all = [...faults, overload, ...topologyFaults, ...bounds, ...failures]
const isSluice = drilled.some(({ name }) => name === "sluice")
// Only Sluice takes a list of servers.
const chosenClusters = isSluice ? topologyFaults.filter(isChosen) : []
const chosenBounds = isSluice ? bounds.filter(isChosen) : []
const chosenFailures = isSluice ? failures.filter(isChosen) : []
const isOverload = isChosen(overload)
const chosenRows =
  chosen.length + chosenClusters.length + chosenBounds.length + chosenFailures.length + Number(isOverload)
const seed = numberOf("seed", args.seed, "a whole number") ?? Math.floor(Math.random() * 2 ** 31)

const program = Effect.gen(function* () {
  const cluster = yield* PgCluster.make({ auth: "scram-sha-256", settings: { max_connections: 100 } })
  const [setting] = yield* cluster.primary.query("show server_version")
  const head =
    `${describe(["effect", "@effect/sql-pg", "pg"], String(setting?.server_version))}\n` +
    `seed ${seed}; 20 workers on a pool of 10, deadline 1500 ms; late: more than 50 ms beyond it`
  console.log(`${head}\n`)
  const ground = yield* prepare(cluster)
  const results: Array<DrillResult> = []
  fs.mkdirSync(args.reports, { recursive: true })
  const abouts = new Map(all.map(({ about, name }) => [name, about]))
  const seen = new Map<string, ReadonlyArray<Line>>()
  const keep = () => {
    fs.writeFileSync(`${args.reports}/drill.md`, markdown(head, results))
    fs.writeFileSync(`${args.reports}/drill-readme.md`, readme({ head, abouts, failures: seen }, results))
    if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(results, null, 2)}\n`)
  }
  const show = (
    fault: { readonly name: string; readonly about: string },
    lines: ReadonlyArray<DrillResult>,
    panels: ReadonlyArray<Panel>
  ) => {
    results.push(...lines)
    keep()
    console.log(table([["", ...titles], ...lines.map((result) => [result.subject, ...cells(result)])]))
    for (const { note, subject } of lines) if (note !== undefined) console.log(`${subject}: ${note}`)
    console.log("")
    if (panels.length > 0)
      fs.writeFileSync(`${args.reports}/drill-${fault.name}.svg`, timeline(fault.name, fault.about, panels))
  }
  for (const fault of chosen) {
    console.log(`${fault.name}: ${fault.about}`)
    const panels: Array<Panel> = []
    const lines: Array<DrillResult> = []
    if (fault.unavailable !== undefined) {
      console.log(`skipped: ${fault.unavailable}\n`)
      continue
    }
    for (const subject of drilled) {
      if (fault.subjects !== undefined && !fault.subjects.includes(subject.name)) continue
      const { panel, result } = yield* drill(ground, fault, subject, {
        workers: 20,
        pool: 10,
        deadline: 1_500,
        before: 1_000,
        after: 4_000,
        random: generator(seed)
      })
      panels.push(panel)
      lines.push(result)
    }
    if (lines.length > 0) show(fault, lines, panels)
  }
  if (isOverload) {
    console.log(`${overload.name}: ${overload.about}`)
    const each = yield* Effect.forEach(drilled, (subject) =>
      drillOverload(ground, subject, {
        workers: 0,
        pool: 4,
        deadline: 1_500,
        before: 1_000,
        after: 4_000,
        random: generator(seed)
      })
    )
    show(
      overload,
      each.map(({ result }) => result),
      each.map(({ panel }) => panel)
    )
  }
  for (const fault of chosenClusters) {
    console.log(`${fault.name}: ${fault.about}`)
    const settings = { workers: 40, pool: 20, deadline: 1_500, before: 1_500, after: 4_000, random: generator(seed) }
    const { panel, result } = yield* drillTopology(fault, settings)
    show(fault, [result], [panel])
  }
  for (const bound of chosenBounds) {
    console.log(`${bound.name}: ${bound.about}`)
    const result = yield* bound.measure({ cluster, random: generator(seed) })
    show(bound, [result], [])
  }
  if (chosenFailures.length > 0) {
    yield* drillFailures(isChosen, (scene, lines, result) =>
      Effect.sync(() => {
        console.log(`${scene.name}: ${scene.about}\n${lines.length === 0 ? result.note : describeLines(lines)}\n`)
        results.push(result)
        seen.set(scene.name, lines)
        keep()
      })
    )
  }
  const broken = results.filter((result) => result.subject === "sluice" && zeros.some((field) => result[field] !== 0))
  for (const result of broken) {
    const fields = zeros.filter((field) => result[field] !== 0).map((field) => `${field} ${result[field]}`)
    console.log(`BROKEN ${result.fault}: ${fields.join(", ")}`)
  }
  for (const result of results) {
    if (result.subject === "sluice" && result.recoveryMs === null) console.log(`NOT RECOVERED ${result.fault}`)
  }
  console.log(`${results.length} drills; seed ${seed}; ${args.reports}/drill.md`)
  if (broken.length > 0) process.exitCode = 1
})

if (args.list === true) console.log(all.map(({ about, name }) => `${name.padEnd(31)}${about}`).join("\n"))
else if (drilled.length === 0) refuse(`no such subject: ${args.subject?.join(", ")}`)
else if (chosenRows === 0) refuse(`no such fault (--list names them): ${args.only?.join(", ")}`)
else runMain(Effect.scoped(program))
