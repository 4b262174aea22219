/**
 * What a report can cost at worst, and how it may fail, computed from its declaration alone.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type { BulkheadOptions } from "./Declaration.ts"
import { type Declared, type DeclaredRetry, type DeclaredTransaction, roleNameOf } from "./Declared.ts"

/** Durations in milliseconds, sizes in bytes. */
export interface Explanation {
  readonly name: string
  /** `database/role`. */
  readonly role: string
  readonly lane: string
  readonly effect: "reads" | "writes, idempotent" | "writes, once" | `transaction${string}`
  readonly deadlineMillis: number
  readonly attemptTimeoutMillis: number
  /** Executions at the most, the hedge's included. */
  readonly attempts: number
  /** All backoff between the attempts, at the most. */
  readonly backoffMillis: number
  /** When the last attempt begins, if all before it took as long as they may. */
  readonly lastAttemptBeginsMillis: number
  /** What a caller waits at the most: never more than the deadline. */
  readonly worstCaseMillis: number
  /** Sessions that one call holds at the same time, at the most. */
  readonly leases: number
  /** Calls at the same time: a number, a share of the pool, or undefined: as many as the lane lets in. */
  readonly permits: number | string | undefined
  readonly queue: number | undefined
  readonly maxRows: number | undefined
  /** An estimate: `maxRows` times 16 bytes for the row and 32 for each field. */
  readonly memoryBytes: number | undefined
  /** What it does inside of a transaction. */
  readonly inTransaction: string
  /** The policies of this report, outermost first. */
  readonly order: ReadonlyArray<string>
  /** Tags of everything it can fail with. */
  readonly failures: ReadonlyArray<string>
  /** What it contradicts by itself, each with its cure: a `ReportGroup` refuses it for that. */
  readonly contradictions: ReadonlyArray<Contradiction>
}

export interface Contradiction {
  readonly problem: string
  readonly cure: string
}

const rowBytes = 16
const fieldBytes = 32

export const explain = (declared: Declared, failures: Iterable<string>): Explanation => {
  const { attemptTimeout, bulkhead, deadline, hedge, maxRows, retry, writes } = declared
  const delays = retry === undefined ? [] : delaysOf(retry)
  const backoff = delays.reduce((sum, delay) => sum + delay, 0)
  const retries = retry?.retries ?? 0
  const hedges = hedge === undefined ? 0 : 1
  const given = bulkhead?.permits
  const permits = typeof given === "object" ? `${Math.round(given.ofPool * 100)} % of the pool` : given
  const adaptive = bulkhead?.adaptive
  const { transaction } = declared
  // A transaction may be in the way of another one at its very end.
  const lastAttemptBegins = transaction === undefined ? retries * attemptTimeout + backoff : retries > 0 ? deadline : 0
  return {
    name: declared.name,
    role: roleNameOf(declared.database),
    lane: declared.lane,
    effect: transaction !== undefined ? effectOf(transaction) : writes === undefined ? "reads" : `writes, ${writes}`,
    deadlineMillis: deadline,
    attemptTimeoutMillis: attemptTimeout,
    attempts: (1 + retries) * (1 + hedges),
    backoffMillis: backoff,
    lastAttemptBeginsMillis: lastAttemptBegins,
    worstCaseMillis: Math.min(deadline, (1 + retries) * attemptTimeout + backoff),
    leases: 1 + hedges,
    permits: adaptive === undefined ? permits : `up to ${permits}, found by ${nameOf(adaptive)}`,
    queue:
      bulkhead === undefined ? undefined : (bulkhead.queue ?? (typeof permits === "number" ? permits * 2 : undefined)),
    maxRows,
    memoryBytes: maxRows === undefined ? undefined : maxRows * (rowBytes + fieldBytes * fieldsOf(declared.row)),
    inTransaction: insideOf(declared),
    order: orderOf(declared),
    failures: Array.from(failures),
    contradictions: transaction === undefined ? contradictionsOf(declared, lastAttemptBegins) : []
  }
}

const effectOf = ({ deferrable, isolation, readOnly }: DeclaredTransaction): `transaction${string}` => {
  const how = [isolation, readOnly === true && "read only", deferrable === true && "deferrable"]
  return `transaction${how.map((one) => (typeof one === "string" ? `, ${one}` : "")).join("")}`
}

const insideOf = ({ outside, transaction }: Declared): string => {
  if (transaction !== undefined) {
    return outside === true ? "a transaction of its own" : "a savepoint in its role's, not repeated"
  }
  return outside === true
    ? "outside of it, on a session of its own"
    : "on its session, if of its role: no retry, hedge or lane"
}

const contradictionsOf = (declared: Declared, lastAttemptBegins: number): ReadonlyArray<Contradiction> => {
  const { deadline, hedge, retry, writes } = declared
  const found: Array<Contradiction> = []
  if (lastAttemptBegins >= deadline && ((retry?.retries ?? 0) > 0 || hedge !== undefined)) {
    found.push({
      problem: `its last attempt may begin only after ${lastAttemptBegins} ms, and its deadline is ${deadline} ms`,
      cure: "declare a shorter attemptTimeout, fewer retries, or a longer deadline"
    })
  }
  // Alone it is safe: what may have been applied is not repeated. Only a reader may expect more of it than that.
  if (retry !== undefined && writes === "once") {
    found.push({
      problem: "it retries, and declares that its write must happen once",
      cure: 'drop the retry, or make the write idempotent and declare writes: "idempotent"'
    })
  }
  return found
}

