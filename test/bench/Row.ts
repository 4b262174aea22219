/**
 * What a row of the bench is, and how it is measured.
 *
 * All contenders of a group are open at the same time (in processes of their own, where they are clients: `Apart.ts`) and take turns, round by round, each round beginning with another
 * one: what disturbs the machine disturbs all of them. Before each turn the garbage of the others is collected, so that
 * nobody pays for it. The first round warms up and is thrown away; it is long where a subject meets a row for the first time,
 * because a service runs compiled code and not what the first thousand calls run. A value is the median of the rounds, with the lowest
 * and the highest beside it; a ratio is the median of the ratios of each round, so that a slow minute cancels out.
 */
import type { PgCluster } from "@sluice/sdk/testing"
import * as v8 from "node:v8"
import * as vm from "node:vm"

export const units = ["op/s", "ns/op", "ms", "bytes", "round trips"] as const
export type Unit = (typeof units)[number]

/** One contender of a group, ready to run. */
export interface Contender {
  readonly subject: string
  /** One round, for about so many milliseconds; its value in the unit of the row. */
  readonly round: (millis: number) => Promise<number>
  readonly close: () => Promise<void>
}

export interface Entrant {
  readonly subject: string
  /** The subject of Sluice that does the same work; null: none does. Default: `sluice`, or the first of Sluice's. */
  readonly beside?: string | null | undefined
  readonly open: () => Promise<Contender>
}

/** Contenders that are compared with each other. */
export interface Group {
  readonly fibers?: number | undefined
  /** Opens one contender after the other. One that cannot be opened says why and is left out. */
  readonly contenders: ReadonlyArray<Entrant>
}

export interface Context {
  /** A database with the table `items`. */
  readonly url: string
  /** The same through a proxy that counts round trips. */
  readonly counted: {
    readonly url: string
    readonly reset: () => Promise<void>
    readonly roundTrips: () => Promise<number>
  }
  /** A server of one's own until the end of the run. */
  readonly cluster: (options?: PgCluster.Options) => Promise<PgCluster.Cluster>
  /** `npm run bench -- --quick`, and the test: to see that it runs, not how fast it is. */
  readonly quick: boolean
  /** Positions in the tables of the rows `scale-*`. */
  readonly scale: number
  /** Arguments of Node for a child that is plain JavaScript, for one that imports the SDK, and for one that runs these files. */
  readonly node: Readonly<Record<"plain" | "sdk" | "typescript", ReadonlyArray<string>>>
  readonly say: (line: string) => void
}

/** What the origin system's document promised, as a limit to the value, or to the ratio to a peer. */
export type Promised =
  | { readonly text: string; readonly atMost: number }
  | { readonly text: string; readonly times: number; readonly than: string }

export interface Row {
  readonly name: string
  /** What is measured, in a line. */
  readonly about: string
  /** The same in fewer words, for README. */
  readonly brief?: string | undefined
  readonly unit: Unit
  /** Rounds that count, when not the default. */
  readonly rounds?: number | undefined
  /** One round before those that count. Default true. */
  readonly warmUp?: boolean | undefined
  /** Collects the garbage before each turn. Default true; a full collection also throws compiled code away, which a row of nanoseconds would measure. */
  readonly collect?: boolean | undefined
  readonly promised?: Promised | undefined
  readonly groups: (context: Context) => ReadonlyArray<Group>
  /** What only the run can tell, such as how many rows there were. */
  readonly note?: ((context: Context) => string) | undefined
}

/** A line of `--json`. */
export interface Result {
  readonly row: string
  readonly fibers?: number
  readonly subject: string
  readonly unit: Unit
  readonly value: number
  readonly min: number
  readonly max: number
  /** How many times better than the peer: above 1 is better, whether more or less of the unit is. `promise` is one, too. */
  readonly ratio?: { readonly [peer: string]: number }
}

/** A result with what people are shown. */
export interface Measured {
  readonly result: Result
  /** How many times better the subject of Sluice that does the same work is: the median of the rounds, and their spread. */
  readonly sluice?: { readonly subject: string; readonly ratio: number; readonly min: number; readonly max: number }
}

export const isSluice = (subject: string) => subject.startsWith("sluice")

const better = (unit: Unit, mine: number, theirs: number) => (unit === "op/s" ? mine / theirs : theirs / mine)

export const median = (values: ReadonlyArray<number>) => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const round = (value: number) => Number(value.toPrecision(4))

v8.setFlagsFromString("--expose-gc")
/** A full collection, now. */
export const collectGarbage = vm.runInNewContext("gc") as () => void

export interface Settings {
  /** Rounds of a row that does not say, and the most that any row has. */
  readonly rounds: number
  readonly most?: number | undefined
  readonly millis: number
  /** The first round of a subject in a row. Default: as long as the others. */
  readonly warmMillis?: number | undefined
  /** Collects the garbage before each turn. Default true. */
  readonly collect?: boolean | undefined
  /** Told who could not be measured, and why. */
  readonly leftOut: (line: string) => void
}

/** Who has run which row in this process. */
const warmed = new Set<string>()

