/** The statements that a session has prepared, and what every session of one configuration knows about a statement. */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import { createHash } from "node:crypto"
import type { Description } from "./Columns.ts"
import { stateChangeIn } from "./SessionState.ts"

/** Joins frames into the one buffer that goes on the wire. */
export const join = (frames: ReadonlyArray<Uint8Array>): Uint8Array => {
  if (frames.length === 1) return frames[0]!
  let length = 0
  for (let index = 0; index < frames.length; index++) length += frames[index]!.length
  const joined = Buffer.allocUnsafe(length)
  let offset = 0
  for (let index = 0; index < frames.length; index++) {
    joined.set(frames[index]!, offset)
    offset += frames[index]!.length
  }
  return joined
}

const describePortal = PgProtocol.encodeDescribe({ target: "portal", name: "" })
const execute = PgProtocol.encodeExecute({ portal: "", maxRows: 0 })
const sync = PgProtocol.encodeSync()

/** Nothing in these changes from statement to statement. Copied, because an encoder's frame keeps its whole pool alive. */
export const frames = {
  sync: Uint8Array.from(sync),
  execute: Uint8Array.from(execute),
  executeSync: Uint8Array.from([...execute, ...sync]),
  describeSync: Uint8Array.from([...describePortal, ...sync]),
  describeExecuteSync: Uint8Array.from([...describePortal, ...execute, ...sync]),
  terminate: Uint8Array.from(PgProtocol.encodeTerminate())
}

/** A statement of the session, by text and declared parameter types. */
export interface Prepared {
  readonly name: string
  readonly sql: string
  readonly types: ReadonlyArray<number>
  /** `parsing`: its Parse is on the wire. `ready`: it can be bound by name. `lost`: never again under this name. */
  state: "lost" | "new" | "parsing" | "ready"
  /** `undefined` while not described; a statement without rows is described by `null`. */
  description: Description | null | undefined
  lastUsed: number
  /** What running it may change on the session; see `SessionState`. */
  readonly changes: number
  /** The wire's count of `plans` when it was prepared. */
  plans: number
  /** The wire's count of `transactions` when it was prepared. */
  transaction: number
  /** Its columns follow those of its tables: another's ALTER TABLE changes them. */
  readonly followsTables: boolean
}

/** `select *`, `t.*`, `returning *`; not `count(*)`. */
const star = /(?:\bselect|\breturning|\bdistinct|\ball|,|\.)\s*\*/i

/** A text beyond this many characters is never kept: it is prepared without a name each time, and known by its hash. */
export const longText = 65_536
/** The characters of all texts that a session keeps prepared. */
const mostText = 1_048_576

const sameTypes = (left: ReadonlyArray<number>, right: ReadonlyArray<number>): boolean => {
  if (left.length !== right.length) return false
  for (let index = 0; index < left.length; index++) if (left[index] !== right[index]) return false
  return true
}

/**
 * A bounded cache that forgets what was used longest ago. A forgotten statement is closed on the server together with
 * the next statement, so that forgetting costs no round trip.
 */
export class StatementCache {
  readonly #max: number
  readonly #bySql = new Map<string, Array<Prepared>>()
  #size = 0
  #text = 0
  #clock = 0
  #counter = 0
  #closes: Array<Uint8Array> = []

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#size
  }

  get(sql: string, types: ReadonlyArray<number>): Prepared {
    const known = this.#bySql.get(sql)
    if (known !== undefined) {
      for (let index = 0; index < known.length; index++) {
        const one = known[index]!
        if (sameTypes(one.types, types)) {
          one.lastUsed = ++this.#clock
          return one
        }
      }
    }
    const made: Prepared = {
      name: `sluice_${++this.#counter}`,
      sql,
      types,
      state: "new",
      description: undefined,
      lastUsed: ++this.#clock,
      changes: stateChangeIn(sql),
      plans: 0,
      transaction: 0,
      followsTables: star.test(sql)
    }
    if (known === undefined) this.#bySql.set(sql, [made])
    else known.push(made)
    this.#size++
    this.#text += sql.length
    while ((this.#size > this.#max || this.#text > mostText) && this.#forgetOldest(made)) {
      // Several at once, when some could not be forgotten before because their Parse was under way.
    }
    return made
  }

  #forgetOldest(except: Prepared): boolean {
    let oldest: Prepared | undefined
    for (const statements of this.#bySql.values()) {
      for (const one of statements) {
        if (one !== except && one.state !== "parsing" && (oldest === undefined || one.lastUsed < oldest.lastUsed))
          oldest = one
      }
    }
    if (oldest === undefined) return false
    this.forget(oldest)
    return true
  }

  /** Closing a name that the server does not have is no error, so a doubtful one is closed too. */
  forget(prepared: Prepared): void {
    if (prepared.state === "lost") return
    if (prepared.state !== "new")
      this.#closes.push(PgProtocol.encodeClose({ target: "statement", name: prepared.name }))
    prepared.state = "lost"
    const statements = this.#bySql.get(prepared.sql)
    const index = statements === undefined ? -1 : statements.indexOf(prepared)
    if (index < 0) return
    this.#size--
    this.#text -= prepared.sql.length
    if (statements!.length === 1) this.#bySql.delete(prepared.sql)
    else statements!.splice(index, 1)
  }

  /** The server has dropped them all (DISCARD ALL, DEALLOCATE ALL). */
  clear(): void {
    for (const statements of this.#bySql.values()) for (const one of statements) one.state = "lost"
    this.#bySql.clear()
    this.#size = 0
    this.#text = 0
  }

  /** The frames that close what was forgotten; they ride ahead of the next statement. */
  takeCloses(): ReadonlyArray<Uint8Array> {
    if (this.#closes.length === 0) return none
    const closes = this.#closes
    this.#closes = []
    return closes
  }
}

const none: ReadonlyArray<Uint8Array> = []

/**
 * Descriptions shared by the sessions of one configuration. The first use of a statement has to ask for its columns
 * before it can bind (a round trip of its own); every later session binds at once and lets the answer confirm it.
 */
export class DescriptionCache {
  readonly #max: number
  readonly #known = new Map<string, Description | null>()

  constructor(max: number) {
    this.#max = max
  }

  static key(sql: string, types: ReadonlyArray<number>): string {
    const text = sql.length <= 1024 ? sql : createHash("sha256").update(sql).digest("base64")
    if (types.length === 0) return text
    const all = types.join(",")
    return `${text}\u0000${all.length <= 1024 ? all : createHash("sha256").update(all).digest("base64")}`
  }

  get(key: string): Description | null | undefined {
    return this.#known.get(key)
  }

  set(key: string, description: Description | null): void {
    this.#known.delete(key)
    this.#known.set(key, description)
    if (this.#known.size > this.#max) this.#known.delete(this.#known.keys().next().value!)
  }

  delete(key: string): void {
    this.#known.delete(key)
  }
}
