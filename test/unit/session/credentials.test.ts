/** What gives passwords and certificates is somebody else's: it has no more than the attempt's time, and its secrets stay in. */
import { assert, describe, it } from "@effect/vitest"
import { Session, type SessionConfig } from "@sluice/sdk/pool/Session"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:net"
import { inspect } from "node:util"

/** Takes connections, says that it speaks TLS, and no more. */
const silent = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
    const server = createServer((socket) => {
      socket.on("error", () => {})
      socket.once("data", () => socket.write("S"))
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      resume(Effect.succeed({ port, close: () => void server.close() }))
    })
  }),
  ({ close }) => Effect.sync(close)
)

/** How a connect fails, and after how many milliseconds of real time; at the latest after ten times its bound. */
const failing = (port: number, config: Partial<SessionConfig>) =>
  Effect.gen(function* () {
    const begin = performance.now()
    const connect = Session.connect({
      host: "127.0.0.1",
      port,
      username: "u",
      sslmode: "require",
      connectTimeout: "500 millis",
      ...config
    })
    const fiber = yield* Effect.forkDetach(Effect.exit(connect), { startImmediately: true })
    const exit = yield* Effect.raceFirst(
      Fiber.join(fiber),
      Effect.callback<never>((resume) => {
        const limit = setTimeout(() => resume(Effect.die("hangs")), 5_000)
        return Effect.sync(() => clearTimeout(limit))
      })
    )
    assert(Exit.isFailure(exit))
    assert.isTrue(Cause.hasFails(exit.cause), Cause.pretty(exit.cause))
    return { error: inspect(exit.cause, { depth: 20, showHidden: true }), took: performance.now() - begin }
  })

const realSleep = (millis: number) => Effect.promise(() => new Promise<void>((done) => void setTimeout(done, millis)))

describe("what a connect is given", () => {
  for (const [what, provider] of [
    ["hangs", Effect.never],
    ["hangs and cannot be interrupted", Effect.uninterruptible(Effect.never)],
    ["fails with a secret", Effect.fail(new Error("hunter2"))],
    ["dies of a secret", Effect.die("hunter2")]
  ] as const) {
    it.effect(`a provider that ${what}`, () =>
      Effect.gen(function* () {
        const { port } = yield* silent
        for (const config of [{ ssl: provider }, { password: provider }]) {
          const { error } = yield* failing(port, config)
          assert.notInclude(error, "hunter2")
        }
      })
    )
  }

  it.effect("the time of all providers together is the attempt's", () =>
    Effect.gen(function* () {
      const { port } = yield* silent
      const ssl = Effect.as(realSleep(800), {})
      const { took } = yield* failing(port, { ssl, password: Effect.never, connectTimeout: "1 second" })
      // Each with a second of its own would take 1.8.
      assert.isBelow(took, 1_600)
    })
  )

  it.effect("a key that is none does not get into the error", () =>
    Effect.gen(function* () {
      const { port } = yield* silent
      const key = "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----\n"
      for (const ssl of [{ key, cert: key }, Effect.succeed({ key, ca: key, cert: key })]) {
        const { error } = yield* failing(port, { ssl, password: Redacted.make("hunter2") })
        assert.notInclude(error, "hunter2")
      }
    })
  )
})
