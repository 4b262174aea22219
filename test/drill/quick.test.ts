/** The quick form of `npm run drill`: a few faults, Sluice alone, short. */
import { assert, layer } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import { faults } from "./faults.ts"
import { zeros } from "./harness.ts"
import { prepare, drill } from "./run.ts"
import { sluice } from "./subjects.ts"

const quick = [
  "session-killed-busy",
  "session-killed-in-commit",
  "backend-killed",
  "network-half-open-busy",
  "network-answers-lost"
]

layer(PgCluster.layer({ auth: "scram-sha-256" }), { excludeTestServices: true })("a quick drill", (it) => {
  it.effect(
    "nothing is late, lost, doubled, wrong or leaked, and calls succeed again",
    () =>
      Effect.gen(function* () {
        const ground = yield* prepare(yield* PgCluster.PgCluster)
        for (const name of quick) {
          const fault = faults.find((each) => each.name === name)!
          const { result } = yield* drill(ground, fault, sluice, {
            workers: 20,
            pool: 10,
            deadline: 1_500,
            before: 500,
            after: 2_500,
            random: Math.random
          })
          for (const field of zeros) assert.strictEqual(result[field], 0, `${field}: ${JSON.stringify(result)}`)
          assert.isNotNull(result.recoveryMs, JSON.stringify(result))
          assert.isAbove(result.succeeded, 20, JSON.stringify(result))
        }
      }),
    120_000
  )
})
