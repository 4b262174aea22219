/** HAProxy before a primary and two replicas: an endpoint for each role, and a failover under load. */
import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import type { Profile } from "@sluice/sdk/Profile"
import * as Effect from "effect/Effect"
import { expectEventually } from "../../support/expectEventually.ts"
import { absent } from "../../support/absent.ts"
import * as haproxy from "../../support/haproxy.ts"
import { postgres, ownCluster } from "../../support/postgres.ts"
import { account, Fleet, layer, load, read, stored, write } from "./support.ts"

/** The endpoints, and who may serve through them: s0 writes, the others read. HAProxy checks that they answer at all. */
const front = Effect.flatMap(PgCluster.PgCluster, ({ servers }) => {
  const options = ["balance roundrobin", "option pgsql-check user postgres"]
  const places = (writes: boolean) =>
    servers.map(({ port }, index) => ({
      name: `s${index}`,
      port,
      more: `check inter 200ms fall 2 rise 1${(index === 0) === writes ? "" : " disabled"}`
    }))
  return haproxy.make({
    primary: { options, servers: places(true) },
    replica: { options, servers: places(false) }
  })
})

const open = (endpoints: Readonly<Record<"primary" | "replica", haproxy.Endpoint>>, profile: Profile) => {
  // More sessions than writers: some are idle while the servers change places.
  const common = { user: "postgres", profile, minConnections: 20, maxConnections: 20, boot: "fill" } as const
  return layer({ primary: { ...endpoints.primary, ...common }, replica: { ...endpoints.replica, ...common } })
}

/**
 * The first replica is promoted and HAProxy sends new connections there; nobody ends those that are open, and the old
 * primary goes on believing that it is one. Replication is synchronous until then, and after a while not any more: from
 * then on the old primary acknowledges whatever is still sent to it.
 */
const failover = (profile: Profile) =>
  Effect.gen(function* () {
    const { primary, replicas } = yield* PgCluster.PgCluster
    const [promoted, other] = replicas
    yield* primary.query("create table if not exists writes (token text not null)")
    yield* primary.query("truncate writes")
    yield* primary.query(`alter system set synchronous_standby_names = '"${promoted!.name}"'`)
    yield* primary.query("select pg_reload_conf()")
    const { admit, endpoints } = yield* front
    return yield* Effect.provide(
      Effect.gen(function* () {
        yield* expectEventually(
          Effect.exit(Effect.andThen(read.run({}), write.run({ token: "first" }))),
          ({ _tag }) => _tag === "Success"
        )
        const calls = yield* load()
        yield* Effect.sleep("700 millis")
        yield* promoted!.promote
        const [row] = yield* other!.query("show primary_conninfo")
        const upstream = String(row?.["primary_conninfo"]).replace(String(primary.port), String(promoted!.port))
        yield* other!.query(`alter system set primary_conninfo = '${upstream.replaceAll("'", "''")}'`)
        yield* other!.query("select pg_reload_conf()")
        yield* admit("primary", "s0", false)
        yield* admit("replica", "s1", false)
        yield* admit("primary", "s1", true)
        const switched = performance.now()
        // Whoever asks where the endpoint leads to finds out; what is on its way by then has left at its deadline.
        const { route } = yield* Fleet.role("primary")
        if (profile === "haproxy") {
          yield* expectEventually(
            Effect.sync(() => route.cluster.topology.primary?.state.observation?.timeline),
            (timeline) => timeline === 2
          )
        }
        const noticed = performance.now()
        yield* Effect.sleep("1800 millis")
        yield* primary.query("alter system set synchronous_standby_names = ''")
        yield* primary.query("select pg_reload_conf()")
        yield* Effect.sleep("1500 millis")
        const ended = yield* calls.stop
        const again = ended.acknowledged.find(({ began }) => began > switched)
        const after = new Set(ended.all.filter(({ began }) => began > noticed).map(({ token }) => token))
        const rows = yield* stored(promoted!)
        const onOld = [...(yield* stored(primary)).keys()].filter((token) => after.has(token))
        const stray = ended.reads.served.filter(({ began, standby }) => began > noticed && !standby).length
        const result = {
          ...account(ended, rows),
          writtenToOld: onOld.length,
          readsFailed: ended.reads.failed,
          readFromPrimary: stray,
          writesAfter: ended.acknowledged.filter(({ token }) => rows.has(token) && after.has(token)).length
        }
        console.log(
          `${profile}: ${ended.all.length} writes, ${ended.acknowledged.length} acknowledged, ${JSON.stringify(Object.fromEntries(ended.errors))}; ` +
            `${ended.reads.served.length} reads; writes again ${again === undefined ? "never" : `${Math.round(again.began - switched)} ms after the switch`}; ${JSON.stringify(result)}`
        )
        return result
      }),
      open(endpoints, profile),
      { local: true }
    )
  }).pipe(Effect.scoped)

postgres(ownCluster({ replicas: 2 }))("behind HAProxy", (it) => {
  it.effect.skipIf(absent("haproxy", haproxy.installed))(
    "nothing is written through an endpoint while it leads to a standby",
    () =>
      Effect.gen(function* () {
        const { primary } = yield* PgCluster.PgCluster
        yield* primary.query("create table if not exists writes (token text not null)")
        const { admit, endpoints } = yield* front
        yield* Effect.provide(
          Effect.gen(function* () {
            yield* expectEventually(Effect.exit(write.run({ token: "1" })), ({ _tag }) => _tag === "Success")
            yield* admit("primary", "s0", false)
            yield* admit("primary", "s2", true)
            const error = yield* expectEventually(
              Effect.match(write.run({ token: "2" }), { onSuccess: () => undefined, onFailure: (failure) => failure }),
              (failure) => failure !== undefined
            )
            // Known beforehand, and not by the server's refusal.
            assert.notStrictEqual(error?._tag, "QueryFailed")
            yield* admit("primary", "s2", false)
            yield* admit("primary", "s0", true)
            yield* expectEventually(Effect.exit(write.run({ token: "3" })), ({ _tag }) => _tag === "Success")
            const role = yield* Fleet.role("primary")
            assert.lengthOf(role.nodes, 1)
          }),
          open(endpoints, "haproxy"),
          { local: true }
        )
      }).pipe(Effect.scoped)
  )

  it.effect.skipIf(absent("haproxy", haproxy.installed))(
    "a failover under load: no write is lost or doubled, reads go on, the demoted server is never written to",
    () =>
      Effect.gen(function* () {
        const { writesAfter, ...result } = yield* failover("haproxy")
        assert.deepStrictEqual(result, {
          lost: 0,
          doubled: 0,
          wrong: 0,
          writtenToOld: 0,
          readsFailed: [],
          readFromPrimary: 0
        })
        assert.isAbove(writesAfter, 20)
      })
  )
})

postgres(ownCluster({ replicas: 2 }))("behind HAProxy, taken for a server", (it) => {
  it.effect.skipIf(absent("haproxy", haproxy.installed))("writes that the demoted server acknowledges are lost", () =>
    Effect.gen(function* () {
      const { lost, writtenToOld } = yield* failover("postgres")
      assert.isAbove(lost, 0)
      assert.isAbove(writtenToOld, 0)
    })
  )
})
