/** The commands of the examples as a newcomer runs them: what they print, how they end, and what is left behind. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { expectEventually } from "../../support/expectEventually.ts"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"
import { repository } from "../../support/program.ts"

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Running {
  readonly child: ChildProcess
  readonly ended: Effect.Effect<Ended>
  /** Waits for a text on stdout. */
  readonly says: (text: string) => Effect.Effect<void>
}

/** A directory for temporary files, so that what a command leaves there can be seen. */
const temporary: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-command-"))
    // The servers of a cluster may run as another user, who has to get there.
    fs.chmodSync(directory, 0o755)
    return directory
  }),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

const run = (directory: string, script: string, ...args: ReadonlyArray<string>): Running => {
  const file = path.join(repository, "packages/examples/src", script)
  const child = spawn(
    process.execPath,
    ["--conditions=@sluice/source", "--import", import.meta.resolve("tsx"), file, ...args],
    { cwd: repository, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, TMPDIR: directory } }
  )
  let stdout = ""
  let stderr = ""
  child.stdout.on("data", (chunk) => (stdout += String(chunk)))
  child.stderr.on("data", (chunk) => (stderr += String(chunk)))
  const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })))
  const said = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = () => {
        if (stdout.includes(text)) resolve()
      }
      look()
      child.stdout.on("data", look)
      void ended.then(() => reject(new Error(`${script} ended before it said "${text}"\n${stdout}\n${stderr}`)))
    })
  return { child, ended: Effect.promise(() => ended), says: (text) => Effect.promise(() => said(text)) }
}

/** Processes whose command line names the directory, as that of a server does; and what lies in it. */
const leftBehind = (directory: string) =>
  Effect.sync(() => {
    const processes = spawnSync("ps", ["-axo", "command"], { encoding: "utf8" }).stdout.split("\n")
    return [
      ...processes.filter((line) => line.includes(directory)),
      // Caches: what tsx has translated, and the binaries where the server's user cannot reach node_modules.
      ...fs.readdirSync(directory).filter((name) => !caches.test(name))
    ]
  })

const caches = /^(tsx-|node-compile-cache$|sluice-embedded-postgres-)/

const nothingLeft = (directory: string) => expectEventually(leftBehind(directory), (left) => left.length === 0, 20_000)

const reports = [
  "Stoppage",
  "Stoppage by place",
  "Trips",
  "Latest position",
  "Distance per day",
  "Overspeed",
  "Idle with engine on"
]

/** A Node that starts, translates and runs, on a machine that does other things as well. */
const patient = { timeout: 120_000 }

