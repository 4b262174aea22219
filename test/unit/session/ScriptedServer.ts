/**
 * A PostgreSQL that does what the statements' texts say, on a socket that cuts its answers wherever a seed wants:
 * `rows 3`, `error 22012`, `nothing`, `fatal 57P01`. Understands what a session sends, and keeps the order of the protocol.
 */
import * as PgProtocol from "@effect/sql-pg/PgProtocol"
import { type ResolvedConfig, resolve } from "@sluice/sdk/pool/session/Config"
import type { Channel } from "@sluice/sdk/pool/session/Transport"
import { Wire } from "@sluice/sdk/pool/session/Wire"
import type * as Duration from "effect/Duration"
import { EventEmitter } from "node:events"
import type * as Net from "node:net"
import { mulberry32 } from "../../support/random.ts"

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}
const text = (value: string): Buffer => Buffer.from(`${value}\0`)
export const message = (type: string, ...body: ReadonlyArray<Buffer>): Buffer => {
  const payload = Buffer.concat(body)
  return Buffer.concat([Buffer.from(type), int32(payload.length + 4), payload])
}
const errorResponse = (severity: string, code: string): Buffer =>
  message(
    "E",
    text(`S${severity}`),
    text(`V${severity}`),
    text(`C${code}`),
    text(`Mscripted ${code}`),
    Buffer.from([0])
  )

const columns = message("T", int16(1), text("n"), int32(0), int16(0), int32(23), int16(4), int32(-1), int16(1))

export class ScriptedServer extends EventEmitter {
  readonly #random: () => number
  readonly #statements = new Map<string, string>()
  #received: Buffer = Buffer.alloc(0)
  #bound = ""
  /** An error skips everything up to the next Sync. */
  #skipping = false
  #answer: Buffer = Buffer.alloc(0)
  destroyed = false
  executed: Array<string> = []
  /** Answers each message of a kind with an error, for ever. `rows`: in the middle of an Execute; `S`: at the end of a cycle. */
  refuses: { readonly at: "B" | "D" | "E" | "P" | "S" | "rows"; readonly code: string } | undefined
  /** Messages that it was sent. */
  received = 0
  /** What becomes of each message on its way: the network's or a bad server's doing. */
  tamper: ((message: Buffer) => Buffer) | undefined
  /** What the session threw at the socket's events; a real socket would end the process. */
  readonly thrown: Array<unknown> = []

  constructor(random: () => number) {
    super()
    this.#random = random
  }

  write(bytes: Uint8Array): boolean {
    if (this.destroyed) return false
    this.#received = Buffer.concat([this.#received, bytes])
    while (this.#received.length >= 5) {
      const length = this.#received.readInt32BE(1)
      if (this.#received.length < length + 1) break
      const type = String.fromCharCode(this.#received[0]!)
      const body = this.#received.subarray(5, length + 1)
      this.#received = this.#received.subarray(length + 1)
      this.#take(type, body)
    }
    this.#deliverSoon()
    return true
  }

  #say(bytes: Buffer): void {
    this.#answer = Buffer.concat([this.#answer, this.tamper === undefined ? bytes : this.tamper(bytes)])
  }

  #fail(severity: string, code: string): void {
    this.#skipping = true
    this.#say(errorResponse(severity, code))
  }

