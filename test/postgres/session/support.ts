/** Sessions of ours and connections of the bare driver to the same server, closed with the test. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import { Session, type SessionConfig } from "@sluice/sdk/pool/Session"
import * as SqlClients from "@sluice/sdk/pool/SqlClients"

export interface Target {
  readonly host: string
  readonly port: number
}

export const configFor = (target: Target, config?: Partial<SessionConfig>): SessionConfig => ({
  host: target.host,
  port: target.port,
  username: "postgres",
  database: "postgres",
  sslmode: "disable",
  ...config
})

/** A session that is destroyed with the test. */
export const connect = (target: Target, config?: Partial<SessionConfig>) =>
  Effect.acquireRelease(Session.connect(configFor(target, config)), (session) => Effect.sync(() => session.destroy()))

/** The bare driver's session. */
export const driver = (target: Target, config?: Partial<PgConnection.Config>) =>
  PgConnection.make({ host: target.host, port: target.port, username: "postgres", database: "postgres", ...config })

/** The bare driver's client with a pool. */
export const driverClient = (target: Target, config?: Partial<PgClient.PgPoolConfig>) =>
  Effect.provide(
    PgClient.make({ host: target.host, port: target.port, username: "postgres", database: "postgres", ...config }),
    Reactivity.layer
  )

/** Our client over one session after another, as a pool of one would lend them. */
export const client = (target: Target, config?: Partial<SessionConfig>) =>
  Effect.provide(
    SqlClients.make(
      {
        use: (f) => Effect.scoped(Effect.flatMap(connect(target, config), f)),
        acquire: connect(target, config)
      },
      { config: { host: target.host, port: target.port, username: "postgres", database: "postgres" } }
    ),
    Reactivity.layer
  )

/** Our client over one session that is held, as a pool lends it when it is idle. */
export const heldClient = (target: Target, config?: Partial<SessionConfig>) =>
  Effect.flatMap(connect(target, config), (session) =>
    Effect.provide(
      SqlClients.make(
        { use: (f) => f(session), acquire: Effect.succeed(session) },
        { config: { host: target.host, port: target.port, username: "postgres", database: "postgres" } }
      ),
      Reactivity.layer
    )
  )

/** How long an effect took, in milliseconds of real time. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const start = performance.now()
    const value = yield* effect
    return [value, performance.now() - start] as const
  })
