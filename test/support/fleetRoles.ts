/** A declared database with two roles, on the servers of a `TestDatabase`. */
import { Database } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { TestDatabase } from "./database.ts"

export class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}

export const primary = Fleet.role("primary")
export const replica = Fleet.role("replica")

/** The options of a role on a server: a small pool, no TLS. */
export const at = (url: string, options: Database.RoleOptions = {}): Database.RoleOptions => ({
  url: Redacted.make(url),
  sslmode: "disable",
  minConnections: 0,
  maxConnections: 4,
  connectionTimeout: "10 seconds",
  ...options
})

/** Both roles, on the primary and on its replica. */
export const layerRoles = (options: Database.RoleOptions = {}) =>
  Layer.unwrap(
    Effect.map(TestDatabase, ({ replicaUrl, url }) =>
      Fleet.layer({ primary: at(url, options), replica: at(replicaUrl, options) })
    )
  )
