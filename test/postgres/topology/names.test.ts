/** Names with several addresses: each address is a server. 127.0.0.2 and its like stand for machines, a proxy on each. */
import { assert } from "@effect/vitest"
import { Database, Report, Resolver } from "@sluice/sdk"
import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import { Session } from "@sluice/sdk/pool/Session"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Certificate from "../../../packages/sdk/src/testing/internal/Certificate.ts"
import { expectEventually } from "../../support/expectEventually.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { servesBesideAHole } from "./support.ts"

class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

const where = Report.make("where", {
  database: Fleet.role("replica"),
  params: {},
  row: { port: Schema.Int, standby: Schema.Boolean },
  query: (sql) => sql`select inet_server_port() as port, pg_is_in_recovery() as standby`,
  deadline: "3 seconds"
})

/** A resolver that the test tells what to say. */
const makeResolver = () => {
  const state = { addresses: [] as ReadonlyArray<string>, fails: false, lookups: 0 }
  const resolver: Resolver.Resolver = {
    lookup: () =>
      Effect.suspend(() => {
        state.lookups++
        return state.fails ? Effect.fail(new Error("SERVFAIL")) : Effect.succeed(state.addresses)
      })
  }
  return { state, layer: Layer.succeed(Resolver.Current, resolver) }
}

/** Servers behind addresses of their own, all on one port, as those of a name are. */
const machines = Effect.gen(function* () {
  const { primary, replicas } = yield* PgCluster.PgCluster
  const first = yield* FaultProxy.make({ target: primary, host: "127.0.0.2" })
  const { port } = first
  const second = yield* FaultProxy.make({ target: replicas[0]!, host: "127.0.0.3", port })
  const third = yield* FaultProxy.make({ target: replicas[1]!, host: "127.0.0.4", port })
  return [first, second, third] as const
})

const withName = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  port: number,
  resolver: Layer.Layer<never>,
  more?: Partial<Parameters<typeof Fleet.layerServers>[0]>
) =>
  Effect.provide(
    self,
    Fleet.layerServers({
      servers: [`db.test:${port}`],
      addresses: "each",
      user: "postgres",
      maxConnections: 10,
      minConnections: 1,
      watch: { lookup: Schedule.spaced("100 millis") },
      ...more
    }).pipe(Layer.provide(resolver), Layer.provide(Logger.layer([]))),
    { local: true }
  )

const states = Effect.map(Fleet.servers, ({ topology }) =>
  topology.nodes.map(({ draining, name, standing, state }) =>
    draining ? `${name} draining` : `${name} ${state.phase}/${standing.role}`
  )
)

/** Callers without a pause, until the scope ends. */
const load = Effect.gen(function* () {
  const failed: Array<string> = []
  const ports = new Set<number>()
  yield* Effect.forkScoped(
    Effect.forEach(
      Array.from({ length: 8 }),
      () =>
        Effect.forever(
          Effect.match(where.run({}), {
            onSuccess: ([row]) => void ports.add(row!.port),
            onFailure: (error) => void failed.push(error.message)
          })
        ),
      { concurrency: "unbounded" }
    )
  )
  return { failed, ports }
})

