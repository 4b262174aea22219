/**
 * Effect's `SqlClient` and `PgClient` over leased sessions, so that programs, resolvers, `SqlSchema` and migrators that
 * were written for the driver's client run over Sluice's pool unchanged.
 *
 * What differs is what happens under faults: transaction control is bounded and can be left at once, a typed error of a
 * transaction's body stays that error when its ROLLBACK fails, and `reserve` inside of a transaction gives the
 * transaction's own session instead of waiting for a second one.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { refuse, tableOf } from "../options/Field.ts"
import { sqlClient as table } from "../options/session.ts"
import type { Session, StatementOptions } from "./Session.ts"
import { connectionError, statementError } from "./session/Facts.ts"
import { channelError } from "./session/Listen.ts"
import { mostParameters } from "./session/Parameters.ts"
import * as Surrounding from "./Surrounding.ts"

/** What lends sessions: a `SessionPool` for one kind of request, or anything else that does. */
export interface Leaser<E> {
  /** Lends a session for one piece of work. */
  readonly use: <A, E1, R>(f: (session: Session) => Effect.Effect<A, E1, R>) => Effect.Effect<A, E | E1, R>
  /** Lends a session until the scope closes. */
  readonly acquire: Effect.Effect<Session, E, Scope.Scope>
  /** The same for LISTEN, which keeps its session as long as somebody listens. Default: `acquire`. */
  readonly listen?: Effect.Effect<Session, E, Scope.Scope> | undefined
}

export interface SqlClientOptions {
  /** What errors call it: `database/role`. Default: the name of the database. */
  readonly name?: string | undefined
  /** Shown as `client.config`; never holds the password, hence no `url` either. */
  readonly config: PgClient.PgClientConfig
  readonly transformResultNames?: ((name: string) => string) | undefined
  readonly transformQueryNames?: ((name: string) => string) | undefined
  readonly transformJson?: boolean | undefined
  readonly spanAttributes?: Record<string, unknown> | undefined
  /** The server's limit for every statement of this client, in milliseconds. Default: the session's. */
  readonly statementTimeout?: number | undefined
  /** Behind a pooler in transaction mode there is no LISTEN. */
  readonly pooler?: "transaction" | undefined
}

const fields = tableOf<SqlClientOptions>()(table)

type Transform = (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

/** One session as Effect's `Connection`. */
class SessionConnection implements Connection {
  readonly session: Session
  /** The statement that began its transaction. */
  begin = "BEGIN"
  /**
   * Its transaction ends, or its session has been given back. A fiber that still holds it must reach neither behind the
   * COMMIT nor into the next borrower's work.
   */
  over = false
  readonly #kept: boolean
  readonly #rows: StatementOptions
  readonly #rowsUnprepared: StatementOptions
  readonly #values: StatementOptions
  readonly #valuesUnprepared: StatementOptions

  /** `kept`: for several statements, a transaction or a reservation, instead of for one. */
  constructor(session: Session, timeout: number | undefined, kept: boolean) {
    this.session = session
    this.#kept = kept
    this.#rows = { timeout }
    this.#rowsUnprepared = { timeout, prepare: false }
    this.#values = { timeout, values: true }
    this.#valuesUnprepared = { timeout, values: true, prepare: false }
  }

  /** The effect, unless it is over by the time at which it runs. */
  whileKept<A, R>(effect: () => Effect.Effect<A, SqlError, R>): Effect.Effect<A, SqlError, R> {
    return Effect.suspend(() => (this.over ? Effect.fail(overError()) : effect()))
  }

  #query(sql: string, params: ReadonlyArray<unknown>, options: StatementOptions) {
    return this.#kept
      ? this.whileKept(() => this.session.query(sql, params, options))
      : this.session.query(sql, params, options)
  }

  #run(sql: string, params: ReadonlyArray<unknown>, options: StatementOptions, transform: Transform) {
    const result = this.#query(sql, params, options)
    return transform === undefined
      ? Effect.map(result, ({ rows }) => rows)
      : Effect.map(result, ({ rows }) => transform(rows))
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    return this.#run(sql, params, this.#rows, transform)
  }
  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.#query(sql, params, this.#rows)
  }
  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return this.#run(sql, params, this.#values, undefined)
  }
  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    return this.#run(sql, params, this.#rowsUnprepared, transform)
  }
  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.#run(sql, params, this.#valuesUnprepared, undefined)
  }
  executeStream(sql: string, params: ReadonlyArray<unknown>, transform: Transform) {
    const rows = Stream.suspend(() =>
      this.over ? Stream.fail(overError()) : this.session.stream(sql, params, this.#rows)
    )
    return transform === undefined ? rows : Stream.mapArray(rows, (chunk) => transform(chunk) as typeof chunk)
  }
}

