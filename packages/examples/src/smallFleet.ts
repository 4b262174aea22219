/** The roles of a small fleet on a server of its own, for the short examples: eight vehicles, one day. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { migrate } from "./fleet/migrations.ts"
import { defaults, simulate } from "./fleet/simulate.ts"
import * as Server from "./terminal/server.ts"

/** The day that is simulated. */
export const day = {
  from: DateTime.fromDateUnsafe(defaults.start),
  to: DateTime.fromDateUnsafe(new Date(defaults.start.getTime() + 86_400_000))
}

const filled = Effect.gen(function* () {
  const { caughtUp } = yield* Server.Server
  yield* migrate
  yield* simulate({ ...defaults, vehicles: 8, days: 1 }, () => Effect.void)
  yield* caughtUp
})

/** In a service of yours this is one line: `Fleet.layer({ primary: { url }, replica: { url } })`. */
export const smallFleet = Layer.effectDiscard(filled).pipe(Layer.provideMerge(Server.layer(Option.none())))
