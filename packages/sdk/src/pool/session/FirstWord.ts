/** Where a text's first word starts: behind spaces, semicolons and comments, which PostgreSQL ends and nests as here. */
export const startOf = (sql: string): number => {
  let at = 0
  while (at < sql.length) {
    if (isBlank(sql.charCodeAt(at))) at++
    else if (sql.startsWith("--", at)) at = endOfLine(sql, at)
    else if (sql.startsWith("/*", at)) at = endOfBlock(sql, at)
    else break
  }
  return at
}

/** The text from its first word on. */
export const fromFirstWord = (sql: string): string => sql.slice(startOf(sql))

const isBlank = (code: number): boolean => code === 32 || (code >= 9 && code <= 13) || code === 59

/** A carriage return ends it, too. */
const endOfLine = (sql: string, from: number): number => {
  let at = from
  while (at < sql.length && sql.charCodeAt(at) !== 10 && sql.charCodeAt(at) !== 13) at++
  return at
}

const endOfBlock = (sql: string, from: number): number => {
  let depth = 0
  let at = from
  while (at < sql.length) {
    const opens = sql.startsWith("/*", at)
    if (!opens && !sql.startsWith("*/", at)) {
      at++
      continue
    }
    depth += opens ? 1 : -1
    at += 2
    if (depth === 0) return at
  }
  return at
}
