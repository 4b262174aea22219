/** What policies cost a call that succeeds at once: each alone, and the whole way of a report without a server. */
import { Database, Report } from "@sluice/sdk"
import * as Breaker from "@sluice/sdk/policy/Breaker"
import * as Bulkhead from "@sluice/sdk/policy/Bulkhead"
import * as Deadline from "@sluice/sdk/policy/Deadline"
import * as RateLimit from "@sluice/sdk/policy/RateLimit"
import * as Retry from "@sluice/sdk/policy/Retry"
import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as path from "node:path"
import { inChild, root } from "../Child.ts"
import type { Contender, Entrant, Row } from "../Row.ts"
import { nowhere } from "../subjects/nowhere.ts"

const batch = 500
const opossum = path.join(root, "test/bench/opossum.ts")

/** Nanoseconds a call, one call after the other, for about `millis`. */
const timed = async (millis: number, calls: (count: number) => Promise<unknown>): Promise<number> => {
  const begin = performance.now()
  let count = 0
  do {
    await calls(batch)
    count += batch
  } while (performance.now() - begin < millis)
  return ((performance.now() - begin) * 1e6) / count
}

const contender = (subject: string, calls: (count: number) => Promise<unknown>, close?: () => Promise<void>) => ({
  subject,
  open: async (): Promise<Contender> => ({
    subject,
    round: (millis) => timed(millis, calls),
    close: close ?? (() => Promise.resolve())
  })
})

const effect = (subject: string, one: Effect.Effect<unknown, unknown>) =>
  contender(subject, (count) =>
    Effect.runPromise(
      Effect.gen(function* () {
        for (let index = 0; index < count; index++) yield* one
      })
    )
  )

const promise = (subject: string, one: () => Promise<unknown>) =>
  contender(subject, async (count) => {
    for (let index = 0; index < count; index++) await one()
  })

const work = Effect.suspend(() => Effect.succeed(1))
const asyncWork = () => Promise.resolve(1)

class Nowhere extends Database.Service<Nowhere>()("nowhere", { roles: ["main"] }) {}

const base = {
  database: Nowhere.role("main"),
  params: { id: Schema.Int },
  row: { id: Schema.Int },
  query: (sql: any, { id }: { readonly id: number }) => sql`select ${id} as id`,
  deadline: "30 seconds"
} as const

const bare = Report.make("bare", base)
const preset = Report.make("preset", { ...base, ...Report.presets.report })

const reports = (): ReadonlyArray<Entrant> => {
  const runtime = ManagedRuntime.make(Layer.succeed(Nowhere.role("main"), nowhere([{ id: 1 }]) as never))
  const report = (subject: string, one: Effect.Effect<unknown, unknown, never>) =>
    contender(
      subject,
      (count) =>
        runtime.runPromise(
          Effect.gen(function* () {
            for (let index = 0; index < count; index++) yield* one
          })
        ),
      () => runtime.dispose()
    )
  return [
    report("sluice, preset report", Effect.suspend(() => preset.run({ id: 1 })) as never),
    report("sluice, deadline only", Effect.suspend(() => bare.run({ id: 1 })) as never)
  ]
}

const encodeParams = Schema.encodeUnknownSync(Schema.Struct({ id: Schema.Int }))
const decodeRows = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.Int })))

const cockatielAll = () =>
  Cockatiel.wrap(
    Cockatiel.timeout(30_000, Cockatiel.TimeoutStrategy.Aggressive),
    Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 2, backoff: new Cockatiel.ExponentialBackoff() }),
    Cockatiel.circuitBreaker(Cockatiel.handleAll, {
      halfOpenAfter: 5000,
      breaker: new Cockatiel.ConsecutiveBreaker(5)
    }),
    Cockatiel.bulkhead(10, 40),
    Cockatiel.timeout(12_000, Cockatiel.TimeoutStrategy.Aggressive)
  )

export const pipeline: Row = {
  name: "pipeline",
  about:
    "a whole report without a server (parameters, deadline, retry, breaker, bulkhead, attempt timeout, decode, metrics), beside the same five policies of cockatiel, with the same schemas by hand; alone, and three of opossum (timeout, breaker, capacity), which do less; around nothing",
  brief: "the whole way of a report around nothing, beside five policies of cockatiel and three of opossum",
  unit: "ns/op",
  collect: false,
  groups: ({ node }) => {
    const policy = cockatielAll()
    return [
      {
        contenders: [
          ...reports(),
          promise("cockatiel + schema", async () => {
            const { id } = encodeParams({ id: 1 })
            return policy.execute(async () => decodeRows(await Promise.resolve([{ id }])))
          }),
          { ...promise("cockatiel", () => policy.execute(asyncWork)), beside: null },
          // Its timers outlive its calls by seconds, and everybody beside it would pay for them.
          {
            subject: "opossum",
            beside: null,
            open: async (): Promise<Contender> => ({
              subject: "opossum",
              round: (millis) => inChild<number>([...node.typescript, opossum, String(millis)]),
              close: () => Promise.resolve()
            })
          }
        ]
      }
    ]
  }
}

export const policies: Row = {
  name: "policies",
  about: "one policy around nothing, Sluice's and cockatiel's; `none` is the loop alone",
  brief: "one policy around nothing",
  unit: "ns/op",
  collect: false,
  groups: () => {
    const breaker = Breaker.make({ name: "bench" })
    const bulkhead = Bulkhead.make({ key: "bench", permits: 10 })
    const rate = RateLimit.make({ key: "bench", limit: 1_000_000_000, window: "1 second" })
    const retry = Retry.make<never>({ key: "bench", classify: () => ({ retry: false }) })
    const deadline = Deadline.make({ key: "bench", duration: "30 seconds" })
    const theirs = {
      timeout: Cockatiel.timeout(30_000, Cockatiel.TimeoutStrategy.Aggressive),
      retry: Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 2 }),
      breaker: Cockatiel.circuitBreaker(Cockatiel.handleAll, {
        halfOpenAfter: 5000,
        breaker: new Cockatiel.ConsecutiveBreaker(5)
      }),
      bulkhead: Cockatiel.bulkhead(10, 40)
    }
    return [
      { contenders: [effect("none, effect", work), promise("none, promise", asyncWork)] },
      {
        contenders: [
          effect("sluice deadline", deadline.within(work)),
          promise("cockatiel timeout", () => theirs.timeout.execute(asyncWork))
        ]
      },
      {
        contenders: [
          effect("sluice retry", retry.run(work)),
          promise("cockatiel retry", () => theirs.retry.execute(asyncWork))
        ]
      },
      {
        contenders: [
          effect("sluice breaker", breaker.protect(work, "node")),
          promise("cockatiel breaker", () => theirs.breaker.execute(asyncWork))
        ]
      },
      {
        contenders: [
          effect("sluice bulkhead", bulkhead.withPermit(work)),
          promise("cockatiel bulkhead", () => theirs.bulkhead.execute(asyncWork))
        ]
      },
      { contenders: [effect("sluice rate limit", rate.run(work))] }
    ]
  }
}
