/** The guide `failures.md` shows what is really said: each of its texts is produced here. `UPDATE_GUIDE=1` writes it. */
import { assert } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster, type PgServer } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as path from "node:path"
import { root } from "../../support/docs.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary"] }) {}

const base = { database: Fleet.role("primary"), params: {}, row: { n: Schema.Int }, deadline: "10 seconds" } as const
const one = Report.make("stops", { ...base, query: (sql) => sql`select 1 as n` })

interface Failure {
  readonly title: string
  readonly todo: string
  readonly options?: Database.RoleOptions
  readonly run: (server: PgServer.PgServer) => Effect.Effect<unknown, unknown, any>
}

const asked = (sql: string, more: object = {}) =>
  Report.make("stops", {
    ...base,
    query: (q: SqlClient.SqlClient) => q.unsafe<object>(sql),
    ...more
  } as never) as Report.Any

/** With a session that is there: a busy machine connects slowly. */
const warm = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.andThen(one.run({}), self)

const failures: ReadonlyArray<Failure> = [
  {
    title: "Nobody listens at the address",
    todo: "Start the server, or mend `host` and `port` (`DB_HOST`, `DB_PORT`, `DATABASE_URL`).",
    options: { host: "127.0.0.1", port: 1 },
    run: () => one.run({})
  },
  {
    title: "The name is unknown",
    todo: "Mend the host's name, or the resolver of the machine.",
    options: { host: "no-such-host.invalid" },
    run: () => one.run({})
  },
  {
    title: "The password is wrong",
    todo: "Mend the password. With `password` as an Effect it is asked again when the server refuses it.",
    options: { password: Redacted.make("not-this-one") },
    run: () => one.run({})
  },
  {
    title: "No password is given",
    todo: "Set `DB_PASSWORD`, the password in the URL, or the option `password`.",
    options: { password: undefined },
    run: () => one.run({})
  },
  {
    title: "There is no such database",
    todo: "Mend `name` (`DB_NAME`, the path of the URL), or create the database.",
    options: { name: "flet" },
    run: () => one.run({})
  },
  {
    title: "TLS is required, and the server has none",
    todo: 'Turn on TLS in the server, or declare `sslmode: "disable"` where the network is yours.',
    options: { sslmode: "require" },
    run: () => one.run({})
  },
  {
    title: "A table does not exist",
    todo: "Mend the statement, run the migration, or set the `search_path` (`startupParameters`).",
    run: () => asked("select n\nfrom stps").run({})
  },
  {
    title: "A column does not exist",
    todo: "Mend the statement; `line` and `position` of the error lead into it, `Report.excerptOf(error)` shows the line.",
    run: () => asked("select speeed as n from positions").run({})
  },
  {
    title: "A value is there already",
    todo: "Write `on conflict`, or tell the caller. `names.constraint` says which rule it was.",
    run: () => asked("insert into positions values (1, 2) returning n", { writes: "once" }).run({})
  },
  {
    title: "The role may not read a table",
    todo: "Grant it: `grant select on ... to ...`.",
    run: () => asked("select peek() as n").run({})
  },
  {
    title: "A report changes data and does not say so",
    todo: 'Declare `writes: "once"` or `writes: "idempotent"`.',
    run: () => asked("insert into positions values (7, 2) returning n").run({})
  },
  {
    title: "A column's type does not fit the declared one",
    todo: "Write the cast or the schema that the error names.",
    run: () => asked("select count(*) as n from positions").run({})
  },
  {
    title: "A declared field is no column",
    todo: "Rename it in the statement (`as n`) or in the declaration.",
    run: () => asked("select 1 as m").run({})
  },
  {
    title: "Parameters do not fit",
    todo: "Tell the caller: nothing was sent. Every field is named.",
    run: () =>
      asked("select 1 as n", { params: { vehicle: Schema.NonEmptyString, days: Schema.Int } }).run({
        vehicle: "",
        days: 1.5
      })
  },
  {
    title: "A lane is not declared",
    todo: "Mend its name, or declare it: `lanes: { nightly: { cap: 2 } }`.",
    run: () => asked("select 1 as n", { lane: "interactiv" }).run({})
  },
  {
    title: "No session comes free in time",
    todo: "Look at the longest holders. Then shorten them, give the lane a reserve, or raise `maxConnections`.",
    options: { maxConnections: 1 },
    run: () =>
      Effect.flatMap(base.database, ({ sql }) =>
        Effect.scoped(
          Effect.andThen(
            sql.reserve,
            Effect.provide(asked("select 1 as n", { deadline: "300 millis" }).run({}), Layer.empty, { local: true })
          )
        )
      )
  },
  {
    title: "The server does not answer in time",
    todo: "Look at the plan (`explain`), at locks (`pg_stat_activity`), then at the deadline.",
    run: () => warm(asked("select 1 as n from pg_sleep(5)", { deadline: "1 second" }).run({}))
  },
  {
    title: "A breaker is open",
    todo: "Look at the error that opened it. It closes by itself when a probe succeeds.",
    run: () => {
      const failing = asked("select 1 as n from pg_sleep(5)", {
        deadline: "2 seconds",
        attemptTimeout: "100 millis",
        breaker: { consecutiveFailures: 2 }
      })
      return warm(
        Effect.andThen(Effect.ignore(failing.run({})), Effect.andThen(Effect.ignore(failing.run({})), failing.run({})))
      )
    }
  },
  {
    title: "Too many calls at once",
    todo: "Raise the bulkhead's `permits` or `queue`, or let the caller come back.",
    run: () => {
      const busy = asked("select 1 as n from pg_sleep(1)", { bulkhead: { permits: 1, queue: 0 } })
      return Effect.all([busy.run({}), Effect.delay(busy.run({}), "50 millis")], { concurrency: 2 })
    }
  },
  {
    title: "The answer of a write is lost",
    todo: "Look whether it was applied before you repeat it. A write that may be repeated is `idempotent`.",
    run: (server) =>
      Effect.gen(function* () {
        const proxy = yield* FaultProxy.make({ target: server })
        const slow = asked("insert into positions select 90, 1 from pg_sleep(3) returning n", { writes: "once" })
        return yield* Effect.provide(
          warm(Effect.andThen(Effect.forkChild(Effect.delay(proxy.reset, "300 millis")), slow.run({}))),
          Fleet.layerRole("primary", at(proxy.port, server)).pipe(Layer.provide(Logger.layer([]))),
          { local: true }
        )
      }).pipe(Effect.scoped)
  },
  {
    title: "An option is misspelt",
    todo: "Write the name that is proposed.",
    options: { maxConections: 5 } as never,
    run: () => one.run({})
  }
]

