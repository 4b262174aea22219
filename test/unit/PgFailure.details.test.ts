/** Details of the classification that no rule of thumb covers: each was once a mutant that nobody noticed. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import * as PgFailure from "../../packages/sdk/src/PgFailure.ts"

const unknown = (cause: unknown): SqlError => new SqlError({ reason: new UnknownError({ cause, operation: "query" }) })
const connection = (cause: unknown): SqlError =>
  new SqlError({ reason: new ConnectionError({ cause, operation: "query" }) })

const of = (input: PgFailure.Input) => PgFailure.classify({ sent: true, ...input })

describe("PgFailure in detail", () => {
  it("alarms about configuration, credentials, disks, corruption and bugs, and about nothing else", () => {
    const alarming = [
      "08P01",
      "25P03",
      "25P04",
      "28P01",
      "3D000",
      "53100",
      "57P04",
      "57P05",
      "58030",
      "F0000",
      "XX000",
      "XX001",
      "XX002"
    ]
    const calm = [
      "08006",
      "40001",
      "40P01",
      "42P01",
      "42501",
      "53300",
      "53400",
      "55P03",
      "57014",
      "57P01",
      "57P03",
      "22012",
      "99999"
    ]
    for (const sqlState of alarming) assert.isTrue(of({ sqlState }).alarm, sqlState)
    for (const sqlState of calm) assert.isFalse(of({ sqlState }).alarm, sqlState)
    assert.isTrue(of({ transport: "TLS" }).alarm)
    assert.isTrue(of({ defect: true }).alarm)
    assert.isFalse(of({ transport: "ECONNRESET" }).alarm)
  })

  it("looks at the role of a node where it may have changed, and nowhere else", () => {
    for (const sqlState of ["08001", "08006", "57P01", "57P02", "57P03", "25006"])
      assert.isTrue(of({ sqlState }).probe, sqlState)
    for (const sqlState of ["53300", "57014", "40001", "58030", "28P01"])
      assert.isFalse(of({ sqlState }).probe, sqlState)
    assert.isTrue(of({ transport: "ECONNRESET" }).probe)
    assert.isTrue(of({ timer: "connect" }).probe)
  })

  it("does not wait after a lost session, as it does after a shutdown", () => {
    assert.isTrue(of({ sqlState: "08006" }).immediate)
    assert.isFalse(of({ sqlState: "57P01" }).immediate)
  })

  it("40002 is an integrity constraint, which repeating breaks again", () => {
    assert.deepInclude(of({ sqlState: "40002" }), { class: "CallerError", retry: "never" })
  })

  it("nobody's overrides are none", () => {
    const overrides = Context.get(Context.empty(), PgFailure.CurrentOverrides)
    assert.instanceOf(overrides, Map)
    assert.strictEqual(overrides.size, 0)
    assert.deepStrictEqual(
      PgFailure.classify({ sqlState: "40001" }, overrides),
      PgFailure.classify({ sqlState: "40001" })
    )
  })

  it("facts are out of sight, and can be replaced", () => {
    const cause = PgFailure.attachFacts(new Error("x"), { sent: false })
    assert.notInclude(Object.keys(cause), PgFailure.FactsKey)
    PgFailure.attachFacts(cause, { sent: true })
    assert.deepStrictEqual(PgFailure.factsOf({ cause }), { sent: true })
    Object.assign(cause, { [PgFailure.FactsKey]: { sent: false } })
    assert.deepStrictEqual(PgFailure.factsOf({ cause }), { sent: false })
    assert.isTrue(delete (cause as any)[PgFailure.FactsKey])
  })

  it("facts that are no object are no facts", () => {
    for (const facts of ["text", 1, true, null, undefined]) {
      assert.isUndefined(PgFailure.factsOf({ cause: { [PgFailure.FactsKey]: facts } }), String(facts))
      assert.isUndefined(PgFailure.factsOf({ [PgFailure.FactsKey]: facts }), String(facts))
    }
  })

  it("a code is a text: a number that looks like one is neither a SQLSTATE nor a transport", () => {
    const input = PgFailure.inputOf(unknown({ code: 42_703, severity: "ERROR" }))
    assert.isUndefined(input.sqlState)
    assert.isUndefined(input.transport)
  })

  it("looks four causes deep, and comes back from a circle", () => {
    const at = (depth: number): unknown =>
      depth === 0 ? { code: "40001", severity: "ERROR" } : { cause: at(depth - 1) }
    for (const depth of [0, 1, 2, 3])
      assert.strictEqual(PgFailure.inputOf(unknown(at(depth))).sqlState, "40001", `${depth}`)
    for (const depth of [4, 5, 6]) assert.isUndefined(PgFailure.inputOf(unknown(at(depth))).sqlState, `${depth}`)
    const circle: { cause?: unknown } = {}
    circle.cause = circle
    assert.isUndefined(PgFailure.inputOf(unknown(circle)).sqlState)
  })

  it("a connection that ended without a code ended; one that a timer ended did not", () => {
    assert.strictEqual(PgFailure.inputOf(connection(new Error("gone"))).transport, "EOF")
    const timed = connection(PgFailure.attachFacts(new Error("slow"), { timer: "watchdog" }))
    assert.isUndefined(PgFailure.inputOf(timed).transport)
    const told = connection(PgFailure.attachFacts(new Error("reset"), { transport: "ECONNRESET" }))
    assert.strictEqual(PgFailure.inputOf(told).transport, "ECONNRESET")
    assert.isUndefined(PgFailure.inputOf(unknown(new Error("odd"))).transport)
  })
})
