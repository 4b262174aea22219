/**
 * What a statement may leave behind on its session, told by its command tag, and for two kinds of function calls by
 * its text. Too careful is fine: the price is one reset before the session's next use.
 */

export const changed = {
  settings: 1,
  listen: 2,
  temporary: 4,
  locks: 8,
  prepared: 16,
  cursors: 32,
  /** A cancel request was sent while callers still waited: it may arrive late. */
  cancelled: 64
} as const

/** What a session may hold that nobody told us of. Its prepared statements are its own. */
export const everything =
  changed.settings | changed.listen | changed.temporary | changed.locks | changed.cursors | changed.prepared

/** Tags begin with the command's words, so a prefix decides. */
export const stateChangeOf = (tag: string): number => {
  switch (tag.charCodeAt(0)) {
    case 67: // C
      // The tag does not say whether a table is temporary, nor what a procedure has done.
      return tag.startsWith("CREATE") ? changed.temporary : tag === "CALL" ? changed.settings : 0
    case 68: // D
      return tag.startsWith("DECLARE") ? changed.cursors : tag === "DO" ? changed.settings : 0
    case 76: // L
      return tag === "LISTEN" ? changed.listen : tag === "LOAD" ? changed.settings : 0
    case 80: // P
      return tag.startsWith("PREPARE") ? changed.prepared : 0
    case 82: // R
      return tag === "RESET" ? changed.settings : 0
    case 83: // S
      return tag === "SET" ? changed.settings : 0
    default:
      return 0
  }
}

/** Whether a tag tells of a statement that may change what the names in other statements mean. */
export const changesNames = (tag: string): boolean => {
  switch (tag.charCodeAt(0)) {
    case 65: // A
      return tag.startsWith("ALTER")
    case 67: // C
      return tag.startsWith("CREATE") || tag === "CALL"
    case 68: // D
      return tag.startsWith("DROP") || tag === "DO" || tag.startsWith("DISCARD")
    case 73: // I
      return tag === "IMPORT FOREIGN SCHEMA"
    case 82: // R
      return tag === "RESET" || tag === "ROLLBACK"
    case 83: // S
      return tag === "SET"
    default:
      return false
  }
}

const advisoryLock = /pg_(?:try_)?advisory_lock/i
const setConfig = /set_config|set_limit/i
// Made from a query, it has the query's tag.
const intoTemporary =
  /\bcreate\b[^]{0,200}?\b(?:temp|temporary|pg_temp)\b|\binto\s+(?:local\s+)?(?:temp|temporary)\s|\binto\s+pg_temp\b/i

/** What calls inside of a SELECT may change. Looked at once for each statement that a session prepares. */
export const stateChangeIn = (sql: string): number =>
  (advisoryLock.test(sql) ? changed.locks : 0) |
  (setConfig.test(sql) ? changed.settings : 0) |
  (intoTemporary.test(sql) ? changed.temporary : 0)

/** The statements that undo `changes`, prepared statements of the session's own kept. */
export const undo = (changes: number): ReadonlyArray<string> => {
  const statements: Array<string> = []
  if (changes & changed.cursors) statements.push("CLOSE ALL")
  if (changes & changed.settings) statements.push("SET SESSION AUTHORIZATION DEFAULT", "RESET ALL")
  if (changes & changed.listen) statements.push("UNLISTEN *")
  if (changes & changed.locks) statements.push("SELECT pg_advisory_unlock_all()")
  if (changes & changed.temporary) statements.push("DISCARD TEMP")
  // Something for a late cancellation to hit: the reset then fails, and the session is not handed on.
  if (changes & changed.cancelled) statements.unshift("SELECT")
  if (changes & changed.prepared) statements.push("DEALLOCATE ALL")
  return statements
}
