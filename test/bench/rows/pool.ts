/** The pool's rows: throughput at four widths, transactions, shared sessions, and what a lease costs. */
import type { Context, Entrant, Row } from "../Row.ts"
import {
  type Asked,
  entrants,
  type Load,
  millis,
  nanos,
  perSecond,
  type Querying,
  type Subject,
  together
} from "../Subject.ts"
import {
  driver,
  driverLease,
  driverSharedLease,
  sluice,
  sluiceFull,
  sluiceLease,
  sluiceShared,
  sluiceSharedLease,
  sluiceSql
} from "../subjects/effects.ts"
import { pgMatched, pgSchema } from "../subjects/matched.ts"
import { pgPerQuery, pgPool } from "../subjects/pg.ts"
import { kysely, postgresJs, slonik, slonikZod } from "../subjects/promises.ts"

const pool = 10

/** A statement's text on a session; built from a template; rows checked; policies around. */
const raw = [sluiceLease, driverLease, pgPool]
const built = [sluiceSql, driver, postgresJs, slonik, kysely]
const checkedRows = [sluice, pgSchema, slonikZod]
const everybody = [...checkedRows, sluiceFull, pgMatched, ...raw, ...built]
const inTransactions = [...built, { ...pgPool, beside: sluiceSql.name }]

const besideSharedLease = (subject: Subject): Subject => ({ ...subject, beside: sluiceSharedLease.name })

const group = (context: Context, fibers: number, subjects: ReadonlyArray<Subject>, asked: Asked) => ({
  fibers,
  contenders: entrants(context, subjects, { url: context.url, pool, fibers }, asked)
})

const selects: Asked = { what: "select", value: perSecond }

/** Numbers of fibers; when it only has to run, one is enough. */
const widths = ({ quick }: Context, all: ReadonlyArray<number>) => (quick ? all.slice(0, 1) : all)

export const select: Row = {
  name: "select",
  about:
    "one row by primary key, pool of 10, exclusive leases (postgres pipelines by itself); each beside the subject of Sluice that does the same work",
  brief: "one row by primary key, pool of 10; operations a second",
  unit: "op/s",
  groups: (context) => widths(context, [1, 20, 100, 1_000]).map((fibers) => group(context, fibers, everybody, selects))
}

/**
 * Which core the kernel keeps a server's process on is luck that lasts as long as its connection, and is worth a fifth of the
 * throughput on two cores: no row that stands on one process each can tell smaller differences.
 */
const processes = 4

export const lease: Row = {
  name: "lease",
  about: `a session leased for one row by primary key, pool of 10, beside the driver: text beside text, and through Effect's SqlClient beside the same; ${processes} processes each take turns`,
  brief: `a lease beside the driver's, ${processes} processes each; operations a second`,
  unit: "op/s",
  rounds: 6 * processes,
  groups: (context) =>
    widths(context, [1, 20, 100, 1_000]).map((fibers) => ({
      fibers,
      contenders: entrants(
        context,
        [sluiceLease, driverLease, pgPool, sluiceSql, driver],
        { url: context.url, pool, fibers },
        selects,
        processes
      )
    }))
}

const besideReport = (subject: Subject): Subject => ({ ...subject, beside: sluice.name })

export const reportOverPool: Row = {
  name: "report-over-pool",
  about:
    "what a report costs: one row by primary key as a report (deadline, checked parameters, checked rows, metrics), beside the same statement on a leased session and through Effect's SqlClient, over the same pool of 10",
  brief: "a report beside the same statement through the bare pool; operations a second",
  unit: "op/s",
  groups: (context) =>
    widths(context, [1, 20, 100]).map((fibers) =>
      group(context, fibers, [sluice, besideReport(sluiceLease), besideReport(sluiceSql)], selects)
    )
}

export const perQuery: Row = {
  name: "connection-per-query",
  about: "one row by primary key: a pool of 10 against a new connection for each query, at most 10 at a time",
  brief: "one row by primary key, pool of 10, beside a connection per query; operations a second",
  unit: "op/s",
  groups: (context) =>
    widths(context, [1, 20]).map((fibers) =>
      group(context, fibers, [sluice, sluiceLease, driverLease, pgPool, pgPerQuery], selects)
    )
}

export const transaction: Row = {
  name: "transaction",
  about: "begin, one row by primary key, commit; pool of 10; through Effect's SqlClient where it is Effect",
  brief: "begin, one row by primary key, commit, 20 fibers; operations a second",
  unit: "op/s",
  groups: (context) => [group(context, 20, inTransactions, { what: "transaction", value: perSecond })]
}

export const shared: Row = {
  name: "shared",
  about:
    "one row by primary key over sessions that fibers share (pipelining): a report and a lease in a lane of 5 sessions, beside the multiplex of the driver (up to 10), postgres (10, pipelined by itself), and exclusive leases of pg",
  brief: "one row by primary key over sessions that fibers share; operations a second",
  unit: "op/s",
  groups: (context) =>
    widths(context, [20, 100]).map((fibers) =>
      group(
        context,
        fibers,
        [sluiceShared, sluiceSharedLease, driverSharedLease, ...[pgPool, postgresJs].map(besideSharedLease)],
        selects
      )
    )
}

export const acquire: Row = {
  name: "acquire",
  about: "a lease taken and given back while a session is idle, nothing done with it (slonik resets: a round trip)",
  brief: "a lease taken and given back",
  unit: "ns/op",
  groups: (context) => [
    group(context, 1, [sluiceLease, driverLease, pgPool, ...built], {
      what: "acquire",
      value: nanos
    })
  ]
}

export const five: Row = {
  name: "five-parallel",
  about: "five selects at once, awaited together",
  brief: "five selects at once, awaited together",
  unit: "ms",
  groups: (context) => [group(context, 1, [...everybody, pgPerQuery], { what: "five", value: millis })]
}

const counting = (
  { counted }: Context,
  subjects: ReadonlyArray<Subject>,
  what: (querying: Querying) => Load | undefined
): ReadonlyArray<Entrant> =>
  together(
    subjects,
    { url: counted.url, pool: 1, fibers: 1 },
    {
      what: (querying) => {
        const load = what(querying)
        if (load === undefined) return undefined
        return async (fibers, time) => {
          await load(fibers, time / 4)
          await counted.reset()
          const count = await load(fibers, time / 4)
          return (await counted.roundTrips()) / count
        }
      },
      value: (roundTripsOfOne) => roundTripsOfOne
    }
  )

export const roundTrips: Row = {
  name: "round-trips",
  about: "round trips on the wire of one warm select, counted by a proxy",
  brief: "round trips of a warm select",
  unit: "round trips",
  rounds: 1,
  groups: (context) => [{ contenders: counting(context, everybody, ({ select: load }) => load) }]
}

export const transactionRoundTrips: Row = {
  name: "transaction-round-trips",
  about: "round trips on the wire of a transaction with one statement, counted by a proxy",
  brief: "round trips of a transaction with one statement",
  unit: "round trips",
  rounds: 1,
  groups: (context) => [{ contenders: counting(context, inTransactions, (querying) => querying.transaction) }]
}
