/**
 * A way to ask PostgreSQL, as the bench sees it. Every subject runs its fibers in its own world: N promise chains for a
 * promise library, N fibers inside one runtime for Effect. Neither pays for the bridge to the other.
 */

/** Work that is repeated by `fibers` workers until the time is over; gives how often it was done. */
export type Load = (fibers: number, millis: number) => Promise<number>

export interface Subject {
  readonly name: string
  /** Opens a pool of so many sessions. */
  readonly open: (options: { readonly url: string; readonly pool: number }) => Promise<Querying>
}

export interface Querying {
  /** One row by its primary key, checked. */
  readonly select: Load
  /** BEGIN, the same select, COMMIT. */
  readonly transaction?: Load | undefined
  /** A session taken and given back, nothing done with it. */
  readonly acquire?: Load | undefined
  /** Five selects at once, awaited together: one operation. */
  readonly five?: Load | undefined
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

/** `fibers` promise chains that repeat `once` until the time is over. */
export const promises =
  (once: (key: number) => Promise<unknown>): Load =>
  async (fibers, millis) => {
    let count = 0
    const end = performance.now() + millis
    const worker = async () => {
      while (performance.now() < end) await once((count++ % keys) + 1)
    }
    await Promise.all(Array.from({ length: fibers }, worker))
    return count
  }