postgres(layerDatabase)("npm start", (it) => {
  it.effect(
    "makes a fleet, prints every report with what it declares, lives through the death of the primary, and leaves nothing behind",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const { code, stderr, stdout } = yield* run(directory, "main.ts", "--vehicles", "4", "--days", "1").ended
        assert.strictEqual(code, 0, stderr)
        for (const report of reports) assert.include(stdout, `\n${report} - `)
        // What all can fail with is said once, what a report adds beside it: nine tables, and two that write and read back.
        assert.lengthOf(stdout.match(/every report can fail with the usual six/gi) ?? [], 1)
        assert.lengthOf(stdout.match(/fails with the usual six, CircuitOpen, Overloaded/g) ?? [], 11)
        assert.lengthOf(stdout.match(/policies {3}[23] attempts of/g) ?? [], 11)
        assert.lengthOf(stdout.match(/; live from /g) ?? [], 9)
        // Wherever a time of day is printed it is said of which zone.
        assert.lengthOf(stdout.match(/shown .*; times in Europe\/Berlin/g) ?? [], 6)
        assert.include(stdout, "Simulating: 100 %")
        assert.notInclude(stdout, "\u001b")
        assert.include(stdout, 'UnknownVehicle: stoppage: vehicle: no vehicle has the registration "B-XX 1"')
        // The primary dies, the replica takes over: reads go on, every write that was acknowledged is there once.
        assert.match(stdout, /kill -9 of the primary[^]*is down[^]*was a replica and is a primary now/)
        for (const kind of ["latest position, replica", "trips of a vehicle, replica"]) {
          const [, calls, answered] = new RegExp(`${kind} +([0-9,]+) +([0-9,]+) .* nothing `).exec(stdout) ?? []
          assert.isDefined(calls, stdout)
          assert.strictEqual(answered, calls)
        }
        // The kill met writes that were under way: they were repeated, or their callers were told.
        const [, calls, answered, repeated] =
          /record a position, primary +([0-9,]+) +([0-9,]+) +([0-9,]+)/
            .exec(stdout)
            ?.map((text) => text.replace(",", "")) ?? []
        assert.isAbove(Number(answered), 0)
        assert.isAbove(Number(calls) - Number(answered) + Number(repeated), 0)
        assert.match(stdout, /[1-9][0-9,]* positions were acknowledged.*: 0 lost, 0 doubled, 0 that nobody wrote/)
        assert.match(stdout, /[1-4] moving, /)
        // What is watched without a change is not worth a line.
        assert.notMatch(stdout, /unknown ->|-> unknown/)
        assert.lengthOf(stdout.match(/at most \d+ sessions from this process, on 2 servers/g) ?? [], 1)
        yield* nothingLeft(directory)
      }),
    patient
  )

  it.effect(
    "leaves nothing behind when it is interrupted while the primary is away",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const running = run(directory, "main.ts", "--vehicles", "2", "--days", "1")
        yield* running.says("kill -9 of the primary")
        running.child.kill("SIGINT")
        const { code } = yield* running.ended
        assert.notStrictEqual(code, 0)
        yield* nothingLeft(directory)
      }),
    patient
  )

  it.effect(
    "leaves nothing behind when it is interrupted",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const running = run(directory, "main.ts", "--days", "60")
        yield* running.says("Using ")
        running.child.kill("SIGINT")
        const { code } = yield* running.ended
        assert.notStrictEqual(code, 0)
        yield* nothingLeft(directory)
      }),
    patient
  )

  it.effect(
    "uses a server that is there, and removes what it made and nothing else",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        yield* query("create table of_mine (id integer)")
        const directory = yield* temporary
        const { code, stderr, stdout } = yield* run(
          directory,
          ...(["main.ts", "--vehicles", "2", "--days", "1", "--units", "imperial", "--database-url", url] as const)
        ).ended
        assert.strictEqual(code, 0, stderr)
        assert.include(stdout, "mph")
        assert.notInclude(stdout, "km/h")
        assert.include(stdout, "the one at --database-url is not ours")
        assert.notInclude(stdout, "kill -9")
        assert.deepStrictEqual(
          yield* query("select to_regclass('of_mine') is not null as mine, to_regnamespace('fleet') is null as gone"),
          [{ mine: true, gone: true }]
        )
      }),
    patient
  )

  it.effect(
    "removes what it made on a server that is there when it is interrupted, too",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        const running = run(yield* temporary, "main.ts", "--vehicles", "5", "--days", "60", "--database-url", url)
        yield* expectEventually(
          query("select to_regclass('fleet.plan') is not null as there"),
          ([row]) => row?.["there"] === true,
          60_000
        )
        running.child.kill("SIGINT")
        assert.notStrictEqual((yield* running.ended).code, 0)
        assert.deepStrictEqual(yield* query("select to_regnamespace('fleet') is null as gone"), [{ gone: true }])
      }),
    patient
  )

  it.effect(
    "does not touch a schema that somebody else made",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        yield* query("create schema fleet")
        const { code, stderr } = yield* run(yield* temporary, "main.ts", "--database-url", url).ended
        assert.strictEqual(code, 1)
        assert.match(stderr, /has a schema "fleet" already; nothing was touched/)
        assert.deepStrictEqual(yield* query("select to_regnamespace('fleet') is not null as there"), [{ there: true }])
        yield* query("drop schema fleet")
      }),
    patient
  )

  it.effect(
    "explains itself, and says which flag is wrong",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const wrong = yield* run(directory, "main.ts", "--vehicles", "0").ended
        assert.strictEqual(wrong.code, 1)
        assert.include(wrong.stdout + wrong.stderr, "Invalid value for flag --vehicles")
        // The help comes with it.
        assert.include(wrong.stdout, "--database-url string")
        const nowhere = yield* run(directory, "main.ts", "--database-url", "postgres://me:secret@127.0.0.1:1/x").ended
        assert.strictEqual(nowhere.code, 1)
        assert.notInclude(nowhere.stdout + nowhere.stderr, "secret")
      }),
    patient
  )
})

