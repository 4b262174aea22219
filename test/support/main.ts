import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type * as Effect from "effect/Effect"

/** Runs a program to its end: SIGINT and SIGTERM interrupt it, so that its servers go; a failure is printed and exits 1. */
export const runMain = (program: Effect.Effect<void, unknown>): void => NodeRuntime.runMain(program)
