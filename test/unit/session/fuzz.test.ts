/**
 * A server, or a network, that says anything. Whoever asks gets an answer or a typed error, once; nothing is thrown into the
 * process; a session that has lost its place is closed; and a length that is only declared costs no memory.
 *
 * `SLUICE_FUZZ_RUNS=20000 npx vitest run test/unit/session/fuzz.test.ts` is the long form.
 */
import { assert, describe, it } from "@effect/vitest"
import { resolve } from "@sluice/sdk/pool/session/Config"
import { factsOf } from "@sluice/sdk/pool/session/Facts"
import { start } from "@sluice/sdk/pool/session/Startup"
import { StatementOperation, type StatementResult } from "@sluice/sdk/pool/session/StatementOperation"
import type { Wire } from "@sluice/sdk/pool/session/Wire"
import * as Result from "effect/Result"
import { SqlError } from "effect/sql/SqlError"
import { EventEmitter } from "node:events"
import { fuzz, random, type Random } from "../../support/random.ts"
import { channelOf, message, scripted, type ScriptedServer } from "./ScriptedServer.ts"

const { runs, seed } = fuzz(250)

type Answer = Result.Result<StatementResult, SqlError>
interface Asked {
  readonly sql: string
  readonly answers: Array<Answer>
}

const ask = (wire: Wire, sql: string, prepare: boolean): Asked => {
  const asked: Asked = { sql, answers: [] }
  wire.submit(new StatementOperation(wire, sql, [], { prepare }, (result) => asked.answers.push(result)))
  return asked
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const turns = async (patience: number, done: () => boolean) => {
  for (let left = patience; left > 0 && !done(); left--) await turn()
}

const all = ["rows 0", "rows 1", "rows 7", "rows 40", "error 22012", "nothing 1", "", "unparsable x", "forget x"]

/** Stands for "the server asked for a login", "ready", "copy", and what no server says. */
const types = "RKSZCDTtnIEN123AGHWdcsvV\u0000xX".split("")

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** A message that nobody asked for. */
const invented = (of: Random): Buffer =>
  message(of.pick(types), Buffer.from(Array.from({ length: of.below(of.pick([1, 5, 40])) }, () => of.below(256))))

/** Bytes that are not what the server said. */
const damages: Record<string, (of: Random, bytes: Buffer) => Buffer> = {
  flip: (of, bytes) => {
    const copy = Buffer.from(bytes)
    copy[of.below(copy.length)]! ^= 1 << of.below(8)
    return copy
  },
  truncate: (of, bytes) => bytes.subarray(0, of.below(bytes.length)),
  length: (of, bytes) => {
    const copy = Buffer.from(bytes)
    const real = copy.readInt32BE(1)
    copy.writeInt32BE(
      of.pick([0, 3, 4, -1, -(2 ** 31), real - 1, real + 1, real + of.below(50), 16_777_217, 2 ** 30, 2 ** 31 - 1]),
      1
    )
    return copy
  },
  type: (of, bytes) => Buffer.concat([Buffer.from(of.pick(types)), bytes.subarray(1)]),
  drop: () => Buffer.alloc(0),
  double: (_, bytes) => Buffer.concat([bytes, bytes]),
  invent: (of, bytes) => Buffer.concat(of.chance(0.5) ? [invented(of), bytes] : [bytes, invented(of)]),
  noise: (of) => Buffer.from(Array.from({ length: of.below(60) }, () => of.below(256)))
}

const answeredOnce = (asked: ReadonlyArray<Asked>, told: string): void => {
  for (const { answers, sql } of asked) {
    assert.lengthOf(answers, 1, `${told}: ${sql} was answered ${answers.length} times`)
    const [answer] = answers as [Answer]
    if (Result.isSuccess(answer)) continue
    assert.instanceOf(answer.failure, SqlError, told)
    assert.isDefined(factsOf(answer.failure), `${told}: an error without facts`)
  }
}

const play = async (
  of: Random,
  server: ScriptedServer,
  wire: Wire,
  tamper: (bytes: Buffer) => Buffer,
  texts: ReadonlyArray<string> = all
): Promise<Array<Asked>> => {
  server.tamper = tamper
  const asked: Array<Asked> = []
  const steps = 4 + of.below(20)
  for (let step = 0; step < steps; step++) {
    if (of.chance(0.7)) asked.push(ask(wire, of.pick(texts), of.chance(0.7)))
    else if (of.chance(0.2)) server.interject()
    else await turn()
  }
  await turns(300, () => asked.every(({ answers }) => answers.length > 0))
  return asked
}

describe("a session and a server that says anything", () => {
  it(`answers everybody once, and throws at nobody: ${runs} runs from SLUICE_FUZZ_SEED=${seed}`, async () => {
    let died = 0
    for (let run = seed; run < seed + runs; run++) {
      const of = random(run)
      const { server, wire } = scripted(run, { preparedStatements: of.pick([0, 1, 100]) })
      const kinds = of.many(3, () => of.pick(Object.keys(damages)))
      const often = of.pick([0.02, 0.1, 0.5])
      const told = `SLUICE_FUZZ_SEED=${run} SLUICE_FUZZ_RUNS=1, ${kinds.join(", ")}`
      const asked = await play(of, server, wire, (bytes) =>
        kinds.length > 0 && of.chance(often) ? damages[of.pick(kinds)]!(of, bytes) : bytes
      )
      assert.deepStrictEqual(server.thrown, [], told)
      if (wire.dead !== undefined) {
        died++
        assert.isTrue(server.destroyed, `${told}: dead, and its socket open`)
        answeredOnce(asked, told)
      }
      // A server that owes an answer for ever is left to the watchdog and to deadlines; when it goes, all is settled.
      server.destroy()
      await turn()
      answeredOnce([...asked, ask(wire, "rows 1", true)], told)
      assert.strictEqual(wire.depth + wire.waiting, 0, told)
      if (kinds.length === 0) assert.strictEqual(wire.dead?.reason.message, "Connection closed by the server", told)
    }
    assert.isAbove(died, runs / 10)
  })

  it("a message that is lost, doubled or foreign never makes an answer of one statement that of another", async () => {
    const sequence = {
      // Rows and descriptions are contents; the order is told by these.
      doubleReady: (_: Random, bytes: Buffer) => (bytes[0] === 0x5a ? Buffer.concat([bytes, bytes]) : bytes),
      loseReady: (_: Random, bytes: Buffer) => (bytes[0] === 0x5a ? Buffer.alloc(0) : bytes),
      doubleComplete: (_: Random, bytes: Buffer) => (bytes[0] === 0x43 ? Buffer.concat([bytes, bytes]) : bytes),
      loseComplete: (_: Random, bytes: Buffer) => (bytes[0] === 0x43 ? Buffer.alloc(0) : bytes),
      loseNoData: (_: Random, bytes: Buffer) => (bytes[0] === 0x6e || bytes[0] === 0x54 ? Buffer.alloc(0) : bytes),
      foreign: (of: Random, bytes: Buffer) =>
        Buffer.concat([message(of.pick(["G", "H", "R", "K", "v", "x"]), int32(3)), bytes])
    }
    // A commit may fail after its statement was answered: nobody can tell whose an error is when ReadyForQuery is lost.
    const answered = all.filter((text) => !/error|unparsable|forget/.test(text))
    let died = 0
    for (let run = seed; run < seed + runs; run++) {
      const of = random(run)
      const { server, wire } = scripted(run, { preparedStatements: of.pick([0, 1, 100]) })
      const kind = of.pick(Object.keys(sequence) as Array<keyof typeof sequence>)
      const told = `SLUICE_FUZZ_SEED=${run} SLUICE_FUZZ_RUNS=1, ${kind}`
      let left = 1
      const asked = await play(
        of,
        server,
        wire,
        (bytes) => {
          if (left === 0 || !of.chance(0.15)) return bytes
          const changed = sequence[kind](of, bytes)
          if (changed !== bytes) left--
          return changed
        },
        kind === "loseReady" ? answered : all
      )
      if (wire.dead !== undefined) died++
      server.destroy()
      await turn()
      answeredOnce(asked, told)
      for (const { answers, sql } of asked) {
        const [answer] = answers as [Answer]
        const [what, argument] = sql.split(" ") as [string, string]
        if (Result.isFailure(answer)) continue
        assert.notInclude(["error", "unparsable"], what, `${told}: ${sql} succeeded`)
        const rows = what === "rows" ? Array.from({ length: Number(argument) }, (_, n) => ({ n })) : []
        assert.deepStrictEqual(answer.success.rows, rows, `${told}: ${sql}`)
      }
    }
    assert.isAbove(died, runs / 10)
  })

  it("a lost ReadyForQuery makes no empty result of somebody else's answer (seed 1955710296)", async () => {
    const { server, wire } = scripted(3)
    // Described once, they travel together.
    for (const sql of ["forget x", "nothing 1", "rows 7"]) {
      const known = ask(wire, sql, sql === "rows 7")
      await turns(300, () => known.answers.length > 0)
    }
    let lost = false
    server.tamper = (bytes) => {
      if (lost || bytes[0] !== 0x5a) return bytes
      lost = true
      return Buffer.alloc(0)
    }
    // It takes the error of the next, that one the error of the third, and the third what was done in the end.
    const asked = ["forget x", "rows 7", "rows 7", "nothing 1"].map((sql) => ask(wire, sql, sql === "rows 7"))
    await turns(300, () => asked.every(({ answers }) => answers.length > 0))
    server.destroy()
    await turn()
    answeredOnce(asked, "a lost ReadyForQuery")
    for (const { answers, sql } of asked.slice(1)) assert.isTrue(Result.isFailure(answers[0]!), sql)
  })

  it("a declared gigabyte is refused before it is believed", async () => {
    for (const [length, type] of [
      [2 ** 30, "D"],
      [2 ** 31 - 1, "E"],
      [2 ** 30, "x"]
    ] as const) {
      const { server, wire } = scripted(1)
      const asked = ask(wire, "rows 3", true)
      const before = process.memoryUsage().arrayBuffers
      server.tamper = () => Buffer.concat([Buffer.from(type), int32(length), Buffer.alloc(100)])
      await turns(100, () => wire.dead !== undefined)
      assert.isBelow(process.memoryUsage().arrayBuffers - before, 2 ** 25)
      answeredOnce([asked], type)
      const [answer] = asked.answers as [Answer]
      if (Result.isFailure(answer)) assert.strictEqual(factsOf(answer.failure)?.bound, "message")
    }
  })

  it("a server that falls silent in the middle of a message is given up by the watchdog", async () => {
    const { server, wire } = scripted(2, { silence: "30 millis" })
    const asked = ask(wire, "rows 3", true)
    let first = true
    server.tamper = (bytes) => {
      const part = first ? bytes.subarray(0, 3) : Buffer.alloc(0)
      first = false
      return part
    }
    for (let left = 400; left > 0 && asked.answers.length === 0; left--)
      await new Promise((next) => setTimeout(next, 10))
    answeredOnce([asked], "silence")
    assert.strictEqual(factsOf(wire.dead)?.bound, "silence")
    assert.isTrue(server.destroyed)
  })

  it(`a login among anything ends once: ${runs} runs from SLUICE_FUZZ_SEED=${seed}`, async () => {
    const polite = [
      message("R", int32(0)),
      message("S", Buffer.from("server_version\x0018\x00")),
      message("K", int32(1), int32(2)),
      message("Z", Buffer.from("I"))
    ]
    const challenges = [
      message("R", int32(3)),
      message("R", int32(5), int32(7)),
      message("R", int32(10), Buffer.from("SCRAM-SHA-256\0\0")),
      message("R", int32(11), Buffer.from("r=x,s=eA==,i=4096")),
      message("R", int32(12), Buffer.from("v=eA==")),
      message("R", int32(7)),
      message("v", int32(0), int32(0))
    ]
    const outcomes = new Set<string>()
    for (let run = seed; run < seed + runs; run++) {
      const of = random(run)
      const told = `SLUICE_FUZZ_SEED=${run} SLUICE_FUZZ_RUNS=1`
      const socket = Object.assign(new EventEmitter(), {
        destroyed: false,
        write: () => true,
        destroy: () => (socket.destroyed = true)
      })
      const results: Array<Result.Result<unknown, SqlError>> = []
      const channel = channelOf(socket)
      const password = of.chance(0.7) ? { raw: "hunter2secret", prepared: "hunter2secret" } : undefined
      start(resolve({ username: "u", host: "x" }), channel, password, (result) => results.push(result))
      const kinds = Object.keys(damages)
      const said = polite.flatMap((one) => [...of.many(2, () => of.pick([...challenges, invented(of)])), one])
      const bytes = Buffer.concat(
        (of.chance(0.1) ? polite : said).map((one) => (of.chance(0.05) ? damages[of.pick(kinds)]!(of, one) : one))
      )
      for (let at = 0; at < bytes.length && results.length === 0;) {
        const size = 1 + of.below(30)
        socket.emit("data", bytes.subarray(at, at + size))
        at += size
      }
      if (results.length === 0) socket.emit("close")
      assert.lengthOf(results, 1, told)
      const [result] = results as [Result.Result<unknown, SqlError>]
      outcomes.add(result._tag)
      if (Result.isSuccess(result)) continue
      assert.instanceOf(result.failure, SqlError, told)
      assert.notInclude(result.failure.message, "hunter2secret", told)
      assert.isTrue(socket.destroyed, told)
    }
    assert.strictEqual(outcomes.size, 2)
  })
})
