/** Patroni with etcd, HAProxy before it as Patroni's documentation has it: a switchover and a crash of the leader under load. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { absent } from "../../support/absent.ts"
import * as haproxy from "../../support/haproxy.ts"
import * as patroni from "../../support/patroni.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { connect } from "../session/support.ts"
import { account, layerTogether, load, read, stored, write } from "./support.ts"

/** One statement on one of Patroni's servers. */
const on = (node: patroni.Node) => ({
  query: (sql: string) =>
    Effect.scoped(
      Effect.flatMap(connect({ host: "127.0.0.1", port: node.port }), (session) =>
        Effect.map(session.query(sql), ({ rows }) => rows as ReadonlyArray<Record<string, unknown>>)
      )
    )
})

const backend = (role: "primary" | "replica", nodes: ReadonlyArray<patroni.Node>): haproxy.Backend => ({
  options: [
    `option httpchk OPTIONS /${role}`,
    "http-check expect status 200",
    // Patroni's template asks every 3 seconds.
    "default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions"
  ],
  servers: nodes.map(({ name, port, rest }) => ({ name, port, more: `check port ${rest}` }))
})

describe("behind HAProxy and Patroni", () => {
  it.live.skipIf(absent(patroni.missing.join(" and "), patroni.installed) || absent("haproxy", haproxy.installed))(
    "a switchover and a crash of the leader under forty callers: every write is accounted for, reads go on",
    () =>
      Effect.gen(function* () {
        const begin = performance.now()
        const cluster = yield* patroni.make
        const { nodes } = cluster
        yield* on(yield* cluster.leader).query("create table writes (token text not null)")
        const { endpoints } = yield* haproxy.make({
          primary: backend("primary", nodes),
          replica: backend("replica", nodes)
        })
        const servers = [endpoints.primary, endpoints.replica].map(({ host, port }) => `${host}:${port}`)
        yield* Effect.provide(
          Effect.gen(function* () {
            yield* expectEventually(
              Effect.exit(Effect.andThen(read.run({}), write.run({ token: "first" }))),
              ({ _tag }) => _tag === "Success"
            )
            console.log(`three nodes after ${Math.round(performance.now() - begin)} ms`)
            const calls = yield* load()
            yield* Effect.sleep("1 second")
            const again = (since: number) =>
              Effect.map(
                expectEventually(
                  Effect.sync(() => calls.acknowledged.find(({ began }) => began > since)),
                  (found) => found !== undefined,
                  30_000
                ),
                (found) => Math.round(found!.began - since)
              )
            const asked = performance.now()
            const { from, to } = yield* cluster.switchover
            const switched = yield* again(asked + 1_000)
            assert.strictEqual((yield* cluster.leader).name, to.name)
            // The new leader has a synchronous standby again, so that it may be lost.
            yield* Effect.sleep("1 second")
            const successor = yield* cluster.successor
            const killed = performance.now()
            yield* cluster.kill(to)
            yield* expectEventually(cluster.leader, ({ name }) => name === successor.name, 30_000)
            const led = performance.now()
            const crashed = yield* again(led)
            yield* Effect.sleep("1 second")
            const ended = yield* calls.stop
            const rows = yield* stored(on(yield* cluster.leader))
            const result = { ...account(ended, rows), readsFailed: ended.reads.failed }
            console.log(
              `${from.name} -> ${to.name} asked for: writes again after ${switched + 1_000} ms; ${to.name} killed, ${successor.name} leads after ` +
                `${Math.round(led - killed)} ms: writes again ${crashed} ms later; ${ended.all.length} writes, ${ended.acknowledged.length} acknowledged, ` +
                `${JSON.stringify(Object.fromEntries(ended.errors))}; ${ended.reads.served.length} reads; ${JSON.stringify(result)}`
            )
            assert.deepStrictEqual(result, { lost: 0, doubled: 0, wrong: 0, readsFailed: [] })
            // A server that is none any more was never asked to write.
            assert.isUndefined(ended.errors.get("QueryFailed"))
          }),
          layerTogether({ servers, user: "postgres", profile: "haproxy", minConnections: 5, maxConnections: 20 }),
          { local: true }
        )
      }).pipe(Effect.scoped),
    { timeout: 120_000 }
  )
})
