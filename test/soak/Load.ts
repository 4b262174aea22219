/**
 * The work of a soak: what a service would do with Sluice, at random. Each kind says what a right answer is; whatever else
 * comes out is declared, or wrong. (Freshness and coalescing are not built yet: no cached reads.)
 */
import { ReadAfter, Snapshot } from "@sluice/sdk"
import * as PgFailure from "@sluice/sdk/PgFailure"
import * as Deadline from "@sluice/sdk/policy/Deadline"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { isSqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { grace, heartbeat } from "../drill/harness.ts"
import { generator } from "../drill/seeded.ts"
import { closedLoop } from "../support/closedLoop.ts"
import type { Account, Ending } from "./Account.ts"
import { deadline, itemName, items, primary, replica, reports, type Runtime, Soak } from "./ground.ts"

/** Gives the reason why the answer is wrong, if it is. */
type Answer = string | undefined

interface Call {
  /** The number of the write, if it is one. */
  readonly n: number
  readonly random: () => number
  /** Called at each sign of life of a stream, whose deadline holds from one to the next. */
  readonly tick: () => void
  /** Called when the write was acknowledged and something else follows. */
  readonly written: () => void
}

interface Work {
  readonly name: string
  /** How many of a hundred. */
  readonly share: number
  readonly deadline: number
  readonly writes?: boolean
  readonly run: (call: Call) => Effect.Effect<Answer, unknown, any>
}

const is = (found: unknown, wanted: unknown): Answer =>
  found === wanted ? undefined : `${String(found)} in place of ${String(wanted)}`

const within =
  (key: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Deadline.within(self, { key, duration: deadline })

const streamed = (rows: number, wanted: number, tick: () => void) =>
  Effect.suspend(() => {
    let count = 0
    return Effect.map(
      Stream.runForEach(Stream.take(reports.many.stream({ rows }), wanted), ({ n, name }) =>
        Effect.sync(() => {
          tick()
          if (n === ++count && name === itemName(n)) return
          count = Number.NaN
        })
      ),
      () => is(count, Math.min(rows, wanted))
    )
  })

const works: ReadonlyArray<Work> = [
  {
    name: "short read",
    share: 36,
    deadline,
    run: ({ random }) => {
      const id = 1 + Math.floor(random() * items)
      return Effect.map(reports.short.run({ id }), ([row]) => is(row?.name, itemName(id)))
    }
  },
  {
    name: "long read",
    share: 6,
    deadline: 2 * deadline,
    run: ({ random }) => {
      const id = 1 + Math.floor(random() * items)
      return Effect.map(reports.long.run({ id }), ([row]) => is(row?.name, itemName(id)))
    }
  },
  { name: "stream", share: 5, deadline, run: ({ tick }) => streamed(3_000, Infinity, tick) },
  { name: "stream, stopped early", share: 5, deadline, run: ({ tick }) => streamed(100_000, 10, tick) },
  {
    name: "raw statement",
    share: 8,
    deadline,
    run: ({ random }) => {
      const id = 1 + Math.floor(random() * items)
      return Effect.flatMap(replica, ({ sql }) =>
        Effect.map(sql<{ name: string }>`select name from items where id = ${id}`, ([row]) =>
          is(row?.name, itemName(id))
        )
      ).pipe(within("raw"))
    }
  },
  {
    name: "transaction",
    share: 10,
    deadline,
    writes: true,
    run: ({ n, random }) =>
      Effect.flatMap(primary, ({ sql }) =>
        sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`insert into ledger (n, part) values (${n}, 1)`
            if (random() < 0.5) yield* Effect.sleep(random() * 10)
            if (random() < 0.2)
              yield* Effect.ignore(sql.withTransaction(Effect.andThen(sql`select 1`, Effect.fail("no"))))
            yield* sql`insert into ledger (n, part) values (${n}, 2)`
            return undefined
          })
        )
      ).pipe(within("transaction"))
  },
  {
    name: "write once",
    share: 10,
    deadline,
    writes: true,
    run: ({ n }) => Effect.map(reports.once.run({ n }), ([row]) => is(row?.n, n))
  },
  {
    name: "write idempotent",
    share: 10,
    deadline,
    writes: true,
    run: ({ n }) => Effect.map(reports.idempotent.run({ n }), ([row]) => is(row?.n, n))
  },
  {
    name: "read own write",
    share: 5,
    deadline,
    writes: true,
    run: ({ n, written }) =>
      Effect.gen(function* () {
        yield* reports.idempotent.run({ n })
        written()
        const token = yield* (yield* Soak.servers).token
        const [row] = yield* Effect.provideService(reports.found.run({ n }), ReadAfter, token)
        return is(row?.n, n)
      }).pipe(within("own write"))
  },
  {
    name: "snapshot",
    share: 5,
    deadline,
    run: () =>
      Effect.all([reports.parts.run({ part: 1 }), reports.parts.run({ part: 2 })], { concurrency: 2 }).pipe(
        Snapshot.run(replica, { sessions: 2, maxHold: deadline }),
        Effect.map(([[first], [second]]) => is(first?.n, second?.n)),
        within("snapshot")
      )
  }
]

