/** A consumer of a stream may wait for a statement behind it. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { Session } from "../../../packages/sdk/src/pool/Session.ts"
import { scripted } from "./ScriptedServer.ts"

describe("a stream and a statement behind it, begun in one tick", () => {
  for (const way of ["send", "submit"] as const)
    it.live(`by ${way}: the rows are read without waiting for a consumer that waits for the statement`, () =>
      Effect.gen(function* () {
        const { server, wire } = scripted(7)
        if (way === "submit") wire.send = wire.submit
        // A socket that is paused gives nothing.
        const emit = server.emit.bind(server)
        const held: Array<unknown> = []
        let paused = false
        const more = (): void => {
          if (paused || held.length === 0) return
          emit("data", held.shift())
          queueMicrotask(more)
        }
        Object.assign(server, {
          emit: (name: string, ...args: Array<unknown>) => {
            if (name !== "data") return emit(name, ...args)
            held.push(args[0])
            more()
            return true
          },
          pause: () => void (paused = true),
          resume: () => {
            paused = false
            queueMicrotask(more)
          }
        })
        const session = new Session(wire)
        yield* session.query("rows 1")
        const answered = yield* Deferred.make<void>()
        const both = Effect.runFork(
          Effect.all(
            [
              Stream.runForEach(session.stream("rows 2000"), () => Deferred.await(answered)),
              Effect.andThen(session.query("rows 1"), Deferred.succeed(answered, undefined))
            ],
            { concurrency: 2 }
          )
        )
        const done = yield* Effect.timeoutOption(Fiber.await(both), "5 seconds")
        both.interruptUnsafe()
        assert.strictEqual(done._tag, "Some", "the statement waits for the rows, and the rows for the statement")
      })
    )
})
