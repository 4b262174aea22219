/** A role without a server: a lease is there at once, and the answer with it. */
import * as Effect from "effect/Effect"

export const nowhere = (rows: ReadonlyArray<unknown>) => {
  const compiled = (strings: ReadonlyArray<string>, ...values: ReadonlyArray<unknown>) => ({
    compile: () => [strings.join("$1"), values] as const
  })
  const template = Object.assign(compiled, { unsafe: (text: string) => compiled([text]) })
  const answer = Effect.succeed({ rows, truncated: false })
  const use = (_: unknown, f: (session: unknown) => Effect.Effect<unknown>) => f({ query: () => answer })
  const node = { name: "nowhere:0", pool: { use }, read: use }
  const attemptOf = (_fiber: unknown, _call: unknown, run: (node: unknown, until: undefined) => unknown) =>
    run(node, undefined)
  const route = { attemptOf, cluster: { topology: { onChange: () => () => {} } } }
  const options = { maxConnections: 20, lanes: {} }
  return { database: "nowhere", role: "main", name: "nowhere/main", options, nodes: [node], route, sql: template }
}