const overError = (): SqlError =>
  statementError(undefined, "The transaction or reservation is over: its session was given back", "query")

let clients = 0

const json = Statement.custom<PgClient.PgCustom>("PgJson")

/** What a lease can fail with, in the words of Effect's SQL; the original is the cause. */
const acquireError = (error: unknown): SqlError =>
  isSqlError(error)
    ? error
    : connectionError(error, error instanceof Error ? error.message : "No session could be had", "acquire", {
        fatal: false
      })

/** Effect's compiler passes a text's parameters as arguments of one call, which overflows the stack: so many are refused later, by number. */
const forManyParameters = (compiler: Statement.Compiler): Statement.Compiler => {
  const compile = compiler.compile.bind(compiler)
  return Object.assign(compiler, {
    compile: ((fragment, ...rest) => {
      const [only, more] = fragment.segments
      return only?._tag === "Literal" && more === undefined && (only.params?.length ?? 0) > mostParameters
        ? [only.value, only.params!]
        : compile(fragment, ...rest)
    }) satisfies Statement.Compiler["compile"]
  })
}

/** Effect 4.0 does not know the property yet. */
const identity = { driver: "pg" }

interface Control {
  readonly begin: (own: SessionConnection, statement: string | undefined) => Effect.Effect<void, SqlError>
  readonly savepoint: (own: SessionConnection, id: number) => Effect.Effect<void, SqlError>
  readonly releaseSavepoint: (own: SessionConnection, id: number) => Effect.Effect<void, SqlError>
  readonly commit: (own: SessionConnection) => Effect.Effect<void, SqlError>
  readonly rollback: (own: SessionConnection) => Effect.Effect<void, SqlError>
  readonly rollbackSavepoint: (own: SessionConnection, id: number) => Effect.Effect<void, SqlError>
}

/** How a transaction gets its connection has changed with Effect 4.1, which is told by what else came with it. */
const acquiresByFunction = "BeginTransaction" in SqlClient

const makeWithTransaction = (
  transactionService: Context.Service<SqlClient.TransactionConnection, SqlClient.TransactionConnection.Service>,
  spanAttributes: ReadonlyArray<readonly [string, unknown]>,
  acquirer: Effect.Effect<SessionConnection, SqlError, Scope.Scope>,
  control: Control
): SqlClient.SqlClient["withTransaction"] => {
  const acquireConnection = acquiresByFunction
    ? (restore: typeof Effect.interruptible) => restore(acquirer)
    : Effect.flatMap(Scope.make(), (scope) =>
        Effect.map(
          Effect.onError(Effect.interruptible(Scope.provide(acquirer, scope)), (cause) =>
            Scope.close(scope, Exit.failCause(cause))
          ),
          (own) => [scope, own] as const
        )
      )
  // Typed for neither version alone, so that the SDK compiles and runs with both.
  const options: any = { transactionService, spanAttributes, acquireConnection, ...control }
  return SqlClient.makeWithTransaction(options)
}

/**
 * Both clients in one value, as the driver makes them.
 *
 * @example
 * ```ts
 * const program = Effect.gen(function* () {
 *   const client = yield* SqlClients.make({ use: (f) => pool.use(request, f), acquire: pool.acquire(request) }, { config })
 *   yield* client.withTransaction(client`insert into log ${client.insert(entry)}`)
 * })
 * ```
 */
