/** Who is drilled: what a user of Sluice, of the bare driver and of `pg` would write, each with the same deadline. */
import type * as Clock from "effect/Clock"

/** How one call ended. */
export type Answer =
  | { readonly kind: "ok"; readonly value: string }
  /** The caller was told by an error that its types (or, for `pg`, its habits) let it expect. */
  | { readonly kind: "declared"; readonly error: string; readonly mayBeApplied: boolean }
  /** A defect, or a rejection that is no error of the database. */
  | { readonly kind: "otherwise"; readonly error: string }

export interface Target {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  readonly password: string
  /** What the server shows as application_name: sessions left behind are found by it. */
  readonly applicationName: string
  readonly pool: number
  /** Every call is answered in this many milliseconds, says its declaration. */
  readonly deadline: number
  /** What is connected to is a pooler in transaction mode. */
  readonly pooler?: "transaction" | undefined
  /** The clock of those who live in Effect. */
  readonly clock: Clock.Clock
}

export interface Subject {
  readonly name: "sluice" | "driver" | "pg"
  readonly open: (target: Target) => Promise<Opened>
}

export interface Opened {
  /** The name of an item, read while the statement takes about 20 ms on the server. */
  readonly read: (id: number) => Promise<Answer>
  /** Inserts a token, once; about 20 ms on the server as well. */
  readonly write: (token: string) => Promise<Answer>
  /** Inserts a token twice in one transaction, thinking for 10 ms in between; where transactions are drilled. */
  readonly transfer?: (token: string) => Promise<Answer>
  /** Permits and sessions still held although nobody is calling, as the subject's own counters say. */
  readonly held: () => Promise<number>
  readonly close: () => Promise<void>
}
