/** Makes a cluster, prints where it is, and waits for the end that its first argument names. Run by PgClusterEnds.test.ts. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as path from "node:path"

const [, , end] = process.argv

const program = Effect.scoped(
  Effect.gen(function* () {
    const worst = end === "in the worst state"
    const { primary, servers } = yield* PgCluster.make({ replicas: worst ? 1 : 0 })
    if (worst) {
      // Another pid than at first; a backend that works on as an orphan; a replica that cannot hear a signal.
      yield* primary.restart()
      const busy = yield* primary.session()
      const sum = "select sum(n) from generate_series(1, 100000000000) as n"
      yield* Effect.forkDetach(Effect.ignore(busy.query(sum)), { startImmediately: true })
      yield* Effect.sleep("200 millis")
      const pid = yield* primary.pid
      if (pid !== undefined) process.kill(pid, "SIGKILL")
      yield* Effect.forEach(servers.slice(1), (replica) => replica.freeze)
    }
    console.log(path.dirname(path.dirname(primary.dataDirectory)))
    if (end === "throw")
      setTimeout(() => {
        throw new Error("as announced")
      }, 0)
    if (end === "exit") setTimeout(() => process.exit(0), 0)
    return yield* Effect.never
  })
)

Effect.runPromise(program).catch((error: unknown) => {
  console.error(error)
  process.exitCode = 2
})