export const make = <E>(
  leaser: Leaser<E>,
  options: SqlClientOptions
): Effect.Effect<PgClient.PgClient, never, Reactivity.Reactivity> =>
  Effect.gen(function* () {
    refuse("SqlClients.make", fields, options)
    const { config, statementTimeout } = options
    const transactionService = Context.Service<
      SqlClient.TransactionConnection,
      SqlClient.TransactionConnection.Service
    >(`@sluice/sdk/SqlClients/Transaction/${clients++}`)
    const keep = <E1>(lease: Effect.Effect<Session, E1, Scope.Scope>) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(Effect.mapError(lease, acquireError)), (session) => {
          const kept = new SessionConnection(session, statementTimeout, true)
          session.keep(true)
          return Effect.as(
            Effect.addFinalizer(() =>
              Effect.sync(() => {
                kept.over = true
                session.keep(false)
              })
            ),
            kept
          )
        })
      )
    const acquirer = keep(leaser.acquire)
    const listener = keep(leaser.listen ?? leaser.acquire)
    const transactionAcquirer = Effect.withFiber<SessionConnection, SqlError, Scope.Scope>((fiber) => {
      const plan = fiber.getRef(Surrounding.Next)
      return plan === undefined ? acquirer : keep(plan.lease)
    })
    const current = Effect.map(
      Effect.serviceOption(transactionService),
      Option.map(([own]) => own as SessionConnection)
    )
    const reserve = Effect.flatMap(
      current,
      Option.match({ onNone: () => acquirer, onSome: (own) => Effect.succeed(own) })
    )
    const attributes: ReadonlyArray<readonly [string, unknown]> = [
      ...Object.entries(options.spanAttributes ?? {}),
      ["db.system.name", "postgresql"],
      ["db.namespace", config.database ?? config.username ?? "postgres"],
      ["server.address", config.host ?? "localhost"],
      ["server.port", config.port ?? 5432]
    ]
    const client = yield* SqlClient.make({
      acquirer,
      borrower: (f) =>
        Effect.mapError(
          leaser.use((session) => f(new SessionConnection(session, statementTimeout, false))),
          acquireError
        ),
      compiler: forManyParameters(PgClient.makeCompiler(options.transformQueryNames, options.transformJson)),
      ...identity,
      spanAttributes: attributes,
      transactionService,
      transformRows:
        options.transformResultNames === undefined
          ? undefined
          : Statement.defaultTransforms(options.transformResultNames, options.transformJson).array
    })
    const control: Control = {
      begin: (own, statement) =>
        Effect.withFiber((fiber) => {
          own.begin = fiber.getRef(Surrounding.Next)?.begin ?? statement ?? own.begin
          return own.session.begin(own.begin)
        }),
      // Control may be left while the server is silent: the session is then destroyed, and a COMMIT's outcome unknown.
      savepoint: (own, id) => Effect.interruptible(own.whileKept(() => own.session.savepoint(`sluice_${id}`))),
      releaseSavepoint: (own, id) => own.whileKept(() => own.session.releaseSavepoint(`sluice_${id}`)),
      commit: (own) => {
        own.over = true
        return Effect.interruptible(own.session.commit)
      },
      rollback: (own) => {
        own.over = true
        return own.session.rollback
      },
      rollbackSavepoint: (own, id) =>
        Effect.suspend(() => (own.over ? Effect.void : own.session.rollbackTo(`sluice_${id}`)))
    }
    const transact = makeWithTransaction(transactionService, attributes, transactionAcquirer, control)
    /** Tells what runs inside that it does. */
    const inside = <A, E1, R>(self: Effect.Effect<A, E1, R>): Effect.Effect<A, E1, R> =>
      Effect.updateContext(self, (context: Context.Context<R>): Context.Context<R> => {
        const own = Context.getUnsafe(context, transactionService as Context.Key<any, any>)[0] as SessionConnection
        const around: Surrounding.Transaction = {
          client,
          name: options.name ?? config.database ?? "the database",
          session: own.session,
          begin: own.begin,
          outer: Context.get(context, Surrounding.Current),
          isOver: () => own.over
        }
        const known = Context.add(context, Surrounding.Current, around)
        return Context.get(context, Surrounding.Next) === undefined
          ? known
          : Context.add(known, Surrounding.Next, undefined)
      })
    const withTransaction: SqlClient.SqlClient["withTransaction"] = (self) => transact(inside(self))
    transactions.set(client, transactionService)
    return Object.assign(client, {
      [PgClient.TypeId]: PgClient.TypeId,
      ...identity,
      config,
      withTransaction,
      reserve,
      json: (value: unknown) => Statement.fragment([json(value)]),
      listen: (channel: string) =>
        options.pooler === undefined
          ? Effect.flatMap(listener, ({ session }) => session.listen(channel))
          : Effect.fail(
              connectionError(undefined, "A pooler in transaction mode has no LISTEN", "listen", { fatal: false })
            ),
      notify: (channel: string, payload: string) => {
        const invalid = channelError(channel, "notify")
        return invalid !== undefined
          ? Effect.fail(invalid)
          : Effect.asVoid(client`SELECT pg_notify(${channel}, ${payload})`)
      }
    }) as unknown as PgClient.PgClient
  })

export type { PgClient } from "@effect/sql-pg/PgClient"

/** {@link make} with Effect's own `Reactivity`, for who has none. */
export const makeWithReactivity = <E>(leaser: Leaser<E>, options: SqlClientOptions): Effect.Effect<PgClient.PgClient> =>
  Effect.provide(make(leaser, options), Reactivity.layer)

const transactions = new WeakMap<object, Context.Key<any, any>>()

/** What runs is none of the transaction of this client that surrounds it: its next one is not nested, but one of its own. */
export const apart = <A, E, R>(client: PgClient.PgClient, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  const key = transactions.get(client)
  return key === undefined
    ? self
    : Effect.updateContext(self, (context: Context.Context<R>) => Context.omit(key)(context) as Context.Context<R>)
}

/** The client under both of Effect's services. */
export const context = (client: PgClient.PgClient): Context.Context<SqlClient.SqlClient | PgClient.PgClient> =>
  Context.add(Context.make(PgClient.PgClient, client), SqlClient.SqlClient, client)
