/**
 * Random declarations, some of them nonsense: each is refused where it is declared, by the name of its field and with what it
 * must be; or its plan holds, says the same in whatever order it was written, and a call of it ends as a report's calls end.
 *
 * `SLUICE_FUZZ_RUNS=100000 npx vitest run test/unit/report/declarations.test.ts` is the long form.
 */
import { assert, describe, it } from "@effect/vitest"
import { Database, Report, ReportError, ReportGroup } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { fuzz, random, type Random } from "../../support/random.ts"
import { makeRole, replica, rowsAfter, run } from "./support.ts"

const { runs, seed } = fuzz(400)

const nonsense: ReadonlyArray<unknown> = [
  Number.NaN,
  -1,
  0,
  -0,
  1.5,
  Infinity,
  -Infinity,
  2 ** 53,
  1e308,
  1e9,
  "",
  "soon",
  "-5 seconds",
  "Infinity",
  null,
  {},
  [],
  true,
  false,
  10n,
  { ofPool: 0 },
  { ofPool: Number.NaN },
  { ofPool: -1 },
  { percentile: 2 },
  { percentile: Number.NaN },
  { time: "never" },
  { time: -1 },
  () => 1
]

const duration = (of: Random): unknown =>
  of.pick([() => 1 + of.below(5000), () => `${1 + of.below(20)} seconds`, () => "250 millis", () => "2 minutes"])()
const whole = (of: Random): number => 1 + of.below(50)
const share = (of: Random): number => 0.01 + of.next() * 0.99
const schedule = (of: Random): unknown =>
  of.pick([
    Schedule.exponential("100 millis"),
    Schedule.spaced("50 millis"),
    Schedule.recurs(2),
    Schedule.forever,
    Schedule.fibonacci("10 millis")
  ])

type Maker = (of: Random) => unknown
/** Sound values, field by field. */
const fields: Record<string, Maker | Record<string, Maker>> = {
  deadline: duration,
  attemptTimeout: duration,
  lane: (of) => of.pick(["report", "batch", "interactive", "lane of its own"]),
  priority: (of) => of.below(20) - 10,
  maxRows: (of) => 1 + of.below(100_000),
  retry: {
    schedule,
    retries: (of) => of.below(6),
    cap: duration,
    jitter: (of) => of.pick(["none", "full", "equal", "decorrelated"]),
    budget: (of) => ({ ratio: of.next(), minimum: of.below(5), window: duration(of) })
  },
  breaker: {
    failureRate: (of) => of.pick([share(of), false]),
    minimumCalls: whole,
    window: (of) => of.pick([whole(of), { time: duration(of) }]),
    consecutiveFailures: (of) => of.pick([whole(of), false]),
    slowCalls: (of) => ({ longerThan: duration(of), rate: share(of) }),
    probes: whole,
    openFor: (of) => Schedule.spaced(1 + of.below(1000))
  },
  bulkhead: {
    permits: (of) => of.pick([whole(of), { ofPool: share(of) }]),
    queue: (of) => of.below(50),
    maxWait: duration
  },
  rateLimit: { limit: whole, window: duration, perTenant: (of) => of.chance(0.5), maxWait: duration },
  shed: { k: (of) => 1 + of.next() * 3, window: duration, minimumCalls: whole, dark: (of) => of.chance(0.5) },
  hedge: {
    after: (of) => of.pick([duration(of), { percentile: 0.5 + of.next() * 0.49 }]),
    budget: (of) => ({ ratio: of.next(), minimum: of.below(5) })
  }
}
const needed: Record<string, ReadonlyArray<string>> = { bulkhead: ["permits"], rateLimit: ["limit", "window"] }

interface Drawn {
  readonly options: Record<string, any>
  /** The fields that were given nonsense, as `retry.cap`. */
  readonly odd: ReadonlyArray<string>
}

