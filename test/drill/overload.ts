/**
 * Ten times as many calls as can be served, for as long as the fault lasts: an open loop, in which callers come by the
 * clock and not when they were answered. Sluice's report declares a bulkhead with priorities and shedding; the others have
 * what their users have, a queue and a timeout. What counts is the goodput: who was answered in time, by priority.
 */
import { Database, Report } from "@sluice/sdk"
import * as Caller from "@sluice/sdk/policy/Caller"
import * as Effect from "effect/Effect"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import { movable } from "../support/clock.ts"
import { type Call, type DrillResult, grace, heartbeat, itemName, summarize } from "./harness.ts"
import type { Ground, Settings } from "./run.ts"
import type { Answer, Subject, Target } from "./Subject.ts"
import { answerOf, heldBy, roleOf } from "./subjects.ts"
import type { Panel } from "./timeline.ts"

export const overload = {
  name: "overload-10x",
  about:
    "for 5 s ten times as many calls as can be served; goodput by priority: 5 % interactive, 35 % report, 60 % batch"
}

const pool = 2
/** A statement takes 20 ms: what two sessions can do in a second. Few, so that this process is not what is overloaded. */
const capacity = pool * 50
const shares = [
  ["interactive", 0.05],
  ["report", 0.35],
  ["batch", 0.6]
] as const
type Priority = (typeof shares)[number][0]

class Crowd extends Database.Service<Crowd>()("crowd", { roles: ["main"] }) {}

const read = (deadline: number) =>
  Report.make("crowded", {
    database: Crowd.role("main"),
    params: { id: Schema.Int },
    row: { name: Schema.String },
    query: (sql, { id }) => sql`select name from items, pg_sleep(0.02) where id = ${id}`,
    deadline,
    bulkhead: { permits: pool, queue: 4 * pool },
    // Longer than the longest call; the default of two minutes is for calls of a minute.
    shed: { window: "2 seconds" }
  })

interface Opened {
  readonly read: (id: number, priority: Priority) => Promise<Answer>
  readonly held: () => Promise<number>
  readonly close: () => Promise<void>
}

const openSluice = async (target: Target): Promise<Opened> => {
  const runtime = ManagedRuntime.make(Crowd.layer({ main: { ...roleOf(target), minConnections: pool } }))
  const role = await runtime.runPromise(Crowd.role("main"))
  const report = read(target.deadline)
  return {
    read: (id, priority) =>
      runtime
        .runPromiseExit(
          Effect.map(report.run({ id }), (rows) => rows[0]?.name ?? "nothing").pipe(
            Effect.provideService(Caller.Current, { priority: Caller.priorities[priority] })
          )
        )
        .then(answerOf(report)),
    held: () => heldBy(role),
    close: () => runtime.dispose()
  }
}

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Who comes next. */
const drawn = (random: () => number): Priority => {
  let point = random()
  for (const [name, share] of shares) if ((point -= share) < 0) return name
  return "batch"
}

let serial = 0

export const drillOverload = (ground: Ground, subject: Subject, settings: Settings) =>
  Effect.promise(async () => {
    const { deadline, random } = settings
    const applicationName = `crowd-${subject.name}-${++serial}`
    const target: Target = {
      host: ground.cluster.primary.host,
      port: ground.cluster.primary.port,
      database: ground.database.name,
      user: ground.user,
      password: ground.password,
      applicationName,
      pool,
      deadline,
      clock: movable().clock
    }
    const opened: Opened = subject.name === "sluice" ? await openSluice(target) : await subject.open(target)
    const zero = performance.now()
    const at = () => performance.now() - zero
    const heart = heartbeat(at)
    const calls: Array<Call & { readonly priority: Priority; readonly crowded: boolean }> = []
    const pending = new Set<Promise<void>>()
    const come = (crowded: boolean) => {
      const priority = drawn(random)
      const id = 1 + Math.floor(random() * 1_000)
      const began = at()
      const limit = sleep(deadline + 8_000).then(() => "unanswered" as const)
      const call = Promise.race([opened.read(id, priority), limit]).then((answer) => {
        const ended = at()
        const late = ended - began - heart.between(began, ended) > deadline + grace
        const common = { began, ended, late, priority, crowded }
        if (answer === "unanswered") calls.push({ ...common, kind: "unanswered", error: "no answer" })
        else if (answer.kind === "ok") calls.push({ ...common, kind: answer.value === itemName(id) ? "ok" : "wrong" })
        else calls.push({ ...common, kind: answer.kind, error: answer.error })
        pending.delete(call)
      })
      pending.add(call)
    }
    /** Calls at a rate, whether or not they are answered. */
    const flow = async (perSecond: number, millis: number, crowded: boolean) => {
      const start = at()
      for (let sent = 0; at() - start < millis; await sleep(2)) {
        for (const due = ((at() - start) / 1_000) * perSecond; sent < due; sent++) come(crowded)
      }
    }
    await flow(capacity / 2, settings.before, false)
    const began = at()
    await flow(capacity * 10, 5_000, true)
    const healed = at()
    const away = heart.between(began, healed) / (healed - began)
    await flow(capacity / 2, settings.after, false)
    await Promise.all(pending)
    heart.stop()
    const held = await opened.held()
    await opened.close()
    const crowd = calls.filter(({ crowded }) => crowded)
    const goodput = shares.map(([name]) => {
      const offered = crowd.filter(({ priority }) => priority === name)
      const good = offered.filter(({ began, ended, kind }) => kind === "ok" && ended - began <= deadline)
      return { name, share: good.length / Math.max(1, offered.length), good: good.length, offered: offered.length }
    })
    const served = goodput.reduce((sum, { good }) => sum + good, 0)
    const waits = crowd
      .filter(({ kind }) => kind === "ok")
      .map(({ began, ended }) => ended - began)
      .sort((a, b) => a - b)
    const notes = [
      `goodput: ${goodput.map(({ name, share }) => `${name} ${(share * 100).toFixed(0)} %`).join(", ")}`,
      `${Math.round(served / 5)} of ${capacity} a second served in time, half of them within ${Math.round(waits[Math.floor(waits.length / 2)] ?? 0)} ms`
    ]
    // What this process did not get round to is not the fault of what it declares.
    if (away >= 0.2) notes.push(`not judged: this process was away for ${Math.round(away * 100)} % of the time`)
    const nothing = { doubled: 0, lost: 0, wrong: 0 }
    const summary = summarize(subject.name, calls, nothing, held, { name: overload.name, began, healed }, notes)
    const interactive = goodput[0]!.share
    const broken = subject.name === "sluice" && interactive < 0.9 && away < 0.2
    const result: DrillResult = broken
      ? { ...summary, wrong: summary.wrong + 1, note: `${summary.note}; not kept: 90 % of the interactive calls` }
      : summary
    const panel: Panel = { subject: subject.name, calls, began, healed }
    return { result, panel, goodput }
  })
