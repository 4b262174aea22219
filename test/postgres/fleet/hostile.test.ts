/**
 * Every report of the examples with parameters that mean harm: SQL, NUL, half characters, numbers and dates of no world,
 * huge things, objects that bite. Each call ends with rows or with an error that its report declares, the tables stay as they
 * are, and no value of a caller shows up in what leaves the process.
 *
 * `SLUICE_FUZZ_RUNS=5000 npx vitest run test/postgres/fleet/hostile.test.ts` is the long form.
 */
import { assert } from "@effect/vitest"
import type { Report } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import * as reports from "../../../packages/examples/src/fleet/reports/index.ts"
import * as PolicyEvents from "../../../packages/sdk/src/policy/PolicyEvents.ts"
import { postgres } from "../../support/postgres.ts"
import { fuzz, random, type Random } from "../../support/random.ts"
import { always, fleet, load, origin } from "./support.ts"
import { keepSpans } from "../../support/spans.ts"

const { runs, seed } = fuzz(300)

/** Is in every hostile text and number. */
const canary = "kanari7731"
const canaryNumber = 77317731.7731

const period = { from: always.from, to: always.to }
const sound: Record<string, Record<string, unknown>> = {
  distance: { vehicle: null, ...period, timeZone: "Europe/Berlin" },
  idle: { vehicle: null, ...period },
  "latest-position": { vehicle: null },
  overspeed: { vehicle: null, ...period },
  // Of a vehicle that does not exist: nothing is written.
  "record-position": {
    vehicle: "nobody",
    time: always.from,
    latitude: 1,
    longitude: 1,
    speed: 1,
    odometer: 1
  },
  "recorded-positions": { vehicle: "V 0", since: always.from },
  stoppage: { vehicle: "V 0", ...period },
  "stoppage-summary": { by: "depot", ...period },
  trips: { ...period },
  vehicle: { vehicle: "V 0" }
}
const fields = ["vehicle", "from", "to", "since", "time", "by", "rule", "timeZone", "minParking", "silence", "long"]
const all = Object.values(reports).filter(
  (one): one is Report.Any & typeof one => typeof one === "object" && one !== null && "runWithInfo" in one
) as ReadonlyArray<Report.Any>

const bite = (what: string): never => {
  throw new Error(`${canary} ${what}`)
}

const texts: ReadonlyArray<string> = [
  `'; drop table fleet.positions; -- ${canary}`,
  `${canary}' or '1'='1`,
  `${canary}"; delete from fleet.vehicles; --`,
  `$1 ${canary} $$; truncate fleet.vehicles; $$`,
  `\\'; drop schema fleet cascade; /* ${canary} */`,
  `${canary}\0`,
  `\ud800${canary}`,
  `${canary}\udfff`,
  `${canary}\u202e\ufeff`,
  `{${canary},NULL}`,
  `%${canary}_%`,
  `Europe/${canary}`
]

/** What `await` calls. */
const awaited = String("then")

