/** The key under which a client puts a transaction into the context of what runs in it, so that the pool can tell who holds what. */
import type * as Context from "effect/Context"

/** What a client puts there first: the connection that it leased. */
interface Holding {
  readonly session: object
}

const prefix = "@sluice/sdk/SqlClients/Transaction/"

let clients = 0

/** A key for one more client. */
export const nextKey = (): string => `${prefix}${clients++}`

/** The sessions of all transactions that surround a fiber with this context. For whoever explains, not for the hot path. */
export const sessionsIn = (context: Context.Context<never>): ReadonlySet<object> => {
  const sessions = new Set<object>()
  for (const [key, value] of context.mapUnsafe) {
    if (key.startsWith(prefix)) sessions.add((value as readonly [Holding])[0].session)
  }
  return sessions
}
