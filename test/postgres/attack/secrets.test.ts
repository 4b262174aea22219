import { assert } from "@effect/vitest"
import { type Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { main, role, Target, timed } from "./support.ts"
import { keepSpans } from "../../support/spans.ts"

const server = Effect.map(PgCluster.PgCluster, ({ primary }) => primary)

const hidden = ["hunter2secret", "hunter3secret"]

const texts = (value: unknown): ReadonlyArray<string> => {
  const safe = (f: () => string | undefined): string => {
    try {
      return f() ?? ""
    } catch (error) {
      return String(error)
    }
  }
  const seen = new WeakSet<object>()
  return [
    safe(() =>
      JSON.stringify(value, (_, one: unknown) => {
        if (typeof one === "bigint") return String(one)
        if (typeof one !== "object" || one === null) return one
        if (seen.has(one)) return "[seen]"
        seen.add(one)
        return one
      })
    ),
    safe(() => String(value)),
    safe(() => inspect(value, { depth: 30, showHidden: true, getters: true, maxArrayLength: null })),
    safe(() => (value instanceof Error ? `${value.message} ${value.stack}` : ""))
  ]
}

const keeps = (value: unknown, what: string) => {
  for (const text of texts(value)) for (const word of hidden) assert.notInclude(text, word, what)
}

const ask = Report.make("ask", {
  database: main,
  params: { secret: Schema.String },
  row: { n: Schema.Int },
  query: (sql, { secret }) => sql`select ${secret}::int as n`,
  deadline: "3 seconds"
})

postgres(ownCluster({ auth: "scram-sha-256", password: "hunter2secret" }))("secrets", (it) => {
  it.effect("appear in no error, span, or view of a service, whatever goes wrong at login", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      const proxy = yield* FaultProxy.make({ target: postgres })
      yield* postgres.query("create role locked login password 'hunter2secret'")
      const { spans, tracer } = keepSpans()
      const url = (user: string, password: string, name = "postgres", query = "") =>
        Redacted.make(`postgres://${user}:${password}@${proxy.host}:${proxy.port}/${name}${query}`)
      const cases: Record<string, Database.RoleOptions> = {
        right: { url: url("postgres", "hunter2secret") },
        wrong: { url: url("locked", "hunter3secret") },
        missing: { url: url("postgres", "hunter2secret", "nowhere") },
        tls: { url: url("postgres", "hunter2secret"), sslmode: "verify-full" },
        mode: { url: url("postgres", "hunter2secret", "postgres", "?sslmode=banana") },
        broken: { url: Redacted.make("postgres://postgres:hunter2secret@[bad/db") },
        port: { url: Redacted.make("postgres://postgres:hunter2secret@127.0.0.1:99999/db") },
        hosts: { url: Redacted.make("postgres://postgres:hunter2secret@127.0.0.1:1,:99999999/db") },
        scheme: { url: Redacted.make("mysql://postgres:hunter2secret@h/db") },
        effect: {
          url: url("locked", "x"),
          password: Effect.suspend(() => Effect.fail({ _tag: "VaultError", message: "vault says hunter2secret" }))
        },
        defect: {
          url: url("locked", "x"),
          password: Effect.suspend(() => Effect.die(new Error("vault says hunter2secret")))
        },
        key: {
          url: url("postgres", "hunter2secret"),
          sslmode: "require",
          tls: { key: Redacted.make("hunter3secret"), cert: "no cert" }
        }
      }
      for (const [name, options] of Object.entries(cases)) {
        const exit = yield* Effect.exit(
          Effect.scoped(
            Effect.gen(function* () {
              const context = yield* Layer.build(
                Target.layer({
                  main: {
                    sslmode: "disable",
                    ...options,
                    minConnections: 0,
                    maxConnections: 2,
                    connectionTimeout: "1 second"
                  }
                })
              )
              const service = Context.get(context, main)
              keeps(service, `${name}: the service`)
              keeps(service.nodes[0]!.pool, `${name}: the pool`)
              keeps(yield* service.nodes[0]!.pool.stats, `${name}: the statistics`)
              keeps(yield* Effect.exit(service.sql`select 1`), `${name}: the client's error`)
              const told = yield* Effect.exit(Effect.provide(ask.run({ secret: "hunter3secret" }), context))
              keeps(told, `${name}: the report's error`)
              if (Exit.isFailure(told)) {
                keeps(Cause.pretty(told.cause), name)
                assert.isFalse(Cause.hasDies(told.cause), Cause.pretty(told.cause))
              }
              if (name === "right") {
                yield* Effect.scoped(
                  Effect.flatMap(service.nodes[0]!.pool.acquire({ lane: "x", name: "x" }), (session) =>
                    Effect.sync(() => keeps(session, "a session"))
                  )
                )
              }
              return told
            })
          )
        ).pipe(Effect.provideService(Tracer.Tracer, tracer))
        keeps(exit, name)
        if (Exit.isFailure(exit)) keeps(Cause.pretty(exit.cause), name)
      }
      for (const span of spans as Array<Tracer.Span>) {
        // Statements outside of reports have Effect's own spans, with the server's own words.
        if (span.name !== "sql.execute") keeps(span, span.name)
      }
    })
  )

  it.effect("a password that becomes right is used, without a new layer", () =>
    Effect.gen(function* () {
      const postgres = yield* server
      yield* postgres.query("create role rotated login password 'old'")
      let password = "wrong"
      const { sql } = yield* role(postgres, {
        url: Redacted.make(`postgres://rotated@${postgres.host}:${postgres.port}/postgres`),
        password: Effect.sync(() => Redacted.make(password)),
        connectionTimeout: "1 second"
      })
      const [error, millis] = yield* timed(Effect.flip(sql`select 1`))
      assert.isBelow(millis, 900, "a wrong password is told at once")
      keeps(error, "error")
      password = "old"
      const [, healed] = yield* timed(expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess))
      assert.isBelow(healed, 12_000)
      yield* postgres.query("alter role rotated password 'new'")
      yield* postgres.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'")
      password = "new"
      yield* expectEventually(Effect.exit(sql`select 1`), Exit.isSuccess)
    })
  )
})
