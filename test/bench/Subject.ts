/**
 * A way to ask PostgreSQL, as the bench sees it. Every subject runs its fibers in its own world: N promise chains for a
 * promise library, N fibers inside one runtime for Effect. Neither pays for the bridge to the other.
 *
 * Like stands beside like. `sluice lease` is a statement's text on a leased session, as in `pg`; `sluice sql` builds its
 * statement from a template, as `postgres`, `slonik` and `kysely` do; `sluice` is a report: parameters and rows are checked
 * against their schema, under a deadline; `sluice full` is a report with retry, breaker, bulkhead and attempt timeout, too.
 */
import * as Apart from "./Apart.ts"
import type { Context, Entrant } from "./Row.ts"

/** Work that is repeated by `fibers` workers until the time is over; gives how often it was done. */
export type Load = (fibers: number, millis: number) => Promise<number>

export interface Subject {
  readonly name: string
  /** The subject of Sluice that does the same work. */
  readonly beside?: string | undefined
  /** Opens a pool of so many sessions. */
  readonly open: (options: { readonly url: string; readonly pool: number }) => Promise<Querying>
}

export interface Querying {
  /** One row by its primary key, compared with the key. */
  readonly select: Load
  /** BEGIN, the same select, COMMIT. */
  readonly transaction?: Load | undefined
  /** A session taken and given back, nothing done with it. */
  readonly acquire?: Load | undefined
  /** Five selects at once, awaited together: one operation. */
  readonly five?: Load | undefined
  /** One select, for a caller that goes on when it fails. */
  readonly once?: ((id: number) => Promise<unknown>) | undefined
  /** All of `items`, first `rows` rows, as one array; gives the sum of a column. */
  readonly collect?: ((rows: number) => Promise<number>) | undefined
  /** The same row by row, never all in memory. */
  readonly stream?: ((rows: number) => Promise<number>) | undefined
  readonly close: () => Promise<void>
}

/** The statement of every subject, in its own placeholder syntax. */
export const byKey = "select id, name, value from items where id = $1"
export const keys = 10_000

export interface Item {
  readonly id: number
  readonly name: string
  readonly value: number
}

export const wide = (
  rows: string
) => `select g as id, g % 1000 as depot, g * 0.5::float8 as speed, g * 0.25::float8 as heading,
  'vehicle ' || (g % 500) as name, timestamptz '2026-01-01' + g * interval '1 second' as at from generate_series(1, ${rows}) g`

/** A wrong answer is no answer. */
export const checked = (item: Item | undefined, id: number): void => {
  if (item?.id !== id) throw new Error(`asked for item ${id}, got ${JSON.stringify(item)}`)
}

export const nextKeys = (id: number) => [0, 1, 2, 3, 4].map((n) => ((id + n) % keys) + 1)

/** `fibers` promise chains that repeat `once` until the time is over; each does it at least once. */
export const promises =
  (once: (key: number) => Promise<unknown>): Load =>
  async (fibers, millis) => {
    let count = 0
    const end = performance.now() + millis
    const worker = async () => {
      do await once((count++ % keys) + 1)
      while (performance.now() < end)
    }
    await Promise.all(Array.from({ length: fibers }, worker))
    return count
  }

export type LoadName = "select" | "transaction" | "acquire" | "five"

/** What a row asks of a subject: its load, and the value of a round in the row's unit. */
export interface Asked {
  readonly what: LoadName
  readonly value: (count: number, seconds: number) => number
}

/** What a process runs before its first turn, where the first round of the row is another one's. */
const warmMillis = 1_000

/**
 * Every one of `subjects` over a pool and in a process of its own, or in several that take turns; in this one where it only
 * has to run.
 */
export const entrants = (
  { node, quick }: Context,
  subjects: ReadonlyArray<Subject>,
  options: { readonly url: string; readonly pool: number; readonly fibers: number },
  { value, what }: Asked,
  processes = 1
): ReadonlyArray<Entrant> =>
  quick
    ? together(subjects, options, { what: (querying) => querying[what], value })
    : subjects.map((subject): Entrant => ({
        subject: subject.name,
        beside: subject.beside,
        open: async () => {
          const run: Array<(millis: number) => Promise<{ readonly count: number; readonly seconds: number }>> = []
          for (let number = 0; number < processes; number++) {
            const ask = await Apart.open(subject, options, node.typescript, number)
            const once = (millis: number) => ask({ load: what, fibers: options.fibers, millis })
            await once(number === 0 ? 1 : warmMillis)
            run.push(once)
          }
          let turn = 0
          return {
            subject: subject.name,
            round: async (millis) => {
              const { count, seconds } = await run[turn++ % processes]!(millis)
              return value(count, seconds)
            },
            close: () => Promise.resolve()
          }
        }
      }))

/** Every one of `subjects` over a pool of its own, in this process. */
export const together = (
  subjects: ReadonlyArray<Subject>,
  options: { readonly url: string; readonly pool: number; readonly fibers: number },
  { value, what }: { readonly what: (querying: Querying) => Load | undefined; readonly value: Asked["value"] }
): ReadonlyArray<Entrant> =>
  subjects.map(({ beside, name, open }): Entrant => ({
    subject: name,
    beside,
    open: async () => {
      const querying = await open(options)
      const load = what(querying)
      if (load === undefined) {
        await querying.close()
        throw new Error("does not offer this")
      }
      return {
        subject: name,
        round: async (millis) => {
          const began = performance.now()
          const count = await load(options.fibers, millis)
          return value(count, (performance.now() - began) / 1_000)
        },
        close: querying.close
      }
    }
  }))

export const perSecond = (count: number, seconds: number) => count / seconds
export const nanos = (count: number, seconds: number) => (seconds * 1e9) / count
export const millis = (count: number, seconds: number) => (seconds * 1e3) / count
