/**
 * What `.ci/run` runs after `npm ci`: checks; the suite without the programs that only some tests need (bare), and with them;
 * the main job; types and suite with the oldest peers; the drill of Sluice and a soak; suite and main job again on Node 24.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Account, execute } from "./Account.ts"
import { installExtras, withoutExtras } from "./extras.ts"
import { copyWith, oldestPeers } from "./oldest.ts"

const all = ["bare", "machine", "node24", "oldest", "proof", "seeded"] as const
// Seeded bugs take three minutes and say something only of the tests: not in every run.
const chosen = (process.env["CI_ONLY"] ?? "bare machine node24 oldest proof").split(/\s+/).filter((name) => name !== "")
const unknown = chosen.filter((name) => !all.some((run) => run === name))
const runs = (name: (typeof all)[number]) => chosen.includes(name)

const temp = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-ci-"))
const account = new Account(temp)

/** A newer Node out of a package: without an install script, so that every npm can do it. */
const installNode24 = (folder: string): NodeJS.ProcessEnv | undefined => {
  const name = `node-${process.platform}-${process.arch}`
  const flags = ["--no-save", "--no-audit", "--no-fund", "--silent"]
  if (execute(["npm", "install", "--prefix", folder, ...flags, `${name}@24`]) !== 0) return undefined
  const bin = path.join(folder, "node_modules", name, "bin")
  return { ...process.env, PATH: `${bin}${path.delimiter}${process.env["PATH"] ?? ""}` }
}

/** What the first suite has shown once and for all is not asked again. */
const once = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv =>
  runs("bare") ? { ...env, SLUICE_TYPE_MUTANTS: "checked" } : env

try {
  if (unknown.length > 0) throw new Error(`CI_ONLY does not know ${unknown.join(", ")}; it knows ${all.join(", ")}`)
  account.step("npm run check", ["npm", "run", "check"])
  if (runs("bare")) account.suite("bare", { env: { ...process.env, PATH: withoutExtras(path.join(temp, "bare")) } })
  console.log(installExtras())

  if (runs("machine")) {
    console.log(`Node ${process.version} of this machine`)
    account.suite("machine", { env: once() })
    account.step(`npm start on Node ${process.version}`, ["npm", "start"])
  }

  if (runs("oldest")) {
    const peers = oldestPeers()
    const cwd = path.join(temp, "oldest")
    if (peers === undefined) console.log("\n== the oldest peers are the installed ones: nothing more to run")
    else if (account.step(`install ${JSON.stringify(peers)}`, () => copyWith(peers, cwd))) {
      // What touches them most; the types are compiled whole.
      const touching = ["unit", "postgres/session", "postgres/pool", "postgres/report", "postgres/topology"].map(
        (folder) => `test/${folder}`
      )
      account.step("types with them", ["npm", "run", "check:types"], { cwd })
      account.suite("oldest", { cwd, env: once(), args: touching })
    }
  }

  if (runs("proof")) {
    // The drill of the other clients is for the reader of its results, not for us.
    const reports = path.join(temp, "reports")
    account.step("drill of Sluice", ["npm", "run", "drill", "--", "--subject", "sluice", "--reports", reports])
    account.step("soak of a minute", ["npm", "run", "soak", "--", "--minutes", "1"])
  }

  if (runs("seeded")) account.step("seeded bugs are caught", ["npm", "run", "mutate:seeded"])

  if (runs("node24")) {
    let env: NodeJS.ProcessEnv | undefined
    if (account.step("Node 24 from npm", () => (env = installNode24(path.join(temp, "node24"))) !== undefined)) {
      const options = env === undefined ? {} : { env }
      execute(["node", "--version"], options)
      account.suite("node24", { env: once(env) })
      account.step("npm start on Node 24", ["npm", "start"], options)
    }
  }
} catch (error) {
  account.failed++
  console.error(error)
} finally {
  fs.rmSync(temp, { recursive: true, force: true })
  console.log(`${account.passed} passed, ${account.failed} failed`)
}
process.exitCode = account.failed === 0 ? 0 : 1
