/**
 * The load of a drill, and the account of it: every call that was started is found again under exactly one heading.
 *
 * A closed loop of workers, four reads to a write. Writes carry a token of their own, so that the table tells afterwards
 * what became of each: acknowledged and not there is lost, there twice is doubled, there although the caller was told
 * that it is certainly not is wrong.
 */
import { closedLoop } from "../support/closedLoop.ts"
import type { Answer, Opened } from "./Subject.ts"

/** A call as it ended, for the account and the timeline. Times in milliseconds since the load began. */
export interface Call {
  readonly began: number
  readonly ended: number
  readonly kind: Answer["kind"] | "wrong" | "unanswered"
  readonly error?: string
  readonly late: boolean
}

/** A line of `--json`. */
export interface DrillResult {
  readonly fault: string
  readonly subject: "sluice" | "driver" | "pg"
  readonly calls: number
  readonly succeeded: number
  readonly failedAsDeclared: number
  readonly failedOtherwise: number
  readonly late: number
  readonly lost: number
  readonly doubled: number
  readonly wrong: number
  readonly leaked: number
  /** From the end of the fault until calls succeed and go on doing so; null: not while we looked. */
  readonly recoveryMs: number | null
  readonly note?: string
}

/** These are zero for Sluice, or the command exits with 1. */
export const zeros = ["failedOtherwise", "late", "lost", "doubled", "wrong", "leaked"] as const

export interface LoadOptions {
  readonly workers: number
  readonly deadline: number
  /** How long after its deadline a call is given up and counted as lost. */
  readonly patience: number
  readonly random: () => number
  /** Begins every token. */
  readonly tag: string
  /** What a write is, and how many calls there are to one. Default: a statement, one in five. */
  readonly writes?: "statements" | "transactions" | undefined
  readonly every?: number | undefined
  readonly now?: (() => number) | undefined
}

/** Beyond the deadline, a caller is told within this many milliseconds. */
export const grace = 50

interface Absence {
  readonly from: number
  readonly to: number
}

/** Absences that are kept, at least. */
const remembered = 4_096

/** Sees how long this process itself was not running: a call is not late for what was our own absence. */
export const heartbeat = (now: () => number) => {
  const absences: Array<Absence> = []
  let last = now()
  let longest = 0
  const timer = setInterval(() => {
    const at = now()
    if (at - last > 15) {
      absences.push({ from: last, to: at })
      longest = Math.max(longest, at - last)
      // A soak goes on for long, and nobody asks for what was minutes ago.
      if (absences.length >= 2 * remembered) absences.splice(0, remembered)
    }
    last = at
  }, 5)
  return {
    /** Milliseconds of absence between two instants, a tick that has not come yet included. */
    between: (from: number, to: number) => {
      const at = now()
      const overlap = (absence: Absence) => Math.max(0, Math.min(to, absence.to) - Math.max(from, absence.from))
      let sum = at - last > 15 ? overlap({ from: last, to: at }) : 0
      for (let index = absences.length - 1; index >= 0 && absences[index]!.to > from; index--) {
        sum += overlap(absences[index]!)
      }
      return sum
    },
    longest: () => longest,
    stop: () => clearInterval(timer)
  }
}

export const itemName = (id: number) => `item ${id}`

