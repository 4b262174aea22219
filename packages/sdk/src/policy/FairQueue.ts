/**
 * Waiters by priority; within a priority the tenants take turns; within a tenant first come, first served.
 *
 * Lists whose links are cut when somebody leaves, and no maps: a queue that is filled and emptied all day would leave chains
 * of outgrown tables behind, each holding on to callers that were served long ago until the whole heap is collected.
 */

export interface Entry {
  readonly priority: number
  readonly tenant: string
  /** Where it waits. The queue's own. */
  place?: Place | undefined
}

/** Those of one tenant, in their order. */
interface Line {
  readonly tenant: string
  readonly level: Level
  size: number
  first: Place | undefined
  last: Place | undefined
}

interface Place {
  readonly entry: Entry
  readonly line: Line
  before: Place | undefined
  after: Place | undefined
}

interface Level {
  readonly priority: number
  /** In the order of their turns. */
  readonly lines: Array<Line>
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
  /** By priority, highest first. */
  const levels: Array<Level> = []
  let size = 0

  const levelOf = (priority: number): Level => {
    let index = 0
    while (index < levels.length && levels[index]!.priority > priority) index++
    const found = levels[index]
    if (found?.priority === priority) return found
    const level: Level = { priority, lines: [] }
    levels.splice(index, 0, level)
    return level
  }

  const lineOf = ({ priority, tenant }: A): Line => {
    const level = levelOf(priority)
    for (const line of level.lines) if (line.tenant === tenant) return line
    const line: Line = { tenant, level, size: 0, first: undefined, last: undefined }
    level.lines.push(line)
    return line
  }

  const drop = (place: Place): void => {
    const { after, before, entry, line } = place
    if (before === undefined) line.first = after
    else before.after = after
    if (after === undefined) line.last = before
    else after.before = before
    place.before = place.after = entry.place = undefined
    size--
    if (--line.size > 0) return
    const { level } = line
    level.lines.splice(level.lines.indexOf(line), 1)
    if (level.lines.length === 0) levels.splice(levels.indexOf(level), 1)
  }

  return {
    size: () => size,
    add: (entry) => {
      const line = lineOf(entry)
      const place: Place = { entry, line, before: line.last, after: undefined }
      if (line.last === undefined) line.first = place
      else line.last.after = place
      line.last = place
      line.size++
      size++
      entry.place = place
    },
    remove: (entry) => {
      if (entry.place === undefined) return false
      drop(entry.place)
      return true
    },
    next: () => {
      const line = levels[0]?.lines[0]
      if (line === undefined) return undefined
      const place = line.first!
      drop(place)
      const { lines } = line.level
      // Its turn is over: to the end of the row.
      if (lines[0] === line) lines.push(lines.shift()!)
      return place.entry as A
    },
    last: () => {
      let most: Line | undefined
      for (const line of levels.at(-1)?.lines ?? []) {
        if (most === undefined || line.size >= most.size) most = line
      }
      return most?.last?.entry as A | undefined
    }
  }
}
