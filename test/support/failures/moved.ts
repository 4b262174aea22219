/** An endpoint that leads to the new primary, with each profile, with and without the privileges of the looks. */
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Line } from "./observe.ts"

class Endpoint extends Database.Service<Endpoint>()("endpoint", { roles: ["primary"] }) {}

const put = Report.make("put", {
  database: Endpoint.role("primary"),
  params: { id: Schema.Int },
  row: { id: Schema.Int },
  query: (sql, { id }) =>
    sql`insert into moved values (${id}) on conflict (id) do update set id = excluded.id returning id`,
  deadline: "3 seconds",
  attemptTimeout: "1 second",
  writes: "idempotent",
  retry: {}
})

const kinds = [
  { profile: "postgres", revoked: false },
  { profile: "haproxy", revoked: false },
  { profile: "haproxy", revoked: true },
  { profile: "aurora", revoked: true }
] as const

const move = Effect.fnUntraced(function* ({ profile, revoked }: (typeof kinds)[number]) {
  const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
  yield* primary.query("create table moved (id int primary key)")
  yield* primary.query("create role app login")
  yield* primary.query("grant all on moved to app")
  if (revoked) yield* primary.query("revoke execute on function pg_control_system() from public")
  yield* replica.waitForReplay(primary)
  const proxy = yield* FaultProxy.make({ target: primary })
  const url = new URL(proxy.url(primary.url))
  url.username = "app"
  const failed = yield* Effect.gen(function* () {
    yield* Effect.all(
      [1, 2, 3, 4].map((id) => put.run({ id })),
      { concurrency: 4 }
    )
    yield* Effect.sleep("1200 millis")
    yield* primary.query("alter system set default_transaction_read_only = on")
    yield* primary.query("select pg_reload_conf()")
    yield* replica.promote
    yield* proxy.retarget(replica)
    let failed = 0
    for (let id = 10; id < 40; id++) {
      if ((yield* Effect.exit(put.run({ id })))._tag === "Failure") failed++
      yield* Effect.sleep("50 millis")
    }
    return failed
  }).pipe(
    Effect.provide(
      Endpoint.layerRole("primary", {
        url: Redacted.make(url.href),
        sslmode: "disable",
        minConnections: 4,
        maxConnections: 4,
        profile
      })
    )
  )
  const result = "at most 2 of 30 writes fail"
  const line: Line = {
    case: `profile ${profile}${revoked ? ", pg_control_system() revoked" : ""}`,
    expected: { class: "", attempts: 1, result },
    seen: { class: "", attempts: 1, result: failed <= 2 ? result : `${failed} of 30 writes failed` }
  }
  return line
})

export const moved = Effect.forEach(kinds, (kind) => Effect.scoped(move(kind)))
