/**
 * The commands of this repository say how they are used, and refuse in one line what they do not know: also on a machine that
 * has none of the programs that some tests need (PgBouncer and the like).
 */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { repository } from "../support/program.ts"

const run = (file: string, args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resolve) => {
    const child = spawn(
      process.execPath,
      ["--conditions=@sluice/source", "--import", import.meta.resolve("tsx"), file, ...args],
      // Nothing of the machine is found: what they say must not depend on it.
      { cwd: repository, env: { ...process.env, PATH: "/nowhere" }, stdio: ["ignore", "pipe", "pipe"] }
    )
    const heard = { stdout: "", stderr: "" }
    child.stdout.on("data", (chunk) => (heard.stdout += String(chunk)))
    child.stderr.on("data", (chunk) => (heard.stderr += String(chunk)))
    child.once("close", (code) => resolve({ code, ...heard }))
  })

const wrong = ["--only", "nothing-like-it"]

/** Some with a value that they refuse. */
const commands: Readonly<Record<string, readonly [file: string, ...refused: ReadonlyArray<ReadonlyArray<string>>]>> = {
  mutate: ["test/mutation/main.ts", wrong],
  "mutate:seeded": ["test/mutation/seeded.ts"],
  drill: ["test/drill/main.ts"],
  soak: ["test/soak/main.ts", ["--minutes", "0"]],
  bench: ["test/bench/main.ts"]
}

describe.concurrent("npm run", () => {
  for (const [name, [file, ...refused]] of Object.entries(commands)) {
    it.concurrent(`${name} -- --help tells its usage`, { timeout: 60_000 }, async () => {
      const { code, stderr, stdout } = await run(file, ["--help"])
      assert.strictEqual(stderr, "")
      assert.strictEqual(code, 0)
      assert.match(stdout, new RegExp(`^npm run ${name} -- \\[options\\]\n`))
    })

    it.concurrent(`${name} refuses what it does not know, in one line`, { timeout: 60_000 }, async () => {
      for (const args of [["--nonsense"], ...refused]) {
        const { code, stderr, stdout } = await run(file, args)
        assert.match(stderr, /^[^\n]+; --help tells what there is\n$/, args.join(" "))
        assert.include(stderr, args.at(-1)!)
        assert.strictEqual(code, 2, args.join(" "))
        assert.strictEqual(stdout, "")
      }
    })
  }
})
