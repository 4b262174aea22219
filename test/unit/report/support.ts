/**
 * A role in memory: the real pool over scripted sessions, so that the whole way of a call runs under a virtual clock.
 */
import { assert } from "@effect/vitest"
import { Database, DatabaseOptions } from "@sluice/sdk"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import * as TestClock from "effect/testing/TestClock"
import { inspect } from "node:util"
import type { RoleService } from "../../../packages/sdk/src/Database.ts"
import type { Limit, Session, StatementOptions } from "../../../packages/sdk/src/pool/Session.ts"
import { connectionError, serverError } from "../../../packages/sdk/src/pool/session/Facts.ts"
import type * as SessionPool from "../../../packages/sdk/src/pool/SessionPool.ts"
import * as SqlClients from "../../../packages/sdk/src/pool/SqlClients.ts"
import type { Node } from "../../../packages/sdk/src/topology/Node.ts"
import { FakeServer, type FakeSession } from "../pool/FakeSession.ts"
import { makePool } from "../pool/fixture.ts"

export class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["replica"] }) {}

export const replica = Fleet.role("replica")

/** One statement that reached a server. */
export interface Execution {
  /** Counts from 1 over all nodes. */
  readonly number: number
  readonly node: string
  /** Virtual milliseconds. */
  readonly at: number
  readonly params: ReadonlyArray<unknown>
  readonly options: StatementOptions | undefined
}

/** What the server makes of a statement. Interrupted, it has to be drained. */
export type Script = (execution: Execution) => Effect.Effect<ReadonlyArray<unknown>, SqlError>

/** The server answered with an error; a FATAL one ends the session, and with it all knowledge of a commit. */
export const refused = (code: string, severity = "ERROR"): SqlError =>
  serverError({ code, severity, severityUnlocalized: severity, message: "hunter2" } as never, "query", {
    sent: true,
    commit: severity === "FATAL"
  })

/** The socket broke after the statement was sent. */
export const lost = (): SqlError => connectionError(undefined, "hunter2", "query", { sent: true, commit: true })

/** The socket broke before the statement was sent. */
export const unsent = (): SqlError => connectionError(undefined, "hunter2", "query", { sent: false, commit: false })

/** One row, after so many virtual milliseconds. */
export const rowsAfter = (millis: number, rows: ReadonlyArray<unknown> = [{ n: 1 }]): ReturnType<Script> =>
  millis === 0 ? Effect.succeed(rows) : Effect.as(Effect.sleep(millis), rows)

export interface RoleOptions extends Partial<SessionPool.PoolOptions<FakeSession>> {
  readonly nodes?: number | undefined
}

const nobody: SqlClients.Leaser<never> = {
  use: () => Effect.die("nobody leases here"),
  acquire: Effect.die("nor here")
}
const sql = Effect.runSync(SqlClients.makeWithReactivity(nobody, { config: {} }))

