import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

// Node 20 has no `Map.groupBy`, which vitest's reporters use to print a failing test's diff.
if (!("groupBy" in Map)) {
  Object.defineProperty(Map, "groupBy", {
    configurable: true,
    writable: true,
    value: <K, V>(items: Iterable<V>, key: (value: V, index: number) => K): Map<K, Array<V>> => {
      const groups = new Map<K, Array<V>>()
      let index = 0
      for (const item of items) {
        const name = key(item, index++)
        const group = groups.get(name)
        if (group === undefined) groups.set(name, [item])
        else group.push(item)
      }
      return groups
    }
  })
}

const conditions = ["@sluice/source"]

/** `vitest run --project unit` is the quick half: no server is started. */
const project = (name: string, folders: ReadonlyArray<string>, globalSetup: Array<string> = []) => ({
  extends: true as const,
  test: { name, include: folders.map((folder) => `test/${folder}/**/*.test.ts`), globalSetup }
})

const servers = ["test/support/globalSetup.ts"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    projects: [
      project("unit", ["unit", "types"]),
      project("postgres", ["postgres"], servers),
      project("drill", ["drill", "soak", "bench"], servers)
    ],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // More servers at once than cores only makes every timing test slower.
    maxWorkers: Math.max(1, Math.min(4, availableParallelism()))
  }
})
