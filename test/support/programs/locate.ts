/** Prints the PostgreSQL that is found, as seen by whoever runs this. Run by PgBinaries.test.ts. */
import { PgBinaries } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"

Effect.runPromise(Effect.result(PgBinaries.find())).then((result) =>
  console.log(JSON.stringify(result._tag === "Success" ? result.success : { error: result.failure.message }))
)
