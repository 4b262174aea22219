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
import type { PgClient } from "./pool/SqlClients.ts"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as DatabaseConfig from "./DatabaseConfig.ts"
import { type Options, type Resolved, resolve } from "./DatabaseOptions.ts"
import { listenLane, type PoolRequest } from "./pool/SessionPool.ts"
import * as SqlClients from "./pool/SqlClients.ts"
import * as Surrounding from "./pool/Surrounding.ts"
import { group, isRecord, issuesIn, list, pick, refuse, tableOf, text, unknownIn } from "./options/Field.ts"
import * as Fields from "./options/role.ts"
import { together } from "./options/together.ts"
import { watch as watchFields } from "./options/topology.ts"
import { type DatabaseUnavailable, InvalidConfiguration } from "./ReportError.ts"
import * as PgFailure from "./PgFailure.ts"
import { traits } from "./Profile.ts"
import * as Cluster from "./topology/Cluster.ts"
import * as Health from "./topology/Health.ts"
import type * as Node from "./topology/Node.ts"
import * as Route from "./topology/Route.ts"
import type * as Router from "./topology/Router.ts"

/** Why a role's layer cannot be built. */
export type DatabaseError = DatabaseUnavailable | InvalidConfiguration

/** The identifier of a role's service: nothing but two names. */
export interface Role<out Database extends string, out Name extends string> {
  readonly "~@sluice/sdk/Role": { readonly database: Database; readonly role: Name }
}

/** The identifier of the servers that all roles of a database share. */
export interface Servers<out Database extends string> {
  readonly "~@sluice/sdk/Servers": { readonly database: Database }
}

/** What a role provides. */
export interface RoleService {
  readonly database: string
  readonly role: string
  /** `database/role`. */
  readonly name: string
  /** The options in force, checked and filled in. */
  readonly options: Resolved
  /** The servers that may serve it, at this moment. */
  readonly nodes: ReadonlyArray<Node.Node>
  /** Which of them serves an attempt. */
  readonly route: Route.Route
  /** Ends its sessions within the two deadlines of the option `shutdown`; see {@link Cluster.Cluster}. */
  readonly shutdown: Effect.Effect<void>
  /**
   * Effect's client over the pool of this role: statements, transactions, streams, `listen` and `notify`. A `listen` holds a
   * session of the pool until its scope ends, in the lane `listen`.
   */
  readonly sql: PgClient
}

/** The pool of a role. */
export type RoleOptions = Options

/** One list of servers for all roles: which of them is what is found out, and found out again when it changes. */
export interface ServersOptions<Names extends string> extends Omit<Options, "host" | "port" | "hosts" | RoleOnly> {
  /** The servers: `"10.0.0.1:5432"`, or with a zone. A `url` may name them instead. */
  readonly servers?: Options["hosts"]
  /** What a role asks of them. Default: its name, if that is `primary` or `replica`; else any server. */
  readonly roles?: { readonly [Name in Names]?: Pick<Options, RoleOnly> | undefined } | undefined
  /** How the servers are watched. */
  readonly watch?: Cluster.WatchOptions | undefined
}

/** What each role says for itself, where the servers are common to all. */
type RoleOnly = "target" | "maxLag" | "fallback" | "zone"

