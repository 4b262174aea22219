/**
 * Certificates for loopback: self-signed, or of an authority that was made here too. Node can sign but not make
 * certificates, and openssl need not be installed, so the few fields of X.509 (RFC 5280) that are needed are written out
 * here, in DER.
 */
import { createPrivateKey, generateKeyPairSync, randomBytes, sign } from "node:crypto"

export interface Certificate {
  /** PEM. Without an issuer it is its own authority: what a client trusts (`ca`). */
  readonly certificate: string
  /** PEM, PKCS #8. */
  readonly key: string
}

export interface Options {
  /** Its common name: of a client's certificate, the role that it logs in as. Default `localhost`. */
  readonly commonName?: string | undefined
  /** The names it is for. Default `localhost`; 127.0.0.1 is always one of them. */
  readonly names?: ReadonlyArray<string> | undefined
  /** Who signs it. Default: itself. */
  readonly issuer?: (Certificate & { readonly commonName: string }) | undefined
}

/** Tag, length, content. */
const der = (tag: number, ...content: ReadonlyArray<Uint8Array>): Buffer => {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(body.length)
  const short = length.subarray(length.findIndex((byte) => byte !== 0))
  return Buffer.concat([Buffer.from([tag, 0x80 | short.length]), short, body])
}

const sequence = (...content: ReadonlyArray<Uint8Array>) => der(0x30, ...content)
const integer = (...bytes: ReadonlyArray<number>) => der(0x02, Buffer.from(bytes))
const yes = der(0x01, Buffer.from([0xff]))
const octets = (content: Uint8Array) => der(0x04, content)
// A bit string begins with the number of unused bits.
const bits = (content: Uint8Array) => der(0x03, Buffer.from([0]), content)

const oid = (text: string): Buffer => {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number)
  const base128 = (value: number): Array<number> =>
    value < 128 ? [value] : [...base128(Math.floor(value / 128)).map((byte) => byte | 0x80), value % 128]
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]))
}

// GeneralizedTime, which has four digits for the year.
const time = (millis: number) => der(0x18, Buffer.from(`${new Date(millis).toISOString().replace(/\.\d+|[-:T]/g, "")}`))

const day = 86_400_000

/** A certificate with a key of its own; good for a year from yesterday. */
export const make = ({ commonName = "localhost", issuer, names: dns = ["localhost"] }: Options = {}): Certificate => {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"))
  const nameOf = (text: string) => sequence(der(0x31, sequence(oid("2.5.4.3"), der(0x0c, Buffer.from(text)))))
  const names = sequence(...dns.map((each) => der(0x82, Buffer.from(each))), der(0x87, Buffer.from([127, 0, 0, 1])))
  const extensions = sequence(
    sequence(oid("2.5.29.19"), yes, octets(sequence(yes))),
    sequence(oid("2.5.29.17"), octets(names))
  )
  const now = Date.now()
  const content = sequence(
    der(0xa0, integer(2)),
    // Positive, so its first bit is 0.
    integer(1, ...randomBytes(8)),
    ecdsaWithSha256,
    nameOf(issuer?.commonName ?? commonName),
    sequence(time(now - day), time(now + 365 * day)),
    nameOf(commonName),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, extensions)
  )
  const signed = sequence(
    content,
    ecdsaWithSha256,
    bits(sign("sha256", content, issuer === undefined ? privateKey : createPrivateKey(issuer.key)))
  )
  const lines = signed.toString("base64").match(/.{1,64}/g) ?? []
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}
