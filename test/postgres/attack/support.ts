/** A database of one role on a server of one's own, with the real pool. */
import { Database } from "@sluice/sdk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

export class Target extends Database.Service<Target>()("target", { roles: ["main"] }) {}

export const main = Target.role("main")

interface Address {
  readonly host: string
  readonly port: number
}

export const optionsAt = ({ host, port }: Address, options?: Database.RoleOptions): Database.RoleOptions => ({
  url: Redacted.make(`postgres://postgres@${host}:${port}/postgres`),
  sslmode: "disable",
  minConnections: 0,
  maxConnections: 4,
  connectionTimeout: "10 seconds",
  ...options
})

/** A role with its pool, closed with the scope. */
export const role = (address: Address, options?: Database.RoleOptions) =>
  Effect.map(Layer.build(Target.layer({ main: optionsAt(address, options) })), (context) => ({
    context,
    service: Context.get(context, main),
    sql: Context.get(context, main).sql,
    pool: Context.get(context, main).nodes[0]!.pool
  }))

/** How long it took, in milliseconds of real time. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const begin = performance.now()
    const value = yield* effect
    return [value, performance.now() - begin] as const
  })
