/** Every subject that asks in a process of its own, by its name. */
import type { Subject } from "../Subject.ts"
import * as effects from "./effects.ts"
import * as matched from "./matched.ts"
import { pgPerQuery, pgPool } from "./pg.ts"
import { kysely, postgresJs, slonik, slonikZod } from "./promises.ts"

export const subjects: ReadonlyArray<Subject> = [
  effects.sluice,
  effects.sluiceFull,
  effects.sluiceLease,
  effects.sluiceShared,
  effects.sluiceSharedLease,
  effects.sluiceSql,
  effects.driver,
  effects.driverLease,
  effects.driverSharedLease,
  matched.pgMatched,
  matched.pgSchema,
  pgPerQuery,
  pgPool,
  kysely,
  postgresJs,
  slonik,
  slonikZod
]
