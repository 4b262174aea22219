/**
 * A database, its roles, and the layers that provide them.
 *
 * Each (database, role) pair is a service of its own, so least privilege is a type: a process that is given only the
 * replica cannot run a report of the primary, and the compiler says so.
 *
 * ```ts
 * import { Database } from "@sluice/sdk"
 * import * as Redacted from "effect/Redacted"
 *
 * export class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
 *
 * const live = Fleet.layer({
 *   primary: { url: Redacted.make("postgres://app@10.0.0.1/fleet") },
 *   replica: { url: Redacted.make("postgres://app@10.0.0.2/fleet") }
 * })
 * ```
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Stream from "effect/Stream"
import * as DriverPool from "./pool/DriverPool.ts"
import type { AcquireTimeout, DatabaseUnavailable, Overloaded } from "./ReportError.ts"

/** The identifier of a role's service: nothing but two names. */
export interface Role<out Database extends string, out Name extends string> {
  readonly "~@sluice/sdk/Role": { readonly database: Database; readonly role: Name }
}

/** What a caller says about the session that it asks for. */
export interface LeaseRequest {
  /** Who holds the session, for errors and leak reports. */
  readonly name: string
  /** The share of the pool it runs in. */
  readonly lane: string
  /** Higher is served first. Default 0. */
  readonly priority?: number | undefined
  /** The instant (milliseconds of Effect's Clock) after which no session is of use. */
  readonly deadline?: number | undefined
}

/** What the server answered to one statement. */
export interface StatementResult {
  readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly rowCount: number
  /** More rows exist than `maxRows` let through. */
  readonly truncated: boolean
}

/** A session on loan. */
export interface Lease {
  /** `host:port` of the node. */
  readonly node: string
  readonly execute: (
    sql: string,
    params: ReadonlyArray<unknown>,
    maxRows: number | undefined
  ) => Effect.Effect<StatementResult, SqlError>
  readonly stream: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Stream.Stream<Readonly<Record<string, unknown>>, SqlError>
}

/** What a role provides. */
export interface RoleService {
  readonly database: string
  readonly role: string
  /** `database/role`. */
  readonly name: string
  /** Effect's client over the pool of this role: statements, transactions, streams. */
  readonly sql: SqlClient.SqlClient
  /** Lends a session for one effect. */
  readonly use: <A, E, R>(
    request: LeaseRequest,
    f: (lease: Lease) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | AcquireTimeout | Overloaded | DatabaseUnavailable, R>
}

/** The pool of a role. Sizes are sessions; durations take Effect's `Duration.Input`. */
export type RoleOptions = DriverPool.Options

type RolesOf<Database extends string, Names extends string> = Names extends string ? Role<Database, Names> : never

/** A declared database. Extend what {@link Service} returns to give it a name. */
export interface Database<in out Id extends string, in out Names extends string> {
  readonly id: Id
  readonly roles: ReadonlyArray<Names>
  /** The service of one role. A role that is not declared does not compile. */
  readonly role: <Name extends Names>(name: Name) => Context.Service<Role<Id, Name>, RoleService>
  /** All roles. */
  readonly layer: (options: {
    readonly [Name in Names]: RoleOptions
  }) => Layer.Layer<RolesOf<Id, Names>, DatabaseUnavailable>
  /** One role alone, for a process that holds only its credentials. */
  readonly layerRole: <Name extends Names>(
    name: Name,
    options: RoleOptions
  ) => Layer.Layer<Role<Id, Name>, DatabaseUnavailable>
  /** Effect's `SqlClient` over the pool of a role, for migrators, resolvers and programs that exist. */
  readonly layerSqlClient: <Name extends Names>(name: Name) => Layer.Layer<SqlClient.SqlClient, never, Role<Id, Name>>
}

/** The class that {@link Service} returns. */
export interface DatabaseClass<in out Id extends string, in out Names extends string> extends Database<Id, Names> {
  new (_: never): { readonly "~@sluice/sdk/Database": Id }
}

/**
 * Declares a database with its roles.
 *
 * `Self` is the class itself, as in Effect's `Context.Service`.
 */
export const Service =
  <_Self>() =>
  <const Id extends string, const Names extends readonly [string, ...ReadonlyArray<string>]>(
    id: Id,
    options: { readonly roles: Names }
  ): DatabaseClass<Id, Names[number]> => {
    type Name = Names[number]
    const keys = new Map<string, Context.Service<never, RoleService>>(
      options.roles.map((name) => [name, Context.Service<never, RoleService>(`@sluice/sdk/Database/${id}/${name}`)])
    )
    const role = <N extends Name>(name: N): Context.Service<Role<Id, N>, RoleService> => {
      const key = keys.get(name)
      if (key === undefined) {
        throw new Error(`Database "${id}" has no role "${name}": declared are ${options.roles.join(", ")}`)
      }
      return key as unknown as Context.Service<Role<Id, N>, RoleService>
    }
    const layerRole = <N extends Name>(
      name: N,
      roleOptions: RoleOptions
    ): Layer.Layer<Role<Id, N>, DatabaseUnavailable> => Layer.effect(role(name), DriverPool.make(id, name, roleOptions))
    class DatabaseService {
      static readonly id = id
      static readonly roles = options.roles
      static readonly role = role
      static readonly layerRole = layerRole
      static readonly layer = (all: { readonly [N in Name]: RoleOptions }) => {
        const [first, ...others] = options.roles.map((name) => layerRole(name, all[name as Name]))
        return Layer.mergeAll(first!, ...others)
      }
      static readonly layerSqlClient = <N extends Name>(name: N) =>
        Layer.effect(
          SqlClient.SqlClient,
          role(name).useSync((service) => service.sql)
        )
    }
    return DatabaseService as unknown as DatabaseClass<Id, Name>
  }