const nameOf = (adaptive: NonNullable<BulkheadOptions["adaptive"]>): string =>
  typeof adaptive === "string" ? adaptive : adaptive.algorithm

/** The delays of a schedule before each retry, without jitter: the most that jitter leaves of them. */
const delaysOf = ({ cap, jitter, retries, schedule }: DeclaredRetry): ReadonlyArray<number> => {
  const all = Effect.flatMap(Schedule.toStep(schedule), (step) =>
    Effect.forEach(Array.from({ length: retries }), () =>
      Pull.catchDone(
        Effect.map(step(0, undefined), ([, delay]) => Math.min(cap, Duration.toMillis(delay))),
        () => Effect.succeed(0)
      )
    )
  )
  const exit = Effect.runSyncExit(all as unknown as Effect.Effect<ReadonlyArray<number>>)
  // A schedule that needs services, or decorrelated jitter, may go up to the cap each time.
  return Exit.isSuccess(exit) && jitter !== "decorrelated" ? exit.value : Array.from({ length: retries }, () => cap)
}

const fieldsOf = (row: Schema.Top): number =>
  "fields" in row && typeof row.fields === "object" && row.fields !== null ? Object.keys(row.fields).length : 1

const orderOf = (declared: Declared): ReadonlyArray<string> =>
  declared.transaction === undefined ? orderOfReport(declared) : orderOfTransaction(declared)

const orderOfTransaction = (declared: Declared): ReadonlyArray<string> =>
  [
    "span and metrics",
    "deadline",
    declared.retry !== undefined && "retry with budget",
    declared.bulkhead !== undefined && "bulkhead",
    `lane ${declared.lane}`,
    declared.transaction!.begin,
    "what runs in it",
    "COMMIT"
  ].filter((step) => step !== false)

const orderOfReport = (declared: Declared): ReadonlyArray<string> =>
  [
    "span and metrics",
    declared.fallback !== undefined && "fallback",
    "deadline",
    declared.rateLimit !== undefined && "rate limit",
    declared.shed !== undefined && "shedding",
    declared.retry !== undefined && "retry with budget",
    declared.hedge !== undefined && "hedge",
    declared.breaker !== undefined && "breaker per node",
    declared.bulkhead !== undefined && "bulkhead",
    `lane ${declared.lane}`,
    declared.attemptTimeout < declared.deadline && "attempt timeout",
    "statement",
    "decode"
  ].filter((step) => step !== false)

const duration = (millis: number): string =>
  millis < 1000 ? `${Math.round(millis)} ms` : `${Number((millis / 1000).toFixed(1))} s`

const rowsOf = (explanation: Explanation): ReadonlyArray<readonly [string, string]> => {
  const { attempts, backoffMillis, memoryBytes, permits, queue } = explanation
  const rows =
    explanation.maxRows === undefined
      ? "not limited"
      : `${explanation.maxRows} at most, about ${Math.ceil(memoryBytes! / 1024)} KiB`
  const isTransaction = explanation.effect.startsWith("transaction")
  const verb = isTransaction ? "runs on" : explanation.effect === "reads" ? "reads from" : "writes to"
  return [
    [verb, `${explanation.role}, lane ${explanation.lane}`],
    ["effect", explanation.effect],
    ["answers within", duration(explanation.deadlineMillis)],
    [
      "attempts",
      attempts === 1
        ? "1"
        : isTransaction
          ? `${attempts}, the whole of it each time, ${duration(backoffMillis)} of backoff at most`
          : `${attempts}, ${duration(explanation.attemptTimeoutMillis)} each, ${duration(backoffMillis)} of backoff at most`
    ],
    ["sessions", `${explanation.leases} a call`],
    ["at the same time", permits === undefined ? "as many as the lane lets in" : String(permits)],
    ["queue", queue === undefined ? "the pool's" : String(queue)],
    ...(isTransaction ? [] : [["rows", rows] as const]),
    ["in a transaction", explanation.inTransaction],
    ["order", explanation.order.join(" > ")],
    ["can fail with", explanation.failures.length === 0 ? "nothing" : explanation.failures.join(", ")],
    ...explanation.contradictions.map(({ cure, problem }) => ["a group refuses", `${problem}; ${cure}`] as const)
  ]
}

/** For a terminal. */
export const toText = (explanation: Explanation): string =>
  [explanation.name, ...rowsOf(explanation).map(([key, value]) => `  ${key.padEnd(16)} ${value}`)].join("\n")

/** For a catalogue. */
export const toMarkdown = (explanation: Explanation): string =>
  [
    `### ${explanation.name}`,
    "",
    "| | |",
    "| --- | --- |",
    ...rowsOf(explanation).map(([key, value]) => `| ${key} | ${value.replaceAll("|", "\\|")} |`)
  ].join("\n")
