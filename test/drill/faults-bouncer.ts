/** PgBouncer between the pool and the server, killed and started again. */
import * as Effect from "effect/Effect"
import { bouncerBefore, installed } from "../support/pgbouncer.ts"
import type { Fault } from "./Fault.ts"

type Bouncer = Effect.Success<ReturnType<typeof bouncerBefore>>

let bouncer: Bouncer | undefined

export const bouncerRestarted: Fault = {
  name: "pgbouncer-restarted",
  about: "PgBouncer in transaction mode, with 10 server connections, killed with -9, away for 500 ms, started",
  while: "busy",
  unavailable: installed ? undefined : "pgbouncer is not installed",
  prepare: Effect.fnUntraced(function* ({ cluster, database, password, proxy, user }) {
    bouncer = yield* bouncerBefore({ port: cluster.primary.port, database, user, password }, 10)
    yield* proxy.retarget(bouncer)
    // Its own sessions on the server live on, and go with it.
    return { pooler: "transaction" as const, afterClose: bouncer.kill }
  }),
  begin: () => bouncer!.kill,
  lasts: 500,
  end: () => bouncer!.start
}
