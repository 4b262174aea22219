/** The account of a drill is only worth something if it sees what goes wrong: subjects that misbehave, in memory. */
import { assert, describe, it } from "@effect/vitest"
import { type Call, itemName, makeLoad, recovery, summarize } from "./harness.ts"
import type { Answer, Opened } from "./Subject.ts"

const ok = (value: string): Answer => ({ kind: "ok", value })
const later = <A>(value: A, millis: number) => new Promise<A>((resolve) => setTimeout(() => resolve(value), millis))

/** A subject over a list of tokens, with one thing changed. */
const subject = (change: (stored: Array<string>) => Partial<Opened>) => {
  const stored: Array<string> = []
  const opened: Opened = {
    read: async (id) => ok(itemName(id)),
    write: async (token) => {
      stored.push(token)
      return ok(token)
    },
    held: async () => 0,
    close: async () => {},
    ...change(stored)
  }
  return { opened, stored }
}

const run = async (change: (stored: Array<string>) => Partial<Opened>) => {
  const { opened, stored } = subject(change)
  const load = makeLoad(opened, { workers: 4, deadline: 60, patience: 200, random: () => 0.5, tag: "t" })
  await later(undefined, 400)
  await load.stop()
  const counts = new Map<string, number>()
  for (const token of stored) counts.set(token, (counts.get(token) ?? 0) + 1)
  const account = load.account(counts)
  const result = summarize("sluice", load.calls, account, 0, { name: "test", began: 0, healed: 0 }, [])
  assert.isAbove(result.calls, 3)
  assert.strictEqual(
    result.succeeded +
      result.failedAsDeclared +
      result.failedOtherwise +
      load.calls.filter((call) => call.kind === "wrong" || call.kind === "unanswered").length,
    result.calls,
    "every call is under exactly one heading"
  )
  return { ...result, account }
}

/** Does it to every third token. */
const third = (token: string) => Number(token.split("-").at(-1)) % 3 === 0

describe("the account of a drill", () => {
  it("is clean for a subject that does what it says", async () => {
    const result = await run(() => ({}))
    assert.strictEqual(result.succeeded, result.calls)
    assert.deepInclude(result, { failedOtherwise: 0, late: 0, lost: 0, doubled: 0, wrong: 0 })
    assert.isAbove(result.account.written, 2)
  })

  it("finds a write that was acknowledged and is not there", async () => {
    const result = await run((stored) => ({
      write: async (token) => {
        if (!third(token)) stored.push(token)
        return ok(token)
      }
    }))
    assert.isAbove(result.lost, 0)
    assert.strictEqual(result.doubled, 0)
  })

  it("finds a write that was applied twice", async () => {
    const result = await run((stored) => ({
      write: async (token) => {
        stored.push(token)
        if (third(token)) stored.push(token)
        return ok(token)
      }
    }))
    assert.isAbove(result.doubled, 0)
    assert.strictEqual(result.lost, 0)
  })

  it("finds a write that was applied although its caller was told that it certainly was not", async () => {
    const says = (mayBeApplied: boolean) =>
      run((stored) => ({
        write: async (token) => {
          stored.push(token)
          return third(token) ? { kind: "declared", error: "Refused", mayBeApplied } : ok(token)
        }
      }))
    assert.isAbove((await says(false)).wrong, 0)
    const honest = await says(true)
    assert.strictEqual(honest.wrong, 0)
    assert.isAbove(honest.account.appliedUnknown, 0)
  })

  it("finds the answer to another question", async () => {
    const result = await run(() => ({ read: async (id) => ok(itemName(id === 501 ? 502 : id)) }))
    assert.isAbove(result.wrong, 0)
  })

  it("finds calls that are answered late", async () => {
    const result = await run(() => ({ read: (id) => later(ok(itemName(id)), 150) }))
    assert.isAbove(result.late, 0)
    assert.strictEqual(result.succeeded, result.calls)
  })

  it("does not call late what this process itself was too busy to hear", async () => {
    let once = true
    const result = await run(() => ({
      read: async (id) => {
        if (once) {
          once = false
          setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200), 5)
        }
        return later(ok(itemName(id)), 10)
      }
    }))
    assert.strictEqual(result.late, 0)
  })

  it("finds calls that are never answered, and gives them up", async () => {
    const result = await run(() => ({ read: () => new Promise(() => {}) }))
    assert.isAbove(result.lost, 0)
    assert.isAbove(result.late, 0)
  })

  it("tells a defect from an error that was declared", async () => {
    const result = await run(() => ({
      read: () => Promise.reject(new Error("boom")),
      write: async () => ({ kind: "declared", error: "Refused", mayBeApplied: false })
    }))
    assert.isAbove(result.failedOtherwise, 0)
    assert.isAbove(result.failedAsDeclared, 0)
    assert.match(result.note ?? "", /boom/)
  })

  it("recovery ends with the last failure of a call that began after the fault", () => {
    const call = (began: number, ended: number, kind: Call["kind"]): Call => ({ began, ended, kind, late: false })
    const during = call(50, 180, "declared")
    assert.strictEqual(recovery([during, call(110, 130, "ok")], 0, 100), 30)
    assert.strictEqual(
      recovery([during, call(110, 130, "ok"), call(120, 160, "declared"), call(150, 170, "ok")], 0, 100),
      70
    )
    assert.isNull(recovery([call(110, 130, "ok"), call(120, 160, "declared")], 0, 100))
  })

  it("recovery ends after the gap, also when nothing failed", () => {
    const every = (from: number, to: number): ReadonlyArray<Call> =>
      Array.from({ length: (to - from) / 5 }, (_, n) => ({
        began: from + n * 5 - 4,
        ended: from + n * 5,
        kind: "ok",
        late: false
      }))
    assert.strictEqual(recovery([...every(0, 1_000), ...every(1_000, 3_000)], 1_000, 1_000), 0)
    assert.strictEqual(recovery([...every(0, 1_000), ...every(1_405, 3_000)], 1_000, 1_000), 405)
    assert.strictEqual(recovery([...every(0, 1_150), ...every(1_505, 3_000)], 1_000, 1_000), 505)
    assert.isNull(
      recovery([...every(0, 1_050), { began: 1_100, ended: 3_000, kind: "unanswered", late: true }], 1_000, 1_000)
    )
  })
})
