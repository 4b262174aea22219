/** The failure scenes of the tests as rows of the drill: what is expected beside what was seen. */
import { PgCluster } from "@sluice/sdk/testing"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { makeDatabase, TestDatabase } from "../support/database.ts"
import { setup } from "../support/failures/ground.ts"
import type { Line } from "../support/failures/observe.ts"
import { type FailureScene, ownScenes, scenes } from "../support/failures/scenes.ts"
import { layerRoles } from "../support/fleetRoles.ts"
import type { DrillResult } from "./harness.ts"

const prefix = "failure-"

export const failures = [...scenes, ...ownScenes].map(({ about, name }) => ({ name: `${prefix}${name}`, about }))

const words = ({ attempts, class: name, result }: Line["expected"]) => `${name}, ${attempts}, ${result}`
const isAsExpected = (line: Line) => words(line.seen) === words(line.expected)

/** Class, attempts and result of each call, as expected and as seen. */
export const describeLines = (lines: ReadonlyArray<Line>): string => {
  const rows = [
    ["call", "expected: class, attempts, result", "seen"],
    ...lines.map((line) => [line.case, words(line.expected), isAsExpected(line) ? "the same" : words(line.seen)])
  ]
  const width = (column: number) => Math.max(...rows.map((row) => row[column]!.length))
  const [first, second] = [width(0), width(1)]
  return rows.map(([call, expected, seen]) => `${call!.padEnd(first)}  ${expected!.padEnd(second)}  ${seen}`).join("\n")
}

const isSuccess = ({ expected: { result } }: Line) => /^(\[|rows)/.test(result)

export const resultOf = (name: string, lines: ReadonlyArray<Line>, exit: Exit.Exit<unknown, unknown>): DrillResult => {
  const kept = lines.filter(isAsExpected)
  const died = Exit.isSuccess(exit) ? undefined : Cause.pretty(exit.cause)
  return {
    fault: name,
    subject: "sluice",
    calls: lines.length,
    succeeded: kept.filter(isSuccess).length,
    failedAsDeclared: kept.filter((line) => !isSuccess(line)).length,
    failedOtherwise: died === undefined ? 0 : 1,
    late: 0,
    lost: 0,
    doubled: 0,
    wrong: lines.length - kept.length,
    leaked: 0,
    recoveryMs: 0,
    note: died ?? lines.map((line) => `${line.case}: ${words(line.seen)}`).join("; ")
  }
}

/** What is told after each. */
type Show = (
  row: { readonly name: string; readonly about: string },
  lines: ReadonlyArray<Line>,
  result: DrillResult
) => Effect.Effect<void>

/** The chosen ones, on servers of their own. */
export const drillFailures = Effect.fnUntraced(function* (
  isChosen: (row: { readonly name: string }) => boolean,
  show: Show
) {
  const drill = <R>(scenes: ReadonlyArray<FailureScene<R>>, context: Context.Context<Exclude<R, Scope.Scope>>) =>
    Effect.forEach(scenes, ({ about, name, run }) => {
      const row = { name: `${prefix}${name}`, about }
      return Effect.flatMap(Effect.exit(Effect.scoped(Effect.provide(run, context))), (exit) => {
        const lines = Exit.isSuccess(exit) ? exit.value : []
        return show(row, lines, resultOf(row.name, lines, exit))
      })
    })
  const those = <R>(scenes: ReadonlyArray<FailureScene<R>>) =>
    scenes.filter(({ name }) => isChosen({ name: `${prefix}${name}` }))
  if (those(scenes).length > 0) {
    const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
    const database = Layer.effect(TestDatabase, makeDatabase({ primary: primary.url, replica: replica.url }))
    const ground = Layer.provideMerge(layerRoles(), database)
    yield* drill(those(scenes), yield* Layer.build(Layer.provideMerge(Layer.effectDiscard(setup), ground)))
  }
  if (those(ownScenes).length > 0) {
    yield* drill(those(ownScenes), Context.make(PgCluster.PgCluster, yield* PgCluster.make()))
  }
}, Effect.scoped)
