/**
 * The type rules hold, and each of them can fail: a mutant of the SDK that breaks one rule must break the compile of the
 * file that states it.
 */
import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { mutations } from "./mutations.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Compiles the type tests against a copy of the SDK; what the compiler says of the tests themselves. */
const compile = (
  mutate: (source: string) => void,
  files: ReadonlyArray<string> = ["report.ts", "policies.ts"]
): ReadonlyArray<string> => {
  const directory = mkdtempSync(join(tmpdir(), "sluice-types-"))
  try {
    cpSync(join(root, "packages/sdk/src"), join(directory, "src"), { recursive: true })
    for (const file of [...files, "support.ts"]) {
      cpSync(join(root, "test/types", file), join(directory, file))
    }
    symlinkSync(join(root, "node_modules"), join(directory, "node_modules"))
    writeFileSync(
      join(directory, "tsconfig.json"),
      JSON.stringify({
        extends: join(root, "tsconfig.base.json"),
        compilerOptions: {
          noEmit: true,
          composite: false,
          incremental: false,
          noUnusedLocals: false,
          noUnusedParameters: false,
          allowImportingTsExtensions: true,
          rewriteRelativeImportExtensions: false,
          paths: { "@sluice/sdk": ["./src/index.ts"], "@sluice/sdk/*": ["./src/*.ts"] }
        },
        files
      })
    )
    writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }))
    mutate(join(directory, "src"))
    const tsc = join(root, "node_modules/typescript/bin/tsc")
    const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", directory], { encoding: "utf8" })
    const errors = stdout
      .split("\n")
      .filter((line) => /(^|\/)(report|policies|words)\.ts\(\d/.test(line) && !line.includes("src/"))
    // A compiler that did not run would let every mutant live.
    assert.isTrue(status === 0 || stdout.includes("error TS"), stdout)
    return errors
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe("types of a report", () => {
  it("hold as declared", () => {
    assert.deepStrictEqual(
      compile(() => {}),
      []
    )
  })

  it("say in words that a fallback is for an error that cannot occur", () => {
    const errors = compile((source) => {
      const path = join(source, "../policies.ts")
      const text = readFileSync(path, "utf8")
      writeFileSync(path, text.replace("// @ts-expect-error without a breaker no circuit opens", ""))
    })
    assert.lengthOf(errors, 1)
    assert.include(errors[0], "this report cannot fail with 'CircuitOpen'")
  })

  it("say in words what may be written", () => {
    const errors = compile(() => {}, ["words.ts"])
    const expected = [
      "a report that writes has no stream: who leaves it cannot know what was written; use run or runWithInfo",
      "a report that writes has no hedge: a second attempt would write twice",
      'WrittenAs<"2 seconds", "500 millis">',
      "retries stand in retry: { retries: 2 }",
      'FieldIs<"Schema.String", "Schema.Finite">',
      "a query gives a statement: sql`select ...`"
    ]
    assert.lengthOf(errors, expected.length)
    expected.forEach((words, index) => assert.include(errors[index], words))
  })

  // Two minutes of the compiler, which is the same for every Node and with every program that tests need: once is enough in CI.
  const checked = process.env["SLUICE_TYPE_MUTANTS"] === "checked"
  for (const { file, from, rule, to } of mutations) {
    it.skipIf(checked)(`catch a mutant: ${rule}`, () => {
      const errors = compile((source) => {
        const path = join(source, file)
        const text = readFileSync(path, "utf8")
        assert.include(text, from, `the mutation of ${file} no longer applies`)
        writeFileSync(path, text.replaceAll(from, to))
      })
      assert.isAbove(errors.length, 0, `no type test noticed the mutant of ${file}`)
    })
  }
})
