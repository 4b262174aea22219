/**
 * What speaks PostgreSQL's protocol, and what each kind asks of its client.
 *
 * A role names its kind by the option `profile`; this table says what follows. Options in code and in the environment win
 * over a profile's defaults.
 *
 * | profile | what it is | run by the tests |
 * | --- | --- | --- |
 * | `postgres` | PostgreSQL itself, streaming replication | yes |
 * | `pgbouncer` | PgBouncer in transaction mode | yes |
 * | `haproxy` | an endpoint that leads to whatever server it thinks right: HAProxy before Patroni, a virtual address, a Kubernetes service | yes, with and without Patroni |
 * | `aurora` | the writer and reader endpoints of Aurora PostgreSQL | a name that changes its server, and Aurora's functions, on PostgreSQL; Aurora itself no |
 * | `cockroachdb`, `yugabytedb`, `citus` | | no: from their documentation, named beside each line below |
 */

export const profiles = ["postgres", "pgbouncer", "haproxy", "aurora", "cockroachdb", "yugabytedb", "citus"] as const

export type Profile = (typeof profiles)[number]

/** What follows from a profile. */
export interface Traits {
  /**
   * One address leads to different servers at different times. Then the address is watched by a session of its own for
   * each look, every new session is looked at before it is lent, and all sessions are replaced when the address leads to
   * another primary.
   */
  readonly switching: boolean
  /** `standbys`: one primary, and standbys that follow it. `peers`: every server takes everything, roles are not asked for. */
  readonly servers: "standbys" | "peers"
  /** Which statement looks at a server; see `topology/Look.ts`. */
  readonly look: "everything" | "aurora" | "peers"
  /** Why there are no tokens for reading one's own writes; `undefined`: there are. */
  readonly noToken?: string | undefined
  /** Why several sessions cannot share a snapshot; `undefined`: they can. */
  readonly noSnapshot?: string | undefined
  /** Settings of sessions that may read a little of the past, from whatever copy is near; `undefined`: there is no such thing. */
  readonly followerReads?: Readonly<Record<string, string>> | undefined
  readonly defaults: {
    readonly pooler?: "transaction" | undefined
    /** Milliseconds. */
    readonly connectTimeout?: number | undefined
  }
  /** Milliseconds of silence before TCP's first probe. Default: that of sessions, 30 seconds. */
  readonly keepAlive?: number | undefined
}

const elsewhere = "a session may lead to another server than the one that was looked at"
const apart = "two sessions of one endpoint may lead to two servers"

export const traits: Readonly<Record<Profile, Traits>> = {
  postgres: { switching: false, servers: "standbys", look: "everything", defaults: {} },

  // pgbouncer.org/config.html: a transaction is the longest that a session keeps its server, so nothing may be set in it.
  pgbouncer: {
    switching: false,
    servers: "standbys",
    look: "everything",
    defaults: { pooler: "transaction" }
  },

  // patroni.readthedocs.io/en/latest/rest_api.html: HAProxy asks for /primary and /replica, each on a port of its own.
  haproxy: {
    switching: true,
    servers: "standbys",
    look: "everything",
    noToken: elsewhere,
    noSnapshot: apart,
    defaults: {}
  },

  // docs.aws.amazon.com, AuroraPostgreSQL.BestPractices.FastFailover: keepalives after 1 s idle, connect timeout 2 s.
  // AuroraPostgreSQL.Replication: all share one volume, so positions of a log are not to be had; a lag is, in milliseconds.
  aurora: {
    switching: true,
    servers: "standbys",
    look: "aurora",
    noToken: "Aurora's readers do not tell what they have replayed",
    noSnapshot: apart,
    defaults: { connectTimeout: 2_000 },
    keepAlive: 1_000
  },

  // cockroachlabs.com/docs/stable: follower-reads, session-variables (default_transaction_use_follower_reads),
  // transaction-retry-error-reference (40001: the whole transaction again, 40003: ambiguous, as in PgFailure's table).
  cockroachdb: {
    switching: false,
    servers: "peers",
    look: "peers",
    noToken: "every node of CockroachDB sees every write",
    noSnapshot: "CockroachDB does not export snapshots: AS OF SYSTEM TIME with one time gives slices one state",
    followerReads: { default_transaction_use_follower_reads: "on" },
    defaults: {}
  },

  // docs.yugabyte.com: develop/build-global-apps/follower-reads (yb_read_from_followers, in read-only transactions, 30 s
  // behind by default), develop/learn/transactions/transactions-errorcodes-ysql (40001, 40P01: the whole transaction again).
  yugabytedb: {
    switching: false,
    servers: "peers",
    look: "peers",
    noToken: "every node of YugabyteDB sees every write",
    noSnapshot: "YugabyteDB does not share exported snapshots between nodes",
    followerReads: { yb_read_from_followers: "on" },
    defaults: {}
  },

  // docs.citusdata.com, arch/mx: a query may be sent to any node, changes of the schema to the coordinator alone.
  citus: {
    switching: false,
    servers: "peers",
    look: "peers",
    noToken: "a write to several shards has no one position in a log",
    noSnapshot: "an exported snapshot holds on the coordinator alone, not on the shards",
    defaults: {}
  }
}
