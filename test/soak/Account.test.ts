/** The account and the leak counters of a soak are only worth something if they see what goes wrong. */
import { assert, describe, it } from "@effect/vitest"
import { EventEmitter } from "node:events"
import * as net from "node:net"
import { Account, type Ending } from "./Account.ts"
import * as Leaks from "./Leaks.ts"
import { broken, heapGrowth, type SoakResult } from "./soak.ts"

const refused: Ending = { kind: "declared", error: "Overloaded", mayBeApplied: false }
const unknown: Ending = { kind: "declared", error: "OutcomeUnknown", mayBeApplied: true }

/** One write, told so, and found so often. */
const written = (ending: Ending, times: number, torn = false) => {
  const account = new Account()
  account.end("write", ending, undefined, account.begin())
  account.settle(() => ({ times, torn }))
  const { doubled, lost, wrong } = account
  return { lost, doubled, wrong }
}

const clean = { lost: 0, doubled: 0, wrong: 0 }

describe("the account of a soak", () => {
  it("is clean where callers were told the truth", () => {
    assert.deepStrictEqual(written({ kind: "ok" }, 1), clean)
    assert.deepStrictEqual(written(refused, 0), clean)
    assert.deepStrictEqual(written(unknown, 0), clean)
    assert.deepStrictEqual(written(unknown, 1), clean)
  })

  it("finds writes that are lost, doubled, applied in part, or denied", () => {
    assert.deepStrictEqual(written({ kind: "ok" }, 0), { ...clean, lost: 1 })
    assert.deepStrictEqual(written({ kind: "ok" }, 2), { ...clean, doubled: 1 })
    assert.deepStrictEqual(written(unknown, 2), { ...clean, doubled: 1 })
    assert.deepStrictEqual(written(refused, 1), { ...clean, wrong: 1 })
    assert.deepStrictEqual(written({ kind: "ok" }, 1, true), { ...clean, wrong: 1 })
  })

  it("a write that was acknowledged stays so, whatever its caller is told of what follows", () => {
    const account = new Account()
    const write = account.begin()
    account.acknowledge(write)
    account.end("read own write", refused, undefined, write)
    account.settle(() => ({ times: 0, torn: false }))
    assert.strictEqual(account.lost, 1)
  })

  it("counts wrong answers, silence and lateness, and every call once", () => {
    const account = new Account()
    account.end("read", { kind: "ok" }, undefined)
    account.end("read", { kind: "ok" }, 80)
    account.end("read", { kind: "wrong", problem: "item 2 in place of item 1" }, undefined)
    account.end("read", { kind: "unanswered" }, undefined)
    const { calls, late, lost, wrong } = account
    assert.deepStrictEqual({ calls, late, lost, wrong }, { calls: 4, late: 1, lost: 1, wrong: 1 })
    assert.strictEqual(
      [...account.endings.values()].reduce((sum, count) => sum + count, 0),
      4
    )
    assert.lengthOf(account.problems, 3)
  })

  it("keeps more writes than it had room for", () => {
    const account = new Account()
    for (let n = 0; n < 200_000; n++) account.end("write", { kind: "ok" }, undefined, account.begin())
    account.settle((write) => ({ times: write === 199_999 ? 0 : 1, torn: false }))
    assert.strictEqual(account.lost, 1)
  })
})

describe("the verdict", () => {
  const kept: SoakResult = {
    minutes: 2,
    seed: 1,
    calls: 10,
    writes: 5,
    lost: 0,
    doubled: 0,
    wrong: 0,
    late: 0,
    heapStart: 1_000,
    heapEnd: 1_000 + heapGrowth,
    leaked: { sessions: 0, permits: 0, timers: 0, listeners: 0 }
  }

  it("names whatever is not zero, and a heap that grew", () => {
    assert.deepStrictEqual(broken(kept), [])
    for (const name of ["lost", "doubled", "wrong", "late"]) {
      assert.deepStrictEqual(broken({ ...kept, [name]: 3 }), [`${name} 3`])
    }
    for (const name of Object.keys(kept.leaked)) {
      assert.deepStrictEqual(broken({ ...kept, leaked: { ...kept.leaked, [name]: 1 } }), [`${name} 1`])
    }
    assert.lengthOf(broken({ ...kept, heapEnd: kept.heapEnd + 1 }), 1)
  })
})

describe("what is left behind", () => {
  it("timers are counted until they ring or are cleared", async () => {
    const timers = Leaks.watchTimers()
    try {
      const long = setTimeout(() => {}, 60_000)
      const again = setInterval(() => {}, 60_000)
      const gone = setTimeout(() => {}, 60_000)
      clearTimeout(gone)
      await new Promise((resolve) => setTimeout(resolve, 5))
      assert.strictEqual(timers.count(), 2)
      clearTimeout(long)
      clearInterval(again)
      assert.strictEqual(timers.count(), 0)
    } finally {
      timers.restore()
    }
  })

  it("listeners on the process and on sockets are counted, and Node's own warning is heard", async () => {
    const before = Leaks.listeners()
    const warnings = Leaks.watchWarnings()
    const server = net.createServer().listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    const socket = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1")
    await new Promise((resolve) => socket.once("connect", resolve))
    const listener = () => {}
    process.on("SIGUSR2", listener)
    for (let n = 0; n < 40; n++) socket.on("drain", listener)
    const after = Leaks.listeners()
    assert.strictEqual(after.process - before.process, 2, "ours, and that for warnings")
    assert.isAtLeast(after.socket, 40)
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.strictEqual(warnings.count(), 1)
    process.off("SIGUSR2", listener)
    warnings.stop()
    socket.destroy()
    server.close()
    assert.strictEqual(Leaks.listeners().process, before.process)
  })

  it("heap that nobody holds is not counted", async () => {
    const before = await Leaks.heapUsed()
    let held: Array<EventEmitter> | undefined = Array.from({ length: 50_000 }, () => new EventEmitter())
    assert.isAbove((await Leaks.heapUsed()) - before, 2_000_000)
    assert.lengthOf(held, 50_000)
    held = undefined
    assert.isBelow((await Leaks.heapUsed()) - before, 2_000_000)
  })
})
