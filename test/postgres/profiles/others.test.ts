/**
 * Profiles of what cannot be run here, on PostgreSQL in its place: an endpoint whose server changes, with Aurora's functions
 * (no claim about Aurora itself), and servers that are peers of each other (as CockroachDB's, YugabyteDB's, Citus's are).
 */
import { assert } from "@effect/vitest"
import { Database, Health, ReadAfter, Report, Snapshot } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { expectEventually } from "../../support/expectEventually.ts"
import { absent } from "../../support/absent.ts"
import { bouncer, installed } from "../../support/pgbouncer.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { account, Fleet, layer, layerTogether, load, read, stored, write } from "./support.ts"

postgres(ownCluster({ replicas: 1 }))("Aurora's endpoints, on PostgreSQL", (it) => {
  it.effect("a lag is read where Aurora tells it; tokens and snapshots are refused, and it is said why", () =>
    Effect.gen(function* () {
      const { primary, replica } = yield* PgCluster.PgCluster
      yield* primary.query("create table writes (token text not null)")
      yield* primary.query(
        "create function aurora_db_instance_identifier() returns text language sql as $$ select current_setting('port') $$"
      )
      yield* primary.query(
        `create function aurora_replica_status() returns table (server_id text, replica_lag_in_msec real) language sql as
        $$ values ('${primary.port}', null::real), ('${replica.port}', 21.5) $$`
      )
      yield* replica.waitForReplay(primary)
      yield* Effect.provide(
        Effect.gen(function* () {
          yield* expectEventually(Effect.exit(read.run({})), ({ _tag }) => _tag === "Success")
          const { token, topology } = yield* Fleet.servers
          const lag = yield* expectEventually(
            Effect.sync(() => topology.nodes.map(({ standing }) => standing.lagMillis)),
            (lags) => lags.every((each) => each !== undefined)
          )
          assert.deepStrictEqual(lag, [0, 21.5])
          assert.deepStrictEqual(
            topology.nodes.map(({ state }) => state.observation?.lsn),
            [undefined, undefined]
          )
          const noToken = yield* Effect.flip(token)
          assert.include(noToken.message, "profile aurora has no tokens")
          const noSnapshot = yield* Effect.flip(read.run({}).pipe(Snapshot.run(Fleet.role("replica"), { sessions: 2 })))
          assert.include(noSnapshot.message, "profile aurora has no snapshots")
          // A token of somebody else's making is not taken for replayed: the writer serves.
          const [row] = yield* read.run({}).pipe(Effect.provideService(ReadAfter, { lsn: 1n, timeline: 1 }))
          assert.isFalse(row?.standby)
        }),
        layerTogether({
          servers: [primary, replica].map(({ port }) => `127.0.0.1:${port}`),
          user: "postgres",
          profile: "aurora",
          minConnections: 1
        }),
        { local: true }
      )
    })
  )

  it.effect(
    "the writer's name leads to another server after a failover, and old sessions live on: none is written to",
    () =>
      Effect.gen(function* () {
        const { primary, replica } = yield* PgCluster.PgCluster
        yield* primary.query("truncate writes")
        const writer = yield* FaultProxy.make({ target: primary })
        const reader = yield* FaultProxy.make({ target: replica })
        const common = { user: "postgres", profile: "aurora", minConnections: 20, boot: "fill" } as const
        yield* Effect.provide(
          Effect.gen(function* () {
            const calls = yield* load()
            yield* Effect.sleep("500 millis")
            // Aurora's writer refuses writes by then: it has become a reader. Its sessions may be open still.
            yield* primary.query("alter system set default_transaction_read_only = on")
            yield* primary.query("select pg_reload_conf()")
            yield* replica.promote
            yield* writer.retarget(replica)
            yield* reader.retarget(primary)
            const { route } = yield* Fleet.role("primary")
            yield* expectEventually(
              Effect.sync(() => route.cluster.topology.primary?.state.observation?.readOnly),
              (readOnly) => readOnly === false
            )
            const switched = performance.now()
            yield* expectEventually(
              Effect.sync(() => calls.acknowledged.filter(({ began }) => began > switched).length),
              (count) => count > 40
            )
            const ended = yield* calls.stop
            const rows = yield* stored(replica)
            const lateOnOld = [...(yield* stored(primary)).keys()].filter((token) => !rows.has(token))
            const { doubled, lost, wrong } = account(ended, rows)
            // Replication is asynchronous here, so that what the old writer took last may be gone: never what came later.
            const gone = ended.acknowledged.filter(({ began, token }) => began > switched && !rows.has(token))
            console.log(
              `${ended.all.length} writes, ${JSON.stringify(Object.fromEntries(ended.errors))}, lost with the old writer ${lost}, ${lateOnOld.length} on it alone`
            )
            assert.deepStrictEqual(
              { doubled, wrong, gone, reads: ended.reads.failed },
              { doubled: 0, wrong: 0, gone: [], reads: [] }
            )
          }),
          layer({
            primary: { host: writer.host, port: writer.port, ...common },
            replica: { host: reader.host, port: reader.port, ...common, target: "any" }
          }),
          { local: true }
        )
      }).pipe(Effect.scoped)
  )
})