/** As a session's query, which a limit ends on time. */
const limited = <A, E>(limit: Limit<any> | undefined, self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  limit === undefined
    ? self
    : Effect.withFiber((fiber) =>
        Effect.callback<A, E>((resume) => {
          const stay = limit((error) => {
            resume(Effect.fail(error))
            work.interruptUnsafe()
          })
          const work = Effect.runForkWith(fiber.context)(self)
          work.addObserver((exit) => {
            stay()
            resume(exit)
          })
          return Effect.sync(() => {
            stay()
            work.interruptUnsafe()
          })
        })
      )

/** A role whose servers answer by a script. */
export const makeRole = Effect.fnUntraced(function* (script: Script, options: RoleOptions = {}) {
  const { nodes: count = 1, ...poolOptions } = options
  const executions: Array<Execution> = []
  const servers: Array<FakeServer> = []
  const scripted = (node: string, session: FakeSession) => ({
    query: (_sql: string, params: ReadonlyArray<unknown>, statement?: StatementOptions, limit?: Limit<any>) =>
      limited(
        limit,
        Effect.suspend(() => {
          session.busy = true
          session.clean = false
          return Clock.clockWith((clock) => {
            const at = clock.currentTimeMillisUnsafe()
            const execution = { number: executions.length + 1, node, at, params, options: statement }
            executions.push(execution)
            return Effect.onExit(script(execution), (exit) =>
              Effect.sync(() => {
                if (Exit.isFailure(exit) && Cause.hasInterrupts(exit.cause)) return
                session.busy = false
                session.clean = true
              })
            )
          })
        }).pipe(
          Effect.map((all) => {
            const limit = statement?.maxRows ?? Infinity
            return { rows: all.slice(0, limit), truncated: all.length > limit }
          })
        )
      )
  })
  const nodes: Array<Node> = []
  for (let index = 0; index < count; index++) {
    const server = new FakeServer()
    servers.push(server)
    const name = `127.0.0.1:${5432 + index}`
    const pool = yield* makePool(server, { name: `fleet/replica@${name}`, max: 4, ...poolOptions })
    const use: SessionPool.SessionPool<Session>["use"] = (request, f) =>
      pool.use(request, (session) => f(scripted(name, session) as unknown as Session))
    nodes.push({ name, pool: { ...pool, use }, read: use } as unknown as Node)
  }
  const resolved = Result.getOrThrow(
    DatabaseOptions.resolve("fleet/replica", { minConnections: 0, maxConnections: poolOptions.max ?? 4 })
  )
  type Tried = { readonly tried: Array<string> }
  type Attempt = (node: Node, until: undefined) => Effect.Effect<unknown, unknown>
  const attempted = (call: Tried, attempt: Attempt) => {
    const node = nodes.find(({ name }) => !call.tried.includes(name)) ?? nodes[0]!
    call.tried.push(node.name)
    return attempt(node, undefined)
  }
  const role = {
    database: "fleet",
    role: "replica",
    name: "fleet/replica",
    options: resolved,
    nodes,
    route: {
      // Its servers neither come nor go.
      cluster: { topology: { onChange: () => () => {} } },
      // As the real one where all servers fit; that one has tests of its own.
      attempt: (call: Tried, attempt: Attempt) => Effect.suspend(() => attempted(call, attempt)),
      attemptOf: (_: unknown, call: Tried, attempt: Attempt) => attempted(call, attempt)
    },
    sql
  } as unknown as RoleService
  return {
    role,
    executions,
    servers,
    stats: nodes[0]!.pool.stats,
    /** When statements reached a server, in virtual milliseconds. */
    times: () => executions.map(({ at }) => at),
    provide: Effect.provideService(replica, role)
  }
})

/** What became of a call, and how many virtual milliseconds it took. */
export interface Outcome<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly millis: number
}

/** Begins a call; `TestClock.adjust` then lets it go on. */
export const begin = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.forkChild(
    Effect.gen(function* () {
      const from = yield* Clock.currentTimeMillis
      const exit = yield* Effect.exit(call)
      return { exit, millis: (yield* Clock.currentTimeMillis) - from }
    }),
    { startImmediately: true }
  )

/** Runs a call to its end, letting `adjust` milliseconds pass. */
export const run = <A, E, R>(call: Effect.Effect<A, E, R>, adjust = 60_000) =>
  Effect.gen(function* () {
    const fiber = yield* begin(call)
    yield* TestClock.adjust(adjust)
    return yield* Fiber.join(fiber)
  })

/** The error of an outcome, which must have this tag. */
export const failure = <A, E extends { readonly _tag: string }, const Tag extends E["_tag"]>(
  { exit }: Outcome<A, E>,
  tag: Tag
): Extract<E, { readonly _tag: Tag }> => {
  assert(Exit.isFailure(exit), `succeeded: ${inspect(exit)}`)
  const error = Cause.findErrorOption(exit.cause)
  assert(error._tag === "Some", Cause.pretty(exit.cause))
  assert.strictEqual(error.value._tag, tag, inspect(error.value))
  return error.value as Extract<E, { readonly _tag: Tag }>
}

/** The value of an outcome. */
export const value = <A, E>({ exit }: Outcome<A, E>): A => {
  assert(Exit.isSuccess(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
  return exit.value
}
