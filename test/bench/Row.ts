/**
 * What a row of the bench is, and how it is measured.
 *
 * All contenders of a group are open at the same time and take turns, round by round, each round beginning with another
 * one: what disturbs the machine disturbs all of them. The first round warms up and is thrown away. A value is the median
 * of the rounds, with the lowest and the highest beside it.
 */

export type Unit = "op/s" | "ns/op" | "ms" | "bytes" | "round trips"

/** One contender of a group, ready to run. */
export interface Contender {
  readonly subject: string
  /** One round, for about so many milliseconds; its value in the unit of the row. */
  readonly round: (millis: number) => Promise<number>
  readonly close: () => Promise<void>
}

/** Contenders that are compared with each other. */
export interface Group {
  readonly fibers?: number | undefined
  /** Opens one contender after the other. One that cannot be opened says why and is left out. */
  readonly contenders: ReadonlyArray<{ readonly subject: string; readonly open: () => Promise<Contender> }>
}

export interface Context {
  /** A database with the tables of fixtures.ts. */
  readonly url: string
  /** The same through a proxy that counts round trips. */
  readonly counted: {
    readonly url: string
    readonly reset: () => Promise<void>
    readonly roundTrips: () => Promise<number>
  }
  readonly quick: boolean
}

export interface Row {
  readonly name: string
  /** What is measured, in a line. */
  readonly about: string
  readonly unit: Unit
  /** Rounds that count, when not the default. */
  readonly rounds?: number | undefined
  /** One round before those that count. Default true. */
  readonly warmUp?: boolean | undefined
  readonly groups: (context: Context) => ReadonlyArray<Group>
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
  /** How many times better than the peer: above 1 is better, whether more or less of the unit is. */
  readonly ratio?: { readonly [peer: string]: number }
}

const better = (unit: Unit, mine: number, theirs: number) => (unit === "op/s" ? mine / theirs : theirs / mine)

const median = (values: ReadonlyArray<number>) => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const round = (value: number) => Number(value.toPrecision(4))

/** Runs one group and gives a result per contender. */
export const measure = async (
  row: Row,
  group: Group,
  settings: { readonly rounds: number; readonly millis: number; readonly say: (line: string) => void }
): Promise<ReadonlyArray<Result>> => {
  const open: Array<{ readonly contender: Contender; readonly values: Array<number> }> = []
  const drop = async (index: number, error: unknown) => {
    const [gone] = open.splice(index, 1)
    settings.say(`${row.name}: ${gone!.contender.subject} left out: ${String(error)}`)
    await gone!.contender.close().catch(() => {})
  }
  try {
    for (const { subject, open: make } of group.contenders) {
      try {
        open.push({ contender: await make(), values: [] })
      } catch (error) {
        settings.say(`${row.name}: ${subject} left out: ${String(error)}`)
      }
    }
    const rounds = row.rounds ?? settings.rounds
    for (let at = row.warmUp === false ? 0 : -1; at < rounds; at++) {
      for (let turn = 0; turn < open.length; turn++) {
        const index = (turn + Math.max(0, at)) % open.length
        const { contender, values } = open[index]!
        try {
          const value = await contender.round(at < 0 ? settings.millis / 2 : settings.millis)
          if (at >= 0) values.push(value)
        } catch (error) {
          await drop(index, error)
        }
      }
    }
  } finally {
    for (const { contender } of open) await contender.close().catch((error) => settings.say(String(error)))
  }
  const medians = new Map(open.map(({ contender, values }) => [contender.subject, median(values)]))
  return open.map(({ contender: { subject }, values }) => {
    const value = medians.get(subject)!
    const ratio = [...medians]
      .filter(([peer, theirs]) => peer !== subject && theirs > 0 && value > 0)
      .map(([peer, theirs]) => [peer, round(better(row.unit, value, theirs))] as const)
    return {
      row: row.name,
      ...(group.fibers !== undefined && { fibers: group.fibers }),
      subject,
      unit: row.unit,
      value: round(value),
      min: round(Math.min(...values)),
      max: round(Math.max(...values)),
      ...(ratio.length > 0 && { ratio: Object.fromEntries(ratio) })
    }
  })
}
