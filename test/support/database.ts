/** A database of one's own on a primary and its replica, for tests and for programs that are none. */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import { expectEventually } from "./expectEventually.ts"

type Rows = ReadonlyArray<PgConnection.Row>

/** A database that nobody else sees, on a primary and on its replica. */
export interface TestDatabaseShape {
  readonly name: string
  /** On the primary, as superuser. */
  readonly url: string
  /** The same database on the replica. */
  readonly replicaUrl: string
  /** Runs one statement on the primary, in a session of its own. */
  readonly query: (sql: string, params?: ReadonlyArray<unknown>) => Effect.Effect<Rows, SqlError>
  /** Runs several statements on the primary, in one session. */
  readonly script: (statements: ReadonlyArray<string>) => Effect.Effect<void, SqlError>
  /** Waits until the replica has all that the primary has now. */
  readonly replayed: Effect.Effect<void, SqlError>
}

export class TestDatabase extends Context.Service<TestDatabase, TestDatabaseShape>()("test/support/TestDatabase") {}

const on = (url: string, sql: string, params?: ReadonlyArray<unknown>): Effect.Effect<Rows, SqlError> =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: Redacted.make(url), prepare: false }), (connection) =>
      Effect.map(connection.query(sql, params), ({ rows }) => rows)
    )
  )

const withDatabase = (url: string, name: string): string => {
  const changed = new URL(url)
  changed.pathname = `/${name}`
  return changed.href
}

/** Makes one on these servers, given by their URLs; it is dropped when the scope closes. */
export const makeDatabase = Effect.fnUntraced(function* (servers: {
  readonly primary: string
  readonly replica: string
}) {
  const { primary, replica } = servers
  const name = `test_${randomBytes(6).toString("hex")}`
  yield* Effect.acquireRelease(on(primary, `create database ${name}`), () =>
    Effect.ignore(on(primary, `drop database if exists ${name} with (force)`))
  )
  const url = withDatabase(primary, name)
  const replayed = Effect.gen(function* () {
    const [written] = yield* on(primary, "select pg_current_wal_lsn()::text as lsn")
    const sql = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn as there"
    yield* expectEventually(on(replica, sql, [written?.["lsn"]]), ([row]) => row?.["there"] === true, 60_000)
  })
  yield* replayed
  const database: TestDatabaseShape = {
    name,
    url,
    replicaUrl: withDatabase(replica, name),
    query: (sql, params) => on(url, sql, params),
    script: (statements) =>
      Effect.scoped(
        Effect.flatMap(PgConnection.make({ url: Redacted.make(url), prepare: false }), (connection) =>
          Effect.forEach(statements, (sql) => connection.query(sql), { discard: true })
        )
      ),
    replayed
  }
  return database
})
