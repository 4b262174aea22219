/**
 * The direction of imports, checked: `npm run check:imports`, and test/unit/architecture.test.ts.
 *
 * A file of the SDK is in exactly one room. A room may import itself, the leaves, and every room downstream of it:
 *
 *     http|mcp|cli|promise|pg -> report -> policy, database -> topology -> pool -> session -> the driver
 *
 * Type-only imports count, for a reader follows them too; only inside a room may types refer to each other in a circle.
 * One line per violation, exit code 1 when there is any.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseSync, Visitor } from "oxc-parser"

/** A room: the files in it (relative to packages/sdk/src; a folder ends in `/`), and the rooms right downstream. */
interface Room {
  readonly name: string
  readonly files: ReadonlyArray<string>
  readonly downstream: ReadonlyArray<string>
}

/** First match wins, so a room inside a folder of another room stands before it. */
const rooms: ReadonlyArray<Room> = [
  {
    name: "leaf",
    files: ["ReportError.ts", "PgFailure.ts", "Profile.ts", "Telemetry.ts", "internal/"],
    downstream: []
  },
  { name: "options", files: ["options/", "DatabaseOptions.ts"], downstream: ["leaf"] },
  { name: "policy", files: ["policy/"], downstream: ["options"] },
  { name: "session", files: ["pool/Session.ts", "pool/Poolable.ts", "pool/session/"], downstream: ["options"] },
  { name: "pool", files: ["pool/"], downstream: ["session"] },
  { name: "topology", files: ["topology/"], downstream: ["pool"] },
  { name: "database", files: ["Database.ts", "DatabaseConfig.ts", "database/"], downstream: ["topology"] },
  {
    name: "report",
    files: ["Report.ts", "ReportGroup.ts", "ReportResult.ts", "report/"],
    downstream: ["policy", "database"]
  },
  { name: "http", files: ["http/"], downstream: ["report"] },
  { name: "mcp", files: ["mcp/"], downstream: ["report"] },
  { name: "cli", files: ["cli/"], downstream: ["report"] },
  { name: "promise", files: ["promise/"], downstream: ["report"] },
  { name: "pg", files: ["pg/"], downstream: ["report"] },
  { name: "testing", files: ["testing/"], downstream: ["report"] },
  { name: "index", files: ["index.ts"], downstream: ["report"] }
]

/** Only these files touch the driver and the socket. */
const driver = {
  modules: ["@effect/sql-pg", "node:net", "node:tls"],
  files: ["pool/Session.ts", "pool/session/", "pool/SqlClients.ts", "testing/"]
}

/** Modules without a stable export may change in a minor release of Effect: each is let in where it is needed. */
const unstable: ReadonlyArray<{ readonly module: string; readonly files: ReadonlyArray<string> }> = [
  {
    module: "effect/sql/",
    files: ["PgFailure.ts", "pool/", "topology/", "Database.ts", "Report.ts", "report/", "pg/", "testing/"]
  },
  { module: "effect/reactivity/", files: ["pool/SqlClients.ts", "testing/"] },
  { module: "effect/http/", files: ["http/", "mcp/"] },
  { module: "effect/http-api/", files: ["http/"] },
  { module: "effect/ai/", files: ["mcp/"] },
  { module: "effect/cli/", files: ["cli/"] },
  { module: "effect/testing/", files: ["testing/"] },
  { module: "effect/process/", files: ["testing/"] },
  { module: "effect/FileSystem", files: ["testing/", "cli/"] },
  { module: "effect/Path", files: ["testing/", "cli/"] },
  { module: "effect/Terminal", files: ["cli/"] },
  { module: "effect/Stdio", files: ["cli/", "mcp/"] },
  { module: "effect/PlatformError", files: ["testing/", "cli/"] }
]

export interface Source {
  /** From the root of the workspace, with forward slashes. */
  readonly path: string
  readonly text: string
}

export interface Violation {
  readonly file: string
  readonly line: number
  readonly specifier: string
  readonly rule:
    | "cycle"
    | "room"
    | "stream"
    | "testing"
    | "driver"
    | "unstable"
    | "barrel"
    | "undeclared"
    | "door"
    | "parse"
  readonly message: string
}

export interface Options {
  /** Packages that the SDK declares: peers and dependencies. */
  readonly declared: ReadonlyArray<string>
  /** Does Effect mark everything in this module as unstable or experimental? */
  readonly isUnstable: (specifier: string) => boolean
}

