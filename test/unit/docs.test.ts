/** The documentation compiles, its tables are the code's, and what it shows as output is what comes out. */
import * as ReportError from "@sluice/sdk/ReportError"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import { parseDuration } from "../../packages/sdk/src/options/Field.ts"
import { lane, role, shared } from "../../packages/sdk/src/options/role.ts"
import * as fs from "node:fs"
import * as path from "node:path"
import { type Block, blocksIn, blocksOf, compile, modules, root, run, tableUnder } from "../support/docs.ts"

const markdown = ["README.md", "packages/sdk/README.md", "ARCHITECTURE.md"]
const files = [...markdown, ...modules().map((file) => `packages/sdk/src/${file}`)]
const isTypeScript = ({ language }: Block) => language === "ts"

/** Documentation that is wrong in two lines: it shows that the check looks. */
const wrong = blocksOf(
  "wrong.md",
  [
    "```ts",
    'import * as Effect from "effect/Effect"',
    "const late: string = 1",
    'const answer = Effect.succeed("yes")',
    "//    ^ Effect<number>",
    "```"
  ].join("\n")
)

/** What the first words of `30 s (HikariCP's)`, `16 MiB` and `` the profile's, else `none` `` may mean. */
const readings = (text: string): ReadonlyArray<string> => {
  const said = text.replaceAll("`", "").replace(/^[^.;]*\belse /, "")
  const [word = ""] = /^[\w-]+(?: (?:s|min|seconds?|minutes?|MiB)\b)?/.exec(said.replace(/^[^.]*; else /, "")) ?? []
  const length = parseDuration(word)
  const megabytes = word.endsWith(" MiB") ? Number.parseInt(word, 10) * 2 ** 20 : undefined
  const no = word === "no" ? false : undefined
  return [word, length && Duration.toMillis(length), megabytes, no].map(String)
}

