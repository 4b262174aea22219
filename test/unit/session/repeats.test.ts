/** A server that refuses the same message for ever, with each code that may mean a repeat. */
import { assert, describe, it } from "@effect/vitest"
import { StatementOperation, type StatementResult } from "@sluice/sdk/pool/session/StatementOperation"
import { stream } from "@sluice/sdk/pool/session/Rows"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { SqlError } from "effect/sql/SqlError"
import { scripted } from "./ScriptedServer.ts"

const codes = ["26000", "0A000", "08P01", "40001", "57014", "XX000"]
const places = ["P", "B", "D", "E", "rows", "S"] as const

const cases = places.flatMap((at) => codes.flatMap((code) => [true, false].map((prepare) => ({ at, code, prepare }))))

describe("a server that refuses for ever", () => {
  it.effect.each(cases)("$at with $code, prepared: $prepare", ({ at, code, prepare }) =>
    Effect.promise(async () => {
      const { server, wire } = scripted(7)
      // A prepared statement is parsed and described once: then each round has one of its own.
      const own = prepare && (at === "P" || at === "D")
      let round = 0
      const ask = () =>
        new Promise<Result.Result<StatementResult, SqlError>>((resolve) =>
          wire.submit(new StatementOperation(wire, `rows ${own ? 4 + round : 4}`, [], { prepare }, resolve))
        )
      // Once in peace, so that it is prepared, or its columns are known.
      assert.isTrue(Result.isSuccess(await ask()))
      for (round = 1; round < 4; round++) {
        server.refuses = { at, code }
        server.executed = []
        const before = server.received
        const refused = await ask()
        assert.isTrue(Result.isFailure(refused), `round ${round}`)
        assert.isAtMost(server.executed.length, 1, "executions")
        // A cycle has at most Close, Parse, Bind, Describe, Execute and Sync; one may be repeated, and may ask for columns first.
        assert.isAtMost(server.received - before, 18, "messages")
        server.refuses = undefined
        const answered = await ask()
        assert.isTrue(Result.isSuccess(answered), "the session goes on")
      }
    })
  )

  it.effect.each(codes)("a stream gives no row twice: %s after two rows", (code) =>
    Effect.gen(function* () {
      const { server, wire } = scripted(7)
      yield* Stream.runDrain(stream(wire, "rows 4", [], undefined))
      server.refuses = { at: "rows", code }
      server.executed = []
      const given: Array<unknown> = []
      const exit = yield* Effect.exit(
        Stream.runForEach(stream(wire, "rows 4", [], undefined), (row) => Effect.sync(() => given.push(row)))
      )
      assert.strictEqual(exit._tag, "Failure")
      assert.deepStrictEqual(given, [{ n: 0 }, { n: 1 }])
      assert.lengthOf(server.executed, 1)
    })
  )

  it.effect("a refusal before it began is repeated once, and told", () =>
    Effect.promise(async () => {
      const { server, wire } = scripted(7)
      const ask = () =>
        new Promise<Result.Result<StatementResult, SqlError>>((resolve) =>
          wire.submit(new StatementOperation(wire, "rows 1", [], undefined, resolve))
        )
      await ask()
      // The server has lost the name.
      await new Promise((resolve) =>
        wire.submit(new StatementOperation(wire, "forget", [], { prepare: false }, resolve))
      )
      server.executed = []
      wire.statements.get("rows 1", []).state = "ready"
      const again = await ask()
      assert.isTrue(Result.isSuccess(again))
      assert.lengthOf(server.executed, 1)
    })
  )
})
