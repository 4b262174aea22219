import { assert, describe, it } from "@effect/vitest"
import { FaultProxy } from "@sluice/sdk/testing"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { expectEventually } from "../../support/expectEventually.ts"

interface Peer {
  readonly socket: net.Socket
  /** All that was received, as text. */
  readonly received: Effect.Effect<string>
  /** `open`, then `fin` when the other side ended in order, `reset` (or its code) when not. */
  readonly state: Effect.Effect<string>
}

const peer = (socket: net.Socket): Peer => {
  let text = ""
  let state = "open"
  socket.on("data", (chunk) => (text += chunk.toString()))
  socket.on("end", () => (state = "fin"))
  socket.on("error", (error: NodeJS.ErrnoException) => (state = error.code ?? "error"))
  return { socket, received: Effect.sync(() => text), state: Effect.sync(() => state) }
}

interface Listening {
  readonly host: string
  readonly port: number
  readonly accepted: Array<Peer>
}

/** A server that answers nothing by itself: a test speaks for it. */
const server: Effect.Effect<Listening, never, Scope.Scope> = Effect.acquireRelease(
  Effect.callback<Listening & { readonly close: () => void }>((resume) => {
    const accepted: Array<Peer> = []
    const listener = net.createServer({ allowHalfOpen: true }, (socket) => void accepted.push(peer(socket)))
    listener.listen(0, "127.0.0.1", () => {
      const { port } = listener.address() as net.AddressInfo
      const close = () => {
        listener.close()
        for (const { socket } of accepted) socket.destroy()
      }
      resume(Effect.succeed({ host: "127.0.0.1", port, accepted, close }))
    })
  }),
  ({ close }) => Effect.sync(close)
)

const client = (proxy: { readonly port: number }): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => net.connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true })),
      (socket) => Effect.sync(() => socket.destroy())
    ),
    peer
  )

/** A client and the server's end of its connection, through a proxy. */
const connected = Effect.gen(function* () {
  const target = yield* server
  const proxy = yield* FaultProxy.make({ target })
  const mine = yield* client(proxy)
  const [theirs] = yield* expectEventually(
    Effect.sync(() => target.accepted),
    (accepted) => accepted.length === 1
  )
  assert.isDefined(theirs)
  return { target, proxy, mine, theirs }
})

const is = (text: string) => (received: string) => received === text
const pause = Effect.sleep("150 millis")

