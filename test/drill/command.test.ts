/** What the command writes for machines has the fields that the design promises, all of them and no others. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { repository } from "../support/program.ts"

const fields = {
  fault: "string",
  subject: "string",
  calls: "number",
  succeeded: "number",
  failedAsDeclared: "number",
  failedOtherwise: "number",
  late: "number",
  lost: "number",
  doubled: "number",
  wrong: "number",
  leaked: "number",
  recoveryMs: "number"
}

const run = (args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | null; readonly output: string }>((resolve) => {
    const child = spawn(
      process.execPath,
      ["--conditions=@sluice/source", "--import", import.meta.resolve("tsx"), "test/drill/main.ts", ...args],
      { cwd: repository, stdio: ["ignore", "pipe", "pipe"] }
    )
    let output = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += String(chunk)))
    child.once("close", (code) => resolve({ code, output }))
  })

describe("npm run drill", () => {
  it("writes an array of rows: of a fault, of a bound and of a failure class for whom it means something", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-drill-"))
    try {
      const json = path.join(folder, "drill.json")
      const only = ["session-killed-busy", "bound-leave", "failure-read-only"].flatMap((name) => ["--only", name])
      only.push("--subject", "sluice")
      const { code, output } = await run([...only, "--json", json, "--reports", path.join(folder, "reports")])
      assert.strictEqual(code, 0, output)
      const rows = JSON.parse(fs.readFileSync(json, "utf8")) as ReadonlyArray<Record<string, unknown>>
      assert.deepStrictEqual(
        rows.map(({ fault, subject }) => `${fault} ${subject}`),
        ["session-killed-busy sluice", "bound-leave sluice", "failure-read-only sluice"]
      )
      for (const { note, ...row } of rows) {
        assert.hasAllKeys(row, Object.keys(fields))
        for (const [name, type] of Object.entries(fields)) {
          if (!(name === "recoveryMs" && row[name] === null)) assert.strictEqual(typeof row[name], type, name)
        }
        assert.isTrue(note === undefined || typeof note === "string")
      }
    } finally {
      fs.rmSync(folder, { recursive: true, force: true })
    }
  })

  it("names every row, and refuses a name that is none", async () => {
    const [listed, unknown] = await Promise.all([run(["--list"]), run(["--only", "nothing-like-it"])])
    for (const name of [
      "freeze-busy",
      "disk-full",
      "overload-10x",
      "cluster-failover",
      "bound-refill",
      "failure-deadlock"
    ])
      assert.include(listed.output, name)
    assert.strictEqual(unknown.code, 2)
  })
})
