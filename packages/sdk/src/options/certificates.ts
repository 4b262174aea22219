/** Certificates that cannot be used. What their parser says may quote them: it stays out. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { isRecord, type Issue, type Issues } from "./Field.ts"

const attempt = <A>(parse: () => A): A | undefined => {
  try {
    return parse()
  } catch {
    return undefined
  }
}

const isText = (value: unknown): value is string => typeof value === "string" && value.includes("-----BEGIN ")
const certificateOf = (pem: unknown) => (isText(pem) ? attempt(() => new X509Certificate(pem)) : undefined)

/** By field. A key that is no secret is told by its field already. */
export const brokenMaterial = (tls: unknown): Issues => {
  if (tls === undefined || Effect.isEffect(tls) || !isRecord(tls)) return []
  const { ca, cert, key } = tls
  const secret = Redacted.isRedacted(key) ? Redacted.value(key) : undefined
  const issue = (name: string, expected: string): Issue => ({ name: `tls.${name}`, expected })
  const issues: Array<Issue> = []
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
