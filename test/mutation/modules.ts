/** What is mutated, and by which tests it has to be noticed. */
import * as fs from "node:fs"
import * as path from "node:path"
import { root, sdk } from "./Sandbox.ts"

export interface Group {
  readonly name: string
  /** From packages/sdk/src. */
  readonly files: ReadonlyArray<string>
  /** From the root. */
  readonly tests: ReadonlyArray<string>
}

const testsIn = (...places: ReadonlyArray<string>): ReadonlyArray<string> =>
  places.flatMap((place) =>
    place.endsWith(".ts")
      ? [place]
      : fs
          .readdirSync(path.join(root, place))
          .filter((name) => name.endsWith(".test.ts"))
          .sort()
          .map((name) => `${place}/${name}`)
  )

const inFolder = (folder: string, names?: ReadonlyArray<string>): ReadonlyArray<string> =>
  names === undefined
    ? fs
        .readdirSync(path.join(sdk, folder))
        .filter((name) => name.endsWith(".ts"))
        .sort()
        .map((name) => `${folder}/${name}`)
    : names.map((name) => `${folder}/${name}.ts`)

export const groups = (): ReadonlyArray<Group> => [
  {
    name: "failure",
    files: ["PgFailure.ts"],
    tests: testsIn("test/unit/PgFailure.test.ts", "test/unit/PgFailure.details.test.ts")
  },
  {
    name: "policy",
    files: [...inFolder("policy"), "internal/Deadlines.ts"],
    tests: testsIn("test/unit/policy", "test/unit/report/order.test.ts")
  },
  {
    name: "pool",
    files: inFolder("pool", [
      "PoolCore",
      "Lanes",
      "Waiters",
      "Waiting",
      "Outbox",
      "Connector",
      "Care",
      "Housekeeper",
      "Closing",
      "Backoff",
      "Entry"
    ]),
    tests: testsIn("test/unit/pool")
  },
  {
    name: "router",
    files: inFolder("topology", ["Router", "Route", "Standing", "Hysteresis", "NodeState"]),
    tests: testsIn("test/unit/topology")
  }
]
