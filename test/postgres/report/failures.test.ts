/** What PostgreSQL can do to a statement, really done, and what a report's caller gets: class, attempts, result. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { setup } from "../../support/failures/ground.ts"
import { ownScenes, scenes } from "../../support/failures/scenes.ts"
import type { Line } from "../../support/failures/observe.ts"
import { ownCluster, postgres } from "../../support/postgres.ts"
import { layerFleet } from "./support.ts"

const check = (lines: ReadonlyArray<Line>) => {
  for (const line of lines) assert.deepStrictEqual(line.seen, line.expected, line.case)
}

postgres(Layer.provideMerge(Layer.effectDiscard(setup), layerFleet()))("what PostgreSQL does to a statement", (it) => {
  for (const scene of scenes) {
    it.effect(`${scene.name}: ${scene.about}`, () => Effect.scoped(Effect.map(scene.run, check)))
  }
})

postgres(ownCluster())("what happens to the server itself", (it) => {
  for (const scene of ownScenes) {
    it.effect(`${scene.name}: ${scene.about}`, () => Effect.scoped(Effect.map(scene.run, check)))
  }
})
