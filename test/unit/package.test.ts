/** The tarball as a stranger gets it: packed, unpacked into an empty project, imported through every door. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { publint } from "publint"

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..")
const sdk = path.join(root, "packages/sdk")
const bin = (name: string) => path.join(root, "node_modules/.bin", name)

/** Its output, or an error that shows it. */
const run = (command: string, args: ReadonlyArray<string>, cwd: string): Promise<string> =>
  promisify(execFile)(command, args, { cwd, maxBuffer: 64 << 20 }).then(
    ({ stdout }) => stdout,
    (error: { readonly stdout?: string; readonly stderr?: string }) => {
      throw new Error(`${command} ${args.join(" ")}\n${error.stdout ?? ""}${error.stderr ?? ""}`)
    }
  )

const filesIn = (folder: string): ReadonlyArray<string> =>
  (fs.readdirSync(folder, { recursive: true, encoding: "utf8" }) as ReadonlyArray<string>)
    .map((name) => name.split(path.sep).join("/"))
    .filter((name) => fs.statSync(path.join(folder, name)).isFile())
    .toSorted()

const manifest = JSON.parse(fs.readFileSync(path.join(sdk, "package.json"), "utf8")) as {
  readonly exports: Record<string, unknown>
  readonly dependencies: Record<string, string>
  readonly peerDependencies: Record<string, string>
}
const { exports } = manifest
const closed = Object.keys(exports)
  .filter((key) => exports[key] === null)
  .map((key) => new RegExp(`^${key.replace(/[.\\/]/g, "\\$&").replace("*", ".+")}$`))
const modules = filesIn(path.join(sdk, "src")).map((name) => `./${name.replace(/\.ts$/, "")}`)
const nameOf = (module: string) => `@sluice/sdk${module.slice(1)}`

/** Every module that the exports leave open, by the name a user imports it with: `@sluice/sdk/Report`. */
const doors = modules
  .map((module) => module.replace(/\/index$/, ""))
  .filter((module) => !closed.some((pattern) => pattern.test(module)))
  .map(nameOf)

/** And those that they close. */
const walls = modules.filter((module) => closed.some((pattern) => pattern.test(module))).map(nameOf)

