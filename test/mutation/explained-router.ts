/** Mutants of `topology` that no test can notice, or that it would be wrong to notice, each with the reason. */
import type { Explained } from "./explained.ts"

export const explainedRouter: ReadonlyArray<Explained> = [
  {
    file: "topology/Standing.ts",
    original: "{ role: undefined, fenced: undefined, lagMillis: undefined, lagBytes: undefined }",
    reason: "fields that are absent read as undefined as well"
  },
  {
    file: "topology/Router.ts",
    original: "nodes.length === 1",
    replacement: "false",
    reason: "a short cut: the loop finds the only node as well"
  },
  {
    file: "topology/Router.ts",
    original:
      '{ const only = nodes[0]! const found = fit(only, want, now, thresholds) return found === "fits" || found === "fallback" ? only : undefined }',
    reason: "the same short cut"
  },
  {
    file: "topology/Route.ts",
    original: "millis === Infinity",
    replacement: "false",
    reason: "a short cut: a timer that never fires"
  },
  {
    file: "topology/Route.ts",
    original: "found === undefined",
    replacement: "true",
    reason: "a short cut: `next` begins with the same question"
  },
  {
    file: "topology/Route.ts",
    original: "more > 1",
    replacement: "more >= 1",
    reason: "a short cut: whoever is the last has all that is left"
  }
]
