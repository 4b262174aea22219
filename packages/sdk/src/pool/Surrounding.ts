/**
 * The transaction that surrounds a fiber, for whoever has to join it.
 *
 * A client puts it into the context of what runs inside of its transactions, one for each level (`SqlClients`). A fiber that
 * outlives a transaction still sees it, and sees that it has ended.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Session } from "./Session.ts"

export interface Transaction {
  /** Whose transaction it is. */
  readonly client: object
  /** Its role, in errors. */
  readonly name: string
  readonly session: Session
  /** The statement that began it. */
  readonly begin: string
  /** The one around it, of this client or of another one. */
  readonly outer: Transaction | undefined
  /** It ends or has ended: nothing more may run in it. */
  readonly isOver: () => boolean
}

/** The innermost one. Default: none. */
export const Current: Context.Reference<Transaction | undefined> = Context.Reference("@sluice/sdk/pool/Surrounding", {
  defaultValue: (): Transaction | undefined => undefined
})

/** The innermost transaction of a client. */
export const of = (client: object, innermost: Transaction | undefined): Transaction | undefined => {
  let transaction = innermost
  while (transaction !== undefined && transaction.client !== client) transaction = transaction.outer
  return transaction
}

/** The sessions of all of them. For whoever explains, not for the hot path. */
export const sessionsIn = (context: Context.Context<never>): ReadonlySet<object> => {
  const sessions = new Set<object>()
  let transaction = Context.get(context, Current)
  for (; transaction !== undefined; transaction = transaction.outer) sessions.add(transaction.session)
  return sessions
}

/** How the next transaction of a fiber gets its session, and how it begins. */
export interface Plan {
  readonly lease: Effect.Effect<Session, unknown, Scope.Scope>
  readonly begin: string
}

/** Read by the client once, as a transaction begins. Default: the client's own lease, and `BEGIN`. */
export const Next: Context.Reference<Plan | undefined> = Context.Reference("@sluice/sdk/pool/Surrounding/Next", {
  defaultValue: (): Plan | undefined => undefined
})

const servers = new WeakMap<Session, string>()

/** Notes the server of a session that is lent for a transaction. Gives the session back. */
export const on = (session: Session, server: string): Session => {
  servers.set(session, server)
  return session
}

/** The server of a transaction. */
export const serverOf = ({ name, session }: Transaction): string => servers.get(session) ?? name
