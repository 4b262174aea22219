/** The servers of a run. */
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { Context } from "./Row.ts"
import { keys } from "./Subject.ts"

/** A server with the table `items`, a proxy before it, and more servers when a row asks for them; gone with the scope. */
export const makeContext = Effect.fnUntraced(function* (options: Pick<Context, "quick" | "scale" | "node" | "say">) {
  const scope = yield* Scope.Scope
  const { primary } = yield* PgCluster.make({ settings: { max_connections: 500 } })
  const proxy = yield* FaultProxy.make({ target: primary })
  const [setting] = yield* primary.query("show server_version")
  yield* primary.query("create table items (id int primary key, name text not null, value float8 not null)")
  yield* primary.query(`insert into items select g, 'item ' || g, g / 7.0 from generate_series(1, ${keys}) g`)
  yield* primary.query("vacuum analyze items")
  const context: Context = {
    ...options,
    url: primary.url,
    counted: {
      url: proxy.url(primary.url),
      reset: () => Effect.runPromise(proxy.resetCounters),
      roundTrips: () => Effect.runPromise(Effect.map(proxy.counters, (counters) => counters.roundTrips))
    },
    cluster: (settings) => Effect.runPromise(Scope.provide(PgCluster.make(settings), scope))
  }
  return { context, version: String(setting?.["server_version"]) }
})
