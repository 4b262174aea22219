/** A role's way from server to server, in the cases that are rare: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { begin, call, routeOver } from "./routes.ts"
import { replica } from "./support.ts"

describe("when no server is known to fit", () => {
  it.effect("one that was down and has answered serves, before it has proved itself: it is better than none", () =>
    Effect.gen(function* () {
      const { route, see, topology, unseen, world } = yield* routeOver({ names: ["a", "b"] })
      for (const name of ["a", "b"]) for (let n = 0; n < 2; n++) unseen(name)
      world.look = () => see("b", replica)
      const found = yield* begin(route.next(call()))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(topology.get("b")?.state.phase, "returning")
      const exit = yield* Fiber.join(found)
      assert.strictEqual(Exit.isSuccess(exit) ? exit.value.name : undefined, "b")
      // Another that is up comes before it.
      for (let n = 0; n < 2; n++) see("a", replica)
      assert.strictEqual((yield* route.next(call())).name, "a")
    })
  )
})
