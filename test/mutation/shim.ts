/**
 * What the unit tests use of vitest, for the mutation runner: it only collects the tests, so that one process can run any
 * of them, any number of times, in the order it likes. `npm test` shows that they pass in vitest itself.
 */
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as TestConsole from "effect/testing/TestConsole"

export interface Test {
  readonly name: string
  readonly run: () => Promise<void>
}

export const tests: Array<Test> = []
const path: Array<string> = []

const add = (name: string, run: () => unknown): void => {
  tests.push({ name: [...path, name].join(" > "), run: async () => void (await run()) })
}

export const describe = (name: string, body: () => void): void => {
  path.push(name)
  body()
  path.pop()
}

const Env = Layer.mergeAll(TestConsole.layer, TestClock.layer())
type Body = (context: unknown) => Effect.Effect<unknown, unknown, Scope.Scope>

const effect = (name: string, body: Body): void =>
  add(name, () => Effect.runPromise(Effect.provide(Effect.scoped(Effect.suspend(() => body({}))), Env)))

const live = (name: string, body: Body): void =>
  add(name, () => Effect.runPromise(Effect.scoped(Effect.suspend(() => body({})))))

const prop = (name: string, inputs: any, body: (values: any) => unknown, options?: any): void =>
  add(name, async () => {
    const compiled = (input: any) => (Arbitrary.isArbitrary(input) ? input : Arbitrary.schema(input))
    const all = Array.isArray(inputs)
      ? inputs.map(compiled)
      : Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, compiled(input)]))
    const result = await Effect.runPromise(
      Arbitrary.checkEffect(
        Arbitrary.all(all as any) as Arbitrary.Arbitrary<any>,
        (values) =>
          Effect.suspend(() => {
            const output = body(values)
            return Effect.map(Effect.isEffect(output) ? output : Effect.succeed(output), (value) => value !== false)
          }) as Effect.Effect<boolean, unknown>,
        options?.arbitrary
      ) as Effect.Effect<any>
    )
    const failure = Arbitrary.formatCheckFailure(result)
    if (failure !== undefined) throw new Error(failure)
  })

const each =
  (cases: ReadonlyArray<unknown>) =>
  (name: string, body: (...args: Array<any>) => unknown): void =>
    cases.forEach((one, index) => add(`${name} #${index}`, () => (Array.isArray(one) ? body(...one) : body(one))))

Object.assign(effect, {
  prop,
  each: (cases: ReadonlyArray<unknown>) => (name: string, body: any) => {
    cases.forEach((one, index) => effect(`${name} #${index}`, () => body(one)))
  }
})

export const it = Object.assign(add, { effect, live, prop, each })
export const test = it
