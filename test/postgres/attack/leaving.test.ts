import { assert } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { runProgram } from "../../support/program.ts"

postgres(ownCluster())("a process", (it) => {
  it.effect("ends by itself when the layers are closed", () =>
    Effect.gen(function* () {
      const { primary } = yield* PgCluster.PgCluster
      const run = runProgram("leaving", [], { env: { ...process.env, DATABASE_URL: primary.url } })
      const { line, ended } = yield* Effect.promise(async () => ({ line: await run.firstLine, ended: await run.ended }))
      assert.strictEqual(ended.code, 0, ended.stderr)
      const millis = Number(/(\d+) ms/.exec(line)?.[1])
      // A cancel request's bound is a second; nothing may take longer.
      assert.isBelow(millis, 1500, line)
      assert.lengthOf(yield* primary.query("select 1 from pg_stat_activity where application_name = 'leaving/main'"), 0)
    })
  )
})
