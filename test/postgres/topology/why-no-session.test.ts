/** What is told to who has to mend it, when no session can be had. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import type { DatabaseUnavailable } from "@sluice/sdk/ReportError"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Db extends Database.Service<Db>()("db", { roles: ["primary"] }) {}

const one = Report.make("one", {
  database: Db.role("primary"),
  params: {},
  row: { x: Schema.Int },
  query: (sql) => sql`select 1 as x`,
  deadline: "4 seconds"
})

interface Case {
  readonly why: string
  readonly options: { readonly servers?: ReadonlyArray<string> } & Database.RoleOptions
  readonly reason: DatabaseUnavailable["reason"]
  readonly said: RegExp
}

const wrong = Redacted.make("not-the-password")

const cases: ReadonlyArray<Case> = [
  {
    why: "the password is wrong",
    options: { password: wrong },
    reason: "authentication",
    said: /refused the password of user postgres/
  },
  { why: "no password is given", options: {}, reason: "authentication", said: /password/ },
  {
    why: "the password's effect fails",
    options: { password: Effect.fail("vault sealed") },
    reason: "authentication",
    said: /password/
  },
  {
    why: "the server has no TLS",
    options: { sslmode: "require" },
    reason: "configuration",
    said: /does not offer TLS/
  },
  {
    why: "nobody listens",
    options: { port: 1, servers: ["127.0.0.1:1", "127.0.0.1:2"] },
    reason: "unreachable",
    said: /nobody listens at 127\.0\.0\.1:/
  },
  {
    why: "the name is unknown",
    options: { host: "no-such-host.invalid", servers: ["no-such-host.invalid", "nor-this.invalid"] },
    reason: "unreachable",
    said: /the name .* is unknown/
  },
  {
    why: "there is no such database",
    options: { name: "nope" },
    reason: "configuration",
    said: /there is no database nope/
  }
]

const failure = <E>(layer: Layer.Layer<Database.Role<"db", "primary">, E>) =>
  one.run({}).pipe(Effect.provide(Layer.provide(layer, Logger.layer([])), { local: true }), Effect.flip)

postgres(ownCluster({ auth: "scram-sha-256" }))("why no session can be had", (it) => {
  it.effect("is told by a role of one host, and by one of several servers", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const other = yield* FaultProxy.make({ target: primary })
      const at = { host: "127.0.0.1", port: primary.port }
      const right = Redacted.make(new URL(primary.url).password)
      const check = ({ options: { servers, ...options }, reason, said, why }: Case) =>
        Effect.gen(function* () {
          const password = why.includes("password") ? undefined : right
          const all = { user: "postgres", name: "postgres", password, ...options }
          const { host: _, port: __, ...several } = all
          const layers = [
            Db.layerRole("primary", { ...at, ...all }),
            Db.layerServers({ servers: servers ?? [`${at.host}:${at.port}`, `${at.host}:${other.port}`], ...several })
          ]
          for (const layer of layers) {
            const error = yield* failure(layer)
            assert.deepInclude(error, { _tag: "DatabaseUnavailable", reason }, `${why}: ${error.message}`)
            assert.match(error.message, said, why)
            assert.isDefined(Report.sqlErrorOf(error), why)
            assert.notInclude(error.message, Redacted.value(wrong))
            assert.notInclude(error.message, Redacted.value(right))
          }
        })
      yield* Effect.forEach(cases, check, { concurrency: "unbounded", discard: true })
    })
  )
})
