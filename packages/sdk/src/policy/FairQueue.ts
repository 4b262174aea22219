/**
 * Waiters by priority; within a priority the tenants take turns; within a tenant first come, first served.
 */

export interface Entry {
  readonly priority: number
  readonly tenant: string
}

export interface FairQueue<A extends Entry> {
  readonly size: () => number
  readonly add: (entry: A) => void
  /** Takes an entry out, wherever it stands. `false`: it is not here. */
  readonly remove: (entry: A) => boolean
  /** Takes out whoever is next. */
  readonly next: () => A | undefined
  /** Whoever would be served last: lowest priority, and the newest of the tenant that waits with the most. */
  readonly last: () => A | undefined
}

export const make = <A extends Entry>(): FairQueue<A> => {
  /** By priority, highest first. A level's map is in the order in which its tenants' turns come. */
  const levels: Array<{ readonly priority: number; readonly tenants: Map<string, Set<A>> }> = []
  let size = 0

  const levelAt = (priority: number): number => {
    let index = 0
    while (index < levels.length && levels[index]!.priority > priority) index++
    return index
  }

  const drop = (index: number, tenant: string, entry: A, waiting: Set<A>): void => {
    waiting.delete(entry)
    size--
    const { tenants } = levels[index]!
    if (waiting.size === 0) tenants.delete(tenant)
    if (tenants.size === 0) levels.splice(index, 1)
  }

  return {
    size: () => size,
    add: (entry) => {
      const index = levelAt(entry.priority)
      if (levels[index]?.priority !== entry.priority) {
        levels.splice(index, 0, { priority: entry.priority, tenants: new Map() })
      }
      const { tenants } = levels[index]!
      const waiting = tenants.get(entry.tenant)
      if (waiting === undefined) tenants.set(entry.tenant, new Set([entry]))
      else waiting.add(entry)
      size++
    },
    remove: (entry) => {
      const index = levelAt(entry.priority)
      const level = levels[index]
      const waiting = level?.priority === entry.priority ? level.tenants.get(entry.tenant) : undefined
      if (waiting === undefined || !waiting.has(entry)) return false
      drop(index, entry.tenant, entry, waiting)
      return true
    },
    next: () => {
      const level = levels[0]
      if (level === undefined) return undefined
      const [tenant, waiting] = level.tenants.entries().next().value!
      const entry = waiting.values().next().value!
      drop(0, tenant, entry, waiting)
      if (waiting.size > 0) {
        // Its turn is over: to the end of the row.
        level.tenants.delete(tenant)
        level.tenants.set(tenant, waiting)
      }
      return entry
    },
    last: () => {
      const level = levels[levels.length - 1]
      if (level === undefined) return undefined
      let most: Set<A> | undefined
      for (const waiting of level.tenants.values()) {
        if (most === undefined || waiting.size >= most.size) most = waiting
      }
      let newest: A | undefined
      for (const entry of most!) newest = entry
      return newest
    }
  }
}
