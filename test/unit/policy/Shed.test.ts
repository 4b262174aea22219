import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import * as Caller from "../../../packages/sdk/src/policy/Caller.ts"
import * as Deadline from "../../../packages/sdk/src/policy/Deadline.ts"
import * as FaultInjection from "../../../packages/sdk/src/policy/FaultInjection.ts"
import * as Shed from "../../../packages/sdk/src/policy/Shed.ts"
import { random, recorder } from "./support.ts"

const dice = (seed: number) => {
  const { next } = random(seed)
  return Effect.provideService(Random.Random, {
    nextDoubleUnsafe: next,
    nextIntUnsafe: () => Math.floor(next() * 2 ** 31)
  })
}
const down = Effect.fail({ _tag: "AttemptTimeout" as const })
const callerError = Effect.fail({ _tag: "CallerError" as const })
const as = (priority: number) => Effect.provideService(Caller.Current, { priority })

describe("Shed", () => {
  it.effect("refuses nothing while the other side accepts, nor for errors of the caller", () =>
    Effect.gen(function* () {
      const shed = Shed.make({ key: "s" })
      const { events, listen } = recorder()
      for (let round = 0; round < 200; round++) {
        yield* Effect.exit(listen(shed.run(round % 2 === 0 ? Effect.void : callerError)))
      }
      assert.deepStrictEqual(events, [])
      assert.strictEqual(shed.share(0), 0)
    })
  )

  it.effect("an outage is met by refusing most, but never all: the recovery is seen, and it opens again", () =>
    Effect.gen(function* () {
      const shed = Shed.make({ key: "s", window: "10 seconds" })
      let reached = 0
      const call = (work: Effect.Effect<void, { readonly _tag: string }>) =>
        Effect.exit(
          shed.run(
            Effect.andThen(
              Effect.sync(() => reached++),
              work
            )
          )
        )
      for (let round = 0; round < 500; round++) {
        yield* call(down)
        yield* TestClock.adjust(20)
      }
      assert.isBelow(reached, 200)
      assert.isAbove(reached, 40)
      // What is let through doubles with every window, so a recovery takes a few of them.
      for (let round = 0; round < 2500; round++) {
        yield* call(Effect.void)
        yield* TestClock.adjust(20)
      }
      assert.strictEqual(shed.share(60_000), 0)
    }).pipe(dice(1))
  )

  it.effect("the least important go first", () =>
    Effect.gen(function* () {
      const shed = Shed.make({ key: "s", k: 1.1 })
      const asked = new Map<number, number>()
      const reached = new Map<number, number>()
      const add = (map: Map<number, number>, priority: number) => map.set(priority, (map.get(priority) ?? 0) + 1)
      // Twelve are wanted at a time, and the server accepts six.
      for (let round = 0; round < 300; round++) {
        let capacity = 6
        const work = Effect.suspend(() => (capacity-- > 0 ? Effect.void : down))
        for (let index = 0; index < 12; index++) {
          const priority = [0, 50, 100][index % 3]!
          add(asked, priority)
          yield* Effect.exit(
            shed
              .run(
                Effect.andThen(
                  Effect.sync(() => add(reached, priority)),
                  work
                )
              )
              .pipe(as(priority))
          )
        }
        yield* TestClock.adjust(10)
      }
      const share = (priority: number) => reached.get(priority)! / asked.get(priority)!
      assert.isBelow(share(0), 0.3)
      assert.isAbove(share(100), 0.95)
      assert.isAbove(share(50), share(0) + 0.2)
    }).pipe(dice(2))
  )

  it.effect("whoever cannot make its deadline any more is refused, up to a share of the requests", () =>
    Effect.gen(function* () {
      const shed = Shed.make({ key: "s", deadlines: 0.2 })
      const { listen, named } = recorder()
      const call = (deadline: number) =>
        Effect.gen(function* () {
          const work = shed.run(Effect.sleep(100)).pipe(Deadline.within({ key: "d", duration: deadline }))
          const fiber = yield* Effect.forkChild(Effect.exit(listen(work)))
          yield* TestClock.adjust(100)
          return yield* Fiber.join(fiber)
        })
      for (let round = 0; round < 50; round++) yield* call(1000)
      assert.strictEqual(named("refused").length, 0)
      for (let round = 0; round < 50; round++) yield* call(50)
      const refused = named("refused").length
      assert.isTrue(refused > 5 && refused <= 21, `${refused} refused`)
      assert.isTrue(named("refused").every((one) => one.attributes["reason"] === "deadline"))
    })
  )

  it.effect("dark: tells what it would refuse, and refuses nothing", () =>
    Effect.gen(function* () {
      const shed = Shed.make({ key: "s", dark: true })
      const { listen, named } = recorder()
      let reached = 0
      for (let round = 0; round < 200; round++) {
        yield* Effect.exit(
          listen(
            shed.run(
              Effect.andThen(
                Effect.sync(() => reached++),
                down
              )
            )
          )
        )
      }
      assert.strictEqual(reached, 200)
      assert.isAbove(named("would refuse").length, 50)
    }).pipe(dice(3))
  )
})

describe("FaultInjection", () => {
  const work = FaultInjection.inject(Effect.succeed("rows") as Effect.Effect<string, string>, "stoppage")

  it.effect("is off by default", () =>
    Effect.gen(function* () {
      for (let round = 0; round < 100; round++) assert.strictEqual(yield* work, "rows")
    })
  )

  it.effect("delays, fails and hangs, where and as often as the plan says", () =>
    Effect.gen(function* () {
      const run = (plan: ReadonlyArray<FaultInjection.Fault>) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(
            Effect.exit(Effect.timeoutOption(work, 1000)).pipe(Effect.provideService(FaultInjection.Current, plan))
          )
          yield* TestClock.adjust(1000)
          return yield* Fiber.join(fiber)
        })
      assert.deepStrictEqual(yield* run([{ rate: 1, error: () => "lost" }]), Exit.fail("lost"))
      const hung = yield* run([{ rate: 1, hang: true }])
      assert(Exit.isSuccess(hung) && hung.value._tag === "None")
      const slow = yield* run([{ rate: 1, latency: 999 }])
      assert(Exit.isSuccess(slow) && slow.value._tag === "Some")
      const slower = yield* run([
        { rate: 1, latency: 600 },
        { rate: 1, latency: 600 }
      ])
      assert(Exit.isSuccess(slower) && slower.value._tag === "None")
      for (const plan of [[{ rate: 0, hang: true }], [{ rate: 1, keys: ["other"], hang: true }]]) {
        const well = yield* run(plan)
        assert(Exit.isSuccess(well) && well.value._tag === "Some")
      }
    })
  )

  it.effect("a rate is a rate, and every fault is told", () =>
    Effect.gen(function* () {
      const { listen, named } = recorder()
      for (let round = 0; round < 1000; round++) yield* Effect.exit(listen(work))
      const count = named("mine").length
      assert.isTrue(count > 60 && count < 140, `${count}`)
    }).pipe(Effect.provide(FaultInjection.layer([{ name: "mine", rate: 0.1, error: () => "lost" }])), dice(4))
  )
})
