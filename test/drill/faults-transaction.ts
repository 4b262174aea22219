/** Faults that hit transactions where it hurts: while their owner thinks, and while they commit. */
import * as Effect from "effect/Effect"
import { expectEventually } from "../support/expectEventually.ts"
import type { Fault, Scene } from "./Fault.ts"
import { gate } from "./run.ts"

const sessions = ({ applicationName, cluster }: Scene, condition: string) =>
  cluster.primary.query(`select pid from pg_stat_activity where application_name = $1 and ${condition}`, [
    applicationName
  ])

const thinking = "state = 'idle in transaction'"
const committing = "state = 'active' and lower(query) like 'commit%'"

/** While this runs, transactions get as far as their COMMIT; `act` is called when some are in it. */
const inCommit = (scene: Scene, act: Effect.Effect<unknown, unknown>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const gatekeeper = yield* scene.cluster.primary.session({ database: scene.database })
      yield* gatekeeper.query(`select pg_advisory_lock(${gate})`)
      yield* expectEventually(sessions(scene, committing), (rows) => rows.length >= 3)
      yield* act
    })
  )

const terminate = (scene: Scene, condition: string) =>
  Effect.gen(function* () {
    const found = yield* expectEventually(sessions(scene, condition), (rows) => rows.length > 0)
    yield* scene.cluster.primary.query("select pg_terminate_backend(pid) from unnest($1::int4[]) as pid", [
      found.map(({ pid }) => pid)
    ])
  })

const nothing = () => Effect.void

export const transactionFaults: ReadonlyArray<Fault> = [
  {
    name: "session-killed-in-transaction",
    about: "sessions ended by the server (57P01) in a transaction, between its statements",
    while: "busy",
    writes: "transactions",
    begin: (scene) => terminate(scene, thinking),
    lasts: 0,
    end: nothing
  },
  {
    name: "session-killed-in-commit",
    about: "sessions ended by the server (57P01) in the middle of their COMMIT",
    while: "busy",
    writes: "transactions",
    begin: (scene) => inCommit(scene, terminate(scene, committing)),
    lasts: 0,
    end: nothing
  },
  {
    name: "network-commit-answers-lost",
    about: "COMMITs arrive and are done, their answers do not come, then RST",
    while: "busy",
    writes: "transactions",
    begin: (scene) => inCommit(scene, scene.proxy.stall({ direction: "server->client" })),
    lasts: 300,
    end: ({ proxy }) => Effect.andThen(proxy.reset, proxy.heal)
  },
  {
    name: "freeze-in-commit",
    about: "server frozen (SIGSTOP) while sessions are in their COMMIT, thawed after 4 s",
    while: "busy",
    writes: "transactions",
    begin: (scene) => inCommit(scene, scene.cluster.primary.freeze),
    lasts: 4_000,
    end: ({ cluster }) => cluster.primary.thaw
  }
]
