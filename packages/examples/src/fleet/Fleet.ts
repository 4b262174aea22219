/** The database of the fleet: a primary that is written to, and a replica that every report reads. */
import { Database } from "@sluice/sdk"

export class Fleet extends Database.Service<Fleet>()("fleet", { roles: ["primary", "replica"] }) {}