describe("the tarball of @sluice/sdk", { timeout: 120_000 }, () => {
  let project = ""
  let tarball = ""
  let installed = ""

  beforeAll(async () => {
    project = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-package-"))
    const packed = JSON.parse(await run("npm", ["pack", "--json", "--silent", "--pack-destination", project], sdk))
    // npm 12 answers with a record by package name, npm 11 with a list.
    tarball = path.join(project, (Object.values(packed)[0] as { readonly filename: string }).filename)
    fs.writeFileSync(path.join(project, "package.json"), JSON.stringify({ name: "stranger", type: "module" }))
    // As npm installs it, but no registry is asked: what it needs is as it is here.
    installed = path.join(project, "node_modules/@sluice/sdk")
    fs.mkdirSync(installed, { recursive: true })
    await run("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"], project)
    const needed = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })
    for (const name of [...needed, "@types/node", "undici-types"]) {
      const target = path.join(project, "node_modules", name)
      fs.mkdirSync(path.dirname(target), { recursive: true })
      fs.symlinkSync(fs.realpathSync(path.join(root, "node_modules", name)), target, "junction")
    }
  }, 120_000)

  afterAll(() => fs.rmSync(project, { recursive: true, force: true }))

  it("holds what a user needs and nothing else", () => {
    const files = filesIn(installed)
    for (const name of [
      "LICENSE",
      "README.md",
      "package.json",
      "dist/index.js",
      "dist/index.d.ts",
      "guides/failures.md",
      "src/index.ts"
    ]) {
      assert.include(files, name)
    }
    assert.strictEqual(
      fs.readFileSync(path.join(installed, "LICENSE"), "utf8"),
      fs.readFileSync(path.join(root, "LICENSE"), "utf8")
    )
    const allowed =
      /^(LICENSE|README\.md|package\.json|guides\/.*\.md|src\/.*\.ts|dist\/.*\.(js|js\.map|d\.ts|d\.ts\.map))$/
    assert.deepStrictEqual(
      files.filter((name) => !allowed.test(name)),
      []
    )
    // One file of each kind for each source: what a deleted source left behind is not shipped.
    const sources = files.filter((name) => name.startsWith("src/")).map((name) => name.slice(4, -3))
    const expected = sources.flatMap((name) =>
      [".d.ts", ".d.ts.map", ".js", ".js.map"].map((end) => `dist/${name}${end}`)
    )
    assert.deepStrictEqual(
      files.filter((name) => name.startsWith("dist/")),
      expected.toSorted()
    )
  })

  it("has source maps that lead to the shipped sources, and no path of this machine", () => {
    const maps = filesIn(path.join(installed, "dist")).filter((name) => name.endsWith(".map"))
    assert.isAbove(maps.length, 3)
    for (const name of maps) {
      const file = path.join(installed, "dist", name)
      const map = JSON.parse(fs.readFileSync(file, "utf8")) as { readonly sources: ReadonlyArray<string> }
      assert.lengthOf(map.sources, 1)
      const source = path.resolve(path.dirname(file), map.sources[0]!)
      assert.isTrue(fs.existsSync(source), `${name} -> ${map.sources[0]}`)
      assert.isTrue(source.startsWith(path.join(installed, "src")))
    }
    for (const name of filesIn(installed)) {
      assert.notInclude(fs.readFileSync(path.join(installed, name), "utf8"), root, name)
    }
  })

  it("leaves publint nothing to say", async () => {
    const bytes = fs.readFileSync(tarball)
    const { messages } = await publint({
      strict: true,
      pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer }
    })
    assert.deepStrictEqual(messages, [])
  })

  it("has the right types at every door, says arethetypeswrong", async () => {
    // Of the doors behind the pattern two stand for all; the compilers below go through each.
    const entries = [
      ...Object.keys(exports).filter((key) => exports[key] !== null && !key.includes("*")),
      "./Report",
      "./pool/Session"
    ]
    const flags = ["--profile", "esm-only", "--no-definitely-typed", "--no-emoji", "--format", "ascii"]
    await run(bin("attw"), [tarball, ...flags, "--entrypoints", ...entries], project)
  })

  it("is imported from plain JavaScript through every door, and through no other", async () => {
    fs.writeFileSync(
      path.join(project, "main.js"),
      `${doors.map((door, i) => `import * as m${i} from "${door}"`).join("\n")}
const shut = []
for (const name of ${JSON.stringify([...walls, "@sluice/sdk/dist/index.js", "@sluice/sdk/src/index.ts"])}) {
  await import(name).then(() => shut.push("open"), (error) => shut.push(error.code))
}
console.log(JSON.stringify({ ReportError: Object.keys(m${doors.indexOf("@sluice/sdk")}).includes("ReportError"), shut }))
`
    )
    const result = JSON.parse(await run(process.execPath, ["main.js"], project))
    assert.isTrue(result.ReportError)
    assert.isAbove(walls.length, 1)
    for (const code of result.shut) {
      assert.include(["ERR_PACKAGE_PATH_NOT_EXPORTED", "ERR_MODULE_NOT_FOUND"], code)
    }
  })

  const compilers = {
    nodenext: { module: "NodeNext", moduleResolution: "NodeNext" },
    bundler: { module: "ESNext", moduleResolution: "Bundler" }
  }
  for (const [name, options] of Object.entries(compilers)) {
    it(`is imported from TypeScript with moduleResolution ${name}`, async () => {
      fs.writeFileSync(
        path.join(project, `${name}.ts`),
        `${doors.map((door, i) => `import * as m${i} from "${door}"`).join("\n")}
import { ReportError } from "@sluice/sdk"
export const all = [${doors.map((_, i) => `m${i}`).join(", ")}]
export const tag: ReportError.DeadlineExceeded["_tag"] = "DeadlineExceeded"
// @ts-expect-error types are there: a tag that does not exist is refused
export const none: ReportError.DeadlineExceeded["_tag"] = "NoSuchError"
`
      )
      const compilerOptions = {
        ...options,
        target: "ES2022",
        lib: ["ES2023", "DOM"],
        types: ["node"],
        strict: true,
        exactOptionalPropertyTypes: true,
        // Once is enough for the insides of the declarations.
        skipLibCheck: name !== "nodenext",
        noEmit: true
      }
      const config = path.join(project, `tsconfig.${name}.json`)
      fs.writeFileSync(config, JSON.stringify({ compilerOptions, files: [`${name}.ts`] }))
      await run(bin("tsc"), ["-p", config, "--pretty", "false"], project)
    })
  }
})
