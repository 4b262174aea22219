/** A restart that nobody announced: how long until calls succeed, and until the pool is whole again. */
import * as Effect from "effect/Effect"
import * as pg from "pg"
import { type Context, figures, isSluice } from "../Row.ts"
import type { Querying, Subject } from "../Subject.ts"
import { driver, sluice } from "../subjects/effects.ts"
import { pgPool } from "../subjects/pg.ts"
import { postgresJs } from "../subjects/promises.ts"

/** One session when it only has to run: ten of `postgres` take twenty seconds. */
const sizeOf = ({ quick }: Context) => (quick ? 1 : 10)
const workers = 20

const pause = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Asks again every 5 ms until `attempt` gives something; at most 30 s. */
const until = async <A>(what: string, attempt: () => Promise<A | undefined>): Promise<A> => {
  for (const end = performance.now() + 30_000; performance.now() < end; await pause(5)) {
    const found = await attempt()
    if (found !== undefined) return found
  }
  throw new Error(`${what}: not within 30 s`)
}

const connected = async (url: string) => {
  const client = new pg.Client({ connectionString: url })
  client.on("error", () => {})
  return client.connect().then(
    () => client,
    () => undefined
  )
}

/** 20 callers, each with one call after the other; after a failure they wait 10 ms. */
const load = (querying: Querying) => {
  const successes: Array<{ readonly began: number; readonly ended: number }> = []
  const state = { going: true }
  let at = 0
  const all = Promise.all(
    Array.from({ length: workers }, async () => {
      while (state.going) {
        const began = performance.now()
        try {
          await querying.once!((at++ % 100) + 1)
          successes.push({ began, ended: performance.now() })
        } catch {
          await pause(10)
        }
      }
    })
  )
  return {
    successes,
    stop: async () => {
      state.going = false
      await all
    }
  }
}

const servers = new WeakMap<Context, ReturnType<Context["cluster"]>>()

const serverOf = (context: Context) => {
  const make = async () => {
    const cluster = await context.cluster()
    await Effect.runPromise(cluster.primary.query("create table items (id int primary key, name text, value float8)"))
    await Effect.runPromise(
      cluster.primary.query("insert into items select g, 'item ' || g, g / 7.0 from generate_series(1, 100) g")
    )
    return cluster
  }
  const known = servers.get(context) ?? make()
  servers.set(context, known)
  return known
}

const restarted =
  (subject: Subject) =>
  async (context: Context): Promise<Record<"first" | "full", number>> => {
    const { primary } = await serverOf(context)
    const pool = sizeOf(context)
    const querying = await subject.open({ url: primary.url, pool })
    const { stop, successes } = load(querying)
    const unhandled: Array<string> = []
    const note = (error: unknown) => unhandled.push(String(error))
    process.on("unhandledRejection", note)
    let client: pg.Client | undefined
    const sessions = async () => {
      const text =
        "select count(*)::int as count from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
      return (await client!.query<{ count: number }>(text)).rows[0]!.count
    }
    const whole = async () => ((await sessions()) >= pool ? performance.now() : undefined)
    try {
      client = await until("a session before the restart", () => connected(primary.url))
      await until("a whole pool before the restart", whole)
      await client.end()
      await Effect.runPromise(primary.stop("immediate"))
      const stopped = performance.now()
      const started = Effect.runPromise(primary.start)
      client = await until("the server after the restart", () => connected(primary.url))
      const ready = performance.now()
      const full = await until("a whole pool after the restart", whole)
      const first = await until("a success after the restart", async () =>
        successes.find(({ began }) => began > stopped)
      )
      await started
      if (unhandled.length > 0 && isSluice(subject.name)) throw new Error(`unhandled: ${unhandled[0]}`)
      // The server is looked at every 5 ms: a subject may be back before it was seen.
      return { first: Math.max(1, first.ended - ready), full: Math.max(1, full - ready) }
    } finally {
      await client?.end().catch(() => {})
      await stop()
      await querying.close()
      process.off("unhandledRejection", note)
      if (unhandled.length > 0)
        context.say(
          `${subject.name}: a rejection that nobody can handle, which ends a process of Node: ${unhandled[0]}`
        )
    }
  }

export const recovery = figures({
  rounds: 3,
  warmUp: false,
  subjects: [sluice, driver, pgPool, postgresJs].map((subject) => ({
    subject: subject.name,
    run: restarted(subject)
  })),
  rows: [
    {
      name: "recovery-first",
      about:
        "the server is stopped `immediate` under 20 callers on a pool of 10 and started again: from the server's first accepted session to the first success (1 ms: at once; callers wait 10 ms after a failure)",
      brief: "a restart, `immediate`: from the server's first session to the first success",
      unit: "ms",
      figure: "first"
    },
    {
      name: "recovery-full",
      about: "the same: until the pool has its 10 sessions again",
      brief: "the same, to a whole pool",
      unit: "ms",
      figure: "full"
    }
  ]
})
