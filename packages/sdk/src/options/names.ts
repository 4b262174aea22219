/**
 * Names that options do not have. A misspelt option would be one that silently does nothing: it is refused by its name, with
 * the nearest right one as the cure.
 */

/** The names of an options type. Each of them has to be written, and no other: the compiler holds the list to the type. */
export const fields = <Options>(names: { readonly [K in keyof Options]-?: true }): ReadonlyArray<string> =>
  Object.keys(names)

/** What nobody reads, and what was probably meant. */
export interface UnknownField {
  readonly name: string
  readonly problem: string
}

/** The fields of `given` that are none of `known`; `path` goes before their names: `retry.`. */
export const unknownFields = (
  given: object,
  known: ReadonlyArray<string>,
  path = "",
  what = "option"
): ReadonlyArray<UnknownField> =>
  Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => ({ name: `${path}${short(name)}`, problem: `unknown ${what}; ${cure(name, known)}` }))

/** The nearest of the names that there are, else all of them. */
export const cure = (name: string, known: ReadonlyArray<string>): string => {
  const near = nearest(name, known)
  if (near !== undefined) return `did you mean ${near}?`
  return known.length === 1 ? `there is only ${known[0]}` : `there are ${known.join(", ")}`
}

export const nearest = (name: string, known: ReadonlyArray<string>): string | undefined => {
  // A third of a name may be wrong, else it is another name.
  let least = Math.max(1, Math.floor(name.length / 3)) + 1
  let near: string | undefined
  for (const one of known) {
    const far = distance(name.slice(0, 40).toLowerCase(), one.toLowerCase())
    if (far < least) [least, near] = [far, one]
  }
  return near
}

/** Letters to add, drop, replace, or swap with their neighbour (optimal string alignment). */
const distance = (a: string, b: string): number => {
  let before: Array<number> = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, before[j - 2]! + 1)
      row.push(least)
    }
    ;[before, last] = [last, row]
  }
  return last[b.length]!
}

/** A name as it can be shown in one line. */
const short = (name: string): string => (/^[\w$-]{1,40}$/.test(name) ? name : JSON.stringify(name.slice(0, 40)))
