import type { FaultProxy, PgCluster } from "@sluice/sdk/testing"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Subject } from "./Subject.ts"

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
  /** The database of the drill. */
  readonly database: string
  /** Moves the subject's wall clock, by milliseconds. What is monotonic goes on. */
  readonly jump: (millis: number) => void
}

/** What a fault made before anybody connects. */
export interface Prepared {
  /** Between the subject and the server there is a pooler in transaction mode. */
  readonly pooler?: "transaction"
  readonly note?: string
  /** Once the subject is closed, before sessions that were left behind are counted. */
  readonly afterClose?: Effect.Effect<void, unknown>
}

/** A fault, registered in faults.ts. */
export interface Fault {
  readonly name: string
  /** What is done, in a line. */
  readonly about: string
  /** Begins the fault. `busy`: while calls run. `idle`: between calls, which go on as soon as it has begun. */
  readonly while: "busy" | "idle"
  /** What the writes are: one statement (default), or a transaction of two with a COMMIT that takes its time. */
  readonly writes?: "statements" | "transactions"
  /** Why it cannot be done here. */
  readonly unavailable?: string | undefined
  /** Those it means something to. Default: all. */
  readonly subjects?: ReadonlyArray<Subject["name"]>
  /** Before the subject connects; what it acquires is released at the end of the drill. */
  readonly prepare?: (scene: Scene) => Effect.Effect<Prepared, unknown, Scope.Scope>
  readonly begin: (scene: Scene) => Effect.Effect<unknown, unknown>
  /** How long it lasts, in milliseconds. */
  readonly lasts: number
  /** Ends it. */
  readonly end: (scene: Scene) => Effect.Effect<unknown, unknown>
  /** Nobody may notice: a call that fails, even as declared, counts as wrong; so does a session that is replaced. */
  readonly unnoticed?: boolean
}
