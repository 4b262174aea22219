/**
 * Once for a run of the tests that need PostgreSQL: a template, from which every cluster of the run is copied instead of
 * running initdb, and a primary with a replica that test files share, each with a database of its own
 * (`layerDatabase` in postgres.ts). Tests that mistreat a server make their own cluster.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { TestProject } from "vitest/node"
// By its path: vitest loads this file without the condition that leads to the sources, and nothing need be built.
import * as PgCluster from "../../packages/sdk/src/testing/PgCluster.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly sluicePostgres: { readonly primary: string; readonly replica: string }
  }
}

const setup = Effect.gen(function* () {
  const template = yield* PgCluster.template()
  // Inherited by the workers, which start after this.
  process.env["SLUICE_PG_TEMPLATE"] = template
  const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
  return { primary: primary.url, replica: replica.url }
})

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    project.provide("sluicePostgres", await Effect.runPromise(Scope.provide(setup, scope)))
  } catch (error) {
    await close()
    throw error
  }
  return close
}