const values: ReadonlyArray<(of: Random) => unknown> = [
  (of) => of.pick(texts),
  (of) => of.pick(texts),
  (of) => of.pick(texts).repeat(1 + of.below(20_000)),
  (of) => of.pick([NaN, Infinity, -Infinity, -0, 1e308, -canaryNumber, canaryNumber, 2 ** 53, 2 ** 63]),
  () => 77317731n ** 40n,
  (of) => of.many(1_000, () => canary),
  () => Object.assign([], { length: 2 ** 32 - 1 }),
  () => Array.from({ length: 200_000 }, () => canaryNumber),
  (of) => new Date(of.pick([NaN, 8.64e15, -8.64e15, 77317731773177])),
  (of) => DateTime.makeUnsafe(of.pick([8.64e15, -8.64e15, 0, -62_167_219_200_001])),
  (of) => Duration.millis(of.pick([-1, 77317731.7731, Infinity, 1e300, 2 ** 53])),
  (of) => Duration.nanos(BigInt(of.pick([-1, 1, 77317731])) ** 9n),
  () => ({ toString: () => bite("toString"), toJSON: () => bite("toJSON"), valueOf: () => bite("valueOf") }),
  () => ({ [Symbol.toPrimitive]: () => bite("toPrimitive"), [awaited]: () => bite("then") }),
  () => JSON.parse(`{"__proto__": {"polluted": "${canary}"}, "constructor": {"prototype": {"polluted": "${canary}"}}}`),
  () => new Proxy({}, { get: () => bite("get"), ownKeys: () => bite("ownKeys"), getPrototypeOf: () => bite("proto") }),
  () => new Proxy([], { get: () => bite("get") }),
  () => Object.create(null, { secret: { get: () => bite("getter"), enumerable: true } }),
  () => Symbol(canary),
  () => () => canary,
  () => new Map([[canary, canary]]),
  () => Buffer.from(canary),
  () => new (class Kanari7731 {})(),
  () => undefined,
  () => null,
  () => true
]

const text = (of: Random): unknown => of.pick(texts)
const number = (of: Random): unknown => of.pick([canaryNumber, 1e308, 5e-324, -0, 2 ** 53, 0])
const instant = (of: Random): unknown =>
  DateTime.makeUnsafe(of.pick([8.64e15, -8.64e15, -210_866_803_200_000, 9.2e15 / 2, 77317731773177]))
const length = (of: Random): unknown => Duration.millis(of.pick([77317731.7731, 0.0001, 2 ** 53, 1e15, 0]))

/** What a schema lets through is the server's to deal with. */
const fitting: Record<string, (of: Random) => unknown> = {
  vehicle: text,
  timeZone: text,
  from: instant,
  to: instant,
  since: instant,
  time: instant,
  minParking: length,
  silence: length,
  long: length,
  minDuration: length,
  maxGap: length,
  motionThreshold: number,
  limit: number,
  speed: number,
  odometer: number
}

/** Everything that one could print of it. */
const printed = (value: unknown): string => {
  const safe = (f: () => unknown): string => {
    try {
      return String(f() ?? "")
    } catch {
      return ""
    }
  }
  const error = value as Error
  return [
    safe(() => error.message),
    safe(() => error.stack),
    safe(() => JSON.stringify(value, (_, one: unknown) => (typeof one === "bigint" ? String(one) : one))),
    safe(() =>
      inspect(value, { depth: 12, showHidden: true, getters: false, maxStringLength: null, maxArrayLength: null })
    )
  ].join("\n")
}

const leaks = (text: string): string | undefined =>
  [canary, "Kanari7731", "7731773"].find((word) => text.includes(word))

const short = (value: unknown): string => {
  try {
    return inspect(value, { depth: 2, maxStringLength: 80, maxArrayLength: 3 }).slice(0, 400)
  } catch {
    return "(bites)"
  }
}

const state = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const tables = yield* sql<{ name: string }>`
    select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1`
  const counts: Record<string, unknown> = {}
  for (const { name } of tables) {
    const [row] = yield* sql.unsafe(
      `select count(*) as rows, md5(coalesce(string_agg(t::text, '|' order by t::text), '')) as sum from ${name} t`
    )
    counts[name] = row
  }
  const [others] = yield* sql`select count(*) as routines, (select count(*) from pg_roles) as roles from pg_proc`
  return { counts, others }
})

