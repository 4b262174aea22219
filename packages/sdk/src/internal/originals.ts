/** The driver's error behind an error, or behind a description of one: kept beside them, so that no text shows it. */

const originals = new WeakMap<object, object>()

/** Gives `told`. */
export const remember = <A extends object>(told: A, original: unknown): A => {
  const found = originalOf(original) ?? original
  if (isSqlError(found)) originals.set(told, found)
  return told
}

const isSqlError = (error: unknown): error is object =>
  typeof error === "object" && error !== null && "~effect/sql/SqlError" in error

export const originalOf = (error: unknown): object | undefined =>
  typeof error === "object" && error !== null ? originals.get(error) : undefined
