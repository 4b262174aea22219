/**
 * The code in the documentation, made into files that the compiler can read.
 *
 * Every block of TypeScript counts: those of the Markdown files, and those in the comments of the SDK's public modules. In a
 * Markdown file the first block is `reports.ts`, from which the later ones import. Blocks in comments are short: what they
 * leave out is imported by name, and what they take for granted stands in {@link given}.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../..", import.meta.url))

export interface Block {
  /** From the root of the workspace. */
  readonly file: string
  /** The line of its first line of code, from 1. */
  readonly line: number
  readonly language: string
  readonly code: string
}

const isPublic = (file: string): boolean =>
  file.endsWith(".ts") && !/(^|\/)(internal|options|report)\/|(^|\/)index\.ts$/.test(file)

/** The public modules of the SDK, relative to its `src`. */
export const modules = (): ReadonlyArray<string> =>
  fs
    .readdirSync(path.join(root, "packages/sdk/src"), { recursive: true, encoding: "utf8" })
    .map((file) => file.replaceAll(path.sep, "/"))
    .filter(isPublic)
    .sort()

/** The fenced blocks of a text; in a comment, each line begins with ` * `. */
export const blocksOf = (file: string, text: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  let open: { line: number; language: string; lines: Array<string>; prefix: string } | undefined
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^(\s*\*\s|\s*)```(\w*)\s*$/.exec(line)
    if (open === undefined) {
      if (fence !== null && fence[2] !== "") {
        open = { line: index + 2, language: fence[2]!, lines: [], prefix: fence[1]! }
      }
    } else if (fence !== null && fence[2] === "") {
      blocks.push({ file, line: open.line, language: open.language, code: open.lines.join("\n") })
      open = undefined
    } else {
      open.lines.push(line.startsWith(open.prefix) ? line.slice(open.prefix.length) : line.replace(/^\s*\*$/, ""))
    }
  }
  return blocks
}

const read = (file: string): string => fs.readFileSync(path.join(root, file), "utf8")

export const blocksIn = (file: string): ReadonlyArray<Block> => blocksOf(file, read(file))

/** What short examples take for granted. */
const given: Readonly<Record<string, string>> = {
  attemptOn: "(node: string | undefined) => Effect.Effect<number, ReportError.DatabaseUnavailable>",
  attempt: "Effect.Effect<number, ReportError.DatabaseUnavailable>",
  budget: "RetryBudget.RetryBudget",
  call: "Effect.Effect<number, ReportError.DatabaseUnavailable>",
  classifyConnect: "(error: SqlError.SqlError) => 'transient' | 'permanent' | 'password'",
  config: "SqlClients.SqlClientOptions['config']",
  connect: "Effect.Effect<Session.Session, SqlError.SqlError>",
  entry: "{ readonly at: Date, readonly text: string }",
  nodes: "ReadonlyArray<string>",
  params: "{}",
  pingBilling: "Effect.Effect<void, Error>",
  pool: "SessionPool.SessionPool<Session.Session>",
  report: "Report.Report<'stoppage', Schema.Struct<{}>, Schema.Struct<{}>, never, never>",
  request: "SessionPool.PoolRequest",
  snapshot: "Effect.Effect<number>",
  stoppage: "Report.Report<'stoppage', Schema.Struct<{}>, Schema.Struct<{}>, never, never>",
  trips: "Report.Report<'trips', Schema.Struct<{}>, Schema.Struct<{}>, never, never>",
  work: "Effect.Effect<number, ReportError.DatabaseUnavailable | ReportError.CircuitOpen | ReportError.DeadlineExceeded>"
}

const effects = ["Console", "Effect", "Layer", "Redacted", "Schedule", "Schema", "Stream"]

/** Imports and givens that a block uses and leaves out, in one line, so that line numbers stay true. */
const preamble = (code: string): string => {
  const declared = new Set<string>()
  for (const [, name] of code.matchAll(/\b(?:const|class|type|interface) (\w+)/g)) declared.add(name!)
  for (const [, names] of code.matchAll(/\bimport (?:type )?(?:\* as )?\{?([^}"]*?)\}? from/g)) {
    for (const name of names!.split(",")) declared.add(name.replace("type ", "").trim())
  }
  const uses = (text: string, name: string): boolean => new RegExp(`(?<![\\w."'/])${name}(?![\\w"':])`).test(text)
  const missing = Object.entries(given).filter(([name]) => !declared.has(name) && uses(code, name))
  const types = missing.map(([name, type]) => `declare const ${name}: ${type}`)
  const all = [code, ...types].join("\n")
  const places = new Map<string, string>([
    ...modules().map((file) => [path.posix.basename(file, ".ts"), `@sluice/sdk/${file.slice(0, -3)}`] as const),
    ...effects.map((name) => [name, `effect/${name}`] as const),
    ["SqlError", "effect/sql/SqlError"] as const
  ])
  const imports = [...places]
    .filter(([name]) => !declared.has(name) && new RegExp(`(?<![\\w."'/])${name}\\.`).test(all))
    .map(([name, place]) => `import * as ${name} from "${place}"`)
  const errors = [...read("packages/sdk/src/ReportError.ts").matchAll(/export class (\w+)/g)].map(([, name]) => name!)
  const named = errors.filter((name) => !declared.has(name) && new RegExp(`new ${name}\\(`).test(code))
  if (named.length > 0) imports.push(`import { ${named.join(", ")} } from "@sluice/sdk/ReportError"`)
  return [...imports, ...types, "export {}"].join("; ")
}

/** `const rows = ...` followed by `//    ^ Effect<...>`: what the documentation says the type is. */
const claimsOf = (
  code: string
): ReadonlyArray<{ readonly name: string; readonly type: string; readonly line: number }> => {
  const lines = code.split("\n")
  return lines.flatMap((line, index) => {
    const start = /^\/\/ +\^ ((?:Effect|Stream|Layer)<.*)$/.exec(line)
    if (start === null) return []
    const type = [start[1]!]
    for (let next = index + 1; /^\/\/ {4}/.test(lines[next] ?? ""); next++) type.push(lines[next]!.slice(2).trim())
    const declaration = lines.slice(0, index).findLast((each) => /^(?:export )?const \w+ =/.test(each))
    const name = /const (\w+) =/.exec(declaration ?? "")?.[1] ?? "nothing"
    return [{ name, type: type.join(" "), line: index }]
  })
}

const errorTypes = (): string =>
  [...read("packages/sdk/src/ReportError.ts").matchAll(/export class (\w+)/g)].map(([, name]) => name).join(", ")

export interface Problem {
  /** `README.md:12`: where it is in the documentation. */
  readonly at: string
  readonly message: string
}

/** Type-checks blocks, all in one run of the compiler. */
export const compile = (blocks: ReadonlyArray<Block>): ReadonlyArray<Problem> =>
  inDirectory(blocks, (directory, places) => {
    const tsc = path.join(root, "node_modules/typescript/bin/tsc")
    const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", directory, "--pretty", "false"], {
      encoding: "utf8",
      cwd: directory
    })
    // A compiler that did not run would find nothing wrong.
    if (status !== 0 && !stdout.includes("error TS")) throw new Error(`tsc did not run: ${stdout}`)
    return stdout.split("\n").flatMap((line) => {
      const found = /^(.+?)\((\d+),\d+\): error (TS\d+: .*)$/.exec(line)
      if (found === null) return []
      const place = places.get(path.basename(found[1]!))
      return [{ at: place?.(Number(found[2])) ?? found[1]!, message: found[3]! }]
    })
  })

