/** The failure scenes by name: for the tests, which compare, and for the drill, which also prints. */
import type { Database } from "@sluice/sdk"
import type { PgCluster } from "@sluice/sdk/testing"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { TestDatabase } from "../database.ts"
import * as Answers from "./answers.ts"
import * as Executed from "./executed.ts"
import * as Moved from "./moved.ts"
import type { Line } from "./observe.ts"
import * as Patience from "./patience.ts"
import * as Statements from "./statements.ts"

export interface FailureScene<R> {
  readonly name: string
  readonly about: string
  readonly run: Effect.Effect<ReadonlyArray<Line>, unknown, R>
}

type Ground = TestDatabase | Database.Role<"fleet", "primary"> | Database.Role<"fleet", "replica"> | Scope.Scope

/** On a database with both roles (`setup`); servers shared with others. */
export const scenes: ReadonlyArray<FailureScene<Ground>> = [
  { name: "deadlock", about: "two calls lock each other out", run: Statements.deadlock },
  {
    name: "serialization",
    about: "another transaction commits a change of the same row first",
    run: Statements.serialization
  },
  { name: "statement-timeout", about: "the server's own limit comes first", run: Statements.statementTimeout },
  { name: "lock-timeout", about: "somebody else holds the row for longer", run: Statements.lockTimeout },
  {
    name: "too-many-connections",
    about: "the role may have one session, and somebody has it",
    run: Statements.tooManyConnections
  },
  { name: "admin-shutdown", about: "pg_terminate_backend in the middle of a statement", run: Statements.adminShutdown },
  { name: "read-only", about: "a write on a standby", run: Statements.readOnly },
  {
    name: "executed-once",
    about: "functions and procedures that raise each code, executions counted on the server",
    run: Executed.executed
  },
  { name: "raised", about: "codes raised by a function", run: Statements.raised },
  { name: "lost-answer-once", about: "the answer of an INSERT declared once is lost", run: Answers.lostOnce },
  {
    name: "silent-answer-once",
    about: "the answer of an INSERT declared once does not come by its deadline",
    run: Answers.silentOnce
  },
  {
    name: "lost-answer-idempotent",
    about: "the answer of an INSERT declared idempotent is lost",
    run: Answers.lostIdempotent
  }
]

/** On a cluster of their own: it is left as it was, but not always at work. */
export const ownScenes: ReadonlyArray<FailureScene<PgCluster.PgCluster | Scope.Scope>> = [
  {
    name: "disk-full",
    about: "a tablespace on a tmpfs of 16 MB, full (no lines where nothing can be mounted: raised has the code)",
    run: Answers.diskFull
  },
  { name: "slow-commit", about: "a COMMIT takes six seconds", run: Patience.slowCommit },
  { name: "busy-process", about: "the process is busy for six seconds while calls run", run: Patience.busyProcess },
  {
    name: "endpoint-moved",
    about: "an endpoint leads to the new primary: each profile, with and without the privileges of the looks",
    run: Moved.moved
  },
  {
    name: "crash-recovery",
    about: "a backend is killed with -9: the server ends every session and recovers",
    run: Answers.crash
  }
]
