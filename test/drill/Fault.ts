import type { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import type * as Effect from "effect/Effect"

/** What a fault can lay hands on. */
export interface Scene {
  readonly cluster: PgCluster.Cluster
  /** Between the subject and the primary. */
  readonly proxy: FaultProxy.FaultProxy
  /** The role that the subject logs in as, and its password. */
  readonly user: string
  readonly password: string
  /** `application_name` of the subject. */
  readonly applicationName: string
}

/** A fault, registered in faults.ts. */
export interface Fault {
  readonly name: string
  /** What is done, in a line. */
  readonly about: string
  /** Begins the fault. `busy`: while calls run. `idle`: between calls, which go on as soon as it has begun. */
  readonly while: "busy" | "idle"
  readonly begin: (scene: Scene) => Effect.Effect<void, unknown>
  /** How long it lasts, in milliseconds. */
  readonly lasts: number
  /** Ends it. */
  readonly end: (scene: Scene) => Effect.Effect<void, unknown>
}