export const makeLoad = (opened: Opened, options: LoadOptions) => {
  const now = options.now ?? (() => performance.now())
  const zero = now()
  const calls: Array<Call> = []
  const write = (options.writes === "transactions" ? opened.transfer : undefined) ?? opened.write
  const every = options.every ?? (options.writes === "transactions" ? 2 : 5)
  const acknowledged = new Set<string>()
  const refused = new Set<string>()
  const unknown = new Set<string>()
  const heart = heartbeat(now)
  let number = 0

  const settle = (answer: Promise<Answer>): Promise<Answer | "unanswered"> => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const limit = new Promise<"unanswered">((resolve) => {
      timer = setTimeout(() => resolve("unanswered"), options.deadline + options.patience)
    })
    const told = answer.catch((error): Answer => ({ kind: "otherwise", error: String(error) }))
    return Promise.race([told, limit]).finally(() => clearTimeout(timer))
  }

  const once = async (): Promise<void> => {
    const n = number++
    const isWrite = n % every === every - 1
    const id = 1 + Math.floor(options.random() * 1_000)
    const token = `${options.tag}-${n}`
    const began = now()
    const answer = await settle(isWrite ? write(token) : opened.read(id))
    const ended = now()
    const late = ended - began - heart.between(began, ended) > options.deadline + grace
    const at = { began: began - zero, ended: ended - zero, late }
    if (answer === "unanswered") {
      if (isWrite) unknown.add(token)
      calls.push({ ...at, kind: "unanswered", error: "no answer" })
      return
    }
    if (answer.kind === "ok") {
      if (isWrite) acknowledged.add(token)
      calls.push({ ...at, kind: answer.value === (isWrite ? token : itemName(id)) ? "ok" : "wrong" })
      return
    }
    if (isWrite) (answer.kind === "declared" && !answer.mayBeApplied ? refused : unknown).add(token)
    calls.push({ ...at, kind: answer.kind, error: answer.error })
  }

  const loop = closedLoop({ workers: options.workers, call: once, rest: () => 10 + options.random() * 20 })

  return {
    /** Milliseconds since the load began. */
    at: () => now() - zero,
    pause: loop.pause,
    resume: loop.resume,
    /** No new calls; waits for those that run. */
    stop: async () => {
      await loop.stop()
      heart.stop()
    },
    calls,
    longestAbsence: heart.longest,
    /** What the table says about the writes: how often each token is there. */
    account: (stored: ReadonlyMap<string, number>) => {
      const doubled = [...stored.values()].filter((count) => count > 1).length
      const lost = [...acknowledged].filter((token) => !stored.has(token)).length
      const wrong = [...refused].filter((token) => stored.has(token)).length
      const appliedUnknown = [...unknown].filter((token) => stored.has(token)).length
      return { doubled, lost, wrong, appliedUnknown, unknown: unknown.size, written: acknowledged.size }
    }
  }
}

const bucket = 100

/**
 * From the end of the fault until calls succeed and go on doing so; null when they do not. That is the first success
 * after the last failure of a call that was started since (calls of the fault's own time may still fail), and after the
 * gap, if successes fell below a quarter of what they were before the fault.
 */
export const recovery = (calls: ReadonlyArray<Call>, began: number, healed: number): number | null => {
  const successes = calls.filter((call) => call.kind === "ok").map((call) => call.ended)
  const usual = successes.filter((ended) => ended < began).length / Math.max(1, began / bucket)
  const low = (index: number) => {
    const from = healed + index * bucket
    return successes.filter((ended) => ended >= from && ended < from + bucket).length < usual / 4
  }
  const buckets = Math.floor((Math.max(healed, ...calls.map((call) => call.ended)) - healed) / bucket)
  let end = 0
  // A gap that begins later than this is not the fault's.
  for (let index = 0; index < Math.min(3, buckets) && end === 0; index++) {
    if (!low(index)) continue
    for (end = index + 1; end < buckets && low(end);) end++
  }
  const failures = calls.filter((call) => call.kind !== "ok" && call.began >= healed).map((call) => call.ended)
  const since = Math.max(healed + end * bucket, ...failures)
  const firsts = successes.filter((ended) => ended >= since)
  return firsts.length === 0 ? null : Math.max(0, Math.round(Math.min(...firsts) - healed))
}

/** The numbers of a drill out of its calls, its writes and what was left behind. */
export const summarize = (
  subject: DrillResult["subject"],
  calls: ReadonlyArray<Call>,
  writes: { readonly doubled: number; readonly lost: number; readonly wrong: number },
  leaked: number,
  fault: { readonly name: string; readonly began: number; readonly healed: number },
  notes: ReadonlyArray<string>
): DrillResult => {
  const count = (kind: Call["kind"]) => calls.filter((call) => call.kind === kind).length
  const errors = new Map<string, number>()
  for (const { error } of calls) if (error !== undefined) errors.set(error, (errors.get(error) ?? 0) + 1)
  const told = [...errors]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 6)
    .map(([error, times]) => `${times} x ${error}`)
  const note = [...told, ...notes].join("; ")
  return {
    fault: fault.name,
    subject,
    calls: calls.length,
    succeeded: count("ok"),
    failedAsDeclared: count("declared"),
    failedOtherwise: count("otherwise"),
    late: calls.filter((call) => call.late).length,
    lost: writes.lost + count("unanswered"),
    doubled: writes.doubled,
    wrong: writes.wrong + count("wrong"),
    leaked,
    recoveryMs: recovery(calls, fault.began, fault.healed),
    ...(note !== "" && { note })
  }
}
