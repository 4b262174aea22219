/**
 * Transaction control for one session: every step is bounded by `controlTimeout`, can be left at once, and a session
 * whose transaction could not be ended in order is destroyed.
 *
 * BEGIN waits for the first statement and travels with it, in one cycle: if BEGIN fails the server skips the statement.
 * A transaction without a statement never reaches the server.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import * as Result from "effect/Result"
import { frames, join } from "./Statements.ts"

/** BEGIN as the head of somebody else's cycle: no Describe, no Sync. */
export const beginFrame = (statement: string): Uint8Array => (statement === "BEGIN" ? plain : encode(statement))

const encode = (statement: string): Uint8Array =>
  Uint8Array.from(
    join([
      Result.getOrThrow(PgProtocol.encodeParse({ name: "", query: statement, parameterTypes: [] })),
      Result.getOrThrow(PgProtocol.encodeBind({ portal: "", statement: "", parameters: [] })),
      frames.execute
    ])
  )

const plain = encode("BEGIN")
