/**
 * The instances of the policies that a report declares, in one role.
 *
 * State belongs to a role, not to a declaration: two runtimes, or two tests, never share a breaker. Reports that name the
 * same options object share its instance, so that a preset's breaker or budget is one for all reports that use it.
 */
import * as Effect from "effect/Effect"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { RoleService } from "../Database.ts"
import * as PgFailure from "../PgFailure.ts"
import * as AdaptiveLimit from "../policy/AdaptiveLimit.ts"
import * as Breaker from "../policy/Breaker.ts"
import * as Bulkhead from "../policy/Bulkhead.ts"
import * as Deadline from "../policy/Deadline.ts"
import * as Hedge from "../policy/Hedge.ts"
import * as RateLimit from "../policy/RateLimit.ts"
import * as Retry from "../policy/Retry.ts"
import * as RetryBudget from "../policy/RetryBudget.ts"
import * as Shed from "../policy/Shed.ts"
import { millisOf } from "../policy/Time.ts"
import type {
  AcquireTimeout,
  CircuitOpen,
  DatabaseUnavailable,
  DeadlineExceeded,
  Overloaded,
  ReplicaTooStale,
  RowDecodeError
} from "../ReportError.ts"
import type { AdaptiveOptions, BudgetOptions, BulkheadOptions } from "./Declaration.ts"
import { type Declared, permitsIn } from "./Declared.ts"

/** Everything that an attempt can fail with; `DeadlineExceeded` when it left by itself at the call's deadline. */
export type AttemptError =
  | SqlError
  | DeadlineExceeded
  | Deadline.AttemptTimeout
  | AcquireTimeout
  | DatabaseUnavailable
  | Overloaded
  | CircuitOpen
  | ReplicaTooStale
  | RowDecodeError

type Around<Added> = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Added, R>

/** A policy that is not declared is `undefined`: the call does not pass through it. */
export interface Policies {
  readonly deadline: Around<DeadlineExceeded>
  /** The deadline of a call all of whose waits leave by themselves. */
  readonly carried: Deadline.Policy["carriedOf"] | undefined
  readonly rateLimit: RateLimit.RateLimit | undefined
  readonly shed: Shed.Shed | undefined
  readonly retry: Retry.Policy<AttemptError, any> | undefined
  readonly hedge: Hedge.Hedge<AttemptError> | undefined
  readonly breaker: Breaker.Breaker<AttemptError> | undefined
  readonly bulkhead: Bulkhead.Bulkhead | undefined
  readonly attemptTimeout: Around<Deadline.AttemptTimeout> | undefined
  /** The same, for a wait that leaves by itself. */
  readonly attemptLimit: Deadline.AttemptLimit | undefined
}

const instances = new WeakMap<RoleService, WeakMap<object, Map<string, unknown>>>()

/** The instance that belongs to an options object in a role. */
const shared = <A>(role: RoleService, options: object, kind: string, make: () => A): A => {
  let ofRole = instances.get(role)
  if (ofRole === undefined) instances.set(role, (ofRole = new WeakMap()))
  let ofOptions = ofRole.get(options)
  if (ofOptions === undefined) ofRole.set(options, (ofOptions = new Map()))
  let instance = ofOptions.get(kind) as A | undefined
  if (instance === undefined) ofOptions.set(kind, (instance = make()))
  return instance
}

/** Makes, or finds, the policies of a report in a role. */
export const make = (declared: Declared, role: RoleService, overrides: PgFailure.Overrides): Policies => {
  const { attemptTimeout, deadline, name } = declared
  const { carriedOf, within } = Deadline.make({ key: name, duration: deadline, phase: "admission" })
  const isShort = attemptTimeout < deadline
  return {
    deadline: within,
    // How a write ended has to be known even when its caller has left.
    carried: declared.writes === undefined ? carriedOf : undefined,
    rateLimit:
      declared.rateLimit === undefined
        ? undefined
        : shared(role, declared.rateLimit, "rate limit", () => RateLimit.make({ key: name, ...declared.rateLimit! })),
    shed:
      declared.shed === undefined
        ? undefined
        : shared(role, declared.shed, "shed", () => Shed.make({ key: role.name, ...declared.shed })),
    retry: retryOf(declared, role, retryDecision(declared, role, overrides)),
    hedge:
      declared.hedge === undefined
        ? undefined
        : Hedge.make<AttemptError>({
            key: name,
            after: declared.hedge.after,
            budget: budgetOf(declared.hedge.budget ?? declared.retry?.budget ?? hedgeBudget, role),
            // The retry around it counts the calls, where there is one.
            deposits: declared.retry === undefined,
            fatal: (error) => retryDecision(declared, role, overrides)(error).retry === false
          }),
    breaker:
      declared.breaker === undefined
        ? undefined
        : // A hang is a call that had its full attempt: reports with other timeouts mean another thing by it.
          shared(role, declared.breaker, `breaker ${attemptTimeout}`, () =>
            forgetting(
              role,
              Breaker.make<AttemptError>({
                ...declared.breaker,
                name: role.name,
                hangAfter: attemptTimeout * 0.9,
                classify: breakerSignal(overrides)
              })
            )
          ),
    bulkhead:
      declared.bulkhead === undefined
        ? undefined
        : shared(role, declared.bulkhead, "bulkhead", () => {
            const permits = permitsIn(declared.bulkhead!, role.options.maxConnections)
            const { maxWait, queue = permits * 2 } = declared.bulkhead!
            return Bulkhead.make({
              key: `${role.name}/${declared.lane}`,
              permits,
              queue,
              maxWait,
              adaptive: adaptiveOf(declared.bulkhead!, permits),
              overload: isOverload(overrides)
            })
          }),
    attemptTimeout: isShort ? Deadline.makeAttempt({ key: name, duration: attemptTimeout }).attempt : undefined,
    attemptLimit: isShort ? { key: name, millis: attemptTimeout } : undefined
  }
}

