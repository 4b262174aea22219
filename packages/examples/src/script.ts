/**
 * Sluice in a script: one report, one line a row.
 * `npx tsx --conditions=@sluice/source packages/examples/src/script.ts`
 */
import * as Effect from "effect/Effect"
import { latest } from "./fleet/reports/index.ts"
import { kilometres } from "./fleet/units.ts"
import { smallFleet } from "./smallFleet.ts"

const rows = await Effect.runPromise(latest.run({}).pipe(Effect.provide(smallFleet)))

for (const { depot, odometer, state, vehicle } of rows) {
  console.log(`${vehicle} of ${depot} is ${state} at ${odometer === null ? "?" : kilometres(odometer).toFixed(0)} km`)
}
