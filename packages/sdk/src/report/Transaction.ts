/**
 * A declared transaction: several reports and statements of one role as one unit, with a deadline, an isolation level, and
 * a retry of the whole.
 *
 * The effect runs between BEGIN, which travels with its first statement, and COMMIT. Its own failures pass through
 * unchanged and roll back. Whatever it did elsewhere is done again when the whole is repeated, which happens only while
 * the server has certainly rolled back: never after a COMMIT whose answer was lost.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { isSqlError } from "effect/sql/SqlError"
import { tagOf } from "../internal/tagOf.ts"
import * as PgFailure from "../PgFailure.ts"
import * as Deadline from "../policy/Deadline.ts"
import type * as Retry from "../policy/Retry.ts"
import * as SqlClients from "../pool/SqlClients.ts"
import * as Surrounding from "../pool/Surrounding.ts"
import * as Route from "../topology/Route.ts"
import { begin, binder, type Bound, type Call, sessionBy, tell, tellLate } from "./Bound.ts"
import type { Declared, DeclaredTransaction } from "./Declared.ts"
import { failWith } from "./Failure.ts"
import * as Joined from "./Joined.ts"
import * as Meter from "./Meter.ts"
import * as Policies from "./Policies.ts"
import * as Spans from "./Spans.ts"

type Any = Effect.Effect<any, any, any>

/** A failure of the transaction itself, as against those of what runs in it. */
class Own {
  readonly error: any
  readonly decision: Retry.Decision

  constructor(error: unknown, decision: Retry.Decision) {
    this.error = error
    this.decision = decision
  }
  /** For whoever remembers the last real error. */
  get _tag(): unknown {
    return tagOf(this.error)
  }
  get reason(): unknown {
    return this.error.reason
  }
  get message(): unknown {
    return this.error.message
  }
}

const never: Retry.Decision = { retry: false }
const conflicts: ReadonlySet<unknown> = new Set<PgFailure.FailureClass>(["Serialization", "Deadlock"])

/** Whether the server rolled back because another transaction was in the way. */
const conflict = (error: unknown, overrides: PgFailure.Overrides): Retry.Decision => {
  if (isSqlError(error)) {
    const failure = PgFailure.fromSqlError(error, undefined, overrides)
    return conflicts.has(failure.class) && failure.outcome !== "unknown" ? { retry: true, kind: failure.class } : never
  }
  if (tagOf(error) !== "QueryFailed") return never
  const { class: kind } = error as { readonly class: string }
  return conflicts.has(kind) ? { retry: true, kind } : never
}

export const make = (declared: Declared & { readonly transaction: DeclaredTransaction }): ((self: Any) => Any) => {
  const { lane, name, outside, transaction, writes } = declared
  const bind = binder(declared)
  const meter = Meter.make(name)
  const spans = Spans.make(declared)
  const retries = new WeakMap<Bound, Retry.Policy<unknown, any> | undefined>()

  const retryOf = (bound: Bound): Retry.Policy<unknown, any> | undefined => {
    if (!retries.has(bound)) {
      const classify = (error: unknown) => (error instanceof Own ? error.decision : conflict(error, bound.overrides))
      retries.set(bound, Policies.retryOf<unknown>(declared, bound.role, classify))
    }
    return retries.get(bound)
  }

  const unit = (fiber: Fiber.Fiber<unknown, unknown>, self: Any, call: Call): Any => {
    const bound = bind(fiber)
    const { refusal, role } = bound
    if (refusal !== undefined) return failWith(refusal, declared)
    const around = outside === true ? undefined : fiber.getRef(Surrounding.Current)
    if (around !== undefined) {
      const own = Joined.join(name, role, fiber, around)
      if (Joined.isRefused(own)) return failWith(own, declared)
      if (transaction.begin !== "BEGIN" && transaction.begin !== own.begin) {
        return failWith(Joined.misuse(name, begunOtherwise), declared)
      }
      call.joined = Joined.routeOf(name, own)
    } else if (fiber.getRef(Route.Current)?.route === role.route) {
      return failWith(Joined.misuse(name, inSnapshot), declared)
    }
    const { bulkhead, deadline } = bound.policies
    const once = attempt(bound, self, call)
    const permitted = bulkhead === undefined ? once : bulkhead.withPermit(once)
    const retry = around === undefined ? retryOf(bound) : undefined
    const attempts = retry === undefined ? permitted : retry.run(permitted)
    const told = Effect.catch(attempts, (error) =>
      error instanceof Own ? failWith(tell(bound, error.error, call), declared) : Effect.fail(error)
    )
    return Effect.mapError(deadline(told), (error: any) =>
      tagOf(error) === "DeadlineExceeded" ? tellLate(bound, error, call) : error
    )
  }

  /** From BEGIN to COMMIT, once; inside of a transaction of its role, a savepoint. */
  const attempt = (bound: Bound, self: Any, call: Call): Any =>
    Effect.suspend(() => {
      const { overrides, role } = bound
      const isWhole = call.joined === undefined
      let refused: unknown
      let ended: Exit.Exit<unknown, unknown> | undefined
      const lease = Effect.withFiber((fiber) =>
        Effect.tapError(
          role.route.attempt(call, (member, until) => {
            Deadline.enterOf(fiber, "acquire")
            const session = member.pool.acquire({ lane, name, deadline: sessionBy(fiber, until) })
            return Effect.map(session, (session) => Surrounding.on(session, member.name))
          }),
          (error) => Effect.sync(() => void (refused = error))
        )
      )
      const inside = Effect.withFiber<any, any, any>((fiber) => {
        call.sent++
        Deadline.beginAttemptOf(fiber)
        return Effect.onExitPrimitive(self, (exit) => {
          ended = exit
          // From here on its COMMIT is on its way.
          if (exit._tag === "Success" && isWhole && writes !== undefined) call.out = true
          return undefined
        })
      })
      const run = role.sql.withTransaction(inside)
      const whole = isWhole
        ? SqlClients.apart(role.sql, Effect.provideService(run, Surrounding.Next, { lease, begin: transaction.begin }))
        : run
      return Effect.matchCauseEffect(whole, {
        onSuccess: (value) => {
          call.out = false
          return Effect.succeed(value)
        },
        onFailure: (cause) => {
          const found = Cause.findErrorOption(cause)
          if (ended?._tag === "Failure" || found._tag === "None") return Effect.failCause(cause)
          call.out = false
          if (ended !== undefined) return Effect.fail(new Own(found.value, conflict(found.value, overrides)))
          // It has not begun.
          const error: any = refused ?? found.value
          const decision = Policies.retryDecision({ writes: "once" }, role, overrides)(error)
          return Effect.fail(new Own(error, decision))
        }
      })
    })

  return (self) =>
    Effect.withFiber((fiber) => {
      const call = begin(name)
      const end = meter.begin(fiber, call)
      const told = spans.call(
        fiber,
        call,
        Effect.withFiber((fiber) => unit(fiber, self, call))
      )
      return end === undefined ? told : Effect.onExitPrimitive(told, end)
    })
}

const begunOtherwise =
  "it declares how it begins (isolation, readOnly, deferrable), and the transaction that surrounds it began otherwise; " +
  "declare the same there, or outside: true"
const inSnapshot = "the sessions of a snapshot are in a transaction already; run the snapshot's reports beside it"