interface Import {
  readonly specifier: string
  readonly isType: boolean
  readonly line: number
}

const sdk = "packages/sdk/src/"

const within = (file: string, places: ReadonlyArray<string>) =>
  places.some((place) => (place.endsWith("/") ? file.startsWith(place) : file === place))

/** `import { type A, type B } from "…"` */
const onlyTypes = (specifiers: ReadonlyArray<{ readonly type: string; readonly importKind?: string }>) =>
  specifiers.length > 0 && specifiers.every((each) => each.type === "ImportSpecifier" && each.importKind === "type")

/** Everything a module names: `import`, `export … from`, `import()`, and `import("…").Type`. */
const importsOf = (source: Source): { readonly imports: ReadonlyArray<Import>; readonly error: string | undefined } => {
  const result = parseSync(source.path, source.text)
  const imports: Array<Import> = []
  const add = (node: { readonly value?: unknown; readonly start: number } | null | undefined, isType: boolean) => {
    if (typeof node?.value !== "string") return
    imports.push({ specifier: node.value, line: source.text.slice(0, node.start).split("\n").length, isType })
  }
  new Visitor({
    ImportDeclaration: (node) => add(node.source, node.importKind === "type" || onlyTypes(node.specifiers)),
    ExportNamedDeclaration: (node) => add(node.source, node.exportKind === "type"),
    ExportAllDeclaration: (node) => add(node.source, node.exportKind === "type"),
    ImportExpression: (node) => add(node.source as { readonly value?: unknown; readonly start: number }, false),
    TSImportType: (node) => add(node.source, true),
    TSExternalModuleReference: (node) => add(node.expression, false)
  }).visit(result.program)
  return { imports, error: result.errors.find((error) => error.severity === "Error")?.message }
}

const roomOf = (file: string) => rooms.find((room) => within(file, room.files))

/** The names of the rooms that a room may import: itself, and all that is downstream. */
const reach = (name: string): ReadonlySet<string> => {
  const seen = new Set<string>(["leaf", name])
  const visit = (room: string) =>
    rooms
      .find((each) => each.name === room)
      ?.downstream.forEach((next) => {
        seen.add(next)
        visit(next)
      })
  visit(name)
  return seen
}

const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

type Finding = readonly [Violation["rule"], string]

const ruleRelative = (file: string, target: string): Finding | undefined => {
  if (!file.startsWith(sdk)) {
    return file.startsWith("packages/") && target.startsWith(sdk)
      ? ["door", "the SDK is imported by its name, @sluice/sdk, through a door of its exports"]
      : undefined
  }
  if (!target.startsWith(sdk)) return ["door", "the SDK imports nothing outside its own src"]
  const from = roomOf(file.slice(sdk.length))
  const to = roomOf(target.slice(sdk.length))
  if (from === undefined || to === undefined) return undefined
  if (to.name === "testing" && from.name !== "testing") return ["testing", "nothing in the SDK imports testing"]
  const allowed = reach(from.name)
  return allowed.has(to.name)
    ? undefined
    : ["stream", `${from.name} may not import ${to.name}, only ${[...allowed].join(", ")}`]
}

const rulePackage = (file: string, specifier: string, options: Options): Finding | undefined => {
  if (!file.startsWith(sdk)) return undefined
  const local = file.slice(sdk.length)
  const name = packageOf(specifier)
  if (driver.modules.includes(name) || driver.modules.includes(`node:${name}`)) {
    if (!within(local, driver.files)) return ["driver", `only ${driver.files.join(", ")} may touch the driver`]
  }
  if (specifier.startsWith("node:")) return undefined
  if (!options.declared.includes(name)) return ["undeclared", `${name} is no dependency of packages/sdk/package.json`]
  if (name === "@effect/sql-pg" || !/^@?effect\b/.test(name)) return undefined
  if ((specifier === name && /^@?effect\b/.test(name)) || /^effect\/[a-z-]+$/.test(specifier)) {
    return ["barrel", "import one module, as in `effect/Effect`"]
  }
  if (!options.isUnstable(specifier)) return undefined
  const entry = unstable.find(({ module }) =>
    module.endsWith("/") ? specifier.startsWith(module) : specifier === module
  )
  return entry !== undefined && within(local, entry.files)
    ? undefined
    : [
        "unstable",
        `Effect marks it unstable; ${entry === undefined ? "no file" : `only ${entry.files.join(", ")}`} may import it`
      ]
}

