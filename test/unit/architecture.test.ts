import { assert, describe, it } from "@effect/vitest"
import { check, installed, print, workspace, type Options } from "../support/imports.ts"

const options: Options = {
  declared: ["effect", "@effect/sql-pg"],
  isUnstable: (specifier) => specifier.startsWith("effect/sql/") || specifier === "effect/http/HttpRouter"
}

/** Files of the SDK by their path inside src; every target of a relative import is taken as it is written. */
const rulesOf = (files: Record<string, string>) =>
  check(
    Object.entries(files).map(([path, text]) => ({
      path: path.startsWith("packages/") || path.startsWith("test/") ? path : `packages/sdk/src/${path}`,
      text
    })),
    options
  ).map((violation) => `${violation.file.replace("packages/sdk/src/", "")}:${violation.line} ${violation.rule}`)

describe("imports point one way", () => {
  it("the workspace has no import against the stream", () => {
    const sources = workspace()
    assert.isAbove(sources.length, 5)
    assert.deepStrictEqual(check(sources, installed()).map(print), [])
  })

  it("lets through what the design draws", () => {
    assert.deepStrictEqual(
      rulesOf({
        "Report.ts": `
          import * as Effect from "effect/Effect"
          import * as Deadline from "./policy/Deadline.ts"
          import type * as Database from "./Database.ts"
          import * as SqlSchema from "effect/sql/SqlSchema"`,
        "Database.ts": `import * as Router from "./topology/Router.ts"`,
        "policy/Deadline.ts": `import * as ReportError from "../ReportError.ts"`,
        "topology/Router.ts": `import * as SessionPool from "../pool/SessionPool.ts"`,
        "pool/SessionPool.ts": `import * as Session from "./Session.ts"`,
        "pool/Session.ts": `import * as PgConnection from "@effect/sql-pg/PgConnection"\nimport * as net from "node:net"`,
        "testing/FaultProxy.ts": `import * as net from "node:net"`,
        "http/index.ts": `import * as Report from "../Report.ts"`,
        "ReportError.ts": `import * as Schema from "effect/Schema"`,
        "packages/examples/src/main.ts": `import { Report } from "@sluice/sdk"`
      }),
      []
    )
  })

  it.each([
    ["pool to report", "pool/SessionPool.ts", `import * as Report from "../Report.ts"`],
    ["pool to policy", "pool/SessionPool.ts", `import * as Breaker from "../policy/Breaker.ts"`],
    ["policy to pool", "policy/Breaker.ts", `import * as Session from "../pool/Session.ts"`],
    ["policy to database", "policy/Breaker.ts", `import * as Database from "../Database.ts"`],
    ["topology to database", "topology/Node.ts", `export * from "../Database.ts"`],
    ["database to report", "Database.ts", `import * as Report from "./Report.ts"`],
    ["session to pool", "pool/Session.ts", `import * as SessionPool from "./SessionPool.ts"`],
    ["leaf to policy", "PgFailure.ts", `import * as Retry from "./policy/Retry.ts"`],
    ["one entry point to another", "http/index.ts", `import * as Tools from "../mcp/Tools.ts"`],
    ["a type only", "pool/SessionPool.ts", `import type { Report } from "../Report.ts"`],
    ["a type in an expression", "pool/SessionPool.ts", `export type R = import("../Report.ts").Report`],
    ["a dynamic import", "pool/SessionPool.ts", `export const load = () => import("../Report.ts")`]
  ])("stops %s", (_name, file, text) => {
    assert.deepStrictEqual(rulesOf({ [file]: text }), [`${file}:1 stream`])
  })

  it.each([
    ["the driver outside the session", "driver", "Report.ts", `import * as PgClient from "@effect/sql-pg/PgClient"`],
    ["the driver in the pool", "driver", "pool/SessionPool.ts", `import type {} from "@effect/sql-pg/PgConnection"`],
    ["a socket outside the session", "driver", "topology/Node.ts", `import * as net from "node:net"`],
    ["TLS outside the session", "driver", "topology/Node.ts", `import * as tls from "tls"`],
    ["an unstable module in a policy", "unstable", "policy/Retry.ts", `import * as S from "effect/sql/SqlError"`],
    ["HTTP outside its door", "unstable", "Report.ts", `import * as H from "effect/http/HttpRouter"`],
    ["the barrel of Effect", "barrel", "Report.ts", `import { Effect } from "effect"`],
    ["the barrel of a folder", "barrel", "pool/SessionPool.ts", `import { SqlClient } from "effect/sql"`],
    ["testing from a report", "testing", "Report.ts", `import * as PgCluster from "./testing/PgCluster.ts"`],
    ["testing from the index", "testing", "index.ts", `export * as PgCluster from "./testing/PgCluster.ts"`],
    ["a package that is not declared", "undeclared", "Report.ts", `import pg from "pg"`],
    ["a file without a room", "room", "helpers.ts", `export const a = 1`],
    ["a way out of src", "door", "Report.ts", `import * as support from "../../../test/support/imports.ts"`],
    ["text that does not parse", "parse", "Report.ts", `import * from from`],
    [
      "an example that reaches inside",
      "door",
      "packages/examples/src/main.ts",
      `import * as Session from "../../sdk/src/pool/Session.ts"`
    ]
  ])("stops %s", (_name, rule, file, text) => {
    const found = rulesOf({ [file]: text })
    assert.deepStrictEqual(
      found.map((line) => line.split(" ")[1]),
      [rule]
    )
  })

  it("stops a cycle inside a room, unless only types make it one, and prints its path once", () => {
    const sources = [
      ["packages/sdk/src/pool/SessionPool.ts", `\nimport * as Lease from "./Lease.ts"`],
      ["packages/sdk/src/pool/Lease.ts", `import * as Waiters from "./Waiters.ts"`],
      ["packages/sdk/src/pool/Waiters.ts", `import { type Options, make } from "./SessionPool.ts"`],
      ["packages/sdk/src/pool/Aside.ts", `import * as Lease from "./Lease.ts"`],
      ["packages/sdk/src/topology/Node.ts", `import { type Router } from "./Router.ts"`],
      ["packages/sdk/src/topology/Router.ts", `import * as Node from "./Node.ts"`],
      ["packages/sdk/src/topology/Health.ts", `import type * as Self from "./Health.ts"`]
    ].map(([path, text]) => ({ path: path!, text: text! }))
    assert.deepStrictEqual(check(sources, options).map(print), [
      "packages/sdk/src/pool/Waiters.ts:1 imports packages/sdk/src/pool/SessionPool.ts [cycle] " +
        "packages/sdk/src/pool/SessionPool.ts -> packages/sdk/src/pool/Lease.ts -> packages/sdk/src/pool/Waiters.ts -> packages/sdk/src/pool/SessionPool.ts"
    ])
  })

  it("knows from Effect's own sources what is unstable", () => {
    const { isUnstable } = installed()
    assert.isFalse(isUnstable("effect/Effect"))
    assert.isFalse(isUnstable("effect/Schedule"))
    assert.isTrue(isUnstable("effect/sql/SqlClient"))
    assert.isTrue(isUnstable("effect/persistence/RateLimiter"))
  })
})
