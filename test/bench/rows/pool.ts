/** The pool's rows: throughput at four widths, transactions, shared sessions, and what a lease costs. */
import type { Context, Entrant, Row } from "../Row.ts"
import { type Asked, entrants, millis, nanos, perSecond, type Querying, type Load, type Subject } from "../Subject.ts"
import {
  driver,
  driverLease,
  driverShared,
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
const inTransactions = [...built, pgPool]

const group = (url: string, fibers: number, subjects: ReadonlyArray<Subject>, asked: Asked) => ({
  fibers,
  contenders: entrants(subjects, { url, pool, fibers }, asked)
})

const selects: Asked = { what: ({ select: load }) => load, value: perSecond }

/** Numbers of fibers; when it only has to run, one is enough. */
const widths = ({ quick }: Context, all: ReadonlyArray<number>) => (quick ? all.slice(0, 1) : all)

export const select: Row = {
  name: "select",
  about:
    "one row by primary key, pool of 10, exclusive leases (postgres pipelines by itself); each beside the subject of Sluice that does the same work",
  unit: "op/s",
  groups: (context) =>
    widths(context, [1, 20, 100, 1_000]).map((fibers) => group(context.url, fibers, everybody, selects))
}

export const perQuery: Row = {
  name: "connection-per-query",
  about: "one row by primary key: a pool of 10 against a new connection for each query, at most 10 at a time",
  unit: "op/s",
  groups: (context) =>
    widths(context, [1, 20]).map((fibers) =>
      group(context.url, fibers, [sluice, sluiceLease, driverLease, pgPool, pgPerQuery], selects)
    )
}

export const transaction: Row = {
  name: "transaction",
  about: "begin, one row by primary key, commit; pool of 10; through Effect's SqlClient where it is Effect",
  unit: "op/s",
  groups: (context) => [
    group(context.url, 20, inTransactions, { what: (querying) => querying.transaction, value: perSecond })
  ]
}

export const shared: Row = {
  name: "shared",
  about:
    "one row by primary key over sessions that fibers share (pipelining): Sluice's lane of 5 sessions, the driver's multiplex of up to 10; exclusive leases of pg beside them",
  unit: "op/s",
  groups: (context) =>
    widths(context, [20, 100]).map((fibers) =>
      group(
        context.url,
        fibers,
        [
          sluiceSharedLease,
          driverSharedLease,
          sluiceShared,
          driverShared,
          { ...pgPool, beside: "sluice shared lease" },
          postgresJs
        ],
        selects
      )
    )
}

export const acquire: Row = {
  name: "acquire",
  about: "a lease taken and given back while a session is idle, nothing done with it (slonik resets: a round trip)",
  unit: "ns/op",
  groups: (context) => [
    group(context.url, 1, [sluiceLease, driverLease, pgPool, ...built], {
      what: (querying) => querying.acquire,
      value: nanos
    })
  ]
}

export const five: Row = {
  name: "five-parallel",
  about: "five selects at once, awaited together",
  unit: "ms",
  groups: (context) => [
    group(context.url, 1, [...everybody, pgPerQuery], { what: (querying) => querying.five, value: millis })
  ]
}

const counting = (
  { counted }: Context,
  subjects: ReadonlyArray<Subject>,
  what: (querying: Querying) => Load | undefined
): ReadonlyArray<Entrant> =>
  entrants(
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
  unit: "round trips",
  rounds: 1,
  groups: (context) => [{ contenders: counting(context, everybody, ({ select: load }) => load) }]
}

export const transactionRoundTrips: Row = {
  name: "transaction-round-trips",
  about: "round trips on the wire of a transaction with one statement, counted by a proxy",
  unit: "round trips",
  rounds: 1,
  groups: (context) => [{ contenders: counting(context, inTransactions, (querying) => querying.transaction) }]
}
