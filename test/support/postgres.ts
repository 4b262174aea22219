/**
 * PostgreSQL for the project's own tests.
 *
 * - `layerDatabase`: a database of one's own on the servers that the whole run shares (a primary and a replica). Cheap.
 * - `PgCluster.layer(...)`: servers of one's own, for tests that kill, freeze, restart or reconfigure them.
 * - `postgres(layer)("name", (it) => ...)`: vitest's `layer` with real clocks and a generous start.
 */
import { layer } from "@effect/vitest"
import { PgCluster } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SqlError } from "effect/sql/SqlError"
import { inject } from "vitest"
import { makeDatabase, TestDatabase } from "./database.ts"

export { TestDatabase, type TestDatabaseShape } from "./database.ts"

/** A database of one's own on the run's shared servers; dropped at the end. Do not mistreat the servers. */
export const layerDatabase: Layer.Layer<TestDatabase, SqlError> = Layer.effect(
  TestDatabase,
  Effect.suspend(() => makeDatabase(inject("sluicePostgres")))
)

/** vitest's `layer` for tests that talk to real servers: clocks are real, and the start may take a while. */
export const postgres = <R, E>(services: Layer.Layer<R, E>) =>
  layer(services, { excludeTestServices: true, timeout: "2 minutes" })

/** A cluster of one's own: `postgres(ownCluster({ replicas: 1 }))("failover", (it) => ...)`. */
export const ownCluster = PgCluster.layer
