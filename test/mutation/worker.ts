/**
 * Runs inside a sandbox, asked by Runner.ts: loads the tests once, then runs those that it is told to under the mutant
 * that it is told. A mutant that hangs or breaks the process takes only this process along.
 */
import { AsyncLocalStorage } from "node:async_hooks"
import { pathToFileURL } from "node:url"
import type { Ask, Baseline, Outcome } from "./Runner.ts"
import { tests } from "./shim.ts"

let active = -1
let covered: Set<number> | undefined = new Set()
/** Tells which test a late failure belongs to. */
const current = new AsyncLocalStorage<number>()
let turn = 0
/** Switches passed in the test that is running. A loop that never ends passes them for ever, and lets nobody else run. */
let hits = 0
let most = Infinity
let failed: ((reason: unknown) => void) | undefined

Object.assign(globalThis, {
  $m: (id: number): boolean => {
    covered?.add(id)
    if (++hits > most) throw new Error("endless")
    return id === active
  }
})

let loaded = false
const onStray = (reason: unknown): void => {
  if (!loaded) {
    process.stderr.write(reason instanceof Error ? `${reason.stack}` : String(reason))
    process.exit(1)
  }
  if (current.getStore() === turn) failed?.(reason)
}
process.on("uncaughtException", onStray)
process.on("unhandledRejection", onStray)

const runOne = (index: number): Promise<void> => {
  turn++
  hits = 0
  const stray = new Promise<never>((_, reject) => (failed = reject))
  stray.catch(() => {})
  return current.run(turn, () => Promise.race([tests[index]!.run(), stray]))
}

const baseline = async (): Promise<Baseline> => {
  const atLoad = [...covered!]
  const told: Array<Baseline["tests"][number]> = []
  for (let index = 0; index < tests.length; index++) {
    covered = new Set()
    const start = performance.now()
    let problem: string | undefined
    await runOne(index).catch((reason: unknown) => {
      problem = reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)
    })
    told.push({
      index,
      name: tests[index]!.name,
      millis: performance.now() - start,
      covers: [...covered],
      hits,
      ...(problem !== undefined && { problem })
    })
  }
  covered = undefined
  return { atLoad, tests: told }
}

const run = async (ask: Ask): Promise<Outcome> => {
  covered = undefined
  active = ask.mutant
  for (const [place, index] of ask.tests.entries()) {
    let timer: NodeJS.Timeout | undefined
    try {
      most = ask.hits[place]!
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error("late")), ask.patience[place]!)
      })
      await Promise.race([runOne(index), late])
    } catch (reason) {
      active = -1
      const hung = hits > most || (reason instanceof Error && reason.message === "late")
      return { mutant: ask.mutant, killedBy: index, hung }
    } finally {
      most = Infinity
      clearTimeout(timer)
    }
  }
  active = -1
  return { mutant: ask.mutant }
}

/** A mutant of what runs when the module is loaded has to be there from the start. */
const fromTheStart = process.env["SLUICE_MUTANT"]
if (fromTheStart !== undefined) active = Number(fromTheStart)

const files = JSON.parse(process.env["SLUICE_MUTANT_TESTS"]!) as ReadonlyArray<string>
for (const file of files) await import(pathToFileURL(file).href)

loaded = true
process.on("disconnect", () => process.exit(0))
process.on("message", (ask: Ask | "baseline" | "names") => {
  const answer: Promise<unknown> =
    ask === "baseline" ? baseline() : ask === "names" ? Promise.resolve(tests.map(({ name }) => name)) : run(ask)
  void answer.then((told) => process.send!(told))
})
process.send!("loaded")