const draw = (of: Random): Drawn => {
  const odd: Array<string> = []
  const oddity = of.pick([0, 0, 0.1, 0.3])
  const value = (path: string, make: Maker): unknown => {
    if (!of.chance(oddity)) return make(of)
    odd.push(path)
    return of.pick(nonsense)
  }
  const options: Record<string, any> = {}
  for (const [name, make] of Object.entries(fields)) {
    if (name !== "deadline" && of.chance(0.5)) continue
    if (typeof make === "function") options[name] = value(name, make)
    else {
      const inner: Record<string, unknown> = {}
      for (const [key, one] of Object.entries(make)) {
        if (needed[name]?.includes(key) === true || of.chance(0.5)) inner[key] = value(`${name}.${key}`, one)
      }
      options[name] = inner
    }
  }
  if (options["hedge"] === undefined && of.chance(0.3)) options["writes"] = of.pick(["once", "idempotent"])
  return { options, odd }
}

const shuffled = (of: Random, value: any): any => {
  if (Object.getPrototypeOf(value ?? 0) !== Object.prototype) return value
  const entries = Object.entries(value)
  for (let index = entries.length - 1; index > 0; index--) {
    const other = of.below(index + 1)
    ;[entries[index], entries[other]] = [entries[other]!, entries[index]!]
  }
  return Object.fromEntries(entries.map(([key, one]) => [key, shuffled(of, one)]))
}

const declare = (options: Record<string, any>) =>
  Report.make("drawn", {
    database: replica,
    params: {},
    row: { n: Schema.Int },
    query: (sql: any) => sql`select 1 as n`,
    deadline: 1,
    ...options
  } as any) as Report.Any

const told = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) =>
    typeof one === "number" || typeof one === "bigint" || typeof one === "function" ? String(one) : one
  )