const warmMillis = (row: Row, subject: string, { millis, warmMillis = millis }: Settings): number => {
  const key = `${row.name} ${subject}`
  if (warmed.has(key)) return millis
  warmed.add(key)
  return warmMillis
}

interface Runner {
  readonly entrant: Entrant
  readonly contender: Contender
  readonly values: Array<number>
}

const run = async (row: Row, group: Group, settings: Settings): Promise<ReadonlyArray<Runner>> => {
  const open: Array<Runner> = []
  const leaveOut = (subject: string, error: unknown) =>
    settings.leftOut(`${row.name}: ${subject} left out: ${String(error)}`)
  try {
    for (const entrant of group.contenders) {
      try {
        open.push({ entrant, contender: await entrant.open(), values: [] })
      } catch (error) {
        leaveOut(entrant.subject, error)
      }
    }
    const rounds = Math.min(row.rounds ?? settings.rounds, settings.most ?? Infinity)
    const gone = new Set<Runner>()
    for (let at = row.warmUp === false ? 0 : -1; at < rounds; at++) {
      for (let turn = 0; turn < open.length; turn++) {
        const runner = open[(turn + Math.max(0, at)) % open.length]!
        if (gone.has(runner)) continue
        try {
          if (settings.collect !== false && row.collect !== false) collectGarbage()
          const value = await runner.contender.round(
            at < 0 ? warmMillis(row, runner.entrant.subject, settings) : settings.millis
          )
          if (at >= 0) runner.values.push(value)
        } catch (error) {
          leaveOut(runner.entrant.subject, error)
          gone.add(runner)
        }
      }
    }
    return open.filter((runner) => !gone.has(runner))
  } finally {
    for (const { contender } of open) await contender.close().catch(() => {})
  }
}

/** Runs one group and gives a result per contender. */
export const measure = async (row: Row, group: Group, settings: Settings): Promise<ReadonlyArray<Measured>> => {
  const runners = await run(row, group, settings)
  const ratios = (mine: Runner, theirs: Runner) =>
    mine.values.map((value, index) => better(row.unit, value, theirs.values[index]!)).filter(Number.isFinite)
  const home =
    runners.find(({ entrant }) => entrant.subject === "sluice") ??
    runners.find(({ entrant }) => isSluice(entrant.subject))
  return runners.map((runner) => {
    const { subject } = runner.contender
    const value = median(runner.values)
    const ratio: Record<string, number> = {}
    for (const peer of runners) {
      if (peer !== runner) ratio[peer.contender.subject] = round(median(ratios(runner, peer)))
    }
    const { promised } = row
    if (promised !== undefined && "atMost" in promised)
      ratio["promise"] = round(better(row.unit, value, promised.atMost))
    else if (promised !== undefined && ratio[promised.than] !== undefined)
      ratio["promise"] = round(ratio[promised.than]! / promised.times)
    const counterpart =
      (isSluice(subject) && runner.entrant.beside === undefined) || runner.entrant.beside === null
        ? undefined
        : (runners.find(({ entrant }) => entrant.subject === runner.entrant.beside) ?? home)
    const spread = counterpart === undefined ? [] : ratios(counterpart, runner)
    return {
      result: {
        row: row.name,
        ...(group.fibers !== undefined && { fibers: group.fibers }),
        subject,
        unit: row.unit,
        value: round(value),
        min: round(Math.min(...runner.values)),
        max: round(Math.max(...runner.values)),
        ...(Object.keys(ratio).length > 0 && { ratio })
      },
      ...(counterpart !== undefined &&
        spread.length > 0 && {
          sluice: {
            subject: counterpart.contender.subject,
            ratio: round(median(spread)),
            min: round(Math.min(...spread)),
            max: round(Math.max(...spread))
          }
        })
    }
  })
}

/**
 * Rows that share their runs: one run gives several figures, and each of the rows shows one of them. The first row that
 * needs a run makes it.
 */
export const figures = <Name extends string>(options: {
  readonly rounds: number
  readonly warmUp: boolean
  readonly subjects: ReadonlyArray<{
    readonly subject: string
    readonly beside?: string | null | undefined
    readonly run: (context: Context) => Promise<Readonly<Record<Name, number>>>
  }>
  readonly rows: ReadonlyArray<Pick<Row, "name" | "about" | "brief" | "unit" | "note"> & { readonly figure: Name }>
}): ReadonlyArray<Row> => {
  const runs = new WeakMap<Context, Map<string, Promise<Readonly<Record<Name, number>>>>>()
  const once = (context: Context, key: string, make: () => Promise<Readonly<Record<Name, number>>>) => {
    const all = runs.get(context) ?? new Map()
    runs.set(context, all)
    const known = all.get(key) ?? make()
    all.set(key, known)
    return known
  }
  return options.rows.map(({ figure, ...row }) => ({
    ...row,
    rounds: options.rounds,
    warmUp: options.warmUp,
    groups: (context) => [
      {
        contenders: options.subjects.map(({ beside, run: make, subject }) => ({
          subject,
          beside,
          open: async () => {
            let turn = 0
            return {
              subject,
              round: async () => (await once(context, `${subject} ${turn++}`, () => make(context)))[figure],
              close: async () => {}
            }
          }
        }))
      }
    ]
  }))
}
