/**
 * A service of promises on two servers (SERVERS, with commas). Says `ready` when a short and a long statement run on each,
 * shuts down on SIGTERM, and tells on stderr what became of every call and how long it took.
 */
import { Database } from "@sluice/sdk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"

class Target extends Database.Service<Target>()("draining", { roles: ["primary", "replica"] }) {}

const runtime = ManagedRuntime.make(
  Target.layerServers({
    servers: (process.env["SERVERS"] ?? "").split(","),
    user: "postgres",
    sslmode: "disable",
    maxConnections: 4,
    shutdown: { graceful: "1500 millis", hard: "1 second" }
  }).pipe(Layer.provide(Logger.layer([])))
)

const told: Array<string> = []
const call = (name: string, role: "primary" | "replica", seconds: number) =>
  runtime
    .runPromise(
      Effect.gen(function* () {
        const { sql } = role === "primary" ? yield* Target.role("primary") : yield* Target.role("replica")
        return yield* sql`select pg_sleep(${seconds}::float8)`
      })
    )
    .then(
      () => told.push(`${name} ok`),
      (error: unknown) => told.push(`${name} ${String((error as { _tag?: unknown })._tag)}`)
    )

await Promise.all([call("first", "primary", 0), call("first", "replica", 0)])
const running = (["primary", "replica"] as const).flatMap((role) => [
  call(`short on ${role}`, role, 0.8),
  call(`long on ${role}`, role, 60)
])
process.once("SIGTERM", () => {
  const asked = performance.now()
  const disposed = runtime.runPromise(Target.shutdown).then(() => runtime.dispose())
  const late = new Promise((resolve) => setTimeout(resolve, 50)).then(() => call("late", "primary", 0))
  void Promise.all([...running, disposed, late]).then(() => {
    console.error(JSON.stringify({ told, millis: Math.round(performance.now() - asked) }))
    process.exit(0)
  })
})

await new Promise((resolve) => setTimeout(resolve, 300))
console.log("ready")