const holds = (report: Report.Any, where: string): void => {
  const plan = Report.explain(report)
  const numbers: ReadonlyArray<number | undefined> = [
    plan.deadlineMillis,
    plan.attemptTimeoutMillis,
    plan.attempts,
    plan.backoffMillis,
    plan.lastAttemptBeginsMillis,
    plan.worstCaseMillis,
    plan.leases,
    plan.queue,
    plan.maxRows,
    plan.memoryBytes
  ]
  for (const number of numbers) {
    if (number !== undefined)
      assert.isTrue(Number.isFinite(number) && number >= 0, `${where}: ${number} in ${told(plan)}`)
  }
  assert.isAtLeast(plan.attempts, 1, where)
  assert.isTrue(Number.isInteger(plan.attempts) && Number.isInteger(plan.leases), where)
  assert.isAtMost(plan.worstCaseMillis, plan.deadlineMillis, where)
  assert.isAtLeast(plan.worstCaseMillis, plan.attemptTimeoutMillis, where)
  assert.isAtLeast(plan.worstCaseMillis, Math.min(plan.deadlineMillis, plan.backoffMillis), where)
  assert.isAtLeast(plan.worstCaseMillis, Math.min(plan.deadlineMillis, plan.lastAttemptBeginsMillis), where)
  if (typeof plan.permits === "number") assert.isAtLeast(plan.permits, 1, where)
  for (const text of [Report.explainText(report), Report.explainMarkdown(report)]) {
    assert.notMatch(text.replaceAll(plan.lane, ""), /NaN|undefined|Infinity|\[object|null/, where)
  }
}

describe("random declarations", () => {
  it.effect(
    `${runs} of them, from SLUICE_FUZZ_SEED=${seed}: refused by the name of the field, or a plan that holds and a call that ends`,
    () =>
      Effect.gen(function* () {
        const { role } = yield* makeRole(() => rowsAfter(1))
        let refused = 0
        let held = 0
        for (let index = seed; index < seed + runs; index++) {
          const of = random(index)
          const { odd, options } = draw(of)
          const where = `SLUICE_FUZZ_SEED=${index} SLUICE_FUZZ_RUNS=1: ${told(options)}`
          let report: Report.Any
          try {
            report = declare(options)
          } catch (error) {
            refused++
            const message = (error as Error).message
            const field = /^Report "drawn": ([\w.]+?)(?: (?:must|cannot) .+|: unknown option; .+)/.exec(message)?.[1]
            assert.isDefined(field, `${where}: ${message}`)
            assert.isTrue(
              odd.some((path) => field === path || field!.startsWith(`${path}.`)),
              `${where}: ${message}`
            )
            continue
          }
          held++
          holds(report, where)
          const again = declare(shuffled(of, options))
          assert.deepStrictEqual(Report.explain(again), Report.explain(report), where)
          const { exit } = yield* run(
            Effect.provideService(
              report.run({}) as Effect.Effect<unknown, { readonly _tag: string }>,
              replica as any,
              role
            )
          )
          if (Exit.isSuccess(exit)) assert.deepStrictEqual(exit.value, [{ n: 1 }], where)
          else {
            assert.isFalse(Cause.hasDies(exit.cause), `${where}: ${Cause.pretty(exit.cause)}`)
            const error = Cause.findErrorOption(exit.cause)
            const tags = Report.explain(report).failures
            assert.isTrue(
              error._tag === "Some" && tags.includes(error.value._tag),
              `${where}: ${Cause.pretty(exit.cause)}`
            )
          }
        }
        assert.isAbove(refused, runs / 10)
        assert.isAbove(held, runs / 10)
      }),
    { timeout: 3_600_000 }
  )

  it.live("in a group: accepted, or every issue says whose it is, what is wrong, and the cure", () =>
    Effect.gen(function* () {
      class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["replica"] }) {}
      // Nobody listens there: what contradicts itself is found without a server.
      const role = Fleet.layerRole("replica", {
        host: "127.0.0.1",
        port: 1,
        minConnections: 0,
        maxConnections: 4,
        connectionTimeout: "20 millis"
      })
      const nowhere = Layer.succeedContext(yield* Layer.build(role))
      let refused = 0
      for (let index = seed; index < seed + 40; index++) {
        const of = random(index)
        const { odd, options } = draw(of)
        if (odd.length > 0) continue
        const report = declare({ ...options, database: Fleet.role("replica") })
        const layer = ReportGroup.layer(ReportGroup.make("drawn").add(report)) as Layer.Layer<never, unknown, any>
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(Layer.provide(layer, nowhere))))
        if (Exit.isSuccess(exit)) continue
        refused++
        const error = Cause.findErrorOption(exit.cause)
        const where = `SLUICE_FUZZ_SEED=${index}: ${told(options)}: ${Cause.pretty(exit.cause)}`
        assert(error._tag === "Some" && error.value instanceof ReportError.InvalidDeclarations, where)
        for (const { cure, problem, subject } of error.value.issues) {
          assert.isAbove(Math.min(cure.length, problem.length), 10, where)
          assert.strictEqual(subject, "report drawn", where)
          assert.notMatch(problem, /NaN|undefined|Infinity/, where)
        }
      }
      assert.isAbove(refused, 0)
    })
  )

  it("in a group under any name, those of Object's own fields too", () => {
    const { name: _, ...options } = declare({ deadline: 1 }).declared
    const named = (name: string) => Report.make(name, options as any) as Report.Any
    const names = ["constructor", "__proto__", "toString", "hasOwnProperty"]
    const group = ReportGroup.make("drawn").add(named(names[0]!), ...names.slice(1).map(named))
    assert.sameMembers(Object.keys(group.reports), names)
    assert.strictEqual(Object.getPrototypeOf(group.reports), Object.prototype)
    for (const name of names) {
      assert.throws(() => group.add(named(name)), `has a report "${name}" already`)
      assert.include(ReportGroup.catalogue(group), `### ${name}`)
    }
  })
})
