import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { layerDatabase, postgres, TestDatabase } from "../../support/postgres.ts"

postgres(layerDatabase)("a database on the shared servers", (it) => {
  it.effect("is empty, writable on the primary and there on the replica", () =>
    Effect.gen(function* () {
      const { name, query, script, replayed, replicaUrl } = yield* TestDatabase
      assert.deepStrictEqual(yield* query("select current_database()::text as name"), [{ name }])
      yield* script(["create table mine (id int)", "insert into mine values (1)"])
      yield* replayed
      assert.include(replicaUrl, `/${name}`)
    })
  )
})
