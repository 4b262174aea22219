/** What passed and what failed: a step counts as one test, a suite as its tests. */
import { type SpawnSyncOptions, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"

type Options = Pick<SpawnSyncOptions, "cwd" | "env">

interface SuiteReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly testResults: ReadonlyArray<{
    readonly status: string
    readonly assertionResults: ReadonlyArray<{ readonly status: string }>
  }>
}

/** A file that does not load, an error outside of a test, and a report that is missing are one failure each. */
export const count = (text: string | undefined, exitCode: number | null): readonly [passed: number, failed: number] => {
  let report: SuiteReport = { numPassedTests: 0, numFailedTests: 0, testResults: [] }
  try {
    if (text !== undefined) report = JSON.parse(text)
  } catch {}
  const broken = report.testResults.filter(
    ({ assertionResults, status }) => status === "failed" && !assertionResults.some((each) => each.status === "failed")
  )
  const failed = report.numFailedTests + broken.length
  return [report.numPassedTests, failed === 0 && (exitCode !== 0 || report.numPassedTests === 0) ? 1 : failed]
}

export class Account {
  passed = 0
  failed = 0
  readonly #began = performance.now()
  readonly #folder: string

  /** Reports of suites are written to `folder`. */
  constructor(folder: string) {
    this.#folder = folder
  }

  step(name: string, run: ReadonlyArray<string> | (() => boolean), options: Options = {}): boolean {
    const at = performance.now()
    console.log(`\n== ${name}`)
    const ok = typeof run === "function" ? run() : execute(run, options) === 0
    if (ok) this.passed++
    else this.failed++
    console.log(`== ${name}: ${ok ? "ok" : "FAILED"}, ${seconds(at)} s`)
    return ok
  }

  /** The README's test command. */
  suite(name: string, options: Options & { readonly args?: ReadonlyArray<string> } = {}): void {
    console.log(`\n== suite on ${name}`)
    const file = path.join(this.#folder, `${name}.json`)
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`]
    const exitCode = execute(["npm", "test", "--", ...reporters, ...(options.args ?? [])], options)
    const [passed, failed] = count(fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined, exitCode)
    this.passed += passed
    this.failed += failed
    console.log(`== suite on ${name}: ${passed} passed, ${failed} failed, ${seconds(this.#began)} s since the start`)
  }
}

const seconds = (since: number) => Math.round((performance.now() - since) / 1000)

/** Its output goes where ours goes. */
export const execute = ([command, ...args]: ReadonlyArray<string>, options: Options = {}): number | null =>
  spawnSync(command!, args, { stdio: "inherit", ...options }).status
