/**
 * Functions and procedures that raise each code of PgFailure's table, with their executions counted on the server: by a
 * sequence, which no rollback takes back, and by the rows that are there for good.
 */
import { Report } from "@sluice/sdk"
import * as PgFailure from "@sluice/sdk/PgFailure"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { TestDatabase } from "../database.ts"
import { primary } from "../fleetRoles.ts"
import { retry, row } from "./ground.ts"
import type { Line } from "./observe.ts"

const codes = [...new Set([...PgFailure.rules.keys()].map((code) => code.padEnd(5, "0")))]
  // RAISE takes it for "no code given".
  .filter((code) => code !== "00000")

const set = [
  "create sequence if not exists executed_count",
  "create table if not exists executed (code text)",
  `create or replace function executed_function(code text) returns int language plpgsql as $$ begin
     perform nextval('executed_count');
     insert into executed values (code);
     raise exception 'after the insert' using errcode = code;
   end $$`,
  `create or replace function executed_rows(code text) returns setof int language plpgsql as $$ begin
     perform nextval('executed_count');
     return next 1;
     insert into executed values (code);
     raise exception 'after a row' using errcode = code;
   end $$`,
  `create or replace procedure executed_procedure(code text) language plpgsql as $$ begin
     perform nextval('executed_count');
     insert into executed values (code);
     commit;
     raise exception 'after the commit' using errcode = code;
   end $$`
]

type Sql = Parameters<Parameters<typeof Report.make>[1]["query"]>[0]

const kinds = [
  { name: "a function", statement: (sql: Sql, code: string) => sql`select executed_function(${code}) as n`, rows: 0 },
  {
    name: "a function with rows",
    statement: (sql: Sql, code: string) => sql`select * from executed_rows(${code}) n`,
    rows: 0
  },
  {
    name: "a procedure that has committed",
    statement: (sql: Sql, code: string) => sql`call executed_procedure(${code})`,
    rows: 1
  },
  {
    name: "a block that calls it",
    statement: (sql: Sql, code: string) => sql.unsafe(`do $$ begin call executed_procedure('${code}'); end $$`),
    rows: 1
  }
]

/** How often a write that is declared once may be executed: again only where it is certain that nothing was applied. */
const most = (code: string, committed: boolean): number =>
  committed ||
  PgFailure.classify({ sqlState: code, severity: "ERROR", alive: true, routine: "exec_stmt_raise" }).write === "never"
    ? 1
    : 3

export const executed = Effect.gen(function* () {
  const { query, script } = yield* TestDatabase
  yield* script(set)
  const lines: Array<Line> = []
  for (const { name, rows, statement } of kinds) {
    const report = Report.make("executed", {
      database: primary,
      params: { code: Schema.String },
      row,
      query: (sql, { code }) => statement(sql as Sql, code) as any,
      deadline: "20 seconds",
      writes: "once",
      retry
    })
    const wrong: Array<string> = []
    // The second time it is prepared.
    for (const code of codes.flatMap((code) => [code, code])) {
      yield* query("truncate executed")
      yield* query("select setval('executed_count', 1, false)")
      const exit = yield* Effect.exit(report.run({ code }))
      const [counted] = yield* query(
        "select (select count(*)::int from executed) as rows, (select case when is_called then last_value else 0 end::int from executed_count) as times"
      )
      const { rows: there, times } = counted as { readonly rows: number; readonly times: number }
      if (exit._tag === "Success" || there !== rows || times < 1 || times > most(code, rows > 0)) {
        wrong.push(`${code}: ${exit._tag}, executed ${times} times, ${there} rows`)
      }
    }
    const result = "no code twice"
    lines.push({
      case: `${name} raises each of ${codes.length} codes`,
      expected: { class: "", attempts: 1, result },
      seen: { class: "", attempts: 1, result: wrong.length === 0 ? result : wrong.join("; ") }
    })
  }
  return lines
})
