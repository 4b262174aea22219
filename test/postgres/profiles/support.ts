/** A load through endpoints, and the account of it: reads on the replica's, writes that happen once on the primary's. */
import { Database, Report } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

export class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

export const read = Report.make("read", {
  database: Fleet.role("replica"),
  params: {},
  row: { standby: Schema.Boolean, port: Schema.Int },
  query: (sql) => sql`select pg_is_in_recovery() as standby, inet_server_port() as port`,
  deadline: "10 seconds",
  attemptTimeout: "1 second",
  retry: { schedule: Schedule.spaced("100 millis"), retries: 90, budget: { ratio: 90 } }
})

export const write = Report.make("write", {
  database: Fleet.role("primary"),
  params: { token: Schema.String },
  row: { token: Schema.String },
  query: (sql, { token }) => sql`insert into writes values (${token}) returning token`,
  deadline: "1500 millis",
  writes: "once"
})

/** Both endpoints as one list: where the replicas' leads nowhere, the primary's serves. */
export const layerTogether = (options: Parameters<typeof Fleet.layerServers>[0]) =>
  Fleet.layerServers({ roles: { replica: { fallback: "primary" } }, ...options }).pipe(Layer.provide(Logger.layer([])))

export const layer = (options: Parameters<typeof Fleet.layer>[0]) =>
  Fleet.layer(options).pipe(Layer.provide(Logger.layer([])))

interface Written {
  readonly token: string
  readonly began: number
}

/** Forty callers, every fourth of which writes. Call what it gives to end them and have the account. */
export const load = (fibers = 40) =>
  Effect.gen(function* () {
    const state = { running: true, number: 0 }
    const acknowledged: Array<Written> = []
    /** The caller was told that it is certainly not applied. */
    const refused: Array<Written> = []
    const unknown: Array<Written> = []
    const all: Array<Written> = []
    const errors = new Map<string, number>()
    const reads = {
      served: [] as Array<{ readonly began: number; readonly standby: boolean }>,
      failed: [] as Array<string>
    }
    const note = (tag: string) => errors.set(tag, (errors.get(tag) ?? 0) + 1)
    type Caller = Effect.Effect<void, never, Database.Role<"fleet", "primary"> | Database.Role<"fleet", "replica">>
    const reader: Caller = Effect.suspend(() => {
      const began = performance.now()
      return Effect.match(read.run({}), {
        onSuccess: ([row]) => void reads.served.push({ began, standby: row!.standby }),
        onFailure: (error) => void reads.failed.push(error.message)
      })
    })
    const writer: Caller = Effect.suspend(() => {
      const written = { token: `w${state.number++}`, began: performance.now() }
      all.push(written)
      return Effect.match(write.run({ token: written.token }), {
        onSuccess: () => void acknowledged.push(written),
        onFailure: (error) => {
          note(error._tag)
          const sent = error._tag === "OutcomeUnknown" || error._tag === "DeadlineExceeded"
          ;(sent ? unknown : refused).push(written)
        }
      })
    })
    const fiber = yield* Effect.forkChild(
      Effect.forEach(
        Array.from({ length: fibers }, (_, index) => index),
        (index) =>
          Effect.whileLoop({
            while: () => state.running,
            body: () => Effect.andThen(index % 4 === 0 ? writer : reader, Effect.sleep(5 + (index % 7))),
            step: () => {}
          }),
        { concurrency: "unbounded", discard: true }
      )
    )
    return {
      acknowledged,
      reads,
      stop: Effect.suspend(() => {
        state.running = false
        return Effect.as(Fiber.join(fiber), { acknowledged, refused, unknown, all, reads, errors })
      })
    }
  })

/** How often each token is there. */
export const stored = <E>(server: {
  query(sql: string): Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>, E>
}) =>
  Effect.map(
    server.query("select token, count(*)::int as n from writes group by token"),
    (rows) => new Map(rows.map((row) => [String(row["token"]), Number(row["n"])]))
  )

/** What became of every write, told by the table of the server that is the primary now. */
export const account = (
  {
    acknowledged,
    refused
  }: { readonly acknowledged: ReadonlyArray<Written>; readonly refused: ReadonlyArray<Written> },
  rows: ReadonlyMap<string, number>
) => ({
  lost: acknowledged.filter(({ token }) => !rows.has(token)).length,
  doubled: [...rows.values()].filter((n) => n > 1).length,
  wrong: refused.filter(({ token }) => rows.has(token)).length
})
