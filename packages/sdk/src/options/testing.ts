/** What the testing kit is given. A wrong option is a mistake of the test: it throws. */
import { checked, either, group, isRecord, number, oneOf, text, whole, wrong } from "./Field.ts"

const port = whole(1, 65_535)

export const target = { host: text({ required: true }), port: whole(1, 65_535, { required: true }) } as const

const direction = oneOf(["client->server", "server->client"])
const millis = { least: 0, below: 2_147_483_648 } as const

/** A server is a target, and has more than an address. */
const somewhere = checked<any>(
  (value, name) =>
    isRecord(value)
      ? [...target.host.check(value["host"], `${name}.host`), ...target.port.check(value["port"], `${name}.port`)]
      : wrong(name, value, "a server, or an object such as { host, port }"),
  { required: true }
)

export const proxy = {
  target: somewhere,
  host: text({ default: "127.0.0.1" }),
  port,
  seed: whole(0, 4_294_967_295, { default: 1 })
} as const

export const retarget = { target: somewhere } as const

export const latency = {
  millis: number({ ...millis, required: true }),
  jitterMillis: number({ ...millis, default: 0 }),
  direction
} as const

export const stall = { direction, connections: oneOf(["existing", "new", "all"], { default: "all" }) } as const
export const halfOpen = { gone: oneOf(["server", "client"], { required: true }) } as const
export const refusal = { how: oneOf(["refused", "reset"], { default: "refused" }) } as const

const settings = checked<Readonly<Record<string, string | number | boolean>>>((value, name) =>
  isRecord(value)
    ? Object.entries(value).flatMap(([own, inner]) =>
        !/^[\w.]+$/.test(own)
          ? wrong(name, own, "names of settings")
          : ["string", "number", "boolean"].includes(typeof inner) && !/[\n\0]/.test(String(inner))
            ? []
            : wrong(`${name}.${own}`, inner, "a text of one line, a number, or true or false")
      )
    : wrong(name, value, "an object such as { max_connections: 20 }")
)

const binaries = group(
  {
    source: oneOf(["PG_BIN_DIR", "npm", "system"], { required: true }),
    directory: text({ required: true }),
    version: text({ required: true }),
    major: whole(1, 1000, { required: true }),
    user: checked<any>(() => [])
  },
  "what PgBinaries.find() gives"
)

export const template = { binaries, directory: text() } as const

export const cluster = {
  replicas: whole(0, 20, { default: 0 }),
  settings,
  auth: oneOf(["trust", "scram-sha-256"], { default: "trust" }),
  password: text({ hidden: true }),
  tls: either(["required"], oneOf([true, false], { default: false })),
  ...template,
  template: text()
} as const

export const find = { source: oneOf(["PG_BIN_DIR", "npm", "system"]) } as const

export const connection = { database: text({ default: "postgres" }) } as const
