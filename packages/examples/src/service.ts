/**
 * Sluice in a plain TypeScript service: promises at the edge, no Effect in the handlers' signatures.
 * `npx tsx --conditions=@sluice/source packages/examples/src/service.ts`
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import { type AddressInfo } from "node:net"
import { forKnownVehicle, stoppage } from "./fleet/reports/index.ts"
import { day, smallFleet } from "./smallFleet.ts"

// One runtime for the life of the service: it holds the pools.
const runtime = ManagedRuntime.make(smallFleet)

interface Answer {
  readonly status: number
  readonly body: unknown
}

/** What the query string says, as the report takes it. */
const Query = Schema.Struct({
  vehicle: Schema.NullOr(Schema.String),
  from: Schema.DateTimeUtcFromString,
  to: Schema.DateTimeUtcFromString
})

/** A handler that any framework can call. Every failure of the report is a value here, told apart by its tag. */
const stops = (query: URLSearchParams): Promise<Answer> =>
  Schema.decodeUnknownEffect(Query)({
    vehicle: query.get("vehicle"),
    from: query.get("from") ?? DateTime.formatIso(day.from),
    to: query.get("to") ?? DateTime.formatIso(day.to)
  }).pipe(
    Effect.flatMap((params) => forKnownVehicle(stoppage, params)),
    Effect.map((rows) => ({
      status: 200,
      body: rows.map((row) => ({ vehicle: row.vehicle, zone: row.zone, start: DateTime.formatIso(row.start) }))
    })),
    Effect.catchTags({
      SchemaError: (error) => Effect.succeed({ status: 400, body: { error: error.message } }),
      InvalidParameters: (error) => Effect.succeed({ status: 400, body: { error: error.message } }),
      UnknownVehicle: (error) => Effect.succeed({ status: 404, body: { error: error.message } })
    }),
    Effect.catch((error) => Effect.succeed({ status: 503, body: { error: error.message } })),
    (answer) => runtime.runPromise(answer)
  )

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost")
  void stops(url.searchParams).then(({ body, status }) => {
    response.writeHead(status, { "content-type": "application/json" })
    response.end(JSON.stringify(body))
  })
})

server.listen(0, "127.0.0.1", () => {
  void (async () => {
    const { port } = server.address() as AddressInfo
    for (const query of [
      "vehicle=L-SL+101",
      "vehicle=B-XX+1",
      "from=2026-03-03T00:00Z&to=2026-03-02T00:00Z",
      "from=yesterday"
    ]) {
      const answer = await fetch(`http://127.0.0.1:${port}/stops?${query}`)
      console.log(`GET /stops?${query}\n  ${answer.status} ${(await answer.text()).slice(0, 200)}`)
    }
    server.close()
    await runtime.dispose()
  })()
})