/** What the roles of one list of servers may say together, and what each may. */
const serversFields = {
  ...Fields.common,
  servers: Fields.hosts,
  roles: group({}, '{ replica: { maxLag: "5 seconds" } }'),
  watch: group(tableOf<Cluster.WatchOptions>()(watchFields), '{ timeout: "1 second" }')
}
const serviceFields = {
  id: text({ required: true }),
  roles: list((value, name) => text().check(value, name), '["primary"]', { required: true })
}
const ownFields = group(Fields.own, '{ maxLag: "5 seconds" }')

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
  }) => Layer.Layer<RolesOf<Id, Names>, DatabaseError>
  /**
   * All roles over one list of servers, each with one pool, whatever it is at the moment. After a failover `primary` is the
   * promoted server, and an old primary that comes back is not used.
   */
  readonly layerServers: (
    options: ServersOptions<Names>
  ) => Layer.Layer<RolesOf<Id, Names> | Servers<Id>, DatabaseError>
  /** The servers behind {@link layerServers}: to add and remove some, to rotate sessions, to look. */
  readonly servers: Context.Service<Servers<Id>, Cluster.Cluster>
  /** One role alone, for a process that holds only its credentials. */
  readonly layerRole: <Name extends Names>(
    name: Name,
    options: RoleOptions
  ) => Layer.Layer<Role<Id, Name>, DatabaseError>
  /** All roles out of the environment (`DATABASE_URL` or `DB_*`, a `.env` file), with options in code on top. */
  readonly layerConfig: (options?: {
    readonly [Name in Names]?: (DatabaseConfig.Source & RoleOptions) | undefined
  }) => Layer.Layer<RolesOf<Id, Names>, DatabaseError>
  /**
   * For SIGTERM, before the runtime is disposed of: new callers are refused, those under way end within the two deadlines of
   * the option `shutdown`, all roles and servers at the same time.
   */
  readonly shutdown: Effect.Effect<void, never, RolesOf<Id, Names>>
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
    refuse(`Database ${JSON.stringify(id)}`, serviceFields, { ...options, id })
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
    const layerResolved = <N extends Name>(
      name: N,
      resolved: Effect.Effect<Resolved, InvalidConfiguration>
    ): Layer.Layer<Role<Id, N>, DatabaseError> =>
      Layer.effect(
        role(name),
        Effect.flatMap(resolved, (complete) => makeRole(id, name, complete))
      )
    const resolvedRole = (name: Name, roleOptions: RoleOptions) =>
      Effect.suspend(() => Effect.fromResult(resolve(`${id}/${name}`, roleOptions)))
    const layerRole = <N extends Name>(name: N, roleOptions: RoleOptions) =>
      layerResolved(name, resolvedRole(name, roleOptions))
    const names = options.roles as ReadonlyArray<Name>
    const roleNames = Object.fromEntries(names.map((name) => [name, true]))
    /** The layers of all roles, or everything that is wrong with any of them. */
    const merge = (
      given: object,
      resolvedOf: (name: Name) => Effect.Effect<Resolved, InvalidConfiguration>
    ): Layer.Layer<Role<Id, Name>, DatabaseError> =>
      Layer.unwrap(
        Effect.gen(function* () {
          if (!isRecord(given)) return yield* new InvalidConfiguration({ subject: id, issues: issuesIn({}, given) })
          const each = yield* Effect.forEach(names, (name) =>
            Effect.map(Effect.result(resolvedOf(name)), (resolved) => [name, resolved] as const)
          )
          const all = yield* Effect.fromResult(together(id, unknownIn(roleNames, given, undefined, "role"), each))
          const [first, ...others] = all.map(([name, resolved]) => layerResolved(name, Effect.succeed(resolved)))
          return Layer.mergeAll(first!, ...others)
        })
      )
    const servers = Context.Service<Servers<Id>, Cluster.Cluster>(`@sluice/sdk/Database/${id}`)
    class DatabaseService {
      static readonly id = id
      static readonly servers = servers
      static readonly layerServers = (given: ServersOptions<Name>) =>
        Layer.effectContext(
          Effect.gen(function* () {
            const { roles, servers: hosts, watch } = { ...given }
            const resolveWith = (subject: string, own?: object) =>
              resolve(subject, { ...pick(Fields.common, given), ...own, hosts } as Options, (field) =>
                field === "hosts" ? "servers" : field
              )
            const whole = resolveWith(id)
            const wrong = isRecord(given)
              ? [
                  ...unknownIn(serversFields, given),
                  ...(Result.isFailure(whole) ? whole.failure.issues : []),
                  ...(watch === undefined ? [] : serversFields.watch.check(watch, "watch")),
                  ...(roles === undefined || isRecord(roles) ? [] : serversFields.roles.check(roles, "roles")),
                  ...unknownIn(roleNames, roles, (name) => `roles.${name}`, "role"),
                  ...names.flatMap((name) => {
                    const own: unknown = roles?.[name]
                    if (own === undefined) return []
                    return isRecord(own)
                      ? unknownIn(Fields.own, own, (field) => `${name}.${field}`)
                      : ownFields.check(own, `roles.${name}`)
                  })
                ]
              : issuesIn(serversFields, given)
            const own = names.map((name) => {
              return [name, resolveWith(`${id}/${name}`, pick(Fields.own, roles?.[name]))] as const
            })
            const all = yield* Effect.fromResult(together(id, wrong, own))
            const shared = yield* Effect.fromResult(whole)
            const cluster = yield* Cluster.make(id, shared, {
              ...watch,
              // Servers may be added: a role is looked for from the beginning.
              always: true
            })
            let context: Context.Context<never> = Context.make(servers, cluster) as never
            for (const [name, resolved] of all) {
              context = Context.add(context, role(name), yield* makeRole(id, name, resolved, cluster)) as never
            }
            return context
          })
        )
      static readonly roles = options.roles
      static readonly role = role
      static readonly layerRole = layerRole
      static readonly layer = (all: { readonly [N in Name]: RoleOptions }) =>
        merge(all, (name) => resolvedRole(name, all[name]))
      static readonly layerConfig = (
        all: { readonly [N in Name]?: (DatabaseConfig.Source & RoleOptions) | undefined } = {}
      ) =>
        merge(all, (name) => {
          const { dotEnv, prefix, ...overrides } = all[name] ?? {}
          return DatabaseConfig.load(`${id}/${name}`, { dotEnv, prefix }, overrides)
        })
      static readonly shutdown = Effect.forEach(
        options.roles as ReadonlyArray<Name>,
        (name) => Effect.flatMap(role(name), (service) => service.shutdown),
        { concurrency: "unbounded", discard: true }
      )
      static readonly layerSqlClient = <N extends Name>(name: N) =>
        Layer.effectContext(role(name).useSync(({ sql }) => SqlClients.context(sql)))
    }
    return DatabaseService as unknown as DatabaseClass<Id, Name>
  }

