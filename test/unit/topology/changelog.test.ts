import { assert, describe, it } from "@effect/vitest"
import * as ChangeLog from "../../../packages/sdk/src/topology/ChangeLog.ts"
import type { Change } from "../../../packages/sdk/src/topology/Topology.ts"

const change = (kind: Change["kind"], from: string, to: string, node = "a:1"): Change => ({
  at: 0,
  node,
  kind,
  from,
  to,
  lastError: undefined
})

describe("what a log tells of servers", () => {
  it("is nothing while they are found as they are, and while one look fails", () => {
    const line = ChangeLog.make("fleet")
    const changes = [
      change("added", "absent", "unknown"),
      change("phase", "unknown", "up"),
      change("role", "unknown", "replica"),
      change("phase", "up", "suspect"),
      change("role", "replica", "unknown"),
      change("phase", "suspect", "up"),
      change("role", "unknown", "replica")
    ]
    for (const one of changes) assert.strictEqual(line(one).level, "Debug", line(one).text)
  })

  it("is one line when a replica becomes the primary, also after a look that failed", () => {
    const line = ChangeLog.make("fleet")
    line(change("role", "unknown", "replica"))
    line(change("role", "replica", "unknown"))
    assert.deepStrictEqual(line(change("role", "unknown", "primary")), {
      level: "Info",
      text: "fleet: a:1 was a replica and is a primary now"
    })
  })

  it("is a warning when a server is down or fenced, and a line when it serves again", () => {
    const line = ChangeLog.make("fleet")
    assert.deepStrictEqual(
      line({ ...change("phase", "suspect", "down"), lastError: { tag: "Unreachable", message: "no answer" } }),
      { level: "Warn", text: "fleet: a:1 is down (Unreachable: no answer)" }
    )
    assert.strictEqual(line(change("phase", "down", "returning")).level, "Debug")
    assert.deepStrictEqual(line(change("phase", "returning", "up")), { level: "Info", text: "fleet: a:1 is up again" })
    assert.strictEqual(line(change("fenced", "in use", "old-timeline")).level, "Warn")
    assert.strictEqual(line(change("fenced", "old-timeline", "in use")).level, "Info")
  })
})
