/** HAProxy from the system, for tests that skip, and say so, where there is none. */
import { free, host } from "../../packages/sdk/src/testing/internal/Ports.ts"
import * as Effect from "effect/Effect"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { undoneBy } from "./guarded.ts"

export const installed = spawnSync("haproxy", ["-v"]).status === 0

export interface Backend {
  /** Lines of its section: checks and the like. */
  readonly options?: ReadonlyArray<string>
  readonly servers: ReadonlyArray<{
    readonly name: string
    readonly port: number
    /** Behind the address in its line: `check port 8008`, `disabled`. */
    readonly more?: string
  }>
}

export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** A command to HAProxy's runtime socket. */
const command = (socket: string, text: string) =>
  Effect.callback<string>((resume) => {
    const client = net.connect(socket)
    let answer = ""
    client.on("data", (chunk) => (answer += String(chunk)))
    client.once("error", (error) => resume(Effect.die(error)))
    client.once("close", () => resume(Effect.succeed(answer)))
    client.write(`${text}\n`)
  })

/** An endpoint for each backend, on loopback. Gone with the scope. */
export const make = <Name extends string>(backends: Readonly<Record<Name, Backend>>) =>
  Effect.gen(function* () {
    const names = Object.keys(backends) as Array<any> as ReadonlyArray<Name>
    const endpoints = {} as Record<Name, Endpoint>
    for (const name of names) endpoints[name] = { host, port: yield* free }
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-haproxy-"))
    yield* undoneBy('[ -s "$DIR/pid" ] && kill -9 "$(cat "$DIR/pid")"; rm -rf "$DIR"', { DIR: directory })
    const socket = path.join(directory, "runtime")
    const file = path.join(directory, "haproxy.cfg")
    const sections = names.flatMap((name) => [
      `listen ${name}`,
      `  bind ${host}:${endpoints[name].port}`,
      ...(backends[name].options ?? []).map((line) => `  ${line}`),
      ...backends[name].servers.map(({ more = "", name: server, port }) => `  server ${server} ${host}:${port} ${more}`)
    ])
    fs.writeFileSync(
      file,
      [
        "global",
        `  stats socket ${socket} mode 600 level admin`,
        "defaults",
        "  mode tcp",
        "  timeout connect 2s",
        "  timeout check 2s",
        "  timeout client 30m",
        "  timeout server 30m",
        ...sections,
        ""
      ].join("\n")
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn("haproxy", ["-db", "-f", file], { stdio: "ignore" })
        fs.writeFileSync(path.join(directory, "pid"), String(child.pid))
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    for (let patience = 0; patience < 200 && !fs.existsSync(socket); patience++) yield* Effect.sleep("20 millis")
    return {
      endpoints,
      /** New connections go, or do not go, to a server; those that are open stay where they are. */
      admit: (backend: Name, server: string, yes: boolean) =>
        command(socket, `set server ${backend}/${server} state ${yes ? "ready" : "maint"}`)
    }
  })