postgres(ownCluster({ replicas: 2, tls: true }))("a name with several addresses", (it) => {
  it.effect("is as many servers; one that swallows everything from the start holds up neither boot nor calls", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* machines
      const { replicas } = yield* PgCluster.PgCluster
      yield* c.blackHole
      const { layer, state } = makeResolver()
      state.addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
      const began = performance.now()
      yield* withName(
        Effect.gen(function* () {
          yield* servesBesideAHole(where.run({}), { began, port: replicas[0]!.port })
          yield* expectEventually(states, (now) =>
            now.some((each) => each.endsWith("127.0.0.4:" + c.port + " down/undefined"))
          )
          assert.sameMembers(yield* states, [
            `db.test/127.0.0.2:${a.port} up/primary`,
            `db.test/127.0.0.3:${b.port} up/replica`,
            `db.test/127.0.0.4:${c.port} down/undefined`
          ])
          yield* c.heal
          yield* expectEventually(where.run({}), ([row]) => row?.port === replicas[1]!.port)
        }),
        a.port,
        layer,
        { boot: "connect-one" }
      )
    }).pipe(Effect.scoped)
  )

  it.effect("addresses that appear and disappear under load are added and removed, and no call fails", () =>
    Effect.gen(function* () {
      const [a] = yield* machines
      const { replicas } = yield* PgCluster.PgCluster
      const [first, second] = replicas
      const { layer, state } = makeResolver()
      state.addresses = ["127.0.0.2", "127.0.0.3"]
      yield* withName(
        Effect.gen(function* () {
          yield* expectEventually(states, (now) => now.length === 2 && now.every((each) => each.includes(" up/")))
          const { failed, ports } = yield* load
          yield* expectEventually(
            Effect.sync(() => [...ports]),
            (seen) => seen.includes(first!.port)
          )
          // The only replica is replaced by another one.
          state.addresses = ["127.0.0.2", "127.0.0.4"]
          yield* expectEventually(states, (now) => now.length === 2 && now.every((each) => !each.includes("127.0.0.3")))
          ports.clear()
          yield* Effect.sleep("200 millis")
          assert.deepStrictEqual([...ports], [second!.port])
          // And comes back while the other one stays.
          state.addresses = ["127.0.0.3", "127.0.0.4", "127.0.0.2", "127.0.0.4"]
          yield* expectEventually(
            Effect.sync(() => [...ports]),
            (seen) => seen.includes(first!.port)
          )
          // Nobody can be asked, or the answer is empty: what was known holds.
          for (const silence of [() => (state.fails = true), () => ((state.fails = false), (state.addresses = []))]) {
            silence()
            const before = state.lookups
            yield* expectEventually(
              Effect.sync(() => state.lookups),
              (now) => now > before + 1
            )
            assert.lengthOf(yield* states, 3)
            yield* where.run({})
          }
          assert.deepStrictEqual(failed, [])
        }).pipe(Effect.scoped),
        a.port,
        layer
      )
      const [left] = yield* first!.query(
        "select count(*)::int as n from pg_stat_activity where application_name = 'fleet'"
      )
      assert.strictEqual(left?.["n"], 0, "a removed server has no session of ours left")
    }).pipe(Effect.scoped)
  )

  it.effect(
    "is looked up again at once when a server is lost, and not found at the start, it is told and found later",
    () =>
      Effect.gen(function* () {
        const [a, b] = yield* machines
        const { replicas } = yield* PgCluster.PgCluster
        const { layer, state } = makeResolver()
        state.fails = true
        yield* withName(
          Effect.gen(function* () {
            assert.match((yield* states).join(), new RegExp(`^db.test:${a.port} `))
            const error = yield* Effect.flip(where.run({}))
            assert.strictEqual(error._tag, "DatabaseUnavailable")
            state.fails = false
            state.addresses = ["127.0.0.2", "127.0.0.3"]
            yield* expectEventually(Effect.exit(where.run({})), ({ _tag }) => _tag === "Success", 15_000)
            // It has gone on to another address, and the schedule would notice in an hour.
            state.addresses = ["127.0.0.2", "127.0.0.4"]
            yield* b.refuse()
            yield* b.reset
            const [row] = yield* expectEventually(
              Effect.orElseSucceed(where.run({}), () => []),
              ([found]) => found !== undefined,
              15_000
            )
            assert.strictEqual(row?.port, replicas[1]!.port)
          }),
          a.port,
          layer,
          { watch: { lookup: Schedule.spaced("1 hour") } }
        )
      }).pipe(Effect.scoped)
  )

  it.effect("is added and removed as a whole at run time", () =>
    Effect.gen(function* () {
      const [a] = yield* machines
      const { layer, state } = makeResolver()
      state.addresses = ["127.0.0.3", "127.0.0.4"]
      yield* withName(
        Effect.gen(function* () {
          const { add, remove } = yield* Fleet.servers
          assert.lengthOf(yield* states, 1)
          yield* add({ host: "db.test", port: a.port, zone: undefined })
          yield* expectEventually(
            states,
            (now) => now.length === 3 && now.filter((each) => each.endsWith(" up/replica")).length === 2
          )
          yield* remove(`db.test:${a.port}`)
          yield* expectEventually(states, (now) => now.length === 1)
          const before = state.lookups
          yield* Effect.sleep("400 millis")
          assert.strictEqual(state.lookups, before, "a name that was removed is not looked up any more")
        }),
        a.port,
        layer,
        { servers: [`127.0.0.2:${a.port}`] }
      )
    }).pipe(Effect.scoped)
  )

  it.effect(
    "is what the certificate has to name, whatever the address; a session and its cancellation stay at one",
    () =>
      Effect.gen(function* () {
        const [a] = yield* machines
        const { primary } = yield* PgCluster.PgCluster
        const certificate = Certificate.make({ names: ["db.test"] })
        for (const [file, text] of [
          ["server.crt", certificate.certificate],
          ["server.key", certificate.key]
        ] as const) {
          // Truncated and written anew, it keeps its owner and mode.
          fs.writeFileSync(path.join(primary.dataDirectory, file), text)
        }
        yield* primary.query("select pg_reload_conf()")
        const config = {
          port: a.port,
          address: "127.0.0.2",
          username: "postgres",
          sslmode: "verify-full",
          ssl: { ca: certificate.certificate }
        } as const
        const session = yield* Effect.acquireRelease(
          expectEventually(
            Effect.option(Session.connect({ ...config, host: "db.test" })),
            (found) => found._tag === "Some"
          ),
          (found) => Effect.sync(() => found._tag === "Some" && found.value.destroy())
        )
        assert.strictEqual(session._tag, "Some")
        if (session._tag !== "Some") return
        assert.deepInclude(session.value.address, { address: "127.0.0.2", port: a.port })
        const fiber = yield* Effect.forkChild(session.value.query("select pg_sleep(30)"), { startImmediately: true })
        yield* Effect.sleep("50 millis")
        yield* Fiber.interrupt(fiber)
        assert.isTrue(yield* session.value.drain)
        const refused = yield* Effect.flip(Session.connect({ ...config, host: "elsewhere.test" }))
        assert.strictEqual(refused.reason._tag, "ConnectionError")
      }).pipe(Effect.scoped)
  )
})