const declaredSchemas = [
  ...new Set(
    Object.values(reports)
      .flatMap(({ errors }) => [...errors])
      .map((schema) => Schema.is(schema as Schema.Codec<unknown>))
  )
]

/** Only the errors of reports and `SqlError` are declared; a write may be applied unless it is known that it is not. */
const endingOf = (exit: Exit.Exit<Answer, unknown>): Ending => {
  if (Exit.isSuccess(exit)) return exit.value === undefined ? { kind: "ok" } : { kind: "wrong", problem: exit.value }
  if (Cause.hasInterruptsOnly(exit.cause)) return { kind: "declared", error: "interrupted", mayBeApplied: true }
  const found = Cause.findErrorOption(exit.cause)
  if (found._tag === "None") return { kind: "wrong", problem: Cause.pretty(exit.cause).slice(0, 500) }
  const error = found.value
  if (isSqlError(error)) {
    const { class: name, outcome } = PgFailure.fromSqlError(error)
    return { kind: "declared", error: name, mayBeApplied: outcome === "unknown" || outcome === "applied" }
  }
  if (!declaredSchemas.some((is) => is(error))) return { kind: "wrong", problem: String(error).slice(0, 500) }
  const { _tag: tag } = error as { readonly _tag: string }
  return { kind: "declared", error: tag, mayBeApplied: tag === "OutcomeUnknown" || tag === "DeadlineExceeded" }
}

export interface LoadOptions {
  readonly workers: number
  readonly seed: number
}

/** How long after its deadline a call is given up. */
const patience = 8_000

export const makeLoad = (runtime: Runtime, account: Account, { seed, workers }: LoadOptions) => {
  const now = () => performance.now()
  const heart = heartbeat(now)

  const chosen = (random: () => number): Work => {
    let point = random() * 100
    for (const work of works) if ((point -= work.share) < 0) return work
    return works[0]!
  }

  const call = async (random: () => number): Promise<void> => {
    const work = chosen(random)
    const leaves = random() < 0.08 ? random() * 40 : undefined
    const n = work.writes === true ? account.begin() : -1
    let since = now()
    let worst = 0
    const tick = () => {
      const at = now()
      worst = Math.max(worst, at - since - work.deadline - heart.between(since, at))
      since = at
    }
    const fiber = runtime.runFork(work.run({ n, random, tick, written: () => account.acknowledge(n) }))
    const ended = new Promise<Exit.Exit<Answer, unknown>>((resolve) => fiber.addObserver(resolve))
    let timer: ReturnType<typeof setTimeout> | undefined
    const limit = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), 10 * work.deadline + patience)
    })
    const interrupting =
      leaves === undefined
        ? undefined
        : setTimeout(() => {
            since = now() - work.deadline
            fiber.interruptUnsafe()
          }, leaves)
    const exit = await Promise.race([ended, limit])
    clearTimeout(timer)
    clearTimeout(interrupting)
    tick()
    const name = leaves === undefined ? work.name : `${work.name}, left`
    account.end(
      name,
      exit === undefined ? { kind: "unanswered" } : endingOf(exit),
      worst > grace ? worst : undefined,
      work.writes === true ? n : undefined
    )
    if (exit === undefined) await Effect.runPromise(Fiber.interrupt(fiber).pipe(Effect.timeoutOption("1 second")))
  }

  const randoms = Array.from({ length: workers }, (_, index) => generator(seed + index * 7_919))
  const loop = closedLoop({
    workers,
    call: (worker) => call(randoms[worker]!),
    rest: (worker) => 5 + randoms[worker]!() * 25
  })

  return {
    pause: loop.pause,
    resume: loop.resume,
    stop: async () => {
      await loop.stop()
      heart.stop()
    },
    longestAbsence: heart.longest
  }
}
