/**
 * Several reports, or the slices of one, in parallel on different sessions, that see one and the same state of the database.
 *
 * One session holds a snapshot (exported, repeatable read, read-only) and does nothing else; those that work import it. All
 * are on one server, for as long as the group runs and at most for `maxHold`: a snapshot that is held keeps the server from
 * cleaning up, and on a standby from replaying.
 *
 * A working session that is lost is replaced by another that imports the same snapshot, if the report is retried. If the
 * holder is lost the group fails as a whole, or begins again as a whole (`retries`).
 *
 * @example
 * ```ts
 * class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
 *
 * const both = Effect.all([stoppage.run({}), trips.run({})], { concurrency: 2 }).pipe(
 *   Snapshot.run(Fleet.role("replica"), { sessions: 2, maxHold: "20 seconds" })
 * )
 * ```
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { SqlError } from "effect/sql/SqlError"
import { fill, type Filled, issuesIn, tableOf } from "../options/Field.ts"
import { snapshot as fields } from "../options/topology.ts"
import type { Session } from "../pool/Session.ts"
import type { AcquireError, PoolRequest, SessionPool } from "../pool/SessionPool.ts"
import { DatabaseUnavailable, DeadlineExceeded, InvalidConfiguration, type ReplicaTooStale } from "../ReportError.ts"
import { traits } from "../Profile.ts"
import { type Member, notAvailable } from "./Cluster.ts"
import { Current, type Route } from "./Route.ts"

export interface Options {
  /** Sessions that work at the same time; one more holds the snapshot. */
  readonly sessions: number
  /** How long the snapshot may be held. Default 30 seconds. */
  readonly maxHold?: Duration.Input | undefined
  /** The share of the pool. Default `report`. */
  readonly lane?: string | undefined
  /** How often the group begins again when its snapshot was lost. Whatever else it does is then done again. Default 0. */
  readonly retries?: number | undefined
}

/** What a group fails with, besides what runs in it. */
export type SnapshotError =
  | AcquireError
  | DatabaseUnavailable
  | ReplicaTooStale
  | DeadlineExceeded
  | InvalidConfiguration

const optionFields = tableOf<Options>()(fields)

const begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

/** Runs everything of one role that happens in `self` on one snapshot. Other roles are not affected. */
export const run =
  <Id>(role: Context.Key<Id, { readonly route: Route }>, options: Options) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | SnapshotError, R | Id> =>
    Effect.flatMap(role, ({ route }) => {
      const issues = issuesIn(optionFields, options)
      if (issues.length > 0) {
        return Effect.fail(new InvalidConfiguration({ subject: `snapshot of ${route.name}`, issues }))
      }
      const filled = fill(optionFields, options)
      const once = Effect.suspend(() => group(route, filled, self))
      const again = (left: number): Effect.Effect<A, E | SnapshotError, R> =>
        Effect.catchIf(
          once,
          (error): error is any => left > 0 && lost.has(error as object),
          () => again(left - 1)
        )
      return again(filled.retries)
    })

/** Failures of the snapshot itself, as against those of what runs on it. */
const lost = new WeakSet<object>()

