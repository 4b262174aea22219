/** What a declaration of the wrong kind is told: the report, the field, and what to write. Never an error from our insides. */
import { assert, describe, it } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import * as Schema from "effect/Schema"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}

const base = {
  database: Fleet.role("primary"),
  params: {},
  row: { n: Schema.Int },
  query: () => "",
  deadline: "1 second"
}
const make = Report.make as (name: unknown, options: object) => unknown
const declare = (more: object) => make("trap", { ...base, ...more })

/** `zod` and its like. */
const foreign = { "~standard": { version: 1, vendor: "zod", validate: () => ({ value: 1 }) } }

describe("a declaration", () => {
  for (const [what, more, said] of [
    [
      "a row of constructors",
      { row: { n: Number } },
      "row.n must be a schema, not a function; write Schema.Finite or Schema.Int"
    ],
    ["a date's constructor", { row: { n: Date } }, "row.n must be a schema, not a function; write Schema.Date"],
    [
      "a type's name",
      { row: { n: "string" } },
      'row.n must be a schema, not "string"; write Schema.String, Schema.Literal or another schema of effect/Schema'
    ],
    [
      "a row within a row",
      { row: { n: { m: Schema.Int } } },
      "row.n must be a schema, not an object; write Schema.Struct({ ... }) around these fields"
    ],
    [
      "a schema of another library",
      { row: { n: foreign } },
      "row.n must be a schema, not an object of another library; write one of effect/Schema"
    ],
    [
      "a field that is missing",
      { row: { n: undefined } },
      "row.n must be a schema, not undefined; write one of effect/Schema"
    ],
    ["a row that is a list", { row: ["n"] }, "row must be a schema or the fields of one, not an object"],
    [
      "params of constructors",
      { params: { n: String } },
      "params.n must be a schema, not a function; write Schema.String"
    ],
    [
      "no params",
      { params: undefined },
      "params must be a schema or the fields of one ({} when it takes none), not undefined"
    ],
    [
      "a database in place of its role",
      { database: Fleet },
      'database must be a role of a database, such as Fleet.role("replica")'
    ],
    [
      "a text as a query",
      { query: "select 1" },
      'query must be a function of a SqlClient and the parameters, not "select 1"'
    ],
    [
      "a duration that is none",
      { deadline: "2 secs" },
      'deadline must be a duration above zero, and at most a year, not "2 secs"'
    ],
    [
      "a hedge on a write",
      { writes: "once", hedge: {} },
      "hedge cannot be declared by a report that writes: a second attempt would write twice"
    ]
  ] as const) {
    it(`${what}: ${said}`, () => {
      assert.throws(() => declare(more), Error, `Report "trap": ${said}`)
    })
  }

  it("needs a name", () => {
    for (const name of ["", " ", 5, null, undefined, {}]) {
      assert.throws(() => make(name, base), Error, "Report.make: the name must be a text that is not empty, not ")
    }
  })

  it("of any field of any hostile kind is refused by its name, or taken", () => {
    const hostile = [
      null,
      0,
      -1,
      Number.NaN,
      Infinity,
      1n,
      "",
      "soon",
      true,
      [],
      {},
      Symbol("s"),
      () => 1,
      new Date(),
      /x/,
      Promise.resolve()
    ]
    const fields = [
      "database",
      "params",
      "row",
      "query",
      "deadline",
      "attemptTimeout",
      "lane",
      "priority",
      "maxRows",
      "writes",
      "outside",
      "retry",
      "breaker",
      "bulkhead",
      "rateLimit",
      "shed",
      "hedge",
      "fallback",
      "retries"
    ]
    let refused = 0
    for (const field of fields) {
      for (const value of hostile) {
        try {
          declare({ [field]: value })
        } catch (error) {
          refused++
          assert.match(
            (error as Error).message,
            new RegExp(`^Report "trap": ${field}\\b`),
            `${field}: ${String(value)}`
          )
        }
      }
    }
    assert.isAbove(refused, 200)
  })
})
