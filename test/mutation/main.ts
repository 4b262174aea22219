/**
 * `npm run mutate`: changes the sources in small ways, one at a time, and asks the unit tests whether they notice.
 *
 *     npm run mutate -- --list
 *     npm run mutate -- --only Breaker --only PgFailure
 *     npm run mutate -- --only pool --survivors        (only those that survived the last time)
 *
 * Results are kept under reports/mutation (not committed), one file for each group. Exits 1 when a mutant survives that
 * `explained.ts` does not explain.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { argumentsOf, refuse } from "../support/arguments.ts"
import { table } from "../support/machine.ts"
import { explained } from "./explained.ts"
import { type Group, groups } from "./modules.ts"
import { instrument, type Mutant } from "./Mutant.ts"
import { type Ask, type Baseline, type Outcome, Worker } from "./Runner.ts"
import * as Sandbox from "./Sandbox.ts"

interface Verdict extends Mutant {
  readonly state: "killed" | "timeout" | "survived" | "explained"
  readonly by?: string | undefined
  readonly tests: number
}

const usage = `npm run mutate -- [options]
  --list       the groups and their files
  --only NAME  a group (failure, policy, pool, router) or a file (Breaker); may be given more than once
  --survivors  only those that survived the last time
  --json FILE  every mutant and what became of it
Exits with 1 when a mutant survives that is not explained.`

const args = argumentsOf(usage, {
  only: { type: "string", multiple: true },
  survivors: { type: "boolean" },
  list: { type: "boolean" },
  json: { type: "string" }
})

const results = path.join(Sandbox.root, "reports/mutation")
const signature = ({ file, kind, original, replacement }: Mutant): string =>
  `${file}|${kind}|${original}|${replacement}`
const oneLine = (text: string): string => {
  const flat = text.replace(/\s+/g, " ")
  return flat.length > 70 ? `${flat.slice(0, 67)}...` : flat
}
const lineOf = ({ file, line }: Mutant): string =>
  fs.readFileSync(path.join(Sandbox.sdk, file), "utf8").split("\n")[line - 1] ?? ""
const reasonOf = (mutant: Mutant): string | undefined =>
  explained.find(
    (one) =>
      one.file === mutant.file &&
      oneLine(mutant.original) === oneLine(one.original) &&
      (one.replacement === undefined || oneLine(mutant.replacement) === oneLine(one.replacement)) &&
      (one.inLine === undefined || lineOf(mutant).includes(one.inLine))
  )?.reason

const wanted = (group: Group): ReadonlyArray<string> =>
  args.only === undefined || args.only.includes(group.name)
    ? group.files
    : group.files.filter((file) => args.only!.some((name) => path.basename(file, ".ts") === name || file === name))

/** So long may a test take under a mutant before it counts as hanging. */
const patience = (millis: number): number => 1_500 + millis * 3

/** Tests that have noticed mutants of a file are asked first. */
const kills = new Map<string, Map<number, number>>()

const tryOne = async (
  mutant: Mutant,
  baseline: Baseline,
  worker: () => Worker,
  fresh: () => Worker
): Promise<Verdict> => {
  const atLoad = baseline.atLoad.includes(mutant.id)
  let known = kills.get(mutant.file)
  if (known === undefined) kills.set(mutant.file, (known = new Map()))
  const rank = (test: number): number => known.get(test) ?? 0
  const covering = baseline.tests
    .filter((test) => atLoad || test.covers.includes(mutant.id))
    .sort((a, b) => rank(b.index) - rank(a.index) || a.millis - b.millis)
  const verdict = (state: Verdict["state"], by?: string): Verdict => ({ ...mutant, state, by, tests: covering.length })
  const spared = (): Verdict => {
    const reason = reasonOf(mutant)
    return reason === undefined ? verdict("survived") : verdict("explained", reason)
  }
  if (covering.length === 0) return spared()
  const each = covering.map((test) => patience(test.millis))
  const hits = covering.map((test) => 200_000 + test.hits * 10)
  const ask: Ask = { mutant: mutant.id, tests: covering.map((test) => test.index), patience: each, hits }
  const askOf = async (worker: Worker): Promise<Verdict> => {
    try {
      // Only a loop that never lets go of the process needs this one.
      const outcome = await worker.ask<Outcome>(ask, 5_000 + each.reduce((sum, one) => sum + one, 0) / 2)
      const { hung, killedBy } = outcome
      if (killedBy === undefined) return spared()
      known.set(killedBy, rank(killedBy) + 1)
      return verdict(hung === true ? "timeout" : "killed", baseline.tests[killedBy]!.name)
    } catch (problem) {
      const hung = (problem as Error).message === "timeout"
      return hung ? verdict("timeout", "the process hung") : verdict("killed", "the process broke")
    }
  }
  const askAlone = async (): Promise<Verdict> => {
    const own = fresh()
    try {
      return await askOf(own)
    } finally {
      own.close()
    }
  }
  if (atLoad) return askAlone()
  const shared = await askOf(worker())
  // What hardly any test meets may be something that is made once in a process, and was made before the mutant came.
  return shared.state === "survived" && covering.length <= 2 ? askAlone() : shared
}

