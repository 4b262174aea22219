/** The fields of a role's options and of what is in them, to refuse those that there are not. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Address, LaneOptions, Options, SharedLaneOptions, TlsMaterial } from "../DatabaseOptions.ts"
import type { InvalidConfiguration } from "../ReportError.ts"
import { createPrivateKey, X509Certificate } from "node:crypto"
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
  startupParameters: true,
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

/** Certificates that cannot be used, by field. What their parser says may quote them: it stays out. */
export const brokenMaterial = (tls: Options["tls"]): ReadonlyArray<Issue> => {
  if (tls === undefined || Effect.isEffect(tls) || !isRecord(tls)) return []
  const { ca, cert, key } = tls as { readonly ca?: unknown; readonly cert?: unknown; readonly key?: unknown }
  const secret = Redacted.isRedacted(key) ? Redacted.value(key) : undefined
  const attempt = <A>(parse: () => A): A | undefined => {
    try {
      return parse()
    } catch {
      return undefined
    }
  }
  const issue = (name: string, expected: string): Issue => ({ name: `tls.${name}`, expected })
  const issues: Array<Issue> = []
  const isText = (value: unknown): value is string => typeof value === "string" && value.includes("-----BEGIN ")
  const certificateOf = (pem: unknown) => (isText(pem) ? attempt(() => new X509Certificate(pem)) : undefined)
  if (ca !== undefined && certificateOf(ca) === undefined) issues.push(issue("ca", "certificates in PEM"))
  const certificate = certificateOf(cert)
  if (cert !== undefined && certificate === undefined) issues.push(issue("cert", "a certificate in PEM"))
  const privateKey = isText(secret) ? attempt(() => createPrivateKey(secret)) : undefined
  if (secret !== undefined && privateKey === undefined) {
    issues.push(issue("key", "a private key in PEM, without a passphrase"))
  }
  if ((cert === undefined) !== (key === undefined)) {
    issues.push(issue(cert === undefined ? "cert" : "key", "given together: cert and key"))
  }
  if (certificate !== undefined && privateKey !== undefined && !certificate.checkPrivateKey(privateKey)) {
    issues.push(issue("key", "the key of this certificate"))
  }
  return issues
}

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