/** Statements outside of reports: migrations, writes of a service, health of its own. */
const interactive = "interactive"

const makeRole = Effect.fnUntraced(function* (
  database: string,
  role: string,
  options: Resolved,
  cluster?: Cluster.Cluster
): Effect.fn.Return<RoleService, DatabaseError, Scope.Scope> {
  const name = `${database}/${role}`
  const health = yield* Effect.serviceOption(Health.Health)
  const overrides = yield* PgFailure.CurrentOverrides
  const servers = cluster ?? (yield* Cluster.make(name, options, { always: Option.isSome(health) }))
  const route = Route.make(name, servers, wantOf(role, options, cluster !== undefined), overrides, {
    alone: cluster === undefined || options.hosts.length > 1 ? undefined : wantOf(role, options, false)
  })
  if (Option.isSome(health)) yield* health.value.register(route.source)
  const request = { lane: interactive, name: "sql" }
  const acquire = (request: PoolRequest) =>
    Effect.suspend(() =>
      route.attempt({ key: name, tried: [] }, (member) =>
        Effect.map(member.pool.acquire(request), (session) => Surrounding.on(session, member.name))
      )
    )
  const sql = yield* SqlClients.makeWithReactivity(
    {
      use: (f) => route.attempt({ key: name, tried: [] }, ({ pool }) => pool.use(request, f)),
      acquire: acquire(request),
      listen: acquire({ lane: listenLane, name: "listen" })
    },
    {
      name,
      config: {
        host: options.host,
        port: options.port,
        database: options.name,
        username: options.user,
        applicationName: options.applicationName ?? name
      },
      transformQueryNames: options.transformQueryNames,
      transformResultNames: options.transformResultNames,
      transformJson: options.transformJson,
      spanAttributes: options.spanAttributes,
      pooler: options.pooler === "transaction" ? "transaction" : undefined
    }
  )
  return {
    database,
    role,
    name,
    options,
    route,
    shutdown: servers.shutdown,
    sql,
    get nodes() {
      return route.nodes()
    }
  }
})

/**
 * With one server there is no choice, nor among peers; with several, or where one address leads to several, the role's name
 * says what it asks for, unless its options do.
 */
const wantOf = (role: string, options: Resolved, comeAndGo: boolean): Router.Want => {
  const { servers, switching } = traits[options.profile]
  const several = options.hosts.length > 1 || options.addresses === "each" || switching || comeAndGo
  const named = role === "primary" || role === "replica" ? role : "any"
  return servers === "peers"
    ? { role: "any", zone: options.zone }
    : {
        role: options.target ?? (several ? named : "any"),
        maxLagMillis: options.maxLag,
        fallback: options.fallback,
        zone: options.zone
      }
}