const runGroup = async (group: Group, files: ReadonlyArray<string>): Promise<ReadonlyArray<Verdict>> => {
  const sandbox = Sandbox.make({ realVitest: false })
  const workers = new Set<Worker>()
  try {
    const mutants: Array<Mutant> = []
    for (const file of files) {
      const made = instrument(file, fs.readFileSync(path.join(Sandbox.sdk, file), "utf8"), mutants.length + 1)
      mutants.push(...made.mutants)
      sandbox.replace(file, made.text)
    }
    const tests = group.tests.filter((file) => fs.existsSync(path.join(Sandbox.root, file)))
    const start = (mutant?: number): Worker => {
      const worker = new Worker(sandbox.folder, tests, mutant)
      workers.add(worker)
      return worker
    }
    let worker = start()
    const baseline = await worker.ask<Baseline>("baseline", 300_000)
    const broken = baseline.tests.find((test) => test.problem !== undefined)
    if (broken !== undefined) throw new Error(`without any mutant: ${broken.name}: ${broken.problem}`)
    const kept = path.join(results, `${group.name}.json`)
    const before: ReadonlyArray<Verdict> = fs.existsSync(kept) ? JSON.parse(fs.readFileSync(kept, "utf8")) : []
    // Two places may read the same: where one of them survived, both are tried again.
    const noticed = (one: Verdict): number => Number(one.state === "killed" || one.state === "timeout")
    const spared = new Map([...before].sort((a, b) => noticed(b) - noticed(a)).map((one) => [signature(one), one]))
    const keep = (verdicts: ReadonlyArray<Verdict>): void => {
      const now = new Set(verdicts.map(signature))
      fs.mkdirSync(results, { recursive: true })
      const others = before.filter((one) => !now.has(signature(one)))
      fs.writeFileSync(kept, JSON.stringify([...others, ...verdicts], null, 1))
    }
    const verdicts: Array<Verdict> = []
    let runs = 0
    for (const mutant of mutants) {
      const last = spared.get(signature(mutant))
      if (args.survivors === true && last !== undefined && (last.state === "killed" || last.state === "timeout")) {
        verdicts.push({ ...last, ...mutant })
        continue
      }
      const one = await tryOne(
        mutant,
        baseline,
        () => worker,
        () => start(mutant.id)
      )
      verdicts.push(one)
      if (one.by === "the process broke" || one.by === "the process hung" || ++runs % 150 === 0) {
        worker.close()
        workers.delete(worker)
        worker = start()
      }
      if (verdicts.length % 50 === 0) {
        console.error(`${group.name}: ${verdicts.length} of ${mutants.length}`)
        keep(verdicts)
      }
    }
    keep(verdicts)
    return verdicts
  } finally {
    for (const worker of workers) worker.close()
    sandbox.remove()
  }
}

const count = (verdicts: ReadonlyArray<Verdict>, state: Verdict["state"]): number =>
  verdicts.filter((one) => one.state === state).length

const summary = (name: string, verdicts: ReadonlyArray<Verdict>): ReadonlyArray<string> => {
  const caught = count(verdicts, "killed") + count(verdicts, "timeout")
  const percent = verdicts.length === 0 ? 100 : (100 * caught) / verdicts.length
  return [
    name,
    String(verdicts.length),
    String(count(verdicts, "killed")),
    String(count(verdicts, "timeout")),
    String(count(verdicts, "explained")),
    String(count(verdicts, "survived")),
    `${percent.toFixed(1)} %`
  ]
}

if (groups().every((group) => wanted(group).length === 0)) {
  refuse(`no such group or file (--list names them): ${args.only?.join(", ")}`)
}
const all: Array<Verdict> = []
const rows: Array<ReadonlyArray<string>> = [["module", "mutants", "killed", "hung", "explained", "survived", "score"]]
for (const group of groups()) {
  const files = wanted(group)
  if (files.length === 0) continue
  if (args.list === true) {
    for (const file of files) console.log(`${group.name.padEnd(8)} ${file}`)
    continue
  }
  const verdicts = await runGroup(group, files)
  all.push(...verdicts)
  for (const file of files) {
    const own = verdicts.filter((one) => one.file === file)
    if (own.length > 0) rows.push(summary(file, own))
  }
  rows.push(summary(`${group.name}, all`, verdicts))
  for (const one of verdicts) {
    if (one.state !== "survived") continue
    const covered = one.tests === 0 ? "met by no test" : `${one.tests} tests`
    console.log(
      `${one.file}:${one.line} ${one.kind}: ${oneLine(one.original)}  =>  ${oneLine(one.replacement)}  (${covered})`
    )
  }
}
if (args.list !== true) {
  console.log(`\n${table(rows)}`)
  if (args.json !== undefined) fs.writeFileSync(args.json, JSON.stringify(all, null, 1))
  process.exit(count(all, "survived") > 0 ? 1 : 0)
}
