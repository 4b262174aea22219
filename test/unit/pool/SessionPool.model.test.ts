import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Model from "./model.ts"

const runs = Number(process.env.SLUICE_POOL_RUNS ?? 200)
const first = Number(process.env.SLUICE_POOL_SEED ?? Math.floor(Math.random() * 2 ** 31))

describe("the pool against its model", () => {
  it.effect(
    `${runs} random histories, from SLUICE_POOL_SEED=${first}: never above max, nobody forgotten, overtaken or late, nothing leased twice or leaked`,
    () =>
      Effect.gen(function* () {
        for (let index = 0; index < runs; index++) yield* Model.run(first + index)
      }),
    { timeout: 3_600_000 }
  )
})
