/** What several servers cost: the choice for each call, and slices of one snapshot beside one statement after the other. */
import { Database, Report, Snapshot } from "@sluice/sdk"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { Contender, Group, Row } from "../Row.ts"

class Servers extends Database.Service<Servers>()("bench", { roles: ["any", "primary"] }) {}
class One extends Database.Service<One>()("bench", { roles: ["any"] }) {}

const quiet = Logger.layer([])

/** The whole way to a server and back, with nothing done there. */
const nothing = () => Effect.succeed(1)

const repeat = (count: number, one: Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    for (let index = 0; index < count; index++) yield* one
  })

const nanos = async (millis: number, calls: (count: number) => Promise<unknown>): Promise<number> => {
  const begin = performance.now()
  let count = 0
  while (performance.now() - begin < millis) {
    await calls(1_000)
    count += 1_000
  }
  return ((performance.now() - begin) * 1e6) / count
}

const one = async (url: string): Promise<Contender> => {
  const runtime = ManagedRuntime.make(
    One.layer({ any: { url: Redacted.make(url), boot: "fill" } }).pipe(Layer.provide(quiet))
  )
  const { route } = await runtime.runPromise(One.role("any"))
  const call = Effect.suspend(() => route.attempt({ key: "bench", tried: [] }, nothing))
  return {
    subject: "sluice, one server",
    round: (millis) => nanos(millis, (count) => runtime.runPromise(repeat(count, call))),
    close: () => runtime.dispose()
  }
}

/** One server behind three addresses: to the router they are three. */
const three =
  (role: "any" | "primary") =>
  async (url: string): Promise<Contender> => {
    const target = { host: new URL(url).hostname, port: Number(new URL(url).port) }
    const scope = Scope.makeUnsafe()
    const proxies = await Effect.runPromise(
      Effect.forEach([1, 2, 3], () => FaultProxy.make({ target })).pipe(Effect.provideService(Scope.Scope, scope))
    )
    const runtime = ManagedRuntime.make(
      Servers.layerServers({
        servers: proxies.map(({ host, port }) => `${host}:${port}`),
        url: Redacted.make(url),
        boot: "fill"
      }).pipe(Layer.provide(quiet))
    )
    const { route } = await (role === "any"
      ? runtime.runPromise(Servers.role("any"))
      : runtime.runPromise(Servers.role("primary")))
    const call = Effect.suspend(() => route.attempt({ key: "bench", tried: [] }, nothing))
    return {
      subject: `sluice, three watched, ${role === "any" ? "any of them" : "the primary"}`,
      round: (millis) => nanos(millis, (count) => runtime.runPromise(repeat(count, call))),
      close: async () => {
        await runtime.dispose()
        await Effect.runPromise(Scope.close(scope, Exit.void))
      }
    }
  }

export const routing: Row = {
  name: "routing",
  about: "which server serves a call: one that nobody watches, three that are watched, without a statement",
  unit: "ns/op",
  groups: ({ url }): ReadonlyArray<Group> => [
    {
      contenders: [
        { subject: "sluice, one server", open: () => one(url) },
        { subject: "sluice, three watched, any of them", open: () => three("any")(url) },
        { subject: "sluice, three watched, the primary", open: () => three("primary")(url) }
      ]
    }
  ]
}

const slices = 4

const slice = Report.make("slice", {
  database: One.role("any"),
  params: { slice: Schema.Int },
  row: { sum: Schema.Finite },
  query: (sql, { slice: number }) =>
    sql`select sum(value * g)::float8 as sum from items, generate_series(1, 200) g where id % ${slices}::int4 = ${number}`,
  deadline: "1 minute"
})

const all = (concurrency: number) =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: slices }, (_, index) => index),
      (index) => slice.run({ slice: index }),
      { concurrency }
    ),
    (parts) => parts.reduce((sum, [row]) => sum + row!.sum, 0)
  )

const ways = {
  "sluice, four slices on one snapshot": all(slices).pipe(Snapshot.run(One.role("any"), { sessions: slices })),
  "sluice, four slices, no snapshot": all(slices),
  "sluice, one after the other": all(1)
}

const sliced = (subject: keyof typeof ways, url: string) => async (): Promise<Contender> => {
  const runtime = ManagedRuntime.make(
    One.layer({ any: { url: Redacted.make(url), minConnections: 6, maxConnections: 6, boot: "fill" } }).pipe(
      Layer.provide(quiet)
    )
  )
  const expected = await runtime.runPromise(all(1))
  return {
    subject,
    round: async (millis) => {
      const begin = performance.now()
      let count = 0
      while (performance.now() - begin < millis || count === 0) {
        const sum = await runtime.runPromise(ways[subject])
        if (Math.abs(sum - expected) > 1) throw new Error(`${subject}: ${sum} and not ${expected}`)
        count++
      }
      return (performance.now() - begin) / count
    },
    close: () => runtime.dispose()
  }
}

export const snapshot: Row = {
  name: "snapshot",
  about: "a report in four slices in parallel on one snapshot, beside the same slices one after the other",
  unit: "ms",
  groups: ({ url }) => [
    {
      contenders: (Object.keys(ways) as ReadonlyArray<keyof typeof ways>).map((subject) => ({
        subject,
        open: sliced(subject, url)
      }))
    }
  ]
}
