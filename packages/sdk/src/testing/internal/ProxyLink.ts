/** One connection through the proxy: two sockets and, for each direction, what is on its way. */
import * as net from "node:net"

export type Direction = "client->server" | "server->client"

/** The latency of both directions, shared by all connections and read for each chunk. */
export interface Weather {
  readonly random: () => number
  readonly latency: Record<Direction, { readonly millis: number; readonly jitterMillis: number }>
}

/** Bytes, or how the sender ended. */
type Content = Buffer | "fin" | "reset"

interface Parcel {
  readonly content: Content
  readonly due: number
}

// What a direction may hold back before its sender is no longer read: the kernel's buffers then fill up as they would.
const mostHeldBytes = 256 * 1024

/** One direction: reads from `source`, holds each chunk until it is due, writes to `sink`. */
class Lane {
  private readonly direction: Direction
  private readonly weather: Weather
  private readonly source: net.Socket
  private sink: net.Socket | undefined
  private readonly held: Array<Parcel> = []
  private heldBytes = 0
  private lastDue = 0
  private timer: NodeJS.Timeout | undefined
  private stalled = false
  /** Nothing is taken any more: the end is on its way, or the other side vanished. The source is read to nowhere. */
  private over = false

  constructor(direction: Direction, weather: Weather, source: net.Socket, onChunk: (chunk: Buffer) => void) {
    this.direction = direction
    this.weather = weather
    this.source = source
    source.on("data", (chunk: Buffer) => {
      onChunk(chunk)
      this.take(chunk)
    })
    source.on("end", () => this.take("fin"))
  }

  /** Names the receiver; until then everything is held. */
  to(sink: net.Socket): void {
    this.sink = sink
    sink.on("drain", () => this.flush())
    this.flush()
  }
  stall(): void {
    this.stalled = true
  }
  resume(): void {
    this.stalled = false
    this.flush()
  }
  /** The sender broke off: the receiver is told at once, unless nothing passes. */
  broken(): void {
    if (this.stalled) return this.take("reset")
    this.lose()
    this.sink?.resetAndDestroy()
  }
  /** Ends the receiver in good order, after what is on its way; what a stall holds back is lost. */
  cut(): void {
    const { stalled } = this
    if (stalled) this.drop()
    this.take("fin")
    this.over = true
    this.source.resume()
    if (stalled) this.resume()
  }
  /** The other side vanished: nothing is delivered any more, and nobody is told. */
  lose(): void {
    this.over = true
    this.drop()
    this.source.resume()
  }
  drop(): void {
    clearTimeout(this.timer)
    this.held.length = 0
    this.heldBytes = 0
  }

  private take(content: Content): void {
    if (this.over) return
    const { millis, jitterMillis } = this.weather.latency[this.direction]
    const delay = millis + (jitterMillis === 0 ? 0 : this.weather.random() * jitterMillis)
    // Bytes never overtake each other, also when the delay shrinks. A reset does not wait.
    this.lastDue = content === "reset" ? 0 : Math.max(this.lastDue, performance.now() + delay)
    this.held.push({ content, due: this.lastDue })
    if (typeof content === "string") this.over = true
    else this.heldBytes += content.length
    if (this.heldBytes > mostHeldBytes) this.source.pause()
    this.flush()
  }

  private flush(): void {
    const { sink } = this
    if (this.stalled || sink === undefined || sink.destroyed) return
    clearTimeout(this.timer)
    for (let parcel = this.held[0]; parcel !== undefined; parcel = this.held[0]) {
      const wait = parcel.due - performance.now()
      if (wait > 0) {
        this.timer = setTimeout(() => this.flush(), wait)
        return
      }
      const { content } = parcel
      if (content === "reset") return void sink.resetAndDestroy()
      if (sink.writableNeedDrain) return
      this.held.shift()
      if (content === "fin") sink.end()
      else {
        this.heldBytes -= content.length
        sink.write(content)
      }
    }
    if (this.source.isPaused()) this.source.resume()
  }
}

export interface Listener {
  readonly bytes: (direction: Direction, count: number) => void
  readonly roundTrip: () => void
  readonly closed: () => void
}

export class Link {
  private readonly client: net.Socket
  private server: net.Socket | undefined
  private readonly weather: Weather
  private readonly listener: Listener
  private readonly toServer: Lane
  private toClient: Lane | undefined
  private readonly stalled = new Set<Direction>()
  /** A side that vanished: its end is not passed on. */
  private gone: "server" | "client" | undefined
  private lastSpeaker: "server" | "client" | undefined

  constructor(client: net.Socket, weather: Weather, listener: Listener) {
    this.client = client
    this.weather = weather
    this.listener = listener
    this.toServer = new Lane("client->server", weather, client, (chunk) => {
      listener.bytes("client->server", chunk.length)
      if (this.lastSpeaker !== "client") listener.roundTrip()
      this.lastSpeaker = "client"
    })
    this.watch(client, "client")
  }

  get clientOpen(): boolean {
    // A client that leaves a vanished server is never answered, so that its end of the connection does not close.
    return !this.client.destroyed && !(this.gone === "server" && this.client.readableEnded)
  }

  connect(target: { readonly host: string; readonly port: number }): void {
    const server = net.connect({ host: target.host, port: target.port, allowHalfOpen: true, noDelay: true })
    this.server = server
    this.toClient = new Lane("server->client", this.weather, server, (chunk) => {
      this.listener.bytes("server->client", chunk.length)
      this.lastSpeaker = "server"
    })
    if (this.stalled.has("server->client")) this.toClient.stall()
    this.watch(server, "server")
    this.toClient.to(this.client)
    server.once("connect", () => this.toServer.to(server))
  }

  stall(direction: Direction): void {
    this.stalled.add(direction)
    if (direction === "client->server") this.toServer.stall()
    else this.toClient?.stall()
  }
  heal(target: { readonly host: string; readonly port: number }): void {
    this.stalled.clear()
    if (this.server === undefined && this.gone === undefined && !this.client.destroyed) this.connect(target)
    this.toServer.resume()
    this.toClient?.resume()
  }
  cut(): void {
    if (this.gone !== undefined) return
    this.toServer.cut()
    // A connection that was never made has nobody else to end it.
    if (this.toClient === undefined) this.client.end()
    else this.toClient.cut()
  }
  reset(): void {
    this.client.resetAndDestroy()
    this.server?.resetAndDestroy()
  }
  halfOpen(gone: "server" | "client"): void {
    if (this.gone !== undefined) return
    this.gone = gone
    this.toServer.lose()
    this.toClient?.lose()
    const socket = gone === "server" ? this.server : this.client
    socket?.destroy()
  }
  forgetTurn(): void {
    this.lastSpeaker = undefined
  }
  destroy(): void {
    this.client.destroy()
    this.server?.destroy()
  }

  private watch(socket: net.Socket, side: "server" | "client"): void {
    let failed = false
    socket.on("error", () => (failed = true))
    socket.on("close", () => {
      if (this.gone === undefined) {
        if (failed) (side === "client" ? this.toServer : this.toClient)?.broken()
        // An orderly end has travelled as FIN already, from both sides when the client's socket is done.
        else if (side === "client") this.server?.destroy()
      }
      if (this.client.destroyed && (this.server?.destroyed ?? true)) {
        this.toServer.drop()
        this.toClient?.drop()
        this.listener.closed()
      }
    })
  }
}