  #take(type: string, body: Buffer): void {
    this.received++
    const refused = this.refuses
    if (refused?.at === type && !this.#skipping) this.#fail("ERROR", refused.code)
    if (type === "S") {
      this.#skipping = false
      return this.#say(message("Z", Buffer.from("I")))
    }
    if (this.#skipping) return
    const zero = body.indexOf(0)
    switch (type) {
      case "P": {
        const sql = body.subarray(zero + 1, body.indexOf(0, zero + 1)).toString()
        if (sql.startsWith("unparsable")) return this.#fail("ERROR", "42601")
        this.#statements.set(body.subarray(0, zero).toString(), sql)
        return this.#say(message("1"))
      }
      case "B": {
        const name = body.subarray(zero + 1, body.indexOf(0, zero + 1)).toString()
        const sql = this.#statements.get(name)
        if (sql === undefined) return this.#fail("ERROR", "26000")
        this.#bound = sql
        return this.#say(message("2"))
      }
      case "C":
        this.#statements.delete(body.subarray(1, body.length - 1).toString())
        return this.#say(message("3"))
      case "D": {
        if (body[0] === 0x53) this.#say(message("t", int16(0)))
        const sql = body[0] === 0x53 ? this.#statements.get(body.subarray(1, body.length - 1).toString())! : this.#bound
        return this.#say(sql.startsWith("rows") ? columns : message("n"))
      }
      case "E":
        return this.#execute(this.#bound)
    }
  }

  #execute(sql: string): void {
    this.executed.push(sql)
    const [what, argument] = sql.split(" ") as [string, string]
    switch (what) {
      case "rows": {
        const count = Number(argument)
        for (let n = 0; n < count; n++) {
          if (n === 2 && this.refuses?.at === "rows") return this.#fail("ERROR", this.refuses.code)
          this.#say(message("D", int16(1), int32(4), int32(n)))
        }
        return this.#say(message("C", text(`SELECT ${count}`)))
      }
      case "error":
        // Halfway through its rows, as a division by zero does.
        return this.#fail("ERROR", argument)
      case "fatal":
        return this.#fail("FATAL", argument)
      case "forget":
        this.#statements.clear()
        return this.#say(message("C", text("DEALLOCATE ALL")))
      case "":
        return this.#say(message("I"))
      default:
        return this.#say(message("C", text("DO")))
    }
  }

  #scheduled = false

  #deliverSoon(): void {
    if (this.#scheduled || this.destroyed) return
    this.#scheduled = true
    const later = this.#random() < 0.5 ? setImmediate : queueMicrotask
    later(() => {
      this.#scheduled = false
      if (this.destroyed || this.#answer.length === 0) return
      const size = Math.min(this.#answer.length, 1 + Math.floor(this.#random() ** 3 * 200))
      const chunk = Buffer.from(this.#answer.subarray(0, size))
      this.#answer = this.#answer.subarray(size)
      try {
        this.emit("data", chunk)
      } catch (error) {
        this.thrown.push(error)
      }
      if (this.#answer.length > 0) this.#deliverSoon()
    })
  }

  /** Not asked for: a notice, a parameter, a notification, wherever the stream of answers stands between messages. */
  interject(): void {
    const kinds = [
      message("N", text("SNOTICE"), text("C00000"), text("Mhello"), Buffer.from([0])),
      message("S", text("application_name"), text("x")),
      message("A", int32(1), text("channel"), text("payload"))
    ]
    this.#say(kinds[Math.floor(this.#random() * kinds.length)]!)
    this.#deliverSoon()
  }

  pause(): this {
    return this
  }
  resume(): this {
    return this
  }
  end(): this {
    return this.destroy()
  }
  destroy(): this {
    if (this.destroyed) return this
    this.destroyed = true
    queueMicrotask(() => this.emit("close"))
    return this
  }
}

/** Bytes come in a buffer that is used again, as on a real socket: whoever keeps a piece of it reads nonsense soon. */
export const channelOf = (socket: EventEmitter): Channel => ({
  socket: socket as unknown as Net.Socket,
  receive: (receiver) => {
    socket.removeAllListeners("data")
    socket.on("data", (chunk: Uint8Array) => {
      const lent = Uint8Array.from(chunk)
      receiver(lent)
      lent.fill(0x5a)
    })
  },
  encrypted: false,
  address: { address: "nowhere", port: 1 }
})

/** A wire to a scripted server. */
export const scripted = (
  seed: number,
  config?: { readonly preparedStatements?: number; readonly silence?: Duration.Input }
) => {
  const random = mulberry32(seed)
  const server = new ScriptedServer(random)
  const resolved: ResolvedConfig = resolve({ username: "u", host: "nowhere", ...config })
  const wire = new Wire(resolved, {
    channel: channelOf(server),
    parser: PgProtocol.makeParser<unknown>(),
    parameters: new Map(),
    processId: 1,
    secret: 1
  })
  return { random, server, wire }
}