class Peers extends Database.Service<Peers>()("peers", { roles: ["primary", "replica"] }) {}

const conflicting = Report.make("conflicting", {
  database: Peers.role("primary"),
  params: {},
  row: { tries: Schema.Int, port: Schema.Int },
  query: (sql) => sql`select conflict() as tries, inet_server_port() as port`,
  deadline: "3 seconds",
  writes: "idempotent",
  // Each server has a count of its own: five attempts on two servers reach three on one.
  retry: { schedule: Schedule.spaced("10 millis"), retries: 5, budget: { ratio: 10 } }
})

const where = Report.make("where", {
  database: Peers.role("replica"),
  params: {},
  row: { port: Schema.Int },
  query: (sql) => sql`select inet_server_port() as port`,
  deadline: "3 seconds"
})

postgres(ownCluster())("peers, each a PostgreSQL of its own", (it) => {
  it.effect("all of them serve every role, none is fenced, and 40001 is the whole statement again", () =>
    Effect.gen(function* () {
      const { primary: one } = yield* PgCluster.PgCluster
      const { primary: two } = yield* PgCluster.make()
      for (const server of [one, two]) {
        yield* server.query("create sequence tries")
        yield* server.query(`create function conflict() returns int language plpgsql as $$ begin
          if nextval('tries') % 3 <> 0 then raise exception 'restart transaction' using errcode = '40001'; end if;
          return currval('tries'); end $$`)
      }
      yield* Effect.provide(
        Effect.gen(function* () {
          const health = yield* Health.Health
          yield* expectEventually(health.readiness, ({ status }) => status === "up")
          const ports = new Set<number>()
          for (let call = 0; call < 40; call++) ports.add((yield* where.run({}))[0]!.port)
          assert.sameMembers([...ports], [one.port, two.port])
          const [row] = yield* conflicting.run({})
          assert.isAtLeast(row!.tries, 3)
          assert.strictEqual(row!.tries % 3, 0)
          const { token } = yield* Peers.servers
          assert.include((yield* Effect.flip(token)).message, "every node of CockroachDB sees every write")
        }),
        Peers.layerServers({
          servers: [one, two].map(({ port }) => `127.0.0.1:${port}`),
          user: "postgres",
          profile: "cockroachdb",
          minConnections: 1
        }).pipe(Layer.provideMerge(Health.layer()), Layer.provide(Logger.layer([]))),
        { local: true }
      )
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(absent("pgbouncer", installed))("PgBouncer in transaction mode by its name alone", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      yield* primary.query("create table writes (token text not null)")
      const { host, port } = yield* bouncer(4)
      const at = { host, port, user: "postgres", profile: "pgbouncer", maxConnections: 20 } as const
      yield* Effect.provide(
        Effect.gen(function* () {
          const calls = yield* load(20)
          yield* Effect.sleep("1 second")
          const ended = yield* calls.stop
          const rows = yield* stored(primary)
          assert.deepStrictEqual(account(ended, rows), { lost: 0, doubled: 0, wrong: 0 })
          assert.deepStrictEqual(ended.reads.failed, [])
          assert.isAbove(ended.acknowledged.length, 10)
          assert.strictEqual(ended.errors.size, 0)
          yield* write.run({ token: "last" })
        }),
        layer({ primary: at, replica: at }),
        { local: true }
      )
    }).pipe(Effect.scoped)
  )
})