/** Runs the last of some blocks of one file as a script; what it prints. */
export const run = (blocks: ReadonlyArray<Block>): string =>
  inDirectory(blocks, (directory, places) => {
    const last = [...places.keys()].findLast((file) => !file.endsWith(".claims.ts"))!
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      ["--import", "tsx", "--conditions=@sluice/source", path.join(directory, last)],
      { encoding: "utf8", cwd: directory }
    )
    if (status !== 0) throw new Error(stderr)
    return stdout
  })

type Places = ReadonlyMap<string, (line: number) => string>

const inDirectory = <A>(blocks: ReadonlyArray<Block>, use: (directory: string, places: Places) => A): A => {
  // Inside the workspace's modules: the compiler and Node both look for packages upwards.
  const directory = fs.realpathSync(fs.mkdtempSync(path.join(tmpdir(), "sluice-docs-")))
  const places = new Map<string, (line: number) => string>()
  try {
    fs.symlinkSync(path.join(root, "node_modules"), path.join(directory, "node_modules"))
    fs.writeFileSync(path.join(directory, "package.json"), JSON.stringify({ type: "module" }))
    fs.writeFileSync(
      path.join(directory, "tsconfig.json"),
      JSON.stringify({
        extends: path.join(root, "tsconfig.base.json"),
        compilerOptions: {
          noEmit: true,
          composite: false,
          incremental: false,
          noUnusedLocals: false,
          noUnusedParameters: false,
          allowImportingTsExtensions: true,
          rewriteRelativeImportExtensions: false,
          typeRoots: [path.join(root, "node_modules/@types")]
        },
        include: ["*.ts"]
      })
    )
    const seen = new Map<string, string>()
    for (const [index, block] of blocks.entries()) {
      const isMarkdown = block.file.endsWith(".md")
      const first = seen.get(block.file)
      const name = `${index}.${path.basename(block.file).replace(/\W/g, "-")}.ts`
      if (first === undefined) seen.set(block.file, name)
      const code = first === undefined ? block.code : block.code.replaceAll('"./reports.ts"', `"./${first}"`)
      const claims = claimsOf(block.code)
      const shown = claims.map((claim) => `export type Shown_${claim.name} = typeof ${claim.name}`)
      fs.writeFileSync(
        path.join(directory, name),
        [isMarkdown ? "export {}" : preamble(code), code, ...shown].join("\n")
      )
      places.set(name, (line) => `${block.file}:${block.line + line - 2}`)
      if (claims.length === 0) continue
      const file = name.replace(/\.ts$/, ".claims.ts")
      const head = [
        'import type { Effect } from "effect/Effect"; import type { Stream } from "effect/Stream"; import type { Layer } from "effect/Layer"',
        `import type { ${errorTypes()} } from "@sluice/sdk/ReportError"; import type { Role } from "@sluice/sdk/Database"`,
        "type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false",
        "const check = <_T extends true>(): void => {}"
      ]
      const own = [...block.code.matchAll(/export (?:class|interface|type) (\w+)/g)].map(([, each]) => each)
      if (own.length > 0) head.push(`import type { ${own.join(", ")} } from "./${name}"`)
      const checks = claims.map((claim) => `check<Equal<import("./${name}").Shown_${claim.name}, ${claim.type}>>()`)
      fs.writeFileSync(path.join(directory, file), [...head, ...checks].join("\n"))
      places.set(file, (line) => `${block.file}:${block.line + (claims[line - head.length - 1]?.line ?? 0)}`)
    }
    return use(directory, places)
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

/** The rows of the tables under a heading, cell by cell. */
export const tableUnder = (file: string, heading: string): ReadonlyArray<ReadonlyArray<string>> => {
  const [, ...parts] = read(file).split(/^#+ /m)
  const part = parts.find((each) => each.startsWith(`${heading}\n`)) ?? ""
  return part
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim())
    )
}