postgres(layerDatabase)("npm run import", (it) => {
  it.effect(
    "imports into a server that is there, keeps it, and prints the stoppage report",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        const directory = yield* temporary
        const file = path.join(directory, "positions.csv")
        const lines = [0, 6, 12].map((minute) => `7,2016-01-17T14:${String(minute).padStart(2, "0")}:00Z,0,30,-97`)
        fs.writeFileSync(
          file,
          ["vehicle_id,timestamp,speed,latitude,longitude", ...lines, "7,never,0,30,-97"].join("\n")
        )
        const { code, stderr, stdout } = yield* run(
          directory,
          "import.ts",
          file,
          "--create-vehicles",
          "--database-url",
          url
        ).ended
        assert.strictEqual(code, 0, stderr)
        assert.match(stdout, /3 {2}imported, of 1 vehicle \(1 of them new\)/)
        assert.match(stdout, /5 {2}timestamp {2}never {2}is not a time with an offset/)
        assert.match(stdout, /7 +\(no zone\).*12 min 00 s/)
        assert.deepStrictEqual(yield* query("select count(*)::int as count from fleet.positions"), [{ count: 3 }])
      }),
    patient
  )
})

postgres(layerDatabase)("npm run import, when it fails", (it) => {
  it.effect(
    "ends with 1 where every line is rejected",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        const directory = yield* temporary
        const file = path.join(directory, "positions.csv")
        fs.writeFileSync(file, "vehicle_id,timestamp,speed,latitude,longitude\n7,never,0,30,-97\n8,never,0,30,-97\n")
        const { code, stderr, stdout } = yield* run(directory, "import.ts", file, "--database-url", url).ended
        assert.strictEqual(code, 1, stdout)
        assert.match(stderr, /: all 2 lines are rejected; nothing was imported/)
        assert.deepStrictEqual(yield* query("select count(*)::int as count from fleet.positions"), [{ count: 0 }])
      }),
    patient
  )

  it.effect(
    "tells of a file that is not there before it starts a server",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const { code, stderr, stdout } = yield* run(directory, "import.ts", path.join(directory, "none.csv")).ended
        assert.strictEqual(code, 1)
        assert.match(stderr, /none\.csv: file: does not exist/)
        assert.strictEqual(stdout, "")
        yield* nothingLeft(directory)
      }),
    patient
  )

  it.effect(
    "keeps what it imported, and ends with 0, where a report of it fails afterwards",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* TestDatabase
        const directory = yield* temporary
        const file = path.join(directory, "positions.csv")
        fs.writeFileSync(file, "vehicle_id,timestamp,speed,latitude,longitude\n7,2016-01-17T14:00:00Z,0,30,-97\n")
        yield* run(directory, "import.ts", file, "--create-vehicles", "--database-url", url).ended
        // The reports read zones, the import does not.
        yield* query("drop table fleet.zones")
        const { code, stderr } = yield* run(directory, "import.ts", file, "--replace", "--database-url", url).ended
        assert.strictEqual(code, 0, stderr)
        fs.appendFileSync(file, "7,2016-01-17T14:09:00Z,0,30,-97\n")
        const second = yield* run(directory, "import.ts", file, "--database-url", url).ended
        assert.strictEqual(second.code, 0, second.stderr)
        assert.match(second.stderr, /The import is done\. A report of it failed: /)
        assert.deepStrictEqual(yield* query("select count(*)::int as count from fleet.positions"), [{ count: 2 }])
      }),
    patient
  )
})

postgres(layerDatabase)("the short examples", (it) => {
  it.effect.each([
    ["script.ts", /L-SL 101 of Leipzig is parked at \d+ km/],
    ["program.ts", /km in all[^]*the longest trip took/],
    ["service.ts", /200 \[\{"vehicle":"L-SL 101"[^]*404 [^]*400 [^]*400 /]
  ] as const)(
    "run: %s",
    ([script, expected]) =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const { code, stderr, stdout } = yield* run(directory, script).ended
        assert.strictEqual(code, 0, stderr)
        assert.match(stdout, expected)
        yield* nothingLeft(directory)
      }),
    patient
  )
})
