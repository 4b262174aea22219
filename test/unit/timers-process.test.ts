/** What timers keep alive. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as path from "node:path"
import { promisify } from "node:util"

describe("a process", () => {
  const run = (body: string) =>
    promisify(execFile)(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", body], {
      cwd: path.resolve(import.meta.dirname, "../..")
    })
  const timers = `import { callAt } from "./packages/sdk/src/policy/Timers.ts"; const at = performance.now();`

  it("is kept by a timer that waits, and by none that was taken back", async () => {
    const { stdout } = await run(`${timers}
      callAt(at + 60_000, () => console.log("late"))()
      callAt(at + 50, () => console.log("waited"))
      callAt(at + 60_000, () => console.log("late"))()`)
    assert.strictEqual(stdout, "waited\n")
  }, 20_000)
})