describe("FaultProxy", () => {
  it.live("passes bytes both ways and FIN in each direction on its own", () =>
    Effect.gen(function* () {
      const { mine, theirs } = yield* connected
      mine.socket.end("question")
      yield* expectEventually(theirs.received, is("question"))
      yield* expectEventually(theirs.state, is("fin"))
      theirs.socket.end("answer")
      yield* expectEventually(mine.received, is("answer"))
      yield* expectEventually(mine.state, is("fin"))
    })
  )

  it.live("latency delays each direction by at least what was asked, and keeps the order of bytes", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.latency({ millis: 60, jitterMillis: 20, direction: "client->server" })
      const started = performance.now()
      for (let index = 0; index < 20; index++) {
        mine.socket.write(`${index},`)
        yield* Effect.sleep("1 millis")
      }
      yield* proxy.latency({ millis: 0, direction: "client->server" })
      mine.socket.write("end")
      const expected = `${Array.from({ length: 20 }, (_, index) => index).join(",")},end`
      yield* expectEventually(theirs.received, is(expected))
      assert.isAtLeast(performance.now() - started, 60)
      theirs.socket.write("quick")
      yield* expectEventually(mine.received, is("quick"))
    })
  )

  it.live("stall holds back one direction, tells nobody, and heal delivers", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.stall({ direction: "server->client" })
      mine.socket.write("question")
      yield* expectEventually(theirs.received, is("question"))
      theirs.socket.write("answer")
      yield* pause
      assert.strictEqual(yield* mine.received, "")
      assert.strictEqual(yield* mine.state, "open")
      yield* proxy.heal
      yield* expectEventually(mine.received, is("answer"))
    })
  )

  it.live("stall of the existing connections leaves new ones alone, and the reverse", () =>
    Effect.gen(function* () {
      const { target, proxy, mine, theirs } = yield* connected
      yield* proxy.stall({ connections: "existing" })
      const second = yield* client(proxy)
      second.socket.write("second")
      mine.socket.write("first")
      yield* expectEventually(
        Effect.suspend(() => target.accepted[1]?.received ?? Effect.succeed("")),
        is("second")
      )
      assert.strictEqual(yield* theirs.received, "")
      yield* proxy.heal
      yield* expectEventually(theirs.received, is("first"))

      yield* proxy.stall({ connections: "new" })
      const third = yield* client(proxy)
      third.socket.write("third")
      mine.socket.write("!")
      yield* expectEventually(theirs.received, is("first!"))
      yield* pause
      assert.strictEqual(yield* target.accepted[2]?.received ?? Effect.succeed(""), "")
    })
  )

  it.live("a stalled direction pushes back: the sender cannot go on for ever", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.stall({ direction: "server->client" })
      const megabyte = Buffer.alloc(1024 * 1024, "x")
      const total = 64
      for (let index = 0; index < total; index++) theirs.socket.write(megabyte)
      yield* Effect.sleep("500 millis")
      const { bytesToClient } = yield* proxy.counters
      assert.isBelow(bytesToClient, 16 * 1024 * 1024)
      yield* proxy.heal
      yield* expectEventually(
        Effect.map(mine.received, (text) => text.length),
        (length) => length === total * megabyte.length
      )
    })
  )

  it.live("cut ends both sides with FIN, reset with RST", () =>
    Effect.gen(function* () {
      const first = yield* connected
      yield* first.proxy.cut
      yield* expectEventually(first.mine.state, is("fin"))
      yield* expectEventually(first.theirs.state, is("fin"))

      const second = yield* connected
      yield* second.proxy.reset
      yield* expectEventually(second.mine.state, is("ECONNRESET"))
      yield* expectEventually(second.theirs.state, is("ECONNRESET"))
    })
  )

  it.live("cut comes after what is on its way, and through a stall", () =>
    Effect.gen(function* () {
      const late = yield* connected
      yield* late.proxy.latency({ millis: 100 })
      late.mine.socket.write("last words")
      yield* expectEventually(late.proxy.counters, ({ bytesToServer }) => bytesToServer === 10)
      yield* late.proxy.cut
      yield* expectEventually(late.theirs.state, is("fin"))
      assert.strictEqual(yield* late.theirs.received, "last words")
      yield* expectEventually(late.mine.state, is("fin"))

      const silent = yield* connected
      yield* silent.proxy.stall()
      yield* silent.proxy.cut
      yield* expectEventually(silent.mine.state, is("fin"))
      yield* expectEventually(silent.theirs.state, is("fin"))
    })
  )

  it.live("passes on a reset of either side, but not through a stall", () =>
    Effect.gen(function* () {
      const first = yield* connected
      first.theirs.socket.resetAndDestroy()
      yield* expectEventually(first.mine.state, is("ECONNRESET"))

      const second = yield* connected
      yield* second.proxy.stall({ direction: "client->server" })
      second.mine.socket.resetAndDestroy()
      yield* pause
      assert.strictEqual(yield* second.theirs.state, "open")
      yield* second.proxy.heal
      yield* expectEventually(second.theirs.state, is("ECONNRESET"))
    })
  )

  it.live("half-open: the server is gone, the client is not told, also when it speaks; heal does not revive it", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.halfOpen("server")
      yield* expectEventually(theirs.state, (state) => state !== "open")
      mine.socket.write("are you there?")
      yield* pause
      yield* proxy.heal
      yield* pause
      assert.strictEqual(yield* mine.state, "open")
      assert.strictEqual(yield* mine.received, "")
      assert.strictEqual((yield* proxy.counters).open, 1)
      // The client gives up: nobody is there to take leave of, and it holds nothing any more.
      mine.socket.destroy()
      yield* expectEventually(proxy.counters, ({ open }) => open === 0)
    })
  )

  it.live("half-open the other way: the client is gone and the server keeps its session", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.halfOpen("client")
      yield* expectEventually(mine.state, (state) => state !== "open")
      theirs.socket.write("your rows")
      yield* pause
      assert.strictEqual(yield* theirs.state, "open")
      assert.strictEqual((yield* proxy.counters).open, 0)
    })
  )

  it.live("refuses new connections, at once or after accepting, and spares open ones", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      yield* proxy.refuse()
      yield* expectEventually((yield* client(proxy)).state, is("ECONNREFUSED"))
      mine.socket.write("still here")
      yield* expectEventually(theirs.received, is("still here"))
      yield* proxy.heal
      yield* proxy.refuse("reset")
      yield* expectEventually((yield* client(proxy)).state, is("ECONNRESET"))
    })
  )

  it.live("a black hole accepts and keeps silent; heal lets those who still wait through", () =>
    Effect.gen(function* () {
      const { target, proxy } = yield* connected
      yield* proxy.blackHole
      const waiting = yield* client(proxy)
      waiting.socket.write("hello?")
      yield* pause
      assert.strictEqual(yield* waiting.state, "open")
      assert.lengthOf(target.accepted, 1)
      yield* proxy.heal
      yield* expectEventually(
        Effect.suspend(() => target.accepted[1]?.received ?? Effect.succeed("")),
        is("hello?")
      )
    })
  )

  it.live("counts connections, bytes and round trips; pipelined messages are one trip", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      mine.socket.write("ab")
      yield* expectEventually(theirs.received, is("ab"))
      mine.socket.write("cd")
      yield* expectEventually(theirs.received, is("abcd"))
      theirs.socket.write("xyz")
      yield* expectEventually(mine.received, is("xyz"))
      mine.socket.write("e")
      yield* expectEventually(theirs.received, is("abcde"))
      const counters = yield* proxy.counters
      assert.deepStrictEqual(counters, { accepted: 1, open: 1, bytesToServer: 5, bytesToClient: 3, roundTrips: 2 })
      yield* proxy.resetCounters
      const reset = yield* proxy.counters
      assert.deepStrictEqual(reset, { accepted: 0, open: 1, bytesToServer: 0, bytesToClient: 0, roundTrips: 0 })
    })
  )

  it.live("new connections go to the new target, open ones stay", () =>
    Effect.gen(function* () {
      const { proxy, mine, theirs } = yield* connected
      const other = yield* server
      yield* proxy.retarget(other)
      const second = yield* client(proxy)
      second.socket.write("new")
      yield* expectEventually(
        Effect.suspend(() => other.accepted[0]?.received ?? Effect.succeed("")),
        is("new")
      )
      mine.socket.write("old")
      yield* expectEventually(theirs.received, is("old"))
    })
  )

  it.live("a client of a server that is down is reset", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: { host: "127.0.0.1", port: 1 } })
      yield* expectEventually((yield* client(proxy)).state, is("ECONNRESET"))
    })
  )

  it.live("leaves no connection and no port behind", () =>
    Effect.gen(function* () {
      const target = yield* server
      const { port, mine } = yield* Effect.scoped(
        Effect.gen(function* () {
          const proxy = yield* FaultProxy.make({ target })
          const mine = yield* client(proxy)
          yield* expectEventually(
            Effect.sync(() => target.accepted.length),
            (count) => count === 1
          )
          yield* proxy.stall()
          mine.socket.write("held")
          return { port: proxy.port, mine }
        })
      )
      assert.isTrue(mine.socket.destroyed)
      yield* expectEventually((yield* client({ port })).state, is("ECONNREFUSED"))
      yield* expectEventually(target.accepted[0]?.state ?? Effect.succeed(""), (state) => state !== "open")
    })
  )

  it.live("gives a server's URL with its own host and port", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make({ target: { host: "127.0.0.1", port: 1 } })
      const url = proxy.url("postgres://me:p%40ss@db.example:5432/fleet?application_name=x")
      assert.strictEqual(url, `postgres://me:p%40ss@127.0.0.1:${proxy.port}/fleet?application_name=x`)
    })
  )
})
