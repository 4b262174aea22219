/**
 * One look at a server: a statement on the pool's control lane, and what its answer means.
 *
 * - In recovery or not, and read-only or not, are the server's own words for the transaction at hand.
 * - The timeline of a primary comes from the name of the file it writes to: right after a promotion its checkpoint still
 *   has the old one. A standby has it from its upstream; its control file would tell it minutes later. Ordinary users do
 *   not see that column: with `grant pg_monitor to ...` a replica that follows an old primary is known at once, and not
 *   only by its lag. Nothing else needs a privilege.
 * - A server that does not know a function, or forbids it, is asked for less from then on, step by step: what it does tell is not given up. Profiles say so beforehand: Aurora tells
 *   a lag and no positions, and of peers (CockroachDB and its like) only whether they refuse writes is of interest.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { monotonicMillis } from "../internal/Monotonic.ts"
import * as PgFailure from "../PgFailure.ts"
import type { Traits } from "../Profile.ts"
import type { Session } from "../pool/Session.ts"
import * as SessionPool from "../pool/SessionPool.ts"
import * as Lsn from "./Lsn.ts"
import type { Observation } from "./NodeState.ts"

// The start of the server process tells two servers apart, and needs no privilege. In one form, whatever the session's settings.
const instance = `to_char(pg_postmaster_start_time() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as instance`

const everything = `
select standby as in_recovery,
  current_setting('transaction_read_only') = 'on' as read_only,
  case when standby then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text as lsn,
  case when standby then pg_last_wal_receive_lsn() end::text as receive_lsn,
  case when not standby or pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
    else extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000 end::float8 as delay_millis,
  case when standby then exists (select from pg_stat_wal_receiver) end as streaming,
  case when standby then (select received_tli from pg_stat_wal_receiver)
    else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end as timeline,
  (select system_identifier::text from pg_control_system()) as system_id,
  ${instance},
  current_setting('server_version_num')::int as server_version,
  current_setting('max_connections')::int as max_connections
from (select pg_is_in_recovery() as standby offset 0) as server`

// `pg_control_system()` may be revoked from public.
const withoutControl = everything.replace(/^.*pg_control_system.*\n/m, "")

const little = `select pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only') = 'on' as read_only,
  ${instance}, current_setting('server_version_num')::int as server_version, current_setting('max_connections')::int as max_connections`

const least = `select pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only') = 'on' as read_only`

// aurora_replica_status(), aurora_db_instance_identifier(): Aurora's user guide, "Aurora PostgreSQL functions". The writer is
// in the table too, without a lag.
const aurora = `
select pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only') = 'on' as read_only,
  (select replica_lag_in_msec from aurora_replica_status()
    where server_id = aurora_db_instance_identifier())::float8 as delay_millis,
  ${instance},
  current_setting('server_version_num')::int as server_version,
  current_setting('max_connections')::int as max_connections`

const peers = `select false as in_recovery, current_setting('transaction_read_only') = 'on' as read_only`

/** Each kind's questions, the most telling first. */
const statements = {
  everything: [everything, withoutControl, little, least],
  aurora: [aurora, little, least],
  peers: [peers]
}

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined)
const number = (value: unknown): number | undefined => {
  const read = typeof value === "number" ? value : typeof value === "string" ? Number(value) : Number.NaN
  return Number.isFinite(read) ? read : undefined
}
const lsn = (value: unknown): Lsn.Lsn | undefined => (typeof value === "string" ? Lsn.parse(value) : undefined)

/** What a row of the statement says. */
export const observation = (at: number, row: Readonly<Record<string, unknown>>): Observation => ({
  at,
  inRecovery: row["in_recovery"] === true,
  readOnly: row["read_only"] === true,
  lsn: lsn(row["lsn"]),
  receiveLsn: lsn(row["receive_lsn"]),
  delayMillis: number(row["delay_millis"]),
  streaming: typeof row["streaming"] === "boolean" ? row["streaming"] : undefined,
  timeline: number(row["timeline"]),
  systemId: text(row["system_id"]),
  instance: text(row["instance"]),
  serverVersion: number(row["server_version"]),
  maxConnections: number(row["max_connections"])
})

/** Asks a server over a session. Remembers what this server does not know. */
export const asker = (kind: Traits["look"]) => {
  const questions = statements[kind]
  let step = 0
  const ask = (session: Session, at: number): Effect.Effect<Observation, SqlError> =>
    Effect.suspend(() => {
      const asked = step
      return Effect.catch(
        Effect.map(session.query(questions[asked]!), ({ rows }) =>
          observation(at, rows[0] as Readonly<Record<string, unknown>>)
        ),
        (error) => {
          const code = PgFailure.inputOf(error).sqlState
          if (asked === questions.length - 1 || code === undefined || !/^(42|0A)/.test(code)) return Effect.fail(error)
          step = Math.max(step, asked + 1)
          return ask(session, at)
        }
      )
    })
  return (session: Session): Effect.Effect<Observation, SqlError> =>
    Clock.clockWith((clock) => ask(session, monotonicMillis(clock)))
}

/** Asks a server through its pool. Bounded by whoever calls it. */
export const through = (pool: SessionPool.SessionPool<Session>, ask: ReturnType<typeof asker>) =>
  pool.use({ lane: SessionPool.controlLane, name: "probe" }, ask)

/** Asks whatever server an endpoint leads to now, over a session that is opened for it. */
export const anew = (connect: Effect.Effect<Session, SqlError>, ask: ReturnType<typeof asker>) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(connect), (session) => Effect.ensuring(restore(ask(session)), session.close))
  )

// What is committed is written, unless commits do not wait for that.
const position = `
select case when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()
    else pg_current_wal_lsn() end::text as lsn,
  ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int as timeline`

/** The position behind everything that a primary has committed. */
export const token = (pool: SessionPool.SessionPool<Session>) =>
  pool.use({ lane: SessionPool.controlLane, name: "token" }, (session) =>
    Effect.map(session.query(position), ({ rows }): Lsn.Token => {
      const row = rows[0] as Readonly<Record<string, unknown>>
      return { lsn: lsn(row["lsn"]) ?? 0n, timeline: number(row["timeline"]) }
    })
  )
