/** What a process pays before its first row: time to start, time to import, bytes to ship. */
import * as esbuild from "esbuild"
import { gzipSync } from "node:zlib"
import { inChild, root } from "../Child.ts"
import { programs, sluice, type Program } from "../programs.ts"
import { type Context, type Entrant, figures, type Row } from "../Row.ts"

const evaluate = ({ node }: Context, code: string, environment?: Readonly<Record<string, string>>) =>
  inChild<number>(
    [...(code.includes("@sluice/sdk") ? node.sdk : node.plain), "--input-type=module", "--eval", code],
    environment
  )

const ofFreshProcess =
  (subject: string, run: (context: Context) => Promise<number>) =>
  (context: Context): Entrant => ({
    subject,
    open: async () => ({ subject, round: () => run(context), close: async () => {} })
  })

const processes = { rounds: 9, unit: "ms" } as const

export const coldStart: Row = {
  ...processes,
  name: "cold-start",
  about:
    "a fresh process until its first row: start of Node, import, pool or layer, connect, one row by key; `node alone` does nothing",
  brief: "a fresh process until its first row",
  groups: (context) => [
    {
      contenders: [
        ...programs.map(({ source, subject }) =>
          ofFreshProcess(subject, (own) => evaluate(own, source, { BENCH_URL: own.url }))(context)
        ),
        {
          ...ofFreshProcess("node alone", (own) => evaluate(own, "console.log(performance.now())"))(context),
          beside: null
        }
      ]
    }
  ]
}

const importing = (modules: ReadonlyArray<string>) =>
  `const began = performance.now()
${modules.map((name) => `await import(${JSON.stringify(name)})`).join("\n")}
console.log(performance.now() - began)`

export const importTime: Row = {
  ...processes,
  name: "import",
  about:
    "importing the client in a fresh process, everything that it imports included: `@sluice/sdk` with all its modules, its two modules for reports alone, the driver of Effect, and the others",
  brief: "importing the client in a fresh process",
  groups: (context) => [
    {
      contenders: [
        ...programs.map(({ modules, subject }) =>
          ofFreshProcess(subject, (own) => evaluate(own, importing(modules)))(context)
        ),
        ofFreshProcess("sluice, Report and Database", (own) =>
          evaluate(own, importing(["@sluice/sdk/Report", "@sluice/sdk/Database"]))
        )(context)
      ]
    }
  ]
}

const bundle = async ({ source }: Program, external: ReadonlyArray<string>, { node }: Context) => {
  const { outputFiles } = await esbuild.build({
    stdin: { contents: source, resolveDir: root, loader: "js" },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node20",
    conditions: node.sdk.flatMap((arg) => (arg.startsWith("--conditions=") ? [arg.slice(13)] : [])),
    external: ["pg-native", ...external],
    logLevel: "silent"
  })
  const [file] = outputFiles
  return { minified: file!.contents.length, gzipped: gzipSync(file!.contents, { level: 9 }).length }
}

const effectExternal: Program = { ...sluice, subject: "sluice, effect external" }

/** The size of what is shipped is the same in every round. */
export const bundleSize: ReadonlyArray<Row> = figures({
  rounds: 1,
  warmUp: false,
  subjects: [
    ...programs.map((program) => ({ program, external: [] })),
    { program: effectExternal, external: ["effect", "effect/*", "@effect/*"] }
  ].map(({ external, program }) => ({
    subject: program.subject,
    run: (context) => bundle(program, external, context)
  })),
  rows: [
    {
      name: "bundle",
      about:
        "the program of the row cold-start as one file by esbuild, minified; Effect is in it where it is used, except in `effect external`, which is for a program that has Effect anyway",
      brief: "the smallest program bundled and minified, Effect included",
      unit: "bytes",
      figure: "minified"
    },
    { name: "bundle-gzip", about: "the same, gzipped", brief: "the same, gzipped", unit: "bytes", figure: "gzipped" }
  ]
})