postgres(fleet)("hostile parameters", (it) => {
  it.effect(`${runs} calls of every kind, from SLUICE_FUZZ_SEED=${seed}`, () =>
    Effect.gen(function* () {
      assert.sameMembers(
        all.map(({ name }) => name),
        Object.keys(sound)
      )
      yield* load([
        Array.from({ length: 12 }, (_, n) => ({
          time: origin + n * 300_000,
          odometer: n * 1000,
          speed: n % 3 === 0 ? 0 : 10,
          ignition: true
        }))
      ])
      const before = yield* state
      const told: Array<unknown> = []
      const { spans, tracer } = keepSpans()
      const metrics = new Map()
      const outcomes = new Map<string, number>()
      for (let run = seed; run < seed + runs; run++) {
        const of = random(run)
        const report = of.pick(all)
        const own = Object.keys(sound[report.name]!)
        const input: Record<string, unknown> = { ...sound[report.name] }
        const fits = of.chance(0.6)
        const extra = of.many(2, () =>
          of.pick(fits ? Object.keys(fitting) : [...fields, "__proto__", "constructor", canary])
        )
        for (const field of [of.pick(own), ...extra]) {
          const value = fits ? (fitting[field]?.(of) ?? input[field]) : of.pick(values)(of)
          Object.defineProperty(input, field, { value, enumerable: true, configurable: true, writable: true })
        }
        const params = !fits && of.chance(0.1) ? of.pick(values)(of) : input
        const where = `SLUICE_FUZZ_SEED=${run} SLUICE_FUZZ_RUNS=1: ${report.name} ${short(params)}`
        // A report that writes has no stream.
        const streams = of.chance(0.2) && report.declared.writes === undefined
        const call = (streams ? Stream.runCollect(report.stream(params)) : report.run(params)) as Effect.Effect<
          unknown,
          unknown
        >
        const exit = yield* Effect.exit(call).pipe(
          Effect.withTracer(tracer),
          Effect.provideService(PolicyEvents.CurrentListener, (event) => void told.push(event)),
          Effect.provideService(Metric.MetricRegistry, metrics)
        )
        const key = Exit.isSuccess(exit)
          ? "rows"
          : Cause.findErrorOption(exit.cause)._tag === "None"
            ? "defect"
            : "error"
        outcomes.set(key, (outcomes.get(key) ?? 0) + 1)
        if (Exit.isSuccess(exit)) continue
        const error = Cause.findErrorOption(exit.cause)
        const pretty = Cause.pretty(exit.cause)
        assert.isFalse(Cause.hasDies(exit.cause), `${where}: ${pretty}`)
        assert(error._tag === "Some", `${where}: ${pretty}`)
        const tags = [...report.errors].map((schema) => (schema as any).identifier ?? "")
        assert.isTrue(
          [...report.errors].some((schema) => Schema.is(schema as Schema.Schema<unknown>)(error.value)),
          `${where}: ${pretty} is none of ${tags.join(", ")}`
        )
        assert.isUndefined(leaks(pretty), `${where}: ${pretty.slice(0, 500)}`)
        const shown = printed(error.value)
        assert.isUndefined(leaks(shown), `${where}: ${shown.slice(0, 500)}`)
        // An error is something to log, not a copy of what was sent.
        assert.isBelow(shown.length, 20_000, where)
      }
      for (const span of spans)
        assert.isUndefined(leaks(printed([span.name, [...span.attributes], span.status, span.events])), span.name)
      for (const one of told) assert.isUndefined(leaks(printed(one)))
      assert.isUndefined(leaks(printed([...metrics.entries()])))
      assert.isUndefined(({} as any).polluted)
      assert.deepStrictEqual(yield* state, before, "the tables, their rows, functions and roles are what they were")
      assert.isAbove(outcomes.get("rows") ?? 0, 0)
      assert.isAbove(outcomes.get("error") ?? 0, 0)
      // And the reports still work.
      for (const report of all) {
        yield* Effect.provideService(
          report.run(sound[report.name]) as Effect.Effect<unknown, Error>,
          PolicyEvents.CurrentListener,
          undefined
        )
      }
    }).pipe(
      Effect.provide(
        Layer.mergeAll(
          Logger.layer([Logger.make(({ message }) => assert.isUndefined(leaks(printed(message)), "a log line"))]),
          Layer.succeed(References.MinimumLogLevel, "All")
        )
      )
    )
  )
})
