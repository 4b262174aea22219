/**
 * A report inside of a transaction belongs to it: it runs on the transaction's session, or is refused by name.
 *
 * What is declared holds as ever, but for what would take it elsewhere: no retry, hedge, routing, lane or lease, since the
 * transaction is the unit that is repeated. A write's outcome is the transaction's.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { RoleService } from "../Database.ts"
import * as Surrounding from "../pool/Surrounding.ts"
import { QueryFailed } from "../ReportError.ts"
import type { Member } from "../topology/Cluster.ts"
import * as Route from "../topology/Route.ts"

/** Nothing was sent: it would not have belonged to the transaction around it. */
export const misuse = (report: string, problem: string): QueryFailed =>
  new QueryFailed({ report, class: "TransactionMisuse", problem })

/** The transaction that `name` runs in, of a fiber that is in one, or why it may not. */
export const join = (
  name: string,
  role: RoleService,
  fiber: Fiber.Fiber<unknown, unknown>,
  innermost: Surrounding.Transaction
): Surrounding.Transaction | QueryFailed => {
  const own = Surrounding.of(role.sql, innermost)
  if (own === undefined) {
    return misuse(
      name,
      `it runs on ${role.name} and would not belong to the transaction on ${innermost.name} that surrounds it; ` +
        "call it before or after, or declare outside: true"
    )
  }
  if (own.isOver()) return misuse(name, over(own))
  return fiber.getRef(Route.Current)?.route === role.route
    ? misuse(
        name,
        `a snapshot of ${role.name} does not see what the transaction around it wrote; declare outside: true`
      )
    : own
}

export const isRefused = (joined: Surrounding.Transaction | QueryFailed): joined is QueryFailed => "_tag" in joined

const over = (transaction: Surrounding.Transaction): string =>
  `the transaction on ${transaction.name} that it belongs to has ended; wait for it inside of the transaction`

/** The way to the one session that may be asked. */
export const routeOf = (
  name: string,
  transaction: Surrounding.Transaction
): Pick<Route.Route, "attempt" | "attemptOf"> => {
  const { session } = transaction
  const lend = (given: () => Effect.Effect<any, any, any>) =>
    Effect.suspend(() => (transaction.isOver() ? Effect.fail(misuse(name, over(transaction))) : given()))
  const use = (_: unknown, f: (own: typeof session) => Effect.Effect<any, any, any>) => lend(() => f(session))
  const acquire = () => lend(() => Effect.succeed(session))
  const node = { name: Surrounding.serverOf(transaction), read: use, pool: { use, acquire } } as unknown as Member
  const attempt: Route.Route["attempt"] = (call, run) => {
    call.tried.push(node.name)
    return run(node, undefined)
  }
  return { attempt, attemptOf: (_, call, run) => attempt(call, run) }
}