const at = (port: number, server: PgServer.PgServer): Database.RoleOptions => ({
  host: "127.0.0.1",
  port,
  user: "postgres",
  name: "postgres",
  password: Redacted.make(new URL(server.url).password),
  sslmode: "disable",
  minConnections: 0
})

/** What changes from run to run. */
const steady = (text: string): string =>
  text
    .replace(/(127\.0\.0\.1|\.invalid):\d+/g, "$1:5432")
    .replace(/\b\d+(?:\.\d+)? (ms|s)\b/g, "N $1")
    .replace(/N (?:ms|s)\b/g, "N s")

const fence = (text: string) => ["```text", text, "```"]

postgres(ownCluster({ auth: "scram-sha-256" }))("the guide of failures", (it) => {
  it.effect("shows what is said", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      for (const sql of [
        "create table positions (n int primary key, speeds int)",
        "insert into positions values (1, 1)",
        "create role reader",
        "create function peek() returns int language sql security definer as $$ select n from positions $$",
        "alter function peek() owner to reader"
      ]) {
        yield* primary.query(sql)
      }
      const page: Array<string> = [
        "# What the log says, and what to do",
        "",
        "Each text below is produced by a test (`test/postgres/report/guide.test.ts`); ports and times are left out. Errors are",
        "typed: their tag is in the type of the report, their fields are in the README.",
        ""
      ]
      for (const { options, run, title, todo } of failures) {
        const lines: Array<string> = []
        const logger = Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Warn" || logLevel === "Error") lines.push(`${logLevel}: ${String(message)}`)
          })
        ])
        const layer = Fleet.layerRole("primary", { ...at(primary.port, primary), ...options })
        const error = (yield* run(primary).pipe(
          Effect.provide(Layer.provide(layer, logger), { local: true }),
          Effect.provide(logger),
          Effect.flip,
          Effect.scoped
        )) as { readonly _tag: string; readonly message: string }
        page.push(`## ${title}`, "", ...fence(steady(`${error._tag}: ${error.message}`)), "")
        const logged = [...new Set(lines.map(steady))]
        if (logged.length > 0) page.push("In the log:", "", ...fence(logged.join("\n")), "")
        page.push(todo, "")
      }
      const text = `${page.join("\n").trimEnd()}\n`
      const file = path.join(root, "packages/sdk/guides/failures.md")
      if (process.env["UPDATE_GUIDE"] !== undefined) fs.writeFileSync(file, text)
      assert.strictEqual(text, fs.readFileSync(file, "utf8"))
    })
  )
})
