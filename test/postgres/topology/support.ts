/** What several files ask of a database with several servers. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** Built since `began` although one server swallows everything, and every call is served in time by the one on `port`. */
export const servesBesideAHole = <E, R>(
  where: Effect.Effect<ReadonlyArray<{ readonly port: number }>, E, R>,
  { began, port }: { readonly began: number; readonly port: number }
) =>
  Effect.gen(function* () {
    const booted = performance.now() - began
    const calls = yield* Effect.forEach(Array.from({ length: 60 }), () => Effect.timed(where), { concurrency: 20 })
    const slowest = Math.max(...calls.map(([took]) => Duration.toMillis(took)))
    console.log(`booted in ${Math.round(booted)} ms, slowest of 60 calls ${Math.round(slowest)} ms`)
    for (const [, [row]] of calls) assert.strictEqual(row?.port, port)
    assert.isBelow(booted, 3_000)
    assert.isBelow(slowest, 2_500)
  })
