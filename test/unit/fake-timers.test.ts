/** Tests of users put timers of their own into the place of those of Node; deadlines are kept before, with and after them. */
import { assert, describe, it, vi } from "vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Deadline from "../../packages/sdk/src/policy/Deadline.ts"

const within = (millis: number) => Deadline.within(Effect.never, { key: "k", duration: millis })

describe("users' fake timers", () => {
  it("a deadline is kept after a test with fake timers has ended", async () => {
    vi.useFakeTimers()
    // A call that is answered: its timer is taken back, Node's (here the fake's) stays set, for 300.
    const fiber = Effect.runFork(
      Deadline.within(
        Effect.callback<number>((resume) => {
          setTimeout(() => resume(Effect.succeed(1)), 10)
        }),
        { key: "k", duration: 300 }
      )
    )
    await vi.advanceTimersByTimeAsync(10)
    assert.isDefined(fiber.pollUnsafe())
    vi.useRealTimers()
    while (performance.now() < 1_000) await new Promise((resolve) => setTimeout(resolve, 50))
    // From here on no deadline of the process is kept.
    const exits = await Promise.all(
      [1, 2, 3].map((n) =>
        Promise.race([
          Effect.runPromise(Effect.exit(within(100 * n))),
          new Promise((resolve) => setTimeout(() => resolve("nobody kept it"), 2_000))
        ])
      )
    )
    for (const exit of exits) assert.isTrue(exit !== "nobody kept it" && Exit.isFailure(exit as never), String(exit))
  })

  it("fake timers begun after real ones: time that is advanced ends a deadline", async () => {
    await Effect.runPromise(Deadline.within(Effect.sleep(5), { key: "k", duration: 1_000 }))
    vi.useFakeTimers({ now: Date.now() })
    try {
      const fiber = Effect.runFork(within(30_000))
      await vi.advanceTimersByTimeAsync(31_000)
      assert.isDefined(fiber.pollUnsafe(), "nobody kept it")
    } finally {
      vi.useRealTimers()
    }
  })
})
