/** Bounds that Sluice promises, measured on a real server and printed with their spread. Each is a row of its own. */
import { Database, Report } from "@sluice/sdk"
import { FaultProxy, type PgCluster } from "@sluice/sdk/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { expectEventually } from "../support/expectEventually.ts"
import { type DrillResult, grace, heartbeat } from "./harness.ts"

class Bounds extends Database.Service<Bounds>()("bounds", { roles: ["main"] }) {}
const main = Bounds.role("main")

/** What a bound is measured on. */
interface Place {
  readonly cluster: PgCluster.Cluster
  readonly random: () => number
}

export interface Bound {
  readonly name: string
  readonly about: string
  readonly measure: (place: Place) => Effect.Effect<DrillResult, unknown>
}

/** A pool of ten sessions, all there, behind a proxy. */
const ten = Effect.fnUntraced(function* ({ cluster }: Place, options: Database.RoleOptions = {}, direct = false) {
  const { primary } = cluster
  const proxy = yield* FaultProxy.make({ target: primary })
  const url = new URL(direct ? primary.url : proxy.url(primary.url))
  const context = yield* Layer.build(
    Bounds.layer({
      main: { url: Redacted.make(url.href), sslmode: "disable", minConnections: 10, maxConnections: 10, ...options }
    })
  )
  const { nodes, sql } = yield* Effect.provide(main, context)
  const { pool } = nodes[0]!
  yield* pool.awaitReady("10 seconds")
  return { proxy, context, pool, sql }
})

const read = (deadline: number) =>
  Report.make("bounded", {
    database: main,
    params: {},
    row: { n: Schema.Int },
    query: (sql) => sql`select 1 as n`,
    deadline
  })

const ordered = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)
const at = (values: ReadonlyArray<number>, share: number) =>
  ordered(values)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0
const ms = (value: number) => `${Math.round(value * 10) / 10} ms`
const spread = (values: ReadonlyArray<number>) =>
  `${ms(Math.min(...values))} to ${ms(Math.max(...values))}, median ${ms(at(values, 0.5))}`

/** Milliseconds since then, without those in which this process did not run. */
const since = (heart: ReturnType<typeof heartbeat>, began: number) => {
  const now = performance.now()
  return Math.max(0, now - began - heart.between(began, now))
}
const away = (heart: ReturnType<typeof heartbeat>) =>
  `this process was away for up to ${ms(heart.longest())}, which is not counted`

interface Told {
  readonly calls: number
  readonly succeeded: number
  readonly failed: number
  readonly otherwise: number
  readonly late: number
  readonly lost: number
}

/** A row in the form of all rows: a promise that is not kept is counted as wrong. */
const row = (
  fault: string,
  told: Partial<Told>,
  note: string,
  kept: boolean,
  recoveryMs: number,
  leaked = 0
): DrillResult => ({
  fault,
  subject: "sluice",
  calls: told.calls ?? 0,
  succeeded: told.succeeded ?? 0,
  failedAsDeclared: told.failed ?? 0,
  failedOtherwise: told.otherwise ?? 0,
  late: told.late ?? 0,
  lost: told.lost ?? 0,
  doubled: 0,
  wrong: kept ? 0 : 1,
  leaked,
  recoveryMs: Math.round(recoveryMs),
  note: kept ? note : `NOT KEPT: ${note}`
})

const isDeclared = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) && exit.cause.reasons.every((reason) => reason._tag === "Fail")

const monotonic = () => performance.now()

const leave: Bound = {
  name: "bound-leave",
  about:
    "callers on a server that has fallen silent (nothing passes, nobody is told) leave within 50 ms of their deadline",
  measure: Effect.fnUntraced(function* (place) {
    const deadline = 500
    const heart = heartbeat(monotonic)
    const beyond: Array<number> = []
    const raw: Array<number> = []
    const count = { succeeded: 0, failed: 0, otherwise: 0 }
    for (let round = 0; round < 3; round++) {
      const { context, proxy } = yield* ten(place)
      const report = read(deadline)
      yield* Effect.all([report.run({}), report.run({})]).pipe(Effect.provide(context))
      yield* proxy.stall()
      const one = Effect.gen(function* () {
        yield* Effect.sleep(place.random() * 300)
        const began = performance.now()
        const exit = yield* Effect.exit(report.run({}))
        const ended = performance.now()
        raw.push(ended - began - deadline)
        beyond.push(Math.max(0, ended - began - deadline - heart.between(began, ended)))
        count[Exit.isSuccess(exit) ? "succeeded" : isDeclared(exit) ? "failed" : "otherwise"]++
      })
      const callers = Array.from({ length: 200 }, () => one)
      yield* Effect.all(callers, { concurrency: "unbounded" }).pipe(Effect.provide(context))
      yield* proxy.heal
    }
    heart.stop()
    const late = beyond.filter((millis) => millis > grace).length
    const note =
      `beyond the deadline of ${deadline} ms: p50 ${ms(at(beyond, 0.5))}, p99 ${ms(at(beyond, 0.99))}, ` +
      `most ${ms(Math.max(...beyond))}; this process was away for up to ${ms(heart.longest())} ` +
      `(included: most ${ms(Math.max(...raw))})`
    const kept = late === 0 && count.failed === beyond.length
    return row("bound-leave", { calls: beyond.length, ...count, late }, note, kept, Math.max(...beyond))
  }, Effect.scoped)
}

const validationTimeout = 500

