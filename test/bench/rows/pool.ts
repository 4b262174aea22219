/** The pool's rows: throughput at four widths, transactions, shared sessions, and what a lease costs. */
import type { Group, Row } from "../Row.ts"
import type { Load, Querying, Subject } from "../Subject.ts"
import {
  driver,
  driverLease,
  driverShared,
  sluice,
  sluiceLease,
  sluiceShared,
  sluiceSharedLease,
  sluiceSql
} from "../subjects/effects.ts"
import { pgPerQuery, pgPool } from "../subjects/pg.ts"
import { kysely, postgresJs, slonik } from "../subjects/promises.ts"

const pool = 10

const everybody = [sluice, sluiceLease, sluiceSql, driverLease, driver, pgPool, postgresJs, slonik, kysely]

const group = (
  url: string,
  fibers: number | undefined,
  subjects: ReadonlyArray<Subject>,
  what: (querying: Querying) => Load | undefined,
  value: (count: number, seconds: number, fibers: number) => number
): Group => ({
  ...(fibers !== undefined && { fibers }),
  contenders: subjects.map((subject) => ({
    subject: subject.name,
    open: async () => {
      const querying = await subject.open({ url, pool })
      const load = what(querying)
      if (load === undefined) {
        await querying.close()
        throw new Error("does not offer this")
      }
      return {
        subject: subject.name,
        round: async (millis) => {
          const began = performance.now()
          const count = await load(fibers ?? 1, millis)
          return value(count, (performance.now() - began) / 1_000, fibers ?? 1)
        },
        close: querying.close
      }
    }
  }))
})

const perSecond = (count: number, seconds: number) => count / seconds
const nanos = (count: number, seconds: number) => (seconds * 1e9) / count
const millis = (count: number, seconds: number) => (seconds * 1e3) / count

export const select: Row = {
  name: "select",
  about: "one row by primary key, pool of 10, exclusive leases (postgres pipelines by itself)",
  unit: "op/s",
  groups: ({ url }) =>
    [1, 20, 100, 1_000].map((fibers) => group(url, fibers, everybody, (querying) => querying.select, perSecond))
}

export const perQuery: Row = {
  name: "connection-per-query",
  about: "one row by primary key: a pool of 10 against a new connection for each query, at most 10 at a time",
  unit: "op/s",
  groups: ({ url }) =>
    [1, 20].map((fibers) =>
      group(url, fibers, [sluice, driver, pgPool, pgPerQuery], (querying) => querying.select, perSecond)
    )
}

export const transaction: Row = {
  name: "transaction",
  about: "begin, one row by primary key, commit; pool of 10",
  unit: "op/s",
  groups: ({ url }) => [group(url, 20, everybody, (querying) => querying.transaction, perSecond)]
}

export const shared: Row = {
  name: "shared",
  about: "one row by primary key over sessions that fibers share (pipelining), against exclusive leases of pg",
  unit: "op/s",
  groups: ({ url }) =>
    [20, 100].map((fibers) =>
      group(
        url,
        fibers,
        [sluiceSharedLease, sluiceShared, driverShared, driver, pgPool, postgresJs],
        (querying) => querying.select,
        perSecond
      )
    )
}

export const acquire: Row = {
  name: "acquire",
  about: "a lease taken and given back while a session is idle, nothing done with it (slonik resets: a round trip)",
  unit: "ns/op",
  groups: ({ url }) => [group(url, 1, everybody, (querying) => querying.acquire, nanos)]
}

export const five: Row = {
  name: "five-parallel",
  about: "five selects at once, awaited together",
  unit: "ms",
  groups: ({ url }) => [group(url, 1, [...everybody, pgPerQuery], (querying) => querying.five, millis)]
}

export const roundTrips: Row = {
  name: "round-trips",
  about: "round trips on the wire of one warm select, counted by a proxy",
  unit: "round trips",
  rounds: 1,
  groups: ({ counted }) => [
    {
      contenders: everybody.map((subject) => counting(subject, counted, (querying) => querying.select))
    }
  ]
}

export const transactionRoundTrips: Row = {
  name: "transaction-round-trips",
  about: "round trips on the wire of a transaction with one statement, counted by a proxy",
  unit: "round trips",
  rounds: 1,
  groups: ({ counted }) => [
    { contenders: everybody.map((subject) => counting(subject, counted, (querying) => querying.transaction)) }
  ]
}

type Counted = Parameters<Row["groups"]>[0]["counted"]

const counting = (
  subject: Subject,
  counted: Counted,
  what: (querying: Querying) => Load | undefined
): Group["contenders"][number] => ({
  subject: subject.name,
  open: async () => {
    const querying = await subject.open({ url: counted.url, pool: 1 })
    const load = what(querying)
    if (load === undefined) {
      await querying.close()
      throw new Error("does not offer this")
    }
    return {
      subject: subject.name,
      round: async (time) => {
        await load(1, time / 4)
        await counted.reset()
        const count = await load(1, time / 4)
        return (await counted.roundTrips()) / count
      },
      close: querying.close
    }
  }
})
