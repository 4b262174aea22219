/** The fields of a role's options and of what is in them, to refuse those that there are not. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Address, LaneOptions, Options, SharedLaneOptions, TlsMaterial } from "../DatabaseOptions.ts"
import type { InvalidConfiguration } from "../ReportError.ts"
import { fields, unknownFields } from "./fields.ts"

type Issue = InvalidConfiguration["issues"][number]

export const optionFields = fields<Options>({
  url: true,
  host: true,
  port: true,
  name: true,
  user: true,
  password: true,
  sslmode: true,
  tls: true,
  applicationName: true,
  minConnections: true,
  maxConnections: true,
  connectionTimeout: true,
  connectTimeout: true,
  maxWaiting: true,
  idleTimeout: true,
  maxLifetime: true,
  statementTimeout: true,
  maxMessageSize: true,
  reset: true,
  profile: true,
  pooler: true,
  boot: true,
  hosts: true,
  addresses: true,
  followerReads: true,
  target: true,
  maxLag: true,
  fallback: true,
  zone: true,
  shutdown: true,
  lanes: true,
  leakDetection: true
})

const known = {
  shutdown: fields<NonNullable<Options["shutdown"]>>({ graceful: true, hard: true }),
  leakDetection: fields<NonNullable<Options["leakDetection"]>>({ threshold: true, stackEvery: true }),
  lane: fields<LaneOptions>({ reserved: true, cap: true, maxWaiting: true, priority: true, shared: true }),
  shared: fields<SharedLaneOptions>({ sessions: true, statements: true, silence: true }),
  address: fields<Address>({ host: true, port: true, address: true, zone: true }),
  tls: fields<TlsMaterial>({ ca: true, cert: true, key: true, servername: true })
}

/** An issue for each field that there is not. */
export const unknownIssues = (
  given: unknown,
  names: ReadonlyArray<string>,
  path = "",
  what = "option"
): ReadonlyArray<Issue> =>
  isRecord(given)
    ? unknownFields(given, names, path, what).map((one) => ({ ...one, expected: `one of ${names.join(", ")}` }))
    : []

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Fields of options, and of what is in them, that there are not. */
export const unknownIn = (options: Options): ReadonlyArray<Issue> => [
  ...unknownIssues(options, optionFields),
  ...unknownIssues(options.shutdown, known.shutdown, "shutdown."),
  ...unknownIssues(options.leakDetection, known.leakDetection, "leakDetection."),
  ...Object.entries(options.lanes ?? {}).flatMap(([name, lane]) => [
    ...unknownIssues(lane, known.lane, `lanes.${name}.`),
    ...unknownIssues(lane?.shared, known.shared, `lanes.${name}.shared.`)
  ]),
  ...(options.hosts ?? []).flatMap((host, index) => unknownIssues(host, known.address, `hosts[${index}].`)),
  ...(Effect.isEffect(options.tls) ? [] : unknownIssues(options.tls, known.tls, "tls."))
]

/** A secret in a bare text would be printed by whoever prints the options. It is not shown here either. */
export const bareSecrets = ({ password, tls }: Options, name: string): ReadonlyArray<Issue> => {
  const isBare = (value: unknown): boolean =>
    value !== undefined && !Redacted.isRedacted(value) && !Effect.isEffect(value)
  return [
    ...(isBare(password) ? [{ name, expected: "Redacted.make(...) of a text, or an Effect of it" }] : []),
    ...(!Effect.isEffect(tls) && isBare(tls?.key)
      ? [{ name: "tls.key", expected: "Redacted.make(...) of a text in PEM" }]
      : [])
  ]
}
