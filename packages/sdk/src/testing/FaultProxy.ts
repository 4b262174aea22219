/**
 * A TCP proxy on loopback that does to a connection what networks do: latency, silence, FIN, RST, half of a connection
 * gone, refusal. Put it between your code and a server, and change the weather while the test runs.
 *
 * What takes nothing is an Effect (`yield* proxy.reset`), what takes something a function (`yield* proxy.refuse()`).
 * Each fault holds for both directions unless one is named, for open connections and for new ones, until `heal`. Bytes,
 * connections and round trips are counted. Backpressure is kept: what one side does not read, the other cannot go on
 * sending. Times are real, also under `TestClock`. When the scope closes, the port is free and every connection is gone.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { FaultProxy, PgCluster } from "@sluice/sdk/testing"
 *
 * const program = Effect.gen(function* () {
 *   const { primary } = yield* PgCluster.make()
 *   const proxy = yield* FaultProxy.make({ target: primary })
 *   // ... connect to proxy.url(primary.url), then:
 *   yield* proxy.latency({ millis: 5 })                        // 10 ms a round trip
 *   yield* proxy.stall({ direction: "server->client" })        // it executes, we do not hear of it
 *   yield* proxy.reset                                         // and now we never will
 *   yield* proxy.heal
 *   yield* proxy.resetCounters
 *   const { roundTrips } = yield* proxy.counters
 * })
 *
 * const outage = Effect.gen(function* () {
 *   const { primary, replica } = yield* PgCluster.make({ replicas: 1 })
 *   const proxy = yield* FaultProxy.make({ target: primary })
 *   yield* proxy.cut                                           // a firewall ends what is open, in good order
 *   yield* proxy.refuse()                                      // and lets nobody in
 *   yield* proxy.heal
 *   yield* proxy.halfOpen("server")                            // a power cut: silence on what is open
 *   yield* proxy.blackHole                                     // and on what is opened
 *   yield* proxy.heal
 *   yield* proxy.retarget(replica)                             // from here on it leads to another server
 * })
 * ```
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { refuse, type Table, tableOf } from "../options/Field.ts"
import * as Fields from "../options/testing.ts"
import { mulberry32 } from "./internal/mulberry32.ts"
import * as Ports from "./internal/Ports.ts"
import { type Direction, Link, type Weather } from "./internal/ProxyLink.ts"
import { FaultProxyError } from "./TestingError.ts"

export { FaultProxyError } from "./TestingError.ts"
export type { Direction } from "./internal/ProxyLink.ts"

/** Where the proxy connects to. A `PgServer` is one. */
export interface Target {
  readonly host: string
  readonly port: number
}

export interface Options {
  readonly target: Target
  /** Where it listens: another address of loopback (`127.0.0.2` on Linux), to stand for another machine. Default `127.0.0.1`. */
  readonly host?: string | undefined
  /** Default: a free one. */
  readonly port?: number | undefined
  /** For the jitter: the same seed gives the same delays. Default 1. */
  readonly seed?: number | undefined
}

const known = tableOf<Options>()(Fields.proxy)

export interface LatencyOptions {
  /** Added to each way that is named, in milliseconds of real time. 0 takes it away. */
  readonly millis: number
  /** Up to so many milliseconds more, evenly spread, seeded. The order of bytes is kept. Default 0. */
  readonly jitterMillis?: number | undefined
  /** Default both, so that a round trip costs twice `millis`. */
  readonly direction?: Direction | undefined
}

export interface StallOptions {
  /** Default both. */
  readonly direction?: Direction | undefined
  /** Which connections fall silent. Default `all`. */
  readonly connections?: "existing" | "new" | "all" | undefined
}

const latencyFields = tableOf<LatencyOptions>()(Fields.latency)
const stallFields = tableOf<StallOptions>()(Fields.stall)

/** Does what was asked for, once it is known to be something. */
const told = (operation: string, fields: Table, given: object, action: () => void): Effect.Effect<void> =>
  Effect.sync(() => {
    refuse(`FaultProxy.${operation}`, fields, given)
    action()
  })