const group = <A, E, R>(
  route: Route,
  options: Filled<typeof optionFields>,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SnapshotError, R> => {
  const name = `snapshot of ${route.name}`
  const request = { lane: options.lane, name }
  const holdMillis = options.maxHold
  const unavailable = (error: SqlError) => {
    const told = new DatabaseUnavailable({
      pool: route.name,
      reason: "lost",
      lastError: { tag: error.reason._tag, message: "the session that holds the snapshot was lost" }
    })
    lost.add(told)
    return told
  }
  // Only getting the snapshot may move on to another server; what runs on it must not run twice.
  const hold = (member: Member): Effect.Effect<{ member: Member; holder: Session; id: string }, any, Scope.Scope> =>
    Effect.gen(function* () {
      const holder = yield* member.pool.acquire(request)
      yield* Effect.addFinalizer(() => holder.rollback)
      const id = yield* Effect.gen(function* () {
        yield* holder.begin(begin)
        // It is idle by design, longer than others may be.
        yield* holder.query(`SET LOCAL idle_in_transaction_session_timeout = ${Math.ceil(holdMillis) + 5_000}`)
        const { rows } = yield* holder.query("SELECT pg_export_snapshot() AS id")
        return String((rows[0] as { readonly id: unknown }).id)
      }).pipe(Effect.mapError(unavailable))
      return { member, holder, id }
    })
  const { noSnapshot } = traits[route.cluster.options.profile]
  if (noSnapshot !== undefined) {
    return Effect.fail(notAvailable(route.name, route.cluster.options, "snapshots", noSnapshot))
  }
  const whole = Effect.gen(function* () {
    const { holder, id, member } = yield* route.attempt({ key: name, tried: [] }, hold)
    const gone = Deferred.makeUnsafe<never, DatabaseUnavailable>()
    holder.onDeath((cause) => Deferred.doneUnsafe(gone, Exit.fail(unavailable(cause))))
    const pool = yield* sharing(member.pool, id, options.sessions!)
    const work = Effect.provideService(self, Current, {
      route,
      member: { ...member, pool, read: pool.use, stays: true }
    })
    return yield* Effect.raceFirst(work, Deferred.await(gone))
  })
  return Effect.timeoutOrElse(Effect.scoped(whole), {
    duration: holdMillis,
    orElse: () =>
      Effect.fail(new DeadlineExceeded({ key: name, deadlineMillis: holdMillis, phase: "attempt", attempts: 1 }))
  }) as Effect.Effect<A, E | SnapshotError, R>
}

interface Worker {
  readonly session: Session
  readonly scope: Scope.Closeable
}

/** A pool whose sessions all are in a transaction on the snapshot. */
const sharing = (pool: SessionPool<Session>, snapshot: string, sessions: number) =>
  Effect.gen(function* () {
    const groupScope = yield* Effect.scope
    const permits = Semaphore.makeUnsafe(sessions)
    const idle: Array<Worker> = []

    const open = (request: PoolRequest, restore: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) =>
      Effect.flatMap(Scope.fork(groupScope), (scope) =>
        restore(
          Effect.gen(function* () {
            const session = yield* Scope.provide(pool.acquire(request), scope)
            yield* session.begin(begin)
            yield* session.query(`SET TRANSACTION SNAPSHOT '${snapshot.replaceAll("'", "''")}'`)
            return { session, scope }
          })
        ).pipe(Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(scope, exit))))
      )

    /** Not to be left between the taking and whoever gives it back: only the opening of another one can be. */
    const take = (
      request: PoolRequest,
      restore: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    ): Effect.Effect<Worker, AcquireError | SqlError> =>
      Effect.suspend(() => {
        for (let worker = idle.pop(); worker !== undefined; worker = idle.pop()) {
          if (worker.session.dead === undefined) return Effect.succeed(worker)
        }
        return open(request, restore)
      })

    /** One that may be in any state goes back to its pool, which knows what to do with it. */
    const giveBack = (worker: Worker, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
      Effect.suspend(() => {
        const { session } = worker
        if (Exit.isSuccess(exit) && session.dead === undefined && session.status === "transaction" && !session.busy) {
          idle.push(worker)
          return Effect.void
        }
        return Scope.close(worker.scope, exit)
      })

    // Ended in order, the settings that statements brought with them stay as the session remembers them.
    yield* Effect.addFinalizer(() =>
      Effect.forEach(idle.splice(0), ({ session }) => Effect.ignore(session.commit), {
        concurrency: "unbounded",
        discard: true
      })
    )

    const use = (request: PoolRequest, f: (session: Session) => Effect.Effect<any, any, any>) =>
      permits.withPermits(1)(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(take(request, restore), (worker) =>
            Effect.onExit(restore(f(worker.session)), (exit) => giveBack(worker, exit))
          )
        )
      )
    const acquire = (request: PoolRequest) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          yield* restore(permits.take(1))
          yield* Effect.addFinalizer(() => permits.release(1))
          const worker = yield* take(request, restore)
          yield* Effect.addFinalizer((exit) => giveBack(worker, exit))
          return worker.session
        })
      )
    return { ...pool, use, acquire } as unknown as SessionPool<Session>
  })
