/** Where the examples find their server: one that they start and throw away, or one that is already there. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { Fleet } from "../fleet/Fleet.ts"
import { drop, migrate } from "../fleet/migrations.ts"

/** The server behind the roles of the fleet. */
export class Server extends Context.Service<
  Server,
  {
    /** For people; holds no password. */
    readonly description: string
    /** Waits until the replica has what the primary has written. */
    readonly caughtUp: Effect.Effect<void, PgCluster.PgServerError>
    /** The servers, where they are ours to be killed; they are thrown away at the end. */
    readonly cluster: PgCluster.Cluster | undefined
  }
>()("@sluice/examples/Server") {}

/**
 * A primary and a replica of their own: PostgreSQL from npm, gone with their data when the scope closes. Sluice is told of
 * two servers, not which of them is what: that is found out, and found out again after a failover.
 */
const embedded = Layer.unwrap(
  Effect.map(PgCluster.make({ replicas: 1 }), (cluster) => {
    const { primary, replica } = cluster
    return Layer.merge(
      Fleet.layerServers({
        servers: cluster.servers.map(({ host, port }) => ({ host, port })),
        user: "postgres",
        boot: "connect-one",
        roles: { replica: { fallback: "primary" } }
      }),
      Layer.succeed(Server, {
        description: `a primary (${primary.host}:${primary.port}) and a replica (${replica.host}:${replica.port}), thrown away at the end`,
        caughtUp: replica.waitForReplay(primary),
        cluster
      })
    )
  })
)

/** A server that is there, behind both roles. Somebody who mistyped the URL is told within seconds. */
const existing = (url: Redacted.Redacted) =>
  Layer.merge(
    Fleet.layer({
      primary: { url, connectionTimeout: "5 seconds" },
      replica: { url, connectionTimeout: "5 seconds" }
    }),
    Layer.succeed(Server, {
      description: `the server at ${withoutPassword(url)}`,
      caughtUp: Effect.void,
      cluster: undefined
    })
  )

const withoutPassword = (url: Redacted.Redacted): string => {
  const text = Redacted.value(url)
  if (!URL.canParse(text)) return "--database-url"
  const { host, pathname } = new URL(text)
  return `${host}${pathname}`
}

/** The roles of the fleet, and the primary's `SqlClient`: at `--database-url`, or on servers of one's own. */
export const layer = (url: Option.Option<Redacted.Redacted>) =>
  Fleet.layerSqlClient("primary").pipe(
    Layer.provideMerge(Option.match(url, { onNone: () => embedded, onSome: existing }))
  )

/** The database has a schema `fleet` that somebody else made. Nothing was touched. */
export class SchemaTaken extends Schema.TaggedError<SchemaTaken>("@sluice/examples/SchemaTaken")("SchemaTaken", {
  server: Schema.String
}) {
  override get message(): string {
    return (
      `--database-url: ${this.server} has a schema "fleet" already; nothing was touched. ` +
      "Give another database, or drop that schema if a run that was killed left it there."
    )
  }
}

/** Makes the schema `fleet`, which must not be there, with its tables; and drops it when the scope closes. */
export const ownSchema = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { cluster, description } = yield* Server
  yield* Effect.acquireRelease(
    Effect.gen(function* () {
      const taken = yield* sql`select 1 from pg_namespace where nspname = 'fleet'`
      if (taken.length > 0) return yield* new SchemaTaken({ server: description })
      return yield* sql`create schema fleet`
    }),
    () =>
      // A server of ours goes with all that is in it.
      cluster !== undefined
        ? Effect.void
        : Effect.provideService(drop, SqlClient.SqlClient, sql).pipe(
            Effect.timeout("10 seconds"),
            Effect.catch((error) => Effect.logWarning(`the schema "fleet" is left behind: ${String(error)}`))
          )
  )
  yield* migrate
})
