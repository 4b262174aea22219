import { assert, describe, it } from "@effect/vitest"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { connectionError, factsOf } from "@sluice/sdk/pool/session/Facts"
import { StatementOperation, type StatementResult } from "@sluice/sdk/pool/session/StatementOperation"
import { Wire } from "@sluice/sdk/pool/session/Wire"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { EventEmitter } from "node:events"
import { resolve } from "@sluice/sdk/pool/session/Config"
import { start } from "@sluice/sdk/pool/session/Startup"
import { channelOf, message, scripted } from "./ScriptedServer.ts"

type Answer = Result.Result<StatementResult, SqlError>

interface Asked {
  readonly sql: string
  readonly operation: StatementOperation
  answers: Array<Answer>
  left: boolean
}

const ask = (wire: Wire, sql: string, prepare: boolean): Asked => {
  const asked: Asked = {
    sql,
    answers: [],
    left: false,
    operation: new StatementOperation(wire, sql, [], { prepare }, (result) => asked.answers.push(result))
  }
  wire.submit(asked.operation)
  return asked
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** What the text of a statement promises. */
const check = ({ answers, left, sql }: Asked, told: string) => {
  if (left && answers.length === 0) return
  assert.lengthOf(answers, 1, `${told}: ${sql} was answered ${answers.length} times`)
  const [answer] = answers as [Answer]
  const [what, argument] = sql.split(" ") as [string, string]
  if (what === "error" || what === "unparsable") {
    assert.isTrue(Result.isFailure(answer), `${told}: ${sql}`)
    if (Result.isFailure(answer)) {
      assert.strictEqual(factsOf(answer.failure)?.sqlState, what === "error" ? argument : "42601", told)
    }
    return
  }
  assert.isTrue(Result.isSuccess(answer), `${told}: ${sql}`)
  if (Result.isSuccess(answer)) {
    const rows = what === "rows" ? Array.from({ length: Number(argument) }, (_, n) => ({ n })) : []
    assert.deepStrictEqual(answer.success.rows, rows, told)
  }
}

const texts = [
  "rows 0",
  "rows 1",
  "rows 7",
  "rows 40",
  "error 22012",
  "error 40001",
  "nothing 1",
  "",
  "unparsable x",
  "forget x"
]

describe("the pipeline of a session", () => {
  it("gives every statement its own answer, wherever the network cuts the bytes and whoever leaves", async () => {
    for (let seed = 1; seed <= 400; seed++) {
      const told = `seed ${seed}`
      const { random, server, wire } = scripted(seed, { preparedStatements: 1 + (seed % 5) })
      const all: Array<Asked> = []
      for (let step = 0; step < 60; step++) {
        const choice = random()
        if (choice < 0.6) all.push(ask(wire, texts[Math.floor(random() * texts.length)]!, random() < 0.8))
        else if (choice < 0.75 && all.length > 0) {
          const leaver = all[Math.floor(random() * all.length)]!
          // A caller with an answer has nothing left to leave.
          if (leaver.answers.length === 0) {
            leaver.left = true
            wire.abandon(leaver.operation)
          }
        } else if (choice < 0.8) server.interject()
        else await turn()
      }
      for (let patience = 0; patience < 20_000 && wire.depth + wire.waiting > 0; patience++) await turn()
      assert.isUndefined(wire.dead, `${told}: ${wire.dead?.message}`)
      assert.strictEqual(wire.depth + wire.waiting, 0, told)
      assert.isFalse(wire.busy, told)
      for (const asked of all) check(asked, told)
      const last = ask(wire, "rows 2", true)
      for (let patience = 0; patience < 5000 && last.answers.length === 0; patience++) await turn()
      check(last, told)
      assert.isAtMost(wire.statements.size, 1 + (seed % 5) + 1, told)
    }
  })

  it("answers everybody exactly once when the session dies, and says whose statement was where", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const told = `seed ${seed}`
      const { random, server, wire } = scripted(seed)
      const before = Array.from({ length: Math.floor(random() * 5) }, () => ask(wire, "rows 3", true))
      const fatal = ask(wire, "fatal 57P01", random() < 0.5)
      const after = Array.from({ length: Math.floor(random() * 5) }, () => ask(wire, "rows 1", true))
      for (let patience = 0; patience < 5000 && wire.dead === undefined; patience++) await turn()
      assert.strictEqual(factsOf(wire.dead)?.sqlState, "57P01", told)
      const late = ask(wire, "rows 1", true)
      for (const asked of [...before, fatal, ...after, late]) assert.lengthOf(asked.answers, 1, `${told}: ${asked.sql}`)
      for (const asked of [fatal, ...after, late]) {
        const [answer] = asked.answers as [Answer]
        if (Result.isSuccess(answer)) continue
        const facts = factsOf(answer.failure)
        assert.strictEqual(facts?.sqlState, "57P01", told)
        // The server said where it was: nothing of this was applied.
        assert.isFalse(facts?.commit, told)
      }
      assert.isFalse(server.executed.includes("late"), told)
    }
  })

  it("a caller whose statement cannot be sent may end the session, or ask again, from where it is told", async () => {
    for (const sent of [0, 1, 2])
      for (const reaction of ["die", "ask"] as const) {
        const told = `${sent} before, ${reaction}`
        const { server, wire } = scripted(11)
        const warm = ask(wire, "rows 1", true)
        for (let patience = 0; patience < 5000 && warm.answers.length === 0; patience++) await turn()
        const uncaught: Array<unknown> = []
        const note = (cause: unknown): void => void uncaught.push(cause)
        process.prependListener("uncaughtException", note)
        const before = Array.from({ length: sent }, () => ask(wire, "rows 1", true))
        let again: Asked | undefined
        let answers = 0
        const unsendable = new StatementOperation(wire, "rows 1\0", [], { prepare: true }, () => {
          answers++
          if (reaction === "ask") again = ask(wire, "rows 2", true)
          else wire.die(connectionError(undefined, "The caller has had enough", "close"))
        })
        wire.submit(unsendable)
        const after = ask(wire, "rows 3", true)
        for (let n = 0; n < 500; n++) await turn()
        process.removeListener("uncaughtException", note)
        assert.deepStrictEqual([uncaught, server.thrown], [[], []], told)
        assert.strictEqual(answers, 1, told)
        for (const asked of [...before, after, ...(again === undefined ? [] : [again])]) {
          if (reaction === "ask") check(asked, told)
          else assert.isTrue(asked.answers.length === 1 && Result.isFailure(asked.answers[0]!), told)
        }
        assert.strictEqual(wire.depth + wire.waiting, 0, told)
      }
  })

  it("hears what the server says behind the login's last message, in the same read", () => {
    const socket = Object.assign(new EventEmitter(), { write: () => true, destroy: () => {} })
    const config = resolve({ username: "u", host: "x" })
    const wires: Array<Wire> = []
    start(config, channelOf(socket), undefined, (result) => wires.push(new Wire(config, Result.getOrThrow(result))))
    const standby = (value: string) => message("S", Buffer.from(`in_hot_standby\0${value}\0`))
    const fatal = message("E", Buffer.from("SFATAL\0VFATAL\0C57P01\0Mgone\0\0"))
    const login = [
      message("R", Buffer.alloc(4)),
      standby("on"),
      message("K", Buffer.alloc(8)),
      message("Z", Buffer.from("I"))
    ]
    socket.emit("data", Buffer.concat([...login, standby("off"), fatal]))
    assert.lengthOf(wires, 1)
    assert.strictEqual(wires[0]!.parameters.get("in_hot_standby"), "off")
    assert.strictEqual(factsOf(wires[0]!.dead)?.sqlState, "57P01")
  })

  it("a parameter that ends the session while it is read leaves its own statement neither sent nor unanswered", async () => {
    const { server, wire } = scripted(12)
    const fatal = {
      toJSON: () => {
        wire.die(connectionError(undefined, "Ended by a parameter", "close"))
        return {}
      }
    }
    const answers: Array<Answer> = []
    wire.submit(new StatementOperation(wire, "rows 1", [PgTypes.jsonb(fatal)], {}, (result) => answers.push(result)))
    for (let n = 0; n < 10; n++) await turn()
    assert.isDefined(wire.dead)
    assert.lengthOf(answers, 1)
    const [answer] = answers as [Answer]
    assert.isTrue(Result.isFailure(answer))
    if (Result.isFailure(answer)) assert.isFalse(factsOf(answer.failure)?.sent)
    assert.strictEqual(wire.depth, 0)
    assert.deepStrictEqual(server.executed, [])
  })

  it("tells lost statements from those that never left when the socket just ends", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const told = `seed ${seed}`
      const { random, server, wire } = scripted(seed)
      const warm = ask(wire, "nothing 1", true)
      for (let patience = 0; patience < 5000 && warm.answers.length === 0; patience++) await turn()
      const all = Array.from({ length: 5 }, () => ask(wire, "nothing 1", true))
      const turns = Math.floor(random() * 4)
      if (random() < 0.7) await Promise.resolve()
      for (let n = 0; n < turns; n++) await turn()
      const executed = server.executed.length - 1
      server.destroy()
      const unwritten = ask(wire, "nothing 1", true)
      for (let n = 0; n < 5; n++) await turn()
      const answered = all.filter(({ answers }) => Result.isSuccess(answers[0]!)).length
      const lost = all.filter(
        ({ answers: [answer] }) => Result.isFailure(answer!) && factsOf(answer.failure)?.commit === true
      ).length
      assert.isAtLeast(answered + lost, executed, `${told}: what was executed is never called undone`)
      const [last] = unwritten.answers as [Answer]
      if (Result.isFailure(last)) assert.isFalse(factsOf(last.failure)?.sent, told)
      assert.isTrue(Result.isFailure(last), told)
    }
  })
})