const deadIdle: Bound = {
  name: "bound-dead-idle",
  about: "ten idle sessions that died and told nobody cost their next callers one validation timeout (500 ms) in all",
  measure: Effect.fnUntraced(function* (place) {
    const costs = { "one after another": [] as Array<number>, together: [] as Array<number> }
    const heart = heartbeat(monotonic)
    let calls = 0
    for (const how of ["one after another", "together"] as const) {
      for (let round = 0; round < 3; round++) {
        yield* Effect.gen(function* () {
          const { proxy, sql } = yield* ten(place)
          // Silent for longer than a second: they are asked for a sign of life before they are used.
          yield* Effect.sleep("1200 millis")
          yield* proxy.halfOpen("server")
          const began = performance.now()
          const call = sql`select 1`
          const concurrency = how === "together" ? "unbounded" : 1
          yield* Effect.all(
            Array.from({ length: 10 }, () => call),
            { concurrency }
          )
          calls += 10
          costs[how].push(since(heart, began))
        }).pipe(Effect.scoped)
      }
    }
    heart.stop()
    const all = [...costs["one after another"], ...costs.together]
    // Ten connects, two at a time, on a busy machine.
    const kept = Math.max(...all) < 1.9 * validationTimeout
    const note =
      `ten calls one after another: ${spread(costs["one after another"])}; together: ${spread(costs.together)} ` +
      `(3 rounds each; a timeout for each session would be ${10 * validationTimeout} ms); ${away(heart)}`
    return row("bound-dead-idle", { calls, succeeded: calls }, note, kept, Math.max(...all))
  })
}

const waiters: Bound = {
  name: "bound-waiters",
  about:
    "1,000 callers wait while the server is away for 10 s: a handful of connects a second, all served or told in time",
  measure: Effect.fnUntraced(function* (place) {
    const { primary } = place.cluster
    const { context, pool, proxy } = yield* ten(place, { maxWaiting: 1_000 })
    const heart = heartbeat(monotonic)
    yield* primary.stop("fast")
    yield* expectEventually(pool.stats, ({ idle, leased }) => idle + leased === 0)
    yield* proxy.resetCounters
    const count = { succeeded: 0, failed: 0, otherwise: 0, late: 0 }
    const patient = { deadline: 20_000, served: 0 }
    const hasty = { deadline: 4_000, served: 0 }
    const call = (kind: typeof patient) => {
      const report = read(kind.deadline)
      return Effect.gen(function* () {
        const began = performance.now()
        const exit = yield* Effect.exit(report.run({}))
        const ended = performance.now()
        if (ended - began - heart.between(began, ended) > kind.deadline + grace) count.late++
        if (Exit.isSuccess(exit)) kind.served++
        count[Exit.isSuccess(exit) ? "succeeded" : isDeclared(exit) ? "failed" : "otherwise"]++
      })
    }
    const callers = Array.from({ length: 1_000 }, (_, index) => call(index % 2 === 0 ? patient : hasty))
    const all = yield* Effect.forkChild(
      Effect.all(callers, { concurrency: "unbounded", discard: true }).pipe(Effect.provide(context))
    )
    const perSecond: Array<number> = []
    for (let second = 0; second < 10; second++) {
      const { accepted } = yield* proxy.counters
      yield* Effect.sleep("1 second")
      perSecond.push((yield* proxy.counters).accepted - accepted)
    }
    yield* primary.start
    const back = performance.now()
    yield* Fiber.join(all)
    const drained = performance.now() - back
    heart.stop()
    const { waiting } = yield* pool.stats
    const most = Math.max(...perSecond)
    const note =
      `connects in each second: ${perSecond.join(", ")}; of 500 with a deadline of 20 s ${patient.served} were served, ` +
      `of 500 with 4 s ${hasty.served}; all ended ${ms(drained)} after the server was back`
    // The first second has the quick attempts of the backoff's beginning.
    const kept = most <= 8 && at(perSecond, 0.5) <= 5 && patient.served === 500
    return row("bound-waiters", { calls: 1_000, ...count }, note, kept, drained, waiting)
  }, Effect.scoped)
}

const refill: Bound = {
  name: "bound-refill",
  about: "after restart -m immediate the pool is full again (10 of 10) within 1 s of the server being ready",
  measure: Effect.fnUntraced(function* (place) {
    const { primary } = place.cluster
    const costs: Array<number> = []
    const heart = heartbeat(monotonic)
    const { pool } = yield* ten(place, {}, true)
    for (let round = 0; round < 7; round++) {
      yield* primary.stop("immediate")
      yield* Effect.sleep(200 + place.random() * 600)
      const ready = yield* Deferred.make<number>()
      const look = Effect.gen(function* () {
        for (;;) {
          const answered = yield* Effect.exit(primary.query("select 1"))
          if (Exit.isSuccess(answered)) break
          yield* Effect.sleep("5 millis")
        }
        yield* Deferred.succeed(ready, performance.now())
      })
      const looking = yield* Effect.forkChild(look)
      yield* Effect.forkChild(primary.start)
      yield* Fiber.join(looking)
      const began = yield* Deferred.await(ready)
      yield* expectEventually(pool.stats, ({ idle }) => idle === 10)
      costs.push(since(heart, began))
      yield* expectEventually(primary.pid, (pid) => pid !== undefined)
    }
    heart.stop()
    const kept = Math.max(...costs) <= 1_000
    const note = `${costs.length} restarts: ${spread(costs)}; ${away(heart)}`
    return row("bound-refill", {}, note, kept, Math.max(...costs))
  }, Effect.scoped)
}

export const bounds: ReadonlyArray<Bound> = [leave, deadIdle, waiters, refill]
