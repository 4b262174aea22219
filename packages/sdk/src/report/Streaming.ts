/**
 * A report as a stream: one session for as long as it lasts, backpressure down to the socket, no retry once a row was
 * given.
 *
 * The first rows come within the report's deadline, and so does each chunk after it, counted from the moment in which the
 * consumer asks for it: a slow consumer is not the server's fault.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Bulkhead from "../policy/Bulkhead.ts"
import * as Deadline from "../policy/Deadline.ts"
import * as FaultInjection from "../policy/FaultInjection.ts"
import * as Surrounding from "../pool/Surrounding.ts"
import type { Overloaded } from "../ReportError.ts"
import type { Node } from "../topology/Node.ts"
import type { StreamInfo } from "../ReportResult.ts"
import { begin, binder, type Bound, type Call, compile, type Compiled, onBehalfOf, sessionBy, tell } from "./Bound.ts"
import type { Declared } from "./Declared.ts"
import { failWith } from "./Failure.ts"
import * as Joined from "./Joined.ts"
import * as Meter from "./Meter.ts"
import * as ParamsCodec from "./ParamsCodec.ts"
import { atPlace } from "./Place.ts"
import * as RowCodec from "./RowCodec.ts"
import * as Spans from "./Spans.ts"

/** A chunk of rows; `undefined`: there are no more. */
type Next = Effect.Effect<ReadonlyArray<any> | undefined, any, any>

/** An open stream whose first chunk is here. */
interface Opened {
  readonly first: ReadonlyArray<any> | undefined
  readonly next: Next
  readonly node: string
}

/** Node's timers and PostgreSQL's settings are 32-bit milliseconds. */
const longestMillis = 2 ** 31 - 1

/** A chunk that is asked for is a wait for the server, as an attempt is. */
const begun = Effect.withFiberSucceed(Deadline.beginAttemptOf)
const nobody = (): void => {}

export type OnEnd = (info: StreamInfo) => Effect.Effect<void, never, any>

