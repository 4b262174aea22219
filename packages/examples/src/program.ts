/**
 * Sluice in an Effect program: a report is an Effect, and what it needs and how it fails is in its type.
 * `npx tsx --conditions=@sluice/source packages/examples/src/program.ts`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { distance, idle, trips } from "./fleet/reports/index.ts"
import { kilometres, sumMetres } from "./fleet/units.ts"
import { day, smallFleet } from "./smallFleet.ts"

const program = Effect.gen(function* () {
  // Three reports at once, on the sessions of one pool.
  const [days, idles, longest] = yield* Effect.all(
    [
      distance.run({ ...day, timeZone: "Europe/Berlin" }),
      idle.run({ ...day, minDuration: Duration.minutes(10) }),
      // Row by row, on one session, with backpressure.
      trips.stream(day).pipe(
        Stream.runFold(
          () => Duration.zero,
          (longest, trip) => Duration.max(longest, trip.duration)
        )
      )
    ],
    { concurrency: "unbounded" }
  )
  yield* Console.log(`${kilometres(sumMetres(days.map((row) => row.distance))).toFixed(1)} km in all`)
  yield* Console.log(`the longest trip took ${Duration.format(longest)}`)
  for (const row of idles) {
    yield* Console.log(
      `${row.vehicle} idled from ${DateTime.formatIso(row.start)} for ${Duration.format(row.duration)}`
    )
  }
}).pipe(
  // A failure that is handled leaves the type; the others stay in it.
  Effect.catchTag("DeadlineExceeded", (late) => Console.log(`too late: ${late.message}`))
)

program.pipe(Effect.provide(smallFleet), NodeRuntime.runMain)