/** What has passed since the proxy was made or `resetCounters`. */
export interface Counters {
  /** Connections that were accepted. */
  readonly accepted: number
  /** Connections that a client holds open now. Not reset. */
  readonly open: number
  /** Bytes that came from clients. */
  readonly bytesToServer: number
  /** Bytes that came from the server. */
  readonly bytesToClient: number
  /**
   * How often a client spoke after the server had (or first): pipelined messages count once. A new session costs some of
   * its own, so reset the counters after connecting.
   */
  readonly roundTrips: number
}

/** A proxy that listens. */
export interface FaultProxy {
  /** Where it listens. */
  readonly host: string
  readonly port: number
  /** A server's URL with host and port of the proxy in the place of the server's. */
  readonly url: (serverUrl: string) => string
  /** Sends connections accepted from now on to another server; open ones stay where they are. */
  readonly retarget: (target: Target) => Effect.Effect<void>

  /** Delays what passes. */
  readonly latency: (options: LatencyOptions) => Effect.Effect<void>
  /** Stops forwarding; connections stay open and nobody is told. `heal` delivers what was held back. */
  readonly stall: (options?: StallOptions) => Effect.Effect<void>
  /** Ends every open connection in good order: FIN to both sides, after what is already on its way. */
  readonly cut: Effect.Effect<void>
  /** Ends every open connection with RST to both sides (`ECONNRESET`). What is on its way is lost. */
  readonly reset: Effect.Effect<void>
  /**
   * One side of every open connection vanishes and the other is not told: it sees silence, whatever it sends. `server`
   * gone is what a client sees after a power cut or a firewall that forgot; `client` gone is the reverse. `heal` does not
   * bring it back.
   */
  readonly halfOpen: (gone: "server" | "client") => Effect.Effect<void>
  /** New connections fail: by default at once (`ECONNREFUSED`), `"reset"` after they were accepted (`ECONNRESET`). */
  readonly refuse: (how?: "refused" | "reset") => Effect.Effect<void>
  /** New connections are accepted, and nothing more comes of them. `heal` connects those that still wait. */
  readonly blackHole: Effect.Effect<void>
  /** Fair weather: no latency, nothing held back, new connections welcome, on the same port. */
  readonly heal: Effect.Effect<void, FaultProxyError>

  readonly counters: Effect.Effect<Counters>
  readonly resetCounters: Effect.Effect<void>
}

const directions: ReadonlyArray<Direction> = ["client->server", "server->client"]

type Admission = "welcome" | "refused" | "reset" | "blackHole"

class Proxy {
  private readonly links = new Set<Link>()
  private listener: net.Server | undefined
  private admission: Admission = "welcome"
  private readonly stalledForNew = new Set<Direction>()
  private readonly weather: Weather
  private target: Target
  private accepted = 0
  private readonly bytes: Record<Direction, number> = { "client->server": 0, "server->client": 0 }
  private roundTrips = 0
  readonly host: string
  port: number

  constructor(options: Options) {
    this.target = options.target
    this.host = options.host ?? Ports.host
    this.port = options.port ?? 0
    this.weather = {
      random: mulberry32(options.seed ?? 1),
      latency: { "client->server": { millis: 0, jitterMillis: 0 }, "server->client": { millis: 0, jitterMillis: 0 } }
    }
  }