export const make = (declared: Declared): ((input: unknown, onEnd?: OnEnd) => Stream.Stream<any, any, any>) => {
  const { lane, maxRows, name, priority } = declared
  if (declared.writes !== undefined) {
    return () => Stream.die(new Error(`Report "${name}": a report that writes has no stream; use run or runWithInfo`))
  }
  const encode = ParamsCodec.make(name, declared.params, (error) => atPlace(error, declared))
  const decode = RowCodec.make(name, declared.row)
  const bind = binder(declared)
  const { measureScope } = Meter.make(name)
  const spans = Spans.make(declared)
  const onBehalf = onBehalfOf(priority)
  // A stream lasts as long as its consumer likes: chunks have a deadline, the statement has none that a server may hold.
  const statementOptions = { timeout: longestMillis, readOnly: true }
  const joinedOptions = { timeout: longestMillis }

  const stream = (input: unknown, onEnd?: OnEnd): Stream.Stream<any, any, any> =>
    spans.stream(
      Stream.unwrap(
        Effect.gen(function* () {
          const call = begin(name)
          yield* measureScope(call)
          const params = yield* encode(input)
          // Who takes the rows holds the session, whichever fiber asks for it.
          const consumer = yield* Effect.withFiber((fiber) => Effect.succeed(fiber))
          const bound = bind(consumer)
          if (bound.refusal !== undefined) return yield* failWith(bound.refusal, declared)
          const around = consumer.getRef(Surrounding.Current)
          if (around !== undefined && declared.outside !== true) {
            const own = Joined.join(name, bound.role, consumer, around)
            if (Joined.isRefused(own)) return yield* failWith(own, declared)
            call.joined = Joined.routeOf(name, own)
          }
          const scope = yield* Effect.scope
          const compiled = Effect.suspend(() => {
            const statement = compile(bound, params)
            return Effect.isEffect(statement) ? statement : Effect.succeed(statement)
          })
          const opening = Effect.flatMap(compiled, (statement) => {
            const { rateLimit, shed } = bound.policies
            const retry = call.joined === undefined ? bound.policies.retry : undefined
            const once = () => attempt(bound, statement, scope, call, consumer)
            const attempts = retry === undefined ? once() : retry.run(once)
            const kept = shed === undefined ? attempts : shed.run(attempts)
            return rateLimit === undefined ? kept : rateLimit.run(kept)
          })
          const opened = yield* within(bound, onBehalf(opening), call)
          return rowsOf(bound, opened, call, onEnd)
        })
      )
    )

  /** What is told of a failure is the same in every phase of the stream. */
  const within = <A>(bound: Bound, work: Effect.Effect<A, any, any>, call: Call): Effect.Effect<A, any, any> =>
    bound.policies.deadline(Effect.catch(work, (error) => failWith(tell(bound, error, call), declared)))

  /** Opens the stream up to its first chunk. An attempt that fails gives back its session before the next one begins. */
  const attempt = (
    bound: Bound,
    statement: Compiled,
    scope: Scope.Scope,
    call: Call,
    holder: Fiber.Fiber<unknown, unknown>
  ): Effect.Effect<Opened, any, any> => {
    const { attemptTimeout, breaker, bulkhead } = bound.policies
    const { joined } = call
    const options = joined === undefined ? statementOptions : joinedOptions
    const open = (node: Node, until: number | undefined, phases: Spans.Phases, asked: () => void) =>
      Effect.flatMap(Scope.fork(scope), (own) =>
        Effect.gen(function* () {
          if (bulkhead !== undefined) yield* permit(bulkhead, own)
          const session = yield* Effect.withFiber((fiber) => {
            Deadline.enterOf(fiber, "acquire")
            phases.acquire(node.name)
            return node.pool.acquire({ lane, name, priority, deadline: sessionBy(fiber, until), holder })
          })
          call.sent++
          call.out = true
          phases.statement()
          asked()
          if (attemptTimeout === undefined) yield* begun
          const pull = yield* Stream.toPull(
            session.stream(statement.sql, statement.params, { ...options, onRepeat: () => call.sent++ })
          )
          const next: Next = Pull.catchDone(pull, () => Effect.succeed(undefined))
          const first = FaultInjection.inject(next, name)
          const bounded = attemptTimeout === undefined ? first : attemptTimeout(first)
          const rows = yield* bounded
          call.out = false
          return { first: rows, next, node: node.name }
        }).pipe(
          Effect.provideService(Scope.Scope, own),
          Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(own, exit)))
        )
      )
    return Effect.withFiber((fiber) =>
      spans.attempt(fiber, bound, call, "live", (phases) =>
        (joined ?? bound.role.route).attempt(call, (node, until) =>
          breaker === undefined
            ? open(node, until, phases, nobody)
            : breaker.protect((asked) => open(node, until, phases, asked), node.name)
        )
      )
    )
  }

  const rowsOf = (
    bound: Bound,
    { first, next, node }: Opened,
    { joined }: Call,
    onEnd: OnEnd | undefined
  ): Stream.Stream<any, any, any> => {
    let chunk: ReadonlyArray<any> | undefined = first
    let fresh = true
    let seen = 0
    const end = (truncated: boolean) =>
      Effect.andThen(
        onEnd === undefined
          ? Effect.void
          : Effect.flatMap(Clock.currentTimeMillis, (now) =>
              onEnd({ rows: seen, truncated, node, asOf: DateTime.makeUnsafe(now) })
            ),
        Cause.done()
      )
    const pull: Pull.Pull<any, any, void, any> = Effect.suspend(() => {
      if (maxRows !== undefined && seen >= maxRows && !fresh) {
        // Whether there is more is asked only now, when everything that may be given has been.
        return chunk !== undefined && chunk.length > 0
          ? end(true)
          : Effect.flatMap(advance, (more) => end(more !== undefined))
      }
      const ready = fresh ? Effect.succeed(chunk) : advance
      return Effect.flatMap(ready, (rows) => {
        fresh = false
        chunk = undefined
        if (rows === undefined) return end(false)
        const left = maxRows === undefined ? rows.length : maxRows - seen
        const given = rows.length > left ? rows.slice(0, left) : rows
        if (rows.length > left) chunk = rows.slice(left)
        const before = seen
        seen += given.length
        return decode(given, before) as Effect.Effect<any, any, any>
      })
    })
    const advance: Next = Effect.suspend(() =>
      within(bound, Effect.andThen(begun, next), { ...begin(name), sent: 1, out: true, joined })
    )
    return Stream.fromPull(Effect.succeed(pull))
  }

  return stream
}

/** A permit for as long as the scope lives: its end interrupts the fiber that holds it. */
const permit = (bulkhead: Bulkhead.Bulkhead, scope: Scope.Scope): Effect.Effect<void, Overloaded> =>
  Effect.gen(function* () {
    const granted = yield* Deferred.make<void, Overloaded>()
    const holding = bulkhead.withPermit(Effect.andThen(Deferred.succeed(granted, undefined), Effect.never))
    yield* Effect.forkIn(
      Effect.catch(holding, (error) => Deferred.fail(granted, error)),
      scope,
      { startImmediately: true }
    )
    yield* Deferred.await(granted)
  })
