/** One attempt to get a session: password, channel, login, all under one bound. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { apart } from "../../internal/apart.ts"
import type { ResolvedConfig } from "./Config.ts"
import { explain } from "./ConnectProblem.ts"
import { authenticationError, connectionError, factsOf } from "./Facts.ts"
import { afterSilence } from "./Silence.ts"
import * as Startup from "./Startup.ts"
import { attemptsOf, open, type Security } from "./Transport.ts"
import { Wire } from "./Wire.ts"

const connectTimedOut = (config: ResolvedConfig, what?: string): SqlError =>
  connectionError(undefined, `No session within ${config.connectTimeout} ms`, "connect", {
    bound: "connect",
    ...(what !== undefined && {
      problem: `${what} did not come within the ${config.connectTimeout} ms of connectTimeout`
    })
  })

/**
 * Bounds what a provider takes, whether it lets itself be interrupted or not. In real time: it is about a real socket,
 * whatever clock the program runs under.
 */
const provided = <A>(
  config: ResolvedConfig,
  provider: Effect.Effect<A, unknown>,
  deadline: number,
  what: string
): Effect.Effect<A, SqlError> =>
  Effect.raceFirst(
    Effect.catchCause(apart(provider), () =>
      // The cause may hold what the provider wanted to keep: it stays out.
      Effect.fail(authenticationError(undefined, `${what} could not be obtained`))
    ),
    Effect.callback<never, SqlError>((resume) => {
      const left = Math.max(1, deadline - performance.now())
      return Effect.sync(afterSilence(left, () => resume(Effect.fail(connectTimedOut(config, what)))))
    })
  )

const passwordOf = (config: ResolvedConfig, deadline: number): Effect.Effect<string | undefined, SqlError> => {
  const { password } = config
  if (password === undefined) return Effect.succeed(undefined)
  if (!Effect.isEffect(password)) return Effect.succeed(Redacted.value(password))
  return Effect.map(provided(config, password, deadline, "The password"), Redacted.value)
}

/** As SCRAM wants it: by SASLprep. What cannot be prepared is used as it is, as PostgreSQL does. */
const prepare = (password: string | undefined): Effect.Effect<Startup.Password | undefined> => {
  if (password === undefined) return Effect.succeed(undefined)
  // Nothing to prepare: the tables of Unicode are loaded by who needs them.
  if (/^[\x20-\x7e]*$/.test(password)) return Effect.succeed({ raw: password, prepared: password })
  return Effect.map(
    Effect.promise(() => import("@mongodb-js/saslprep")),
    ({ saslprep }) => {
      try {
        return { raw: password, prepared: saslprep(password) || password }
      } catch {
        return { raw: password, prepared: password }
      }
    }
  )
}

/** The password, once the certificates are known that this attempt uses. */
const credentialsOf = (
  config: ResolvedConfig,
  deadline: number
): Effect.Effect<Startup.Password | undefined, SqlError> => {
  const { ssl } = config
  if (ssl === undefined || !Effect.isEffect(ssl) || config.sslmode === "disable") {
    return Effect.flatMap(passwordOf(config, deadline), prepare)
  }
  return Effect.flatMap(provided(config, ssl, deadline, "The TLS material"), (material) => {
    config.material.current = material
    return Effect.flatMap(passwordOf(config, deadline), prepare)
  })
}

const shownName = (name: string): string => name.replaceAll("\0", "").slice(0, 40)

/** `make` is called in the tick of the last message of the login, so that it misses nothing that comes after. */
export const connect = <S>(config: ResolvedConfig, make: (wire: Wire) => S): Effect.Effect<S, SqlError> => {
  const deadline = performance.now() + config.connectTimeout
  const injected = Object.entries(config.startup).find(([name, value]) => `${name}${value ?? ""}`.includes("\0"))
  if (injected !== undefined) {
    return Effect.fail(
      authenticationError(undefined, `The startup parameter "${shownName(injected[0])}" holds a NUL character`)
    )
  }
  const session = Effect.flatMap(credentialsOf(config, deadline), (password) => {
    const [first, second] = attemptsOf(config.sslmode)
    const once = attempt(config, password, first!, deadline, make)
    if (second === undefined) return Effect.mapError(once, (failure) => failure.error)
    return Effect.catch(once, (failure) =>
      failure.tryOther
        ? Effect.mapError(attempt(config, password, second, deadline, make), (other) => other.error)
        : Effect.fail(failure.error)
    )
  })
  return Effect.mapError(session, (error) => explain(config, error))
}

interface AttemptFailure {
  readonly error: SqlError
  /** The server was there and did not want this kind of channel. */
  readonly tryOther: boolean
}

/** One callback and no fiber of its own, so that no session can be lost between its making and its receiver. */
const attempt = <S>(
  config: ResolvedConfig,
  password: Startup.Password | undefined,
  security: Security,
  deadline: number,
  make: (wire: Wire) => S
): Effect.Effect<S, AttemptFailure> =>
  Effect.callback<S, AttemptFailure>((resume) => {
    let giveUp: () => void = () => {}
    const finish = (exit: Effect.Effect<S, AttemptFailure>): void => {
      heard()
      resume(exit)
    }
    const heard = afterSilence(Math.max(1, deadline - performance.now()), () => {
      giveUp()
      finish(Effect.fail({ error: connectTimedOut(config), tryOther: false }))
    })
    giveUp = open(config, security, undefined, (channel) => {
      if (Result.isFailure(channel)) {
        const { error, negotiation } = channel.failure
        return finish(Effect.fail({ error, tryOther: negotiation }))
      }
      giveUp = Startup.start(config, channel.success, password, (started) => {
        if (Result.isFailure(started)) {
          const error = started.failure
          return finish(Effect.fail({ error, tryOther: factsOf(error)?.sqlState === "28000" }))
        }
        finish(Effect.succeed(make(new Wire(config, started.success))))
      })
    })
    return Effect.sync(() => {
      heard()
      giveUp()
    })
  })