describe("the documentation", () => {
  it("compiles, and its types are what it says they are", { timeout: 60_000 }, () => {
    const blocks = files.flatMap(blocksIn).filter(isTypeScript)
    assert.isAbove(blocks.filter(({ file }) => file === "README.md").length, 8)
    assert.isAbove(blocks.filter(({ file }) => file.endsWith(".ts")).length, 15)
    const problems = compile([...blocks, ...wrong])
    const about = (file: string) => problems.filter(({ at }) => at.startsWith(file)).map(({ at }) => at)
    assert.sameMembers(about("wrong.md"), ["wrong.md:3", "wrong.md:5"])
    assert.deepStrictEqual(
      problems.filter(({ at }) => !at.startsWith("wrong.md")),
      []
    )
  })

  it("fences the code of its comments, so that it is compiled", () => {
    const bare = modules().filter((file) => {
      const text = fs.readFileSync(path.join(root, "packages/sdk/src", file), "utf8")
      return /\* @example\n\s*\* (?!```)/.test(text)
    })
    assert.deepStrictEqual(bare, [])
  })

  it("shows everything that can be done to a server and to a network, in code that compiles", () => {
    for (const [file, name] of [
      ["PgServer.ts", "PgServer"],
      ["FaultProxy.ts", "FaultProxy"]
    ] as const) {
      const text = fs.readFileSync(path.join(root, "packages/sdk/src/testing", file), "utf8")
      const [, body] = new RegExp(`^export interface ${name} \\{\n([^]*?)^\\}`, "m").exec(text)!
      // What is an Effect is used without parentheses, which nobody guesses.
      const done = [...body!.matchAll(/^  readonly (\w+): (?:\(|Effect)/gm)].map(([, member]) => member!)
      assert.isAbove(done.length, 8, file)
      const code = ["README.md", ...["PgCluster.ts", file].map((one) => `packages/sdk/src/testing/${one}`)]
        .flatMap(blocksIn)
        .filter(isTypeScript)
        .map((block) => block.code)
        .join("\n")
      assert.deepStrictEqual(
        done.filter((member) => !new RegExp(`\\.${member}\\b`).test(code)),
        [],
        file
      )
    }
  })

  it("shows what explain prints, and a refused group", { timeout: 60_000 }, () => {
    const blocks = blocksIn("README.md")
    for (const shown of ["Report.explainText(", "refused.issues"]) {
      const index = blocks.findIndex(({ code }) => code.includes(shown))
      const printed = blocks[index + 1]!
      assert.strictEqual(printed.language, "text")
      assert.strictEqual(run(blocks.slice(0, index + 1).filter(isTypeScript)).trimEnd(), printed.code)
    }
  })

  it("has the table of a role's options: each with its variable and default", () => {
    const plain = (cell: string) => cell.replaceAll("`", "")
    const rows = tableUnder("README.md", "Configuration").filter((row) => row.length === 4 && row[0] !== "option")
    const told = rows.flatMap(([names, variable, value]) =>
      names!.split(", ").map((name) => [plain(name), { variable: plain(variable!), value: plain(value!) }] as const)
    )
    assert.deepStrictEqual(told.map(([name]) => name).toSorted(), Object.keys(role).toSorted())
    for (const [name, { value, variable }] of told) {
      const field = role[name as keyof typeof role]
      assert.strictEqual(variable, field.variable ?? "", name)
      if (field.default !== undefined) assert.include(readings(value), String(field.default), name)
    }
  })

  it("says in each option's comment the default that holds", () => {
    const text = fs.readFileSync(path.join(root, "packages/sdk/src/DatabaseOptions.ts"), "utf8")
    for (const [name, fields] of [
      ["Options", role],
      ["LaneOptions", lane],
      ["SharedLaneOptions", shared]
    ] as const) {
      const [, body] = new RegExp(`^export interface ${name} \\{\n([^]*?)^\\}`, "m").exec(text)!
      for (const [field, { default: fallback }] of Object.entries(fields)) {
        const [, comment] = new RegExp(`/\\*\\*((?:(?!\\*/)[^])*)\\*/\\s+readonly ${field}\\?:`).exec(body!) ?? []
        assert.isDefined(comment, `${name}.${field} has no comment`)
        const [, said] = /Default:? ([^]*)/.exec(comment!) ?? []
        if (fallback !== undefined) assert.include(readings(said ?? ""), String(fallback), `${name}.${field}`)
      }
    }
  })

  it("has every error with its HTTP status in its table", () => {
    const rows = tableUnder("README.md", "Errors").slice(1)
    const told = new Map(rows.map(([tag, status]) => [tag!.replaceAll("`", ""), Number(status)]))
    const statuses = new Map<string, number>()
    for (const [name, { ast }] of Object.entries(ReportError)) {
      const status = ast.annotations?.["httpApiStatus"]
      if (typeof status === "number") statuses.set(name, status)
    }
    assert.isAbove(statuses.size, 10)
    assert.deepStrictEqual(Object.fromEntries(told), Object.fromEntries(statuses))
  })

  it("has every metric in its table", () => {
    const text = (file: string) => fs.readFileSync(path.join(root, "packages/sdk/src", file), "utf8")
    const told = [...text("Telemetry.ts").matchAll(/^ \* \| `([\w.]+)` \|/gm)].map(([, name]) => name!)
    const code = modules().filter((file) => file !== "Telemetry.ts")
    const others = ["Meter.ts"].map((file) => text(`report/${file}`))
    const all = [...code.map(text), ...others].join("\n")
    const measured = [...all.matchAll(/"((?:db\.client|sluice)\.[a-z_]+\.[a-z_.]+)"/g)].map(([, name]) => name!)
    assert.isAbove(told.length, 10)
    assert.deepStrictEqual([...new Set(told)].toSorted(), [...new Set(measured)].toSorted())
  })

  it("names the peers and the Node that the package declares", () => {
    const text = (file: string) => fs.readFileSync(path.join(root, file), "utf8")
    const { engines, peerDependencies } = JSON.parse(text("packages/sdk/package.json")) as {
      readonly engines: { readonly node: string }
      readonly peerDependencies: Record<string, string>
    }
    for (const [name, range] of Object.entries(peerDependencies)) {
      assert.include(text("README.md"), `\`${name}\` (\`${range}\`)`)
      assert.include(text("packages/sdk/README.md"), `\`${name}\` (${range.replace("^", "")} or newer)`)
    }
    const node = `Node ${engines.node.replace(/^>=/, "").replace(/\.0$/, "")} or newer`
    for (const file of ["README.md", "packages/sdk/README.md"]) assert.include(text(file), node)
  })

  it("has every command in its table", () => {
    const { scripts } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as {
      readonly scripts: Record<string, string>
    }
    const named = tableUnder("README.md", "Commands").flatMap(
      ([command]) => /npm (?:run )?([\w:]+)/.exec(command!)?.[1] ?? []
    )
    assert.includeMembers(
      named,
      Object.keys(scripts).filter((name) => !name.startsWith("check:"))
    )
    assert.includeMembers(["ci", ...Object.keys(scripts)], named)
  })
})
