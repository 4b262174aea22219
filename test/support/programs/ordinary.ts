/** A primary and a replica, made by whoever runs this. Prints what it saw. Run by PgClusterEnds.test.ts. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"

const program = Effect.scoped(
  Effect.gen(function* () {
    const { binaries, primary, replica } = yield* PgCluster.make({ replicas: 1 })
    yield* primary.query("create table seen (id int)")
    yield* primary.kill
    yield* primary.start
    yield* replica.waitForReplay(primary)
    yield* primary.freeze
    yield* primary.thaw
    yield* replica.promote
    yield* replica.query("insert into seen values (1)")
    const rows = yield* replica.query("select id from seen")
    return {
      uid: process.getuid?.(),
      user: binaries.user ?? null,
      source: binaries.source,
      major: binaries.major,
      rows
    }
  })
)

Effect.runPromise(program).then((seen) => console.log(JSON.stringify(seen)))
