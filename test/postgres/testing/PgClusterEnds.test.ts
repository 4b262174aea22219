import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { expectEventually } from "../../support/expectEventually.ts"
import { canBeNobody, nobody, runProgram } from "../../support/program.ts"

/** Processes that name the cluster's directory in their arguments or title, or carry it in their environment. */
const leftOvers = (root: string): ReadonlyArray<string> => {
  const mark = path.basename(root)
  if (!fs.existsSync("/proc/self/cmdline")) {
    const { stdout } = spawnSync("ps", ["-axo", "command="], { encoding: "utf8" })
    return stdout.split("\n").filter((line) => line.includes(mark))
  }
  const read = (file: string) => {
    try {
      return fs.readFileSync(file, "latin1")
    } catch {
      return ""
    }
  }
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const line = read(`/proc/${pid}/cmdline`)
      return `${line}\n${read(`/proc/${pid}/environ`)}`.includes(mark) ? [`${pid} ${line}`] : []
    })
}

const nothingIsLeft = (root: string) =>
  Effect.gen(function* () {
    yield* expectEventually(
      Effect.sync(() => leftOvers(root)),
      (lines) => lines.length === 0
    )
    yield* expectEventually(
      Effect.sync(() => fs.existsSync(root)),
      (exists) => !exists
    )
  })

/** Starts a program with a cluster, checks that the cluster is there, ends the program, checks that nothing is. */
const ends = (how: string, signal?: NodeJS.Signals) =>
  Effect.gen(function* () {
    const { child, firstLine, ended } = runProgram("doomed", [how])
    const root = yield* Effect.promise(() => firstLine)
    if (signal !== undefined) {
      assert.isTrue(fs.existsSync(root))
      assert.isNotEmpty(leftOvers(root))
      child.kill(signal)
    }
    const { stderr } = yield* Effect.promise(() => ended)
    if (how === "throw") assert.include(stderr, "as announced")
    yield* nothingIsLeft(root)
  })

describe("when Node ends, nothing of its clusters is left", () => {
  it.live("by SIGKILL, with a restarted primary, an orphaned busy backend and a frozen replica", () =>
    ends("in the worst state", "SIGKILL")
  )

  it.live("by SIGINT, SIGTERM, a throw and process.exit", () =>
    Effect.all([ends("wait", "SIGINT"), ends("wait", "SIGTERM"), ends("throw"), ends("exit")], { concurrency: 2 })
  )
})

describe("an ordinary user", () => {
  // As an ordinary user, every other test of this folder shows it.
  it.live.runIf(canBeNobody)("may do everything that root may", () =>
    Effect.gen(function* () {
      const { firstLine, ended } = runProgram("ordinary", [], nobody)
      const seen = JSON.parse(yield* Effect.promise(() => firstLine)) as Record<string, unknown>
      assert.strictEqual(seen["uid"], nobody.uid)
      assert.isNull(seen["user"])
      assert.deepStrictEqual(seen["rows"], [{ id: 1 }])
      assert.strictEqual((yield* Effect.promise(() => ended)).code, 0)
    })
  )
})
