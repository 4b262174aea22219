/**
 * What a statement itself asks of its parameters: asked once for each text, by a Parse that declares nothing where a type gives
 * way (`Parameters`), and remembered by all sessions of one configuration. So a parameter has one type for every value.
 */

interface Entry {
  readonly usual: ReadonlyArray<number>
  readonly declared: ReadonlyArray<number>
}

const isSame = (left: ReadonlyArray<number>, right: ReadonlyArray<number>): boolean => {
  if (left.length !== right.length) return false
  for (let index = 0; index < left.length; index++) if (left[index] !== right[index]) return false
  return true
}

/** Bounded: the oldest text is asked again. */
export class ParameterTypes {
  readonly #max: number
  readonly #bySql = new Map<string, Array<Entry>>()

  constructor(max: number) {
    this.#max = max
  }

  /** The types to declare in place of the usual ones; `undefined` while nobody has asked. */
  get(sql: string, usual: ReadonlyArray<number>): ReadonlyArray<number> | undefined {
    const entries = this.#bySql.get(sql)
    if (entries === undefined) return undefined
    for (let index = 0; index < entries.length; index++) {
      const entry = entries[index]!
      if (isSame(entry.usual, usual)) return entry.declared
    }
    return undefined
  }

  set(sql: string, usual: ReadonlyArray<number>, declared: ReadonlyArray<number>): void {
    const entries = this.#bySql.get(sql)
    if (entries === undefined) this.#bySql.set(sql, [{ usual, declared }])
    else entries.push({ usual, declared })
    if (this.#bySql.size > this.#max) this.#bySql.delete(this.#bySql.keys().next().value!)
  }
}
