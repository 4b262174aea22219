/** What is kept for a server goes with it, and nobody comes after the end. Nothing listens at these addresses. */
import { assert, describe, it } from "@effect/vitest"
import { Database, Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Policies from "../../packages/sdk/src/report/Policies.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const report = Report.make("stops", {
  database: Fleet.role("replica"),
  params: {},
  row: { n: Schema.Int },
  query: (sql) => sql`select 1 as n`,
  deadline: "1 second",
  breaker: {}
})

const within = <A, E>(
  self: Effect.Effect<A, E, Database.Role<"fleet", "primary" | "replica"> | Database.Servers<"fleet">>
) =>
  Effect.scoped(
    Effect.provide(
      self,
      Fleet.layerServers({
        servers: ["127.0.0.1:1", "127.0.0.1:2"],
        minConnections: 0,
        shutdown: { graceful: 0, hard: 0 }
      }) as Layer.Layer<any>
    )
  ) as Effect.Effect<A, E>

const place = (port: number) => ({ host: "127.0.0.1", port, zone: undefined })

describe("servers that come and go", () => {
  it.live("a breaker forgets one that is gone, however many come", () =>
    within(
      Effect.gen(function* () {
        const role = yield* Fleet.role("replica")
        const { add, remove } = yield* Fleet.servers
        const { breaker } = Policies.make(report.declared, role, new Map() as never)
        for (let port = 3; port < 6; port++) {
          yield* add(place(port))
          yield* breaker!.forceOpen(`127.0.0.1:${port}`)
          assert.include(breaker!.keys(), `127.0.0.1:${port}`)
          yield* remove(`127.0.0.1:${port}`)
        }
        yield* breaker!.status("127.0.0.1:1")
        assert.deepStrictEqual(breaker!.keys(), ["127.0.0.1:1"])
      })
    )
  )

  it.live("after the end nobody is added", () =>
    within(
      Effect.gen(function* () {
        const { add, shutdown, topology } = yield* Fleet.servers
        yield* shutdown
        const error = yield* Effect.flip(add(place(3)))
        assert.strictEqual(error._tag === "DatabaseUnavailable" ? error.reason : error._tag, "closed")
        assert.isUndefined(topology.get("127.0.0.1:3"))
      })
    )
  )
})
