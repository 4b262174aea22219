/** Free ports on loopback. */
import * as Effect from "effect/Effect"
import * as net from "node:net"

export const host = "127.0.0.1"

// Below the range that Linux (32768) and macOS (49152) hand out to outgoing connections. A client that hammers a stopped
// server's port would otherwise get that very number for its own end, connect to itself, and keep the server from binding.
const lowest = 15_000
const highest = 32_000

const canListen = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = net.createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen({ port, host, exclusive: true }, () => server.close(() => resume(Effect.succeed(true))))
  })

/** A port that nobody listens on now. Another process may be quicker: whoever binds it must be ready to ask again. */
export const free: Effect.Effect<number> = Effect.suspend(() => {
  const port = lowest + Math.floor(Math.random() * (highest - lowest))
  return Effect.flatMap(canListen(port), (yes) => (yes ? Effect.succeed(port) : free))
})
