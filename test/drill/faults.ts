import * as Effect from "effect/Effect"
import type { Fault, Scene } from "./Fault.ts"
import { bouncerRestarted } from "./faults-bouncer.ts"
import { diskFull } from "./faults-disk.ts"
import { transactionFaults } from "./faults-transaction.ts"

const nothing = () => Effect.void

const heal = ({ proxy }: Scene) => proxy.heal

const terminate = ({ applicationName, cluster }: Scene) =>
  cluster.primary.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [
    applicationName
  ])

const oneBackend = ({ applicationName, cluster: { primary } }: Scene) =>
  Effect.flatMap(
    primary.query("select pid from pg_stat_activity where application_name = $1 order by state_change desc limit 1", [
      applicationName
    ]),
    ([row]) => (row === undefined ? Effect.void : primary.killBackend(Number(row.pid)))
    // It may have left by itself just before.
  ).pipe(Effect.retry({ times: 5 }))

/** Blocks this process, and with it every subject in it. */
const block = (millis: number) =>
  Effect.sync(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
  })

/** A smart shutdown is a SIGTERM: it waits for the clients, and lets nobody in. */
const smartShutdown = ({ cluster: { primary } }: Scene) =>
  Effect.flatMap(primary.pid, (pid) => Effect.sync(() => pid !== undefined && process.kill(pid, "SIGTERM")))

const hour = 3_600_000

export const faults: ReadonlyArray<Fault> = [
  {
    name: "session-killed-idle",
    about: "every session ended by the server (57P01) while idle",
    while: "idle",
    begin: terminate,
    lasts: 0,
    end: nothing
  },
  {
    name: "session-killed-busy",
    about: "every session ended by the server (57P01) in the middle of its statements",
    while: "busy",
    begin: terminate,
    lasts: 0,
    end: nothing
  },
  {
    name: "backend-killed",
    about: "one backend killed with -9: the server ends all sessions and recovers",
    while: "busy",
    begin: oneBackend,
    lasts: 0,
    end: nothing
  },
  ...transactionFaults,
  {
    name: "restart-smart",
    about: "smart shutdown: for 2 s nobody is let in while sessions live on; they are ended, server started",
    while: "busy",
    begin: smartShutdown,
    lasts: 2_000,
    end: ({ cluster }) => cluster.primary.restart("fast")
  },
  {
    name: "restart-fast",
    about: "server stopped (fast), away for 500 ms, started",
    while: "busy",
    begin: ({ cluster }) => cluster.primary.stop("fast"),
    lasts: 500,
    end: ({ cluster }) => cluster.primary.start
  },
  {
    name: "restart-immediate",
    about: "server stopped (immediate), away for 500 ms, started: it recovers",
    while: "busy",
    begin: ({ cluster }) => cluster.primary.stop("immediate"),
    lasts: 500,
    end: ({ cluster }) => cluster.primary.start
  },
  {
    name: "postmaster-killed",
    about: "all processes of the server killed with -9, away for 500 ms, started: it recovers",
    while: "busy",
    begin: ({ cluster }) => cluster.primary.kill,
    lasts: 500,
    end: ({ cluster }) => cluster.primary.start
  },
  {
    name: "freeze-idle",
    about: "server frozen (SIGSTOP) while sessions are idle, thawed after 4 s",
    while: "idle",
    begin: ({ cluster }) => cluster.primary.freeze,
    lasts: 4_000,
    end: ({ cluster }) => cluster.primary.thaw
  },
  {
    name: "freeze-busy",
    about: "server frozen (SIGSTOP) in the middle of statements, thawed after 4 s",
    while: "busy",
    begin: ({ cluster }) => cluster.primary.freeze,
    lasts: 4_000,
    end: ({ cluster }) => cluster.primary.thaw
  },
  {
    name: "network-refused",
    about: "connections cut, new ones refused for 2 s",
    while: "busy",
    begin: ({ proxy }) => Effect.andThen(proxy.refuse(), proxy.cut),
    lasts: 2_000,
    end: heal
  },
  {
    name: "network-reset",
    about: "every connection reset (RST) in the middle of its statements",
    while: "busy",
    begin: ({ proxy }) => proxy.reset,
    lasts: 0,
    end: nothing
  },
  {
    name: "network-black-hole",
    about: "connections reset, new ones accepted and then silent, for 4 s",
    while: "busy",
    begin: ({ proxy }) => Effect.andThen(proxy.blackHole, proxy.reset),
    lasts: 4_000,
    end: heal
  },
  {
    name: "network-stall",
    about: "nothing passes for 4 s, in either direction, and nobody is told",
    while: "busy",
    begin: ({ proxy }) => proxy.stall(),
    lasts: 4_000,
    end: heal
  },
  {
    name: "network-half-open-idle",
    about: "idle sessions are dead and nobody is told (power cut, forgetful firewall); new connections work",
    while: "idle",
    begin: ({ proxy }) => proxy.halfOpen("server"),
    lasts: 0,
    end: nothing
  },
  {
    name: "network-half-open-busy",
    about: "the same in the middle of statements",
    while: "busy",
    begin: ({ proxy }) => proxy.halfOpen("server"),
    lasts: 0,
    end: nothing
  },
  {
    name: "network-answers-lost",
    about: "statements arrive and run, their answers do not come, then RST",
    while: "busy",
    begin: ({ proxy }) => proxy.stall({ direction: "server->client" }),
    lasts: 300,
    end: ({ proxy }) => Effect.andThen(proxy.reset, proxy.heal)
  },
  {
    name: "network-latency",
    about: "25 ms more each way, up to 50 with jitter, for 3 s",
    while: "busy",
    begin: ({ proxy }) => proxy.latency({ millis: 25, jitterMillis: 25 }),
    lasts: 3_000,
    end: heal
  },
  {
    name: "network-cut-10s",
    about: "network cut for 10 s and back",
    while: "busy",
    begin: ({ proxy }) => Effect.andThen(proxy.refuse(), proxy.reset),
    lasts: 10_000,
    end: heal
  },
  {
    name: "too-many-connections",
    about: "the server takes no more than 2 sessions of this user (53300) for 3 s; those it had are ended",
    while: "busy",
    begin: (scene) =>
      Effect.andThen(scene.cluster.primary.query(`alter role ${scene.user} connection limit 2`), terminate(scene)),
    lasts: 3_000,
    end: ({ cluster, user }) => cluster.primary.query(`alter role ${user} connection limit -1`)
  },
  {
    name: "password-wrong",
    about: "the server knows another password for 3 s; sessions are ended",
    while: "busy",
    begin: (scene) =>
      Effect.andThen(scene.cluster.primary.query(`alter role ${scene.user} password 'another'`), terminate(scene)),
    lasts: 3_000,
    end: ({ cluster, password, user }) => cluster.primary.query(`alter role ${user} password '${password}'`)
  },
  {
    name: "event-loop-blocked",
    about: "this process does not run for 2 s",
    while: "busy",
    begin: () => block(2_000),
    lasts: 0,
    end: nothing
  },
  diskFull,
  bouncerRestarted,
  {
    name: "clock-moved",
    about: "the wall clock jumps 3 hours ahead, 2 s later 6 hours back: nobody may notice",
    while: "busy",
    subjects: ["sluice", "driver"],
    begin: ({ jump }) => Effect.sync(() => jump(3 * hour)),
    lasts: 2_000,
    end: ({ jump }) => Effect.sync(() => jump(-6 * hour)),
    unnoticed: true
  }
]