  /** Listens, on the port it had if it had one. */
  async listen(): Promise<void> {
    if (this.listener !== undefined) return
    for (let turn = 1; ; turn++) {
      const port = this.port === 0 ? await Effect.runPromise(Ports.free) : this.port
      // Half-open, because a FIN has to be passed on in its own time.
      const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.accept(socket))
      try {
        await new Promise<void>((resolve, reject) => {
          listener.once("error", reject)
          listener.listen({ port, host: this.host, exclusive: true }, () => resolve())
        })
        this.port = port
        this.listener = listener
        return
      } catch (error) {
        if (turn >= 20) throw error
        if (this.port !== 0) await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  private unlisten(): void {
    this.listener?.close()
    this.listener = undefined
  }

  private accept(client: net.Socket): void {
    if (this.admission === "reset") {
      client.on("error", () => {})
      client.resetAndDestroy()
      return
    }
    this.accepted++
    const link: Link = new Link(client, this.weather, {
      bytes: (direction, count) => (this.bytes[direction] += count),
      roundTrip: () => this.roundTrips++,
      closed: () => this.links.delete(link)
    })
    this.links.add(link)
    for (const direction of this.stalledForNew) link.stall(direction)
    if (this.admission !== "blackHole") link.connect(this.target)
  }

  retarget(target: Target): void {
    this.target = target
  }
  latency({ millis, jitterMillis = 0, direction }: LatencyOptions): void {
    for (const one of direction === undefined ? directions : [direction]) {
      this.weather.latency[one] = { millis, jitterMillis }
    }
  }
  stall({ direction, connections = "all" }: StallOptions): void {
    for (const one of direction === undefined ? directions : [direction]) {
      if (connections !== "new") for (const link of this.links) link.stall(one)
      if (connections !== "existing") this.stalledForNew.add(one)
    }
  }
  each(action: (link: Link) => void): void {
    for (const link of this.links) action(link)
  }
  admit(admission: Admission): void {
    this.admission = admission
    if (admission === "refused") this.unlisten()
  }
  async heal(): Promise<void> {
    this.latency({ millis: 0 })
    this.stalledForNew.clear()
    this.admission = "welcome"
    await this.listen()
    for (const link of this.links) link.heal(this.target)
  }
  counters(): Counters {
    let open = 0
    for (const link of this.links) if (link.clientOpen) open++
    return {
      accepted: this.accepted,
      open,
      bytesToServer: this.bytes["client->server"],
      bytesToClient: this.bytes["server->client"],
      roundTrips: this.roundTrips
    }
  }
  resetCounters(): void {
    this.accepted = 0
    this.bytes["client->server"] = 0
    this.bytes["server->client"] = 0
    this.roundTrips = 0
    for (const link of this.links) link.forgetTurn()
  }
  close(): void {
    this.unlisten()
    for (const link of this.links) link.destroy()
  }
}

/** Listens on loopback and forwards to `target`, until the scope closes. */
export const make = (options: Options): Effect.Effect<FaultProxy, FaultProxyError, Scope.Scope> =>
  Effect.gen(function* () {
    refuse("FaultProxy.make", known, options)
    const listening = (proxy: Proxy, operation: string, action: () => Promise<void>) =>
      Effect.tryPromise({
        try: action,
        catch: (error) => new FaultProxyError({ operation, problem: `port ${proxy.port}: ${String(error)}` })
      })
    const proxy = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        const proxy = new Proxy(options)
        return Effect.as(
          listening(proxy, "listen", () => proxy.listen()),
          proxy
        )
      }),
      (proxy) => Effect.sync(() => proxy.close())
    )
    const { host, port } = proxy
    return {
      host,
      port,
      url: (serverUrl) => {
        const url = new URL(serverUrl)
        url.hostname = host
        url.port = String(port)
        return url.href
      },
      retarget: (target) => told("retarget", Fields.retarget, { target }, () => proxy.retarget(target)),
      latency: (options) => told("latency", latencyFields, options, () => proxy.latency(options)),
      stall: (options = {}) => told("stall", stallFields, options, () => proxy.stall(options)),
      cut: Effect.sync(() => proxy.each((link) => link.cut())),
      reset: Effect.sync(() => proxy.each((link) => link.reset())),
      halfOpen: (gone) => told("halfOpen", Fields.halfOpen, { gone }, () => proxy.each((link) => link.halfOpen(gone))),
      refuse: (how = "refused") => told("refuse", Fields.refusal, { how }, () => proxy.admit(how)),
      blackHole: Effect.sync(() => proxy.admit("blackHole")),
      heal: listening(proxy, "heal", () => proxy.heal()),
      counters: Effect.sync(() => proxy.counters()),
      resetCounters: Effect.sync(() => proxy.resetCounters())
    }
  })