/** Servers come and go, with addresses that were never seen before: what is known of one goes with it. */
const forgetting = (role: RoleService, breaker: Breaker.Breaker<AttemptError>): Breaker.Breaker<AttemptError> => {
  // Reports that are made while a program runs may go, too.
  const known = new WeakRef(breaker)
  const stop = role.route.cluster.topology.onChange(({ kind, node }) => {
    const breaker = known.deref()
    if (breaker === undefined) stop()
    else if (kind === "removed") Effect.runSync(breaker.reset(node))
  })
  return breaker
}

const adaptiveOf = ({ adaptive }: BulkheadOptions, maximum: number): AdaptiveLimit.AdaptiveLimit | undefined => {
  if (adaptive === undefined) return undefined
  const options = typeof adaptive === "string" ? ({ algorithm: adaptive } as AdaptiveOptions) : adaptive
  if (options.algorithm === "gradient") {
    return AdaptiveLimit.gradient({ maximum, minimum: options.minimum, tolerance: options.tolerance })
  }
  const slowMillis = options.slowerThan === undefined ? undefined : millisOf(options.slowerThan)
  return AdaptiveLimit.aimd({ maximum, slowMillis, minimum: options.minimum, backoff: options.backoff })
}

const overloaded: ReadonlySet<string> = new Set(["StatementTimeout", "TooManyConnections", "Resources"])

/** Whether an error says that the server has too much to do. Its own word for a timeout usually comes before ours. */
const isOverload =
  (overrides: PgFailure.Overrides) =>
  (error: unknown): boolean =>
    isSqlError(error)
      ? overloaded.has(PgFailure.fromSqlError(error, undefined, overrides).class)
      : (error as AttemptError)._tag === "AttemptTimeout"

/** The declared retry of what fails as `classify` says. */
export const retryOf = <E>(
  { name, retry }: Pick<Declared, "name" | "retry">,
  role: RoleService,
  classify: (error: E) => Retry.Decision
): Retry.Policy<E, any> | undefined => {
  if (retry === undefined || retry.retries === 0) return undefined
  return Retry.make<E, any>({
    key: name,
    schedule: retry.schedule,
    retries: retry.retries,
    cap: retry.cap,
    jitter: retry.jitter,
    budget: budgetOf(retry.budget, role),
    classify
  })
}

const hedgeBudget: BudgetOptions = { ratio: 0.05, minimum: 1 }

/** Retries and hedges draw from one budget. */
const budgetOf = (options: BudgetOptions, role: RoleService): RetryBudget.RetryBudget =>
  shared(role, options, "budget", () => {
    const { minimum, ratio, window } = options
    return RetryBudget.make({ key: role.name, minimum, ratio, window })
  })

const never: Retry.Decision = { retry: false }

/** What repeating can mend, and what must not be repeated. */
export const retryDecision =
  (declared: Pick<Declared, "writes">, role: RoleService, overrides: PgFailure.Overrides) =>
  (error: AttemptError): Retry.Decision => {
    const once = declared.writes === "once"
    if (isSqlError(error)) {
      const failure = PgFailure.fromSqlError(error, undefined, overrides)
      const how = once ? failure.write : failure.retry
      if (how === "never" || (how === "other-node" && role.nodes.length < 2)) return never
      return {
        retry: true,
        immediate: failure.immediate,
        delayFloorMillis: failure.delayFloorMillis,
        retries: failure.retries,
        kind: failure.class
      }
    }
    switch (error._tag) {
      // Nothing was sent.
      case "CircuitOpen":
        return { retry: true, retryAfterMillis: error.retryAfterMillis }
      case "DatabaseUnavailable":
        return error.reason === "authentication" || error.reason === "configuration" || error.reason === "closed"
          ? never
          : { retry: true, retryAfterMillis: error.retryAfterMillis }
      // It was sent, and may have been applied.
      case "AttemptTimeout":
        return once ? never : { retry: true, immediate: true }
      default:
        return never
    }
  }

/** What an error says about the node. Whatever shows that the server answers is none of its failures. */
const breakerSignal =
  (overrides: PgFailure.Overrides) =>
  (error: AttemptError): Breaker.Verdict => {
    if (isSqlError(error)) {
      const failure = PgFailure.fromSqlError(error, undefined, overrides)
      // The server's timer is set by us, a little before ours: after a whole attempt its word is the attempt's timeout.
      return failure.class === "StatementTimeout" && failure.breaker === "ignored" ? "timeout" : failure.breaker
    }
    switch (error._tag) {
      case "AttemptTimeout":
        return "failure"
      case "DatabaseUnavailable":
        return error.reason === "unreachable" || error.reason === "refused" || error.reason === "lost"
          ? "failure"
          : "ignored"
      case "AcquireTimeout":
        return error.reason === "down" || error.reason === "connecting" ? "failure" : "ignored"
      default:
        return "ignored"
    }
  }