/** Each cycle once, as the path that closes it. */
const cyclesOf = (graph: ReadonlyMap<string, ReadonlyArray<string>>): ReadonlyArray<ReadonlyArray<string>> => {
  const cycles: Array<ReadonlyArray<string>> = []
  const done = new Set<string>()
  const trail: Array<string> = []
  const visit = (file: string): void => {
    const at = trail.indexOf(file)
    if (at !== -1) {
      cycles.push([...trail.slice(at), file])
      return
    }
    if (done.has(file)) return
    trail.push(file)
    graph.get(file)?.forEach(visit)
    trail.pop()
    done.add(file)
  }
  ;[...graph.keys()].forEach(visit)
  return cycles
}

/** All violations among these sources, in the order of files and lines, cycles last. */
export const check = (sources: ReadonlyArray<Source>, options: Options): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const graph = new Map<string, ReadonlyArray<string>>()
  const lines = new Map<string, number>()
  for (const source of sources) {
    const file = source.path
    const { imports, error } = importsOf(source)
    const report = (rule: Violation["rule"], message: string, at?: Import) =>
      violations.push({ file, line: at?.line ?? 1, specifier: at?.specifier ?? "", rule, message })
    if (error !== undefined) report("parse", error)
    if (file.startsWith(sdk) && roomOf(file.slice(sdk.length)) === undefined) {
      report("room", "is in no room: give it one in test/support/imports.ts")
    }
    const targets: Array<string> = []
    for (const each of imports) {
      if (each.specifier.startsWith(".")) {
        const target = path.posix.join(path.posix.dirname(file), each.specifier)
        if (!each.isType) targets.push(target)
        lines.set(`${file} ${target}`, each.line)
        const found = ruleRelative(file, target)
        if (found !== undefined) report(found[0], found[1], each)
      } else {
        const found = rulePackage(file, each.specifier, options)
        if (found !== undefined) report(found[0], found[1], each)
      }
    }
    graph.set(file, targets)
  }
  for (const cycle of cyclesOf(graph)) {
    const [file, next] = cycle.slice(-2) as [string, string]
    const line = lines.get(`${file} ${next}`) ?? 1
    violations.push({ file, line, specifier: next, rule: "cycle", message: cycle.join(" -> ") })
  }
  return violations
}

/** One readable line. */
export const print = (violation: Violation): string =>
  `${violation.file}:${violation.line} ${violation.specifier === "" ? "" : `imports ${violation.specifier} `}` +
  `[${violation.rule}] ${violation.message}`

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..")

/** Every TypeScript file of the workspace. */
export const workspace = (): ReadonlyArray<Source> =>
  ["packages/sdk/src", "packages/examples/src", "test"].flatMap((folder) =>
    (fs.readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" }) as ReadonlyArray<string>)
      .filter((name) => name.endsWith(".ts"))
      .map((name) => path.posix.join(folder, name.split(path.sep).join("/")))
      .toSorted()
      .map((name) => ({ path: name, text: fs.readFileSync(path.join(root, name), "utf8") }))
  )

/** What the installed packages say: the SDK's manifest, and the stability that Effect's sources state per export. */
export const installed = (): Options => {
  const manifest = JSON.parse(fs.readFileSync(path.join(root, "packages/sdk/package.json"), "utf8")) as {
    readonly dependencies?: Record<string, string>
    readonly peerDependencies?: Record<string, string>
  }
  const known = new Map<string, boolean>()
  return {
    declared: Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }),
    isUnstable: (specifier) => {
      const before = known.get(specifier)
      if (before !== undefined) return before
      const file = path.join(root, "node_modules/effect/src", `${specifier.slice("effect/".length)}.ts`)
      const result = !fs.existsSync(file) || !fs.readFileSync(file, "utf8").includes("@stability stable")
      known.set(specifier, result)
      return result
    }
  }
}

if (process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const sources = workspace()
  const violations = check(sources, installed())
  for (const violation of violations) console.log(print(violation))
  console.log(`${sources.length} files, ${violations.length} wrong imports`)
  process.exitCode = violations.length === 0 ? 0 : 1
}
